//! The promise of webhooks: each event at least once, the same at each repeat, in order for each user and kind; nothing that was not
//! so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;

use crate::{model::user_id, trace::violated};
use towncrier::webhooks::HookReply;

/// The tries after which a refused batch becomes dead letters.
const TRIES: u32 = 5;

/// A session in an event: user, platform, device.
pub(super) type SessionName = (String, u64, String);

/// The last ack of a session that was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastAck {
    pub(super) up_to: u64,
    /// Unix ms.
    acked_ms: u64,
}

/// The end of a push that was told.
pub(super) struct ToldEnd {
    /// The vendor's word.
    pub(super) word: String,
    /// The user, the type and the vendor.
    pub(super) of: (String, String, String),
}

/// All that the receiver was told.
#[derive(Default)]
pub(super) struct Events {
    /// The log forgets an OpenIM session that was silent for so long, ms. The session then begins anew, at the newest message.
    kept_ms: u64,
    /// The content of each event that ever came, by its id.
    contents: BTreeMap<String, String>,
    /// The bodies of batches.
    bodies: BTreeMap<String, Bytes>,
    taken: BTreeSet<String>,
    refusals: BTreeMap<String, u32>,
    /// The receivers, with their seqs, of each message that was told.
    pub(super) accepted: BTreeMap<String, BTreeSet<(String, u64)>>,
    highest: BTreeMap<String, u64>,
    pub(super) acked: BTreeMap<SessionName, LastAck>,
    /// Losses that were announced: the kind, and the times.
    pub(super) lost: Vec<(String, u64, u64)>,
    /// Users and ranges that were announced as expired, and are not judged yet.
    pub(super) expired: Vec<(String, u64, u64)>,
    /// The vendors' words in events of push.
    pub(super) pushes: BTreeSet<String>,
    /// The ends of pushes that were told in their turn, and are not judged yet.
    pub(super) push_ends: Vec<ToldEnd>,
    /// Messages and users of pushes that ended because too many waited, or for too long.
    expired_pushes: BTreeSet<(String, String)>,
    /// The newest time in an event of push, by user and type.
    push_times: BTreeMap<(String, String), String>,
    /// True while the gateway may lose acks of the log, or messages, for a reason of its machine.
    pub(super) is_excused: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Events {
    pub(super) fn new(retention: Duration) -> Self {
        Self {
            kept_ms: retention.as_millis() as u64,
            ..Self::default()
        }
    }

    /// Another log begins.
    pub(super) fn begin(&mut self) {
        self.refusals.clear();
        self.accepted.clear();
        self.highest.clear();
        self.acked.clear();
        self.lost.clear();
        self.expired.clear();
        self.pushes.clear();
        self.push_ends.clear();
        self.expired_pushes.clear();
        self.push_times.clear();
        self.is_excused = false;
    }

    /// The events that were refused to the end and not taken since.
    fn all_dead(&self) -> impl Iterator<Item = &String> {
        let refused = self.refusals.iter().filter(|(_, tries)| **tries >= TRIES);
        let ids = refused.map(|(id, _)| id);
        ids.filter(|id| !self.taken.contains(*id))
    }

    /// True if there are any.
    pub(super) fn has_dead(&self) -> bool {
        self.all_dead().next().is_some()
    }

    /// The number of dead letters about messages and pushes.
    pub(super) fn dead(&self) -> usize {
        // Presence is told at best, and a loss that grew meanwhile is another event.
        let is_kept = |content: &String| {
            !content.contains("\"type\":\"user.") && !content.contains("\"type\":\"events.lost")
        };
        self.all_dead()
            .filter(|id| self.contents.get(*id).is_some_and(is_kept))
            .count()
    }

    /// A request arrives, and gets this answer.
    pub(super) fn arrives(&mut self, id: &str, body: &Bytes, reply: &HookReply) {
        let known = self.bodies.entry(id.to_owned()).or_insert(body.clone());
        if known != body {
            violated(
                "webhooks",
                format_args!("request {id} changed: {known:?} and {body:?}"),
            );
        }
        let Ok(whole) = serde_json::from_slice::<Value>(body) else {
            return violated("webhooks", format_args!("request {id} is no JSON"));
        };
        let events = match whole["type"].as_str() {
            Some("batch") => whole["data"].as_array().cloned().unwrap_or_default(),
            _ => vec![whole],
        };
        if events.is_empty() {
            violated("webhooks", format_args!("request {id} is empty"));
        }
        for event in &events {
            let (id, content) = (text(&event["id"]), event.to_string());
            let known = self.contents.entry(id).or_insert_with(|| content.clone());
            if *known != content {
                violated(
                    "webhooks",
                    format_args!("an event changed: {known} and {content}"),
                );
            }
        }
        match reply {
            HookReply::Status(200..=299, _) => {
                for event in &events {
                    let is_in_turn = !self.is_refused(&text(&event["id"]));
                    self.tell(event, is_in_turn);
                    self.taken.insert(text(&event["id"]));
                }
            }
            HookReply::Status(400, _) => {
                for event in &events {
                    let id = text(&event["id"]);
                    *self.refusals.entry(id.clone()).or_default() += 1;
                    let is_dead = self.refusals[&id] == TRIES && !self.taken.contains(&id);
                    if is_dead && event["type"] == "message.acked" {
                        self.moves_ack(event);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_refused(&self, id: &str) -> bool {
        self.refusals.get(id).is_some_and(|tries| *tries >= TRIES)
    }

    fn tell(&mut self, event: &Value, is_in_turn: bool) {
        if self.taken.contains(&text(&event["id"])) {
            return;
        }
        let data = &event["data"];
        match event["type"].as_str().unwrap_or_default() {
            "message.accepted" => self.tell_accepted(event, is_in_turn),
            "message.acked" if is_in_turn => self.moves_ack(event),
            "message.expired" => {
                let range = (data["from_seq"].as_u64(), data["to_seq"].as_u64());
                let (Some(from), Some(to)) = range else {
                    return violated("webhooks", format_args!("no range: {event}"));
                };
                self.expired.push((text(&data["user_id"]), from, to));
            }
            "push.sent" | "push.failed" => self.tell_push(event, is_in_turn),
            "events.lost" => {
                let times = (data["from_time"].as_u64(), data["to_time"].as_u64());
                let (Some(from_ms), Some(to_ms)) = times else {
                    return violated("webhooks", format_args!("no times: {event}"));
                };
                self.lost.push((text(&data["type"]), from_ms, to_ms));
            }
            _ => {}
        }
    }

    fn tell_accepted(&mut self, event: &Value, is_in_turn: bool) {
        let data = &event["data"];
        let told = self
            .accepted
            .entry(text(&data["server_msg_id"]))
            .or_default();
        for receiver in data["receivers"].as_array().into_iter().flatten() {
            let (user, seq) = (text(&receiver["user_id"]), receiver["seq"].as_u64());
            let seq = seq.unwrap_or_default();
            told.insert((user.clone(), seq));
            let highest = self.highest.entry(user).or_default();
            if is_in_turn && seq <= *highest {
                violated(
                    "webhooks",
                    format_args!("out of order, behind {highest}: {event}"),
                );
            }
            *highest = seq.max(*highest);
        }
    }

    /// The ends of a user's pushes come in their order, one type at a time.
    fn tell_push(&mut self, event: &Value, is_in_turn: bool) {
        let data = &event["data"];
        let word = match &data["id"] {
            Value::Null => text(&data["reason"]),
            id => text(id),
        };
        let (user, kind) = (text(&data["user_id"]), text(&event["type"]));
        if word == "expired" {
            let message = text(&data["server_msg_id"]);
            self.expired_pushes.insert((message, user.clone()));
        }
        self.pushes.insert(word.clone());
        if !is_in_turn {
            return;
        }
        let time = text(&event["timestamp"]);
        let newest = self.push_times.entry((user.clone(), kind.clone()));
        let newest = newest.or_default();
        if time < *newest && !self.is_excused {
            violated(
                "webhooks",
                format_args!("out of order, behind {newest}: {event}"),
            );
        }
        *newest = time;
        let of = (user, kind, text(&data["provider"]));
        self.push_ends.push(ToldEnd { word, of });
    }

    /// True if the receiver was told that a push of this message ended without a vendor, for its age or because too many waited.
    pub(super) fn has_expired(&self, message: &str, user: usize) -> bool {
        let user = user_id(user).to_string();
        self.expired_pushes.contains(&(message.to_owned(), user))
    }

    /// The ranges of a session's acks go on without a hole.
    fn moves_ack(&mut self, event: &Value) {
        let data = &event["data"];
        let numbers = ["from_seq", "to_seq", "acked_time"].map(|name| data[name].as_u64());
        let [Some(from), Some(up_to), Some(acked_ms)] = numbers else {
            return violated("webhooks", format_args!("no range: {event}"));
        };
        let device = text(&data["device_id"]);
        let is_openim = data["proof"] == "received";
        let platform = data["platform"].as_u64().unwrap_or_default();
        let session = (text(&data["user_id"]), platform, device);
        if let Some(told) = self.acked.get(&session) {
            // A session that the log forgot begins anew: what was told of it may come again.
            let is_hole = from > told.up_to + 1;
            let was_forgotten = is_openim && acked_ms.saturating_sub(told.acked_ms) >= self.kept_ms;
            if is_hole && !was_forgotten && !self.is_excused {
                violated(
                    "webhooks",
                    format_args!("acks do not go on from {told:?}: {event}"),
                );
            }
        }
        self.acked.insert(session, LastAck { up_to, acked_ms });
    }
}
