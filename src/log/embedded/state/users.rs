//! A user's row: the inbox's head, the position of its newest entry, its retained part, and its acked part.

use prost::encoding::{decode_varint, encode_varint};

use super::{
    super::record::Position,
    StateError,
    keys::{self, WAYPOINT_EVERY, position_at},
    table::{Row, Table},
};
use crate::{
    ids::{Epoch, Seq, UserId},
    log::Inbox,
};

/// One user. The default stands for a user who never got a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log::embedded) struct UserRow {
    /// Highest assigned seq.
    pub(in crate::log::embedded) head: Seq,
    /// The position of the newest entry's record; [`Position::NONE`] when no entry is retained.
    pub(in crate::log::embedded) newest: Position,
    /// Oldest retained seq.
    pub(in crate::log::embedded) first: Seq,
    /// Highest seq that any session acked.
    pub(in crate::log::embedded) acked: Seq,
    /// True if the tree `deleted` has rows of this user.
    pub(in crate::log::embedded) has_deleted: bool,
}

impl Default for UserRow {
    fn default() -> Self {
        Self {
            head: Seq::ZERO,
            newest: Position::NONE,
            first: Seq(1),
            acked: Seq::ZERO,
            has_deleted: false,
        }
    }
}

impl UserRow {
    /// The number of retained messages that no session acked.
    pub(in crate::log::embedded) fn pending(&self) -> u64 {
        self.head
            .0
            .saturating_sub(self.acked.max(self.first.previous()).0)
    }

    /// The bounds that sessions see.
    pub(in crate::log::embedded) fn inbox(&self, epoch: Epoch) -> Inbox {
        Inbox {
            epoch,
            head: self.head,
            first: self.first,
        }
    }
}

impl Row for UserRow {
    /// Varints keep the value small. sled keeps a value of at most 22 bytes within its page, and each longer one in an
    /// allocation of its own. This value fits up to 2^28 messages of a user and 4 TB of log.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(22);
        let numbers = [self.head.0, self.newest.0, self.first.0, self.acked.0];
        for number in numbers.into_iter().chain([self.has_deleted.into()]) {
            encode_varint(number, &mut bytes);
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || decode_varint(&mut bytes).ok();
        let row = Self {
            head: Seq(number()?),
            newest: Position(number()?),
            first: Seq(number()?),
            acked: Seq(number()?),
            has_deleted: number()? == 1,
        };
        bytes.is_empty().then_some(row)
    }
}

impl Row for Position {
    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        position_at(bytes, 0)
    }
}

/// Inboxes: the users' rows and the waypoints into their chains.
pub(in crate::log::embedded) struct Users {
    pub(super) rows: Table<UserRow>,
    pub(super) waypoints: Table<Position>,
}

impl Users {
    /// The user's row; the default for an unknown user.
    pub(in crate::log::embedded) fn get(&self, user: &UserId) -> Result<UserRow, StateError> {
        Ok(self.rows.get(user.as_str().as_bytes())?.unwrap_or_default())
    }

    /// Changes a user's row under its lock, and makes the user known.
    pub(in crate::log::embedded) fn update<T>(
        &self,
        user: &UserId,
        change: impl FnOnce(&mut UserRow) -> T,
    ) -> Result<T, StateError> {
        self.rows.update(user.as_str().into(), |row| {
            change(row.get_or_insert_default())
        })
    }

    /// Adds an entry: moves the head, and keeps waypoints. Returns true for a new entry. Replaying an old one changes
    /// nothing.
    pub(in crate::log::embedded) fn place(
        &self,
        user: &UserId,
        seq: Seq,
        at: Position,
    ) -> Result<bool, StateError> {
        if seq.0.is_multiple_of(WAYPOINT_EVERY) {
            self.waypoints.put(keys::place(user, seq), at);
        }
        self.update(user, |row| {
            let is_new = seq > row.head;
            if is_new {
                if row.newest == Position::NONE {
                    row.first = seq;
                }
                (row.head, row.newest) = (seq, at);
            }
            is_new
        })
    }

    /// The start of a walk back to `seq`: the nearest stored position of an entry at or above it.
    pub(in crate::log::embedded) fn landmark(
        &self,
        user: &UserId,
        row: &UserRow,
        seq: Seq,
    ) -> Result<(Seq, Position), StateError> {
        let waypoint = Seq(seq.0.next_multiple_of(WAYPOINT_EVERY));
        if waypoint < row.head
            && let Some(position) = self.waypoints.get(&keys::place(user, waypoint))?
        {
            return Ok((waypoint, position));
        }
        Ok((row.head, row.newest))
    }

    /// Forgets the waypoints of entries that are no longer retained.
    pub(in crate::log::embedded) fn forget_waypoints(&self, user: &UserId, from: Seq, below: Seq) {
        let first = from.0.next_multiple_of(WAYPOINT_EVERY);
        for seq in (first..below.0).step_by(WAYPOINT_EVERY as usize) {
            self.waypoints.remove(keys::place(user, Seq(seq)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_no_other_bytes_do() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let mut number = || random.u64(..) >> random.u32(..64);
            let row = UserRow {
                head: Seq(number()),
                newest: Position(number()),
                first: Seq(number()),
                acked: Seq(number()),
                has_deleted: number() % 2 == 1,
            };
            let mut bytes = row.to_bytes();
            assert_eq!(UserRow::from_bytes(&bytes), Some(row));
            assert_eq!(UserRow::from_bytes(&bytes[..bytes.len() - 1]), None);
            bytes.push(0);
            assert_eq!(UserRow::from_bytes(&bytes), None);
        }
    }

    #[test]
    fn a_row_fits_into_its_page() {
        let row = UserRow {
            head: Seq((1 << 28) - 1),
            newest: Position((1 << 42) - 1),
            first: Seq((1 << 28) - 1),
            acked: Seq((1 << 28) - 1),
            has_deleted: true,
        };
        assert!(row.to_bytes().len() <= 22);
    }
}
