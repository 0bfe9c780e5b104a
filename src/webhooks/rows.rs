//! The room's rows in the table of consumers: how far the receiver was told, and the events that wait there. Pure.
//!
//! | key | value | lifetime |
//! |---|---|---|
//! | `webhooks/commits` | position u64, epoch u64, time u64 of the last commit told | for ever |
//! | `webhooks/cursors` | the same, for the moves of cursors | for ever |
//! | `webhooks/told/` session | epoch u64, seq u64, time u64 | as long as the session |
//! | `webhooks/push/` time u64, count u64 | an event of push: see [`PushNote`] | until it was told |
//! | `webhooks/push-loss/` time u64, time u64 | empty: the events of push between these times are gone | until it was told |
//! | `webhooks/dead/` number u64, part u8 | a part of a dead letter as JSON | until it is sent again, or too many follow |
//! | `webhooks/again/` number u64, part u8 | the same, to be sent again | until it was told |
//! | `webhooks/forget/` 16 random bytes, user | empty: an order to forget an erased user, for the gateway that has the turn | until it is done |
//!
//! Integers are big endian. `session_row_key` of the log makes the keys of sessions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{Epoch, Seq, SessionKey, UserId},
    log::{FeedPosition, ROW_VALUE_BYTES_MAX, RowChange, RowTable, session_row_key},
};

pub(super) const COMMITS_KEY: &[u8] = b"webhooks/commits";
pub(super) const CURSORS_KEY: &[u8] = b"webhooks/cursors";
pub(super) const TOLD_PREFIX: &[u8] = b"webhooks/told/";
pub(super) const PUSH_PREFIX: &[u8] = b"webhooks/push/";
pub(super) const PUSH_LOSS_PREFIX: &[u8] = b"webhooks/push-loss/";
pub(super) const DEAD_PREFIX: &[u8] = b"webhooks/dead/";
pub(super) const AGAIN_PREFIX: &[u8] = b"webhooks/again/";
pub(super) const FORGET_PREFIX: &[u8] = b"webhooks/forget/";

/// A change of a row of this room.
pub(super) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> RowChange {
    RowChange {
        table: RowTable::Consumers,
        key: key.into(),
        value: Some(value.into()),
    }
}

/// The removal of a row of this room.
pub(super) fn remove(key: impl Into<Bytes>) -> RowChange {
    RowChange {
        table: RowTable::Consumers,
        key: key.into(),
        value: None,
    }
}

fn numbers<const N: usize>(numbers: [u64; N]) -> Bytes {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
    bytes.into()
}

fn number(bytes: &[u8], index: usize) -> Option<u64> {
    let bytes = bytes.get(8 * index..8 * index + 8)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The point up to which a part of the log was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeedPlace {
    /// Everything before it was told.
    pub(super) position: FeedPosition,
    /// The epoch of the position.
    pub(super) epoch: Epoch,
    /// The time of the last thing told, Unix ms.
    pub(super) time_ms: u64,
}

impl FeedPlace {
    /// The row that keeps it.
    pub(super) fn row(&self, key: &'static [u8]) -> RowChange {
        put(key, numbers([self.position.0, self.epoch.0, self.time_ms]))
    }

    pub(super) fn read(value: &[u8]) -> Option<Self> {
        Some(Self {
            position: FeedPosition(number(value, 0)?),
            epoch: Epoch(number(value, 1)?),
            time_ms: number(value, 2)?,
        })
    }
}

/// The seq up to which the receiver was told of a session's acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldUpTo {
    pub(super) epoch: Epoch,
    pub(super) up_to: Seq,
    /// The time of the ack, Unix ms.
    pub(super) acked_at_ms: u64,
}

impl ToldUpTo {
    pub(super) fn row(&self, session: &SessionKey) -> RowChange {
        let value = numbers([self.epoch.0, self.up_to.0, self.acked_at_ms]);
        put(told_key(session), value)
    }

    pub(super) fn read(value: &[u8]) -> Option<Self> {
        Some(Self {
            epoch: Epoch(number(value, 0)?),
            up_to: Seq(number(value, 1)?),
            acked_at_ms: number(value, 2)?,
        })
    }
}

/// The key of a session's row.
pub(super) fn told_key(session: &SessionKey) -> Vec<u8> {
    session_row_key(TOLD_PREFIX, session)
}

/// The end of a push, as it waits to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PushNote {
    pub(super) server_msg_id: String,
    pub(super) user_id: String,
    pub(super) provider: String,
    /// The vendor's id of a push that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// Why the push failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// The key of an event of push: the events of a start ascend.
pub(super) fn push_key(time_ms: u64, count: u64) -> Vec<u8> {
    [PUSH_PREFIX, &numbers([time_ms, count])].concat()
}

/// The time in the key of an event of push, Unix ms.
pub(super) fn push_time_ms(key: &[u8]) -> Option<u64> {
    number(key.strip_prefix(PUSH_PREFIX)?, 0)
}

/// The row of a loss of events of push between two times, Unix ms.
pub(super) fn push_loss((from_ms, to_ms): (u64, u64)) -> RowChange {
    put([PUSH_LOSS_PREFIX, &numbers([from_ms, to_ms])].concat(), "")
}

/// The times in the key of such a row.
pub(super) fn read_push_loss(key: &[u8]) -> Option<(u64, u64)> {
    let times = key.strip_prefix(PUSH_LOSS_PREFIX)?;
    Some((number(times, 0)?, number(times, 1)?))
}

/// The keys and values that keep a letter under a number. A letter may be longer than a row.
pub(super) fn letter_rows(
    prefix: &'static [u8],
    letter: u64,
    text: &Bytes,
) -> impl Iterator<Item = RowChange> {
    let parts = (0..).zip((0..text.len()).step_by(ROW_VALUE_BYTES_MAX));
    parts.map(move |(part, from)| {
        let to = text.len().min(from + ROW_VALUE_BYTES_MAX);
        put(letter_key(prefix, letter, part), text.slice(from..to))
    })
}

/// The number of rows of a letter with so many bytes.
pub(super) fn letter_parts(bytes: usize) -> u8 {
    u8::try_from(bytes.div_ceil(ROW_VALUE_BYTES_MAX)).unwrap_or(u8::MAX)
}

/// The key of a part of a letter.
pub(super) fn letter_key(prefix: &[u8], letter: u64, part: u8) -> Vec<u8> {
    [prefix, &letter.to_be_bytes(), &[part]].concat()
}

/// The begin of the keys of all parts of a letter.
pub(super) fn letter_prefix(prefix: &[u8], letter: u64) -> Vec<u8> {
    [prefix, &letter.to_be_bytes()].concat()
}

/// The row of an order to forget an erased user. `name`: a random number, so that no order has the row of another.
pub(super) fn forget_row(name: u128, user: &UserId) -> RowChange {
    let key = [FORGET_PREFIX, &name.to_be_bytes(), user.as_str().as_bytes()].concat();
    put(key, Bytes::new())
}

/// The user of such an order.
pub(super) fn read_forget_key(key: &[u8]) -> Option<UserId> {
    let (_, user) = key.strip_prefix(FORGET_PREFIX)?.split_at_checked(16)?;
    UserId::new(std::str::from_utf8(user).ok()?).ok()
}

/// The number and the part in the key of a letter.
pub(super) fn read_letter_key(prefix: &[u8], key: &[u8]) -> Option<(u64, u8)> {
    let key = key.strip_prefix(prefix)?;
    Some((number(key, 0)?, *key.get(8)?))
}
