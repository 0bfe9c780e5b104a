//! The catalogue of the rows in sled. Ids contain no control characters, so `\0` separates the parts of a key. Integers in
//! keys are big endian, so that they sort; integers in values are little endian.
//!
//! | tree | key | value | lifetime |
//! |---|---|---|---|
//! | `users` | user | head, newest, first, acked, flags: a varint each; flag 1: has deleted messages; flag 2: the user's number follows; flag 4: has rows of marks, and the number of pending marks follows; flag 8: was erased, and got nothing since | for ever |
//! | `waypoints` | user `\0` seq (multiples of 64) | position u64 of that `Entry` | until its segment is removed |
//! | `marks` | user `\0` seq / 64 | the bits u64 of the seqs whose `Entry` holds read marks | until its segments are removed |
//! | `conversations` | user `\0` conversation id | head, newest, first, mark, last time, last seq, flags: a varint each; flag 1: provisional; flag 2: the shift follows; flag 4: the bases follow, their number, then after and base of each; flag 8: the settings follow, pinned, receive option, cleared; then the unread messages that were deleted | for ever |
//! | `conversation_waypoints` | user `\0` conversation id `\0` conversation seq (multiples of 64) | position u64 of that `Entry` | until its segment is removed |
//! | `conversation_waypoints` | user `\0` conversation id `\0` `\0` provisional number (multiples of 64) | the same, for an entry with a provisional number | until its segment is removed |
//! | `unnumbered` | user `\0` seq | for an `Entry` without a conversation seq: the seq, the position of the conversation's `Entry` before it, provisional: a varint each | until its segment is removed |
//! | `sessions` | user `\0` platform u8, device | cursor u64, acked_at_ms u64 | for ever; of an OpenIM session: `log.retention` after the last login or ack, when a segment is removed |
//! | `keys` | sender `\0` clientMsgID | message id 16, send_time u64, fingerprint 16, position u64 | as its message, at least `log.idempotency_retention` |
//! | `revoked` | user `\0` platform u8 | revoked_before_ms u64, newest_ms u64 (absent in older rows) | for ever |
//! | `erased` | user | head u64, time u64, before u64: the erasure | until its segment is removed; of a user who got nothing since: for ever |
//! | `deleted` | user `\0` seq | – | until its segment is removed |
//! | `profiles` | user | opaque | for ever |
//! | `rows` | table u8, key | the row's value, see `table_id.rs` | until the row is removed |
//! | `meta` | `reached` | epoch u64, position u64, CRC u32: the part of the log that the other trees contain at least | – |
//! | `meta` | `complete` | position u64: the conversations and the rows of marks of this part are complete, see `conversations.rs` and `mark_rows.rs` | – |

use super::super::{record::Position, table_id::TableId};
use crate::ids::{ConversationSeq, Platform, Seq, SessionKey, UserId};

/// The distance in seqs between two waypoints of a user. A read walks back at most this far to its beginning.
pub(super) const WAYPOINT_EVERY: u64 = 64;

/// The seqs of one row of the tree `marks`: the bits of its value.
pub(super) const MARKS_IN_ROW: u64 = 64;

/// The byte between the parts of a key.
const SEPARATOR: u8 = 0;

pub(super) fn entry(user: &UserId, seq: Seq) -> Vec<u8> {
    joined(user.as_str(), &seq.0.to_be_bytes())
}

/// The key of a row of the tree `marks`, by the seqs of the row divided by [`MARKS_IN_ROW`].
pub(super) fn marks(user: &UserId, row: u64) -> Vec<u8> {
    joined(user.as_str(), &row.to_be_bytes())
}

/// The key of an entry of the conversation with the key `conversation`.
pub(super) fn conversation_entry(conversation: &[u8], number: ConversationSeq) -> Vec<u8> {
    [conversation, &[SEPARATOR], &number.0.to_be_bytes()].concat()
}

/// The key of an entry with a provisional number of the conversation with the key `conversation`.
pub(super) fn provisional_entry(conversation: &[u8], number: ConversationSeq) -> Vec<u8> {
    [
        conversation,
        &[SEPARATOR, SEPARATOR],
        &number.0.to_be_bytes(),
    ]
    .concat()
}

pub(super) fn session(key: &SessionKey) -> Vec<u8> {
    let platform = [key.platform.number() as u8];
    joined(
        key.user.as_str(),
        &[&platform, key.device.as_bytes()].concat(),
    )
}

pub(super) fn user_and_platform(user: &UserId, platform: Platform) -> Vec<u8> {
    joined(user.as_str(), &[platform.number() as u8])
}

pub(super) fn idempotency(sender: &str, client_message_id: &str) -> Vec<u8> {
    joined(sender, client_message_id.as_bytes())
}

/// A row of a table of records.
pub(super) fn row(table: TableId, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

/// The first bytes of all keys of a user, in the trees that have several keys for each user.
pub(super) fn prefix(user: &UserId) -> Vec<u8> {
    joined(user.as_str(), &[])
}

/// The user and platform that a key of `revoked` names.
pub(super) fn read_user_and_platform(bytes: &[u8]) -> Option<(UserId, Platform)> {
    let session = read_session(bytes)?;
    Some((session.user, session.platform))
}

/// The number at the end of a key of an entry, or of a row of `marks`.
pub(super) fn seq_of(bytes: &[u8]) -> Option<Seq> {
    bytes.last_chunk().copied().map(u64::from_be_bytes).map(Seq)
}

/// The user that a key of `conversations` names.
pub(super) fn user_of(bytes: &[u8]) -> Option<UserId> {
    let at = bytes.iter().position(|byte| *byte == SEPARATOR)?;
    UserId::new(std::str::from_utf8(&bytes[..at]).ok()?).ok()
}

/// The session that a key of `sessions` names.
pub(super) fn read_session(bytes: &[u8]) -> Option<SessionKey> {
    let at = bytes.iter().position(|byte| *byte == SEPARATOR)?;
    Some(SessionKey {
        user: UserId::new(std::str::from_utf8(&bytes[..at]).ok()?).ok()?,
        platform: Platform::from_number((*bytes.get(at + 1)?).into()).ok()?,
        device: std::str::from_utf8(&bytes[at + 2..]).ok()?.into(),
    })
}

fn joined(first: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(first.len() + 1 + rest.len());
    key.extend_from_slice(first.as_bytes());
    key.push(SEPARATOR);
    key.extend_from_slice(rest);
    key
}

/// Eight bytes of a value.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A position in a value.
pub(super) fn position_at(bytes: &[u8], at: usize) -> Option<Position> {
    u64_at(bytes, at).map(Position)
}
