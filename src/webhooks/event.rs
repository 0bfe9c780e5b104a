//! An event as the receiver gets it, and the events that follow from the log. Pure.
//!
//! An event's id follows from the epoch, the kind and a position that only this event has. A repeat therefore has the same id, also
//! after a crash.

use prost::Message as _;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use sha2::{Digest as _, Sha256};

use crate::{
    config::EventKind,
    ids::{Epoch, Platform, Seq, SessionKey, UserId},
    log::{CursorMove, Expiry, FeedCommit, FeedPosition},
    message::StoredMessage,
    outbound::iso_8601,
};

/// The receivers that an event names. With more it has their number only.
pub(super) const EVENT_RECEIVERS_MAX: usize = 1000;
/// The longest reason or vendor's id in an event, in bytes. Vendors write both.
pub(super) const EVENT_TEXT_BYTES_MAX: usize = 512;

/// An event, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct HookEvent {
    /// The same at each repeat.
    pub(super) id: String,
    /// The time at which it became true, Unix ms.
    pub(super) time_ms: u64,
    /// The whole event as JSON: id, type, timestamp, data.
    pub(super) json: Box<RawValue>,
}

#[derive(Serialize)]
struct EventEnvelope<'a, T> {
    id: &'a str,
    r#type: &'static str,
    timestamp: String,
    data: T,
}

#[derive(Serialize)]
struct Accepted<'a> {
    server_msg_id: String,
    client_msg_id: &'a str,
    send_id: &'a str,
    content_type: i32,
    session_type: i32,
    send_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    receivers: Option<Vec<AcceptedAt<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver_count: Option<usize>,
}

#[derive(Serialize)]
struct AcceptedAt<'a> {
    user_id: &'a str,
    seq: u64,
}

impl HookEvent {
    /// An event of this kind. `position` names it among the events of its kind.
    pub(super) fn new(
        epoch: Epoch,
        kind: EventKind,
        position: &[&[u8]],
        time_ms: u64,
        data: impl Serialize,
    ) -> Self {
        let id = event_id(epoch, kind, position);
        let envelope = EventEnvelope {
            id: &id,
            r#type: kind.name(),
            timestamp: iso_8601(time_ms),
            data,
        };
        let json = serde_json::value::to_raw_value(&envelope);
        let json = json.expect("an event has text keys and whole numbers");
        Self { id, time_ms, json }
    }

    /// The event of a durable message.
    pub(super) fn accepted(epoch: Epoch, commit: &FeedCommit) -> Self {
        // A log under test holds bodies that are no messages.
        let message = StoredMessage::decode(commit.body.clone()).unwrap_or_default();
        let is_listed = commit.entries.len() <= EVENT_RECEIVERS_MAX;
        let receivers = commit.entries.iter().map(|(user, numbers)| AcceptedAt {
            user_id: user.as_str(),
            seq: numbers.seq.0,
        });
        Self::new(
            epoch,
            EventKind::MessageAccepted,
            &[&commit.position.0.to_be_bytes()],
            commit.send_time_ms,
            Accepted {
                server_msg_id: commit.message_id.to_string(),
                client_msg_id: &commit.client_message_id,
                send_id: &commit.sender,
                content_type: message.content_type,
                session_type: message.session_type,
                send_time: commit.send_time_ms,
                receivers: is_listed.then(|| receivers.collect()),
                receiver_count: (!is_listed).then_some(commit.entries.len()),
            },
        )
    }

    /// The event of a session that acked; `None` if the receiver was told of it already.
    pub(super) fn acked(epoch: Epoch, moved: &CursorMove, told: Seq) -> Option<Self> {
        let CursorMove {
            position,
            session,
            row,
        } = moved;
        let proof = if session.is_openim() {
            "received"
        } else {
            "ack"
        };
        (row.cursor > told).then(|| {
            let data = json!({
                "user_id": session.user.as_str(),
                "platform": session.platform.number(),
                "device_id": &*session.device,
                "from_seq": told.next().0,
                "to_seq": row.cursor.0,
                "acked_time": row.acked_at_ms,
                "proof": proof,
            });
            // Retention may remove a move that was told in front of this one, and the answer to it may be lost. The range is another one
            // then.
            let position = [position.0.to_be_bytes(), told.0.to_be_bytes()];
            Self::new(
                epoch,
                EventKind::MessageAcked,
                &[&position[0], &position[1]],
                row.acked_at_ms,
                data,
            )
        })
    }

    /// The event of messages that expired.
    pub(super) fn expired(epoch: Epoch, expiry: &Expiry) -> Self {
        let position = expiry.position.0.to_be_bytes();
        let (first, last) = expiry.range;
        let Some(user) = &expiry.user else {
            return Self::lost(
                epoch,
                EventKind::MessageExpired,
                &[&position],
                (first, last),
            );
        };
        let data = json!({ "user_id": user.as_str(), "from_seq": first, "to_seq": last });
        // The removal of a segment may be tried again after an ack: then it leaves with another range.
        let range = [first.to_be_bytes(), last.to_be_bytes()].concat();
        Self::new(
            epoch,
            EventKind::MessageExpired,
            &[&position, user.as_str().as_bytes(), &range],
            expiry.time_ms,
            data,
        )
    }

    /// The announcement that events of a kind cannot be told, between these times, Unix ms.
    pub(super) fn lost(
        epoch: Epoch,
        kind: EventKind,
        position: &[&[u8]],
        (from_ms, to_ms): (u64, u64),
    ) -> Self {
        let data = json!({ "type": kind.name(), "from_time": from_ms, "to_time": to_ms });
        // A loss that grew before it was told is another event.
        let times = [from_ms.to_be_bytes(), to_ms.to_be_bytes()].concat();
        let name = kind.name().as_bytes();
        let of_loss = [name, &times[..]].into_iter();
        let position: Vec<_> = of_loss.chain(position.iter().copied()).collect();
        Self::new(epoch, EventKind::EventsLost, &position, to_ms, data)
    }

    /// The announcement that accepted messages behind this position cannot be told.
    pub(super) fn lost_commits(epoch: Epoch, behind: FeedPosition, times_ms: (u64, u64)) -> Self {
        let position = behind.0.to_be_bytes();
        Self::lost(epoch, EventKind::MessageAccepted, &[&position], times_ms)
    }

    /// The event of a session that came online or went offline. `count` names it among those of this start.
    pub(super) fn presence(epoch: Epoch, start_ms: u64, count: u64, note: &PresenceNote) -> Self {
        let kind = if note.is_online {
            EventKind::UserOnline
        } else {
            EventKind::UserOffline
        };
        let data = json!({
            "user_id": note.user.as_str(),
            "platform": note.platform.number(),
            "device_id": &*note.device,
            "time": note.time_ms,
        });
        let position = [start_ms.to_be_bytes(), count.to_be_bytes()];
        Self::new(
            epoch,
            kind,
            &[&position[0], &position[1]],
            note.time_ms,
            data,
        )
    }

    /// The sessions that are online, once after a start.
    pub(super) fn state(epoch: Epoch, start_ms: u64, now_ms: u64, sessions: &[SessionKey]) -> Self {
        let users: Vec<_> = sessions
            .iter()
            .map(|session| {
                json!({
                    "user_id": session.user.as_str(),
                    "platform": session.platform.number(),
                    "device_id": &*session.device,
                })
            })
            .collect();
        let position = start_ms.to_be_bytes();
        let data = json!({ "users": users });
        Self::new(epoch, EventKind::UserState, &[&position], now_ms, data)
    }
}

/// A session that came online or went offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PresenceNote {
    pub(super) user: UserId,
    pub(super) platform: Platform,
    pub(super) device: std::sync::Arc<str>,
    pub(super) is_online: bool,
    pub(super) time_ms: u64,
}

fn event_id(epoch: Epoch, kind: EventKind, position: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    let parts = [&epoch.0.to_be_bytes(), kind.name().as_bytes()];
    for part in parts.iter().chain(position) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    named("evt", &digest.finalize())
}

/// A name from the first 16 bytes of a digest.
pub(super) fn named(prefix: &str, digest: &[u8]) -> String {
    let digits = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("{prefix}_{}", digits.collect::<String>())
}

/// A text of another system, shortened to its bound.
pub(super) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(EVENT_TEXT_BYTES_MAX)]
}
