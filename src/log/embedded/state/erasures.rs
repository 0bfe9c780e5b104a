//! Erasures: which users were erased, and what of their rows goes. They follow from the records, and a record that is applied again
//! finds nothing more to erase: it compares seqs, and what came after it has higher ones.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{
    super::record::Position,
    State, StateError, keys,
    keys::{MARKS_IN_ROW, u64_at},
    store::StateStore,
    table::{Row, Table},
};
use crate::{
    ids::{Platform, Seq, UserId},
    log::{Erasure, SessionRow},
    metrics::ByKind,
};

/// An erasure, as its record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log::embedded) struct ErasureRow {
    /// The entries up to this seq are erased.
    pub(in crate::log::embedded) head: Seq,
    /// The time of the erasure, Unix ms.
    pub(in crate::log::embedded) time_ms: u64,
    /// Tokens issued before this Unix ms are revoked.
    pub(in crate::log::embedded) before_ms: u64,
}

impl ErasureRow {
    /// The erasure as the rooms above the log see it.
    pub(in crate::log::embedded) fn erasure(&self, until_ms: u64) -> Erasure {
        Erasure {
            head: self.head,
            time_ms: self.time_ms,
            revoked_before_ms: self.before_ms,
            until_ms,
        }
    }
}

impl Row for ErasureRow {
    fn to_bytes(&self) -> Vec<u8> {
        [self.head.0, self.time_ms, self.before_ms]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            head: Seq(u64_at(bytes, 0)?),
            time_ms: u64_at(bytes, 8)?,
            before_ms: u64_at(bytes, 16)?,
        })
    }
}

/// The last erasure of each user, as long as a segment may hold bytes of before.
pub(in crate::log::embedded) struct Erasures {
    pub(super) rows: Table<ErasureRow>,
    /// False: there is none, so that nothing need be looked up for each entry that is read.
    has_some: AtomicBool,
}

impl Erasures {
    pub(super) fn open(store: &dyn StateStore) -> Result<Self, StateError> {
        let rows = Table::open(store, "erased")?;
        let mut has_some = false;
        rows.visit(&[], |_, _| has_some = true)?;
        Ok(Self {
            rows,
            has_some: AtomicBool::new(has_some),
        })
    }

    /// True if there was an erasure since the last start, or one is remembered.
    pub(in crate::log::embedded) fn has_some(&self) -> bool {
        self.has_some.load(Relaxed)
    }

    /// The last erasure of a user.
    pub(in crate::log::embedded) fn get(
        &self,
        user: &UserId,
    ) -> Result<Option<ErasureRow>, StateError> {
        match self.has_some() {
            true => self.rows.get(user.as_str().as_bytes()),
            false => Ok(None),
        }
    }

    /// True if this entry of the user is erased.
    pub(in crate::log::embedded) fn has_erased(
        &self,
        user: &UserId,
        seq: Seq,
    ) -> Result<bool, StateError> {
        Ok(self
            .get(user)?
            .is_some_and(|row| row.erasure(0).covers(seq)))
    }

    /// True if this was the state of a session from before the user's erasure.
    pub(in crate::log::embedded) fn has_erased_session(
        &self,
        user: &UserId,
        row: &SessionRow,
    ) -> Result<bool, StateError> {
        let erased = self.get(user)?;
        Ok(erased.is_some_and(|erased| erased.erasure(0).covers_session(row)))
    }

    /// Forgets this erasure, because no segment holds bytes of before it. A later one stays.
    pub(in crate::log::embedded) fn forget(
        &self,
        user: &UserId,
        gone: &ErasureRow,
    ) -> Result<(), StateError> {
        self.rows.update(user.as_str().into(), |row| {
            row.take_if(|row| row == gone);
        })
    }

    fn put(&self, user: &UserId, erased: ErasureRow) -> Result<(), StateError> {
        self.rows.update(user.as_str().into(), |row| {
            // A replay may meet an earlier one again.
            if row.is_none_or(|row| row.head <= erased.head) {
                *row = Some(erased);
            }
        })?;
        self.has_some.store(true, Relaxed);
        Ok(())
    }
}

impl State {
    /// Erases a user, whose record stands at this position.
    pub(super) fn erase(
        &self,
        user: &UserId,
        erased: ErasureRow,
        at: Position,
    ) -> Result<(), StateError> {
        // First of all, so that no reader of the segments finds what no row has any more.
        self.erasures.put(user, erased)?;
        let head = erased.head;
        let ((), lapsed) = self.change(user, |row| {
            // A replay may not have found the entries.
            if row.head <= head {
                (row.head, row.newest) = (head, Position::NONE);
                (row.is_erased, row.has_deleted) = (true, false);
            }
            row.first = row.first.max(head.next());
        })?;
        self.lapsed.messages.fetch_add(lapsed.messages, Relaxed);
        self.lapsed.marks.fetch_add(lapsed.marks, Relaxed);
        self.profiles.remove(user.as_str().into());
        self.erase_entries(user, head, at)?;
        for (session, row) in self.cursors.of(user)? {
            if erased.erasure(0).covers_session(&row) {
                self.cursors.rows.remove(keys::session(&session));
            }
        }
        for platform in Platform::ALL {
            self.tokens.erase(user, platform, erased.before_ms)?;
        }
        Ok(())
    }

    /// The unacked entries that erasures took since the last call.
    pub(in crate::log::embedded) fn take_lapsed(&self) -> ByKind<u64> {
        ByKind {
            messages: self.lapsed.messages.swap(0, Relaxed),
            marks: self.lapsed.marks.swap(0, Relaxed),
        }
    }

    /// Removes the rows of a user's entries up to this head, and what the conversations have of them.
    fn erase_entries(&self, user: &UserId, head: Seq, at: Position) -> Result<(), StateError> {
        let prefix = keys::prefix(user);
        let mut gone = Vec::new();
        let is_before = |position: &Position| *position < at;
        self.users.waypoints.visit(&prefix, |key, position| {
            gone.extend(is_before(position).then(|| key.to_vec()));
        })?;
        gone.drain(..)
            .for_each(|key| self.users.waypoints.remove(key));
        self.users.marks.rows.visit(&prefix, |key, _| {
            let row = keys::seq_of(key).map(|row| row.0.saturating_mul(MARKS_IN_ROW));
            let is_whole = row.is_some_and(|first| first + MARKS_IN_ROW <= head.0 + 1);
            gone.extend(is_whole.then(|| key.to_vec()));
        })?;
        gone.drain(..)
            .for_each(|key| self.users.marks.rows.remove(key));
        self.deleted.visit(&prefix, |key, ()| {
            let is_erased = keys::seq_of(key).is_some_and(|seq| seq <= head);
            gone.extend(is_erased.then(|| key.to_vec()));
        })?;
        gone.drain(..).for_each(|key| self.deleted.remove(key));
        let conversations = &self.conversations;
        conversations.unnumbered.visit(&prefix, |key, _| {
            let is_erased = keys::seq_of(key).is_some_and(|seq| seq <= head);
            gone.extend(is_erased.then(|| key.to_vec()));
        })?;
        gone.drain(..)
            .for_each(|key| conversations.unnumbered.remove(key));
        conversations.waypoints.visit(&prefix, |key, position| {
            gone.extend(is_before(position).then(|| key.to_vec()));
        })?;
        gone.drain(..)
            .for_each(|key| conversations.waypoints.remove(key));
        conversations
            .rows
            .visit(&prefix, |key, _| gone.push(key.to_vec()))?;
        gone.drain(..)
            .try_for_each(|key| conversations.erase(key, head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_a_shorter_one_does_not() {
        let row = ErasureRow {
            head: Seq(7),
            time_ms: 8,
            before_ms: 9,
        };
        let bytes = row.to_bytes();
        assert_eq!(ErasureRow::from_bytes(&bytes), Some(row));
        assert_eq!(ErasureRow::from_bytes(&bytes[..23]), None);
    }
}
