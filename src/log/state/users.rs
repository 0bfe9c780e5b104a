//! A user's row: how far the inbox has come, where its newest place stands, what is retained, what was acked.

use super::{
    super::record::Position,
    StateError,
    keys::{self, WAYPOINT_EVERY, position_at, u64_at},
    table::{Row, Table},
};
use crate::{
    ids::{Seq, UserId},
    log::Inbox,
};

/// One user. A user that was never sent anything has the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct UserRow {
    /// Highest assigned seq.
    pub(in crate::log) head: Seq,
    /// The newest `Place`; [`Position::NONE`] when none is retained.
    pub(in crate::log) newest: Position,
    /// Oldest retained seq.
    pub(in crate::log) first: Seq,
    /// Highest seq that any session acked.
    pub(in crate::log) acked: Seq,
    /// Whether `deleted` has rows of this user.
    pub(in crate::log) has_deleted: bool,
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
    /// Messages that are retained and that no session acked.
    pub(in crate::log) fn pending(&self) -> u64 {
        self.head
            .0
            .saturating_sub(self.acked.max(self.first.previous()).0)
    }

    /// The bounds that sessions see.
    pub(in crate::log) fn inbox(&self) -> Inbox {
        Inbox {
            head: self.head,
            first: self.first,
        }
    }
}

impl Row for UserRow {
    fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.head.0, self.newest.0, self.first.0, self.acked.0];
        numbers
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .chain([u8::from(self.has_deleted)])
            .collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            head: Seq(u64_at(bytes, 0)?),
            newest: position_at(bytes, 8)?,
            first: Seq(u64_at(bytes, 16)?),
            acked: Seq(u64_at(bytes, 24)?),
            has_deleted: *bytes.get(32)? == 1,
        })
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
pub(in crate::log) struct Users {
    pub(super) rows: Table<UserRow>,
    pub(super) waypoints: Table<Position>,
}

impl Users {
    /// The user's row; the default for an unknown one.
    pub(in crate::log) fn get(&self, user: &UserId) -> Result<UserRow, StateError> {
        Ok(self.rows.get(user.as_str().as_bytes())?.unwrap_or_default())
    }

    /// Changes a user's row under its lock, and makes the user known.
    pub(in crate::log) fn update<T>(
        &self,
        user: &UserId,
        change: impl FnOnce(&mut UserRow) -> T,
    ) -> Result<T, StateError> {
        self.rows.update(user.as_str().into(), |row| {
            change(row.get_or_insert_default())
        })
    }

    /// Takes note of a place: the head moves, waypoints are kept. True when it is new; replaying an old one changes nothing.
    pub(in crate::log) fn place(
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

    /// Where to begin walking back in order to reach `seq`: the nearest place at or above it that is written down.
    pub(in crate::log) fn landmark(
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

    /// Forgets the waypoints of places that are no longer retained.
    pub(in crate::log) fn forget_waypoints(&self, user: &UserId, from: Seq, below: Seq) {
        let first = from.0.next_multiple_of(WAYPOINT_EVERY);
        for seq in (first..below.0).step_by(WAYPOINT_EVERY as usize) {
            self.waypoints.remove(keys::place(user, Seq(seq)));
        }
    }
}
