//! The erasure of a user, as the log keeps it and as the rooms above it ask for it.

use bytes::Bytes;

use super::SessionRow;
use crate::ids::{Seq, UserId};

/// The begin of the keys of rows in [`RowTable::Consumers`](super::RowTable::Consumers) that name a user who was erased. Such a row
/// becomes durable with the erasure. Its reader removes the rows that the rooms above the log keep of the user, and then this one.
pub const ERASING_PREFIX: &[u8] = b"erasing/";

/// The erasure of a user. All that the log had of the user before it is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// The entries up to this seq are erased: the inbox's head at the time.
    pub head: Seq,
    /// The time of the erasure, Unix ms. The user's sessions had acked before it.
    pub time_ms: u64,
    /// The user's tokens issued before this Unix ms are revoked.
    pub revoked_before_ms: u64,
    /// The time, Unix ms, by which the stored bytes are gone as well, if the gateway runs and its clock is certain.
    pub until_ms: u64,
}

impl Erasure {
    /// True if the entry with this seq is erased.
    pub fn covers(&self, seq: Seq) -> bool {
        seq <= self.head
    }

    /// True if this was the state of a session of before. A session of after begins at the head or above it.
    pub fn covers_session(&self, row: &SessionRow) -> bool {
        row.cursor < self.head || row.cursor == self.head && row.acked_at_ms < self.time_ms
    }
}

/// The key of the row that names an erased user to the rooms above the log.
pub fn erasing_key(user: &UserId) -> Bytes {
    [ERASING_PREFIX, user.as_str().as_bytes()].concat().into()
}

/// The user that such a key names; `None` if it has another form.
pub fn read_erasing_key(key: &[u8]) -> Option<UserId> {
    let user = key.strip_prefix(ERASING_PREFIX)?;
    UserId::new(std::str::from_utf8(user).ok()?).ok()
}
