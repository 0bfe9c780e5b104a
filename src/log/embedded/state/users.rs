//! A user's row: the inbox's head, the position of its newest entry, its retained part, and its acked part.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prost::encoding::{decode_varint, encode_varint};

use super::{
    super::record::Position,
    StateError,
    keys::{self, WAYPOINT_EVERY, position_at},
    mark_rows::MarkRows,
    store::StateStore,
    table::{Row, Table},
};
use crate::{
    ids::{Epoch, Seq, UserId},
    log::Inbox,
    metrics::ByKind,
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
    /// True if the tree `marks` has rows of this user.
    pub(in crate::log::embedded) has_marks: bool,
    /// True if the user was erased, and got nothing since.
    pub(in crate::log::embedded) is_erased: bool,
    /// The number of retained entries of read marks that no session acked.
    pub(in crate::log::embedded) pending_marks: u64,
    /// The user's number, from 1; 0 for a user who has none yet.
    pub(in crate::log::embedded) number: u64,
}

/// No user gets so high a number. So counting on from a number that was read never overflows.
const NUMBER_MAX: u64 = 1 << 62;
/// The bits of a row's fifth varint.
const HAS_DELETED: u64 = 1;
/// A number follows.
const HAS_NUMBER: u64 = 2;
/// The number of pending marks follows, after the user's number.
const HAS_MARKS: u64 = 4;
/// The user was erased.
const IS_ERASED: u64 = 8;

/// The entries of a user that are pending before a change and after it.
pub(super) type PendingChange = (ByKind<u64>, ByKind<u64>);

impl Default for UserRow {
    fn default() -> Self {
        Self {
            head: Seq::ZERO,
            newest: Position::NONE,
            first: Seq(1),
            acked: Seq::ZERO,
            has_deleted: false,
            has_marks: false,
            is_erased: false,
            pending_marks: 0,
            number: 0,
        }
    }
}

impl UserRow {
    /// No entry up to this is pending.
    pub(super) fn settled(&self) -> Seq {
        self.acked.max(self.first.previous())
    }

    /// The number of retained entries that no session acked.
    pub(in crate::log::embedded) fn pending(&self) -> ByKind<u64> {
        let all = self.head.0.saturating_sub(self.settled().0);
        let marks = self.pending_marks.min(all);
        ByKind {
            messages: all - marks,
            marks,
        }
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
    /// allocation of its own. This value fits up to 2^21 messages of a user, 127 pending marks, 4 TB of log and 2^35 users.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(22);
        let has_number = self.number > 0;
        let flags = if self.has_deleted { HAS_DELETED } else { 0 }
            | if has_number { HAS_NUMBER } else { 0 }
            | if self.has_marks { HAS_MARKS } else { 0 }
            | if self.is_erased { IS_ERASED } else { 0 };
        let numbers = [
            self.head.0,
            self.newest.0,
            self.first.0,
            self.acked.0,
            flags,
        ];
        let number = has_number.then_some(self.number);
        let marks = self.has_marks.then_some(self.pending_marks);
        for number in numbers.into_iter().chain(number).chain(marks) {
            encode_varint(number, &mut bytes);
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || decode_varint(&mut bytes).ok();
        let mut row = Self {
            head: Seq(number()?),
            newest: Position(number()?),
            first: Seq(number()?),
            acked: Seq(number()?),
            ..Self::default()
        };
        let flags = number()?;
        row.has_deleted = flags & HAS_DELETED > 0;
        row.is_erased = flags & IS_ERASED > 0;
        if flags & HAS_NUMBER > 0 {
            row.number = number().filter(|number| *number <= NUMBER_MAX)?;
        }
        row.has_marks = flags & HAS_MARKS > 0;
        if row.has_marks {
            row.pending_marks = number()?;
        }
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

/// Inboxes: the users' rows, the waypoints into their chains, and the rows of marks.
pub(in crate::log::embedded) struct Users {
    pub(super) rows: Table<UserRow>,
    pub(super) waypoints: Table<Position>,
    pub(super) marks: MarkRows,
    /// Known users without a number, to whom the writer gives numbers. `None` before the first message to everyone, because
    /// numbers take memory, and while the log's format has no numbers.
    unnumbered: Mutex<Option<BTreeSet<UserId>>>,
    /// The highest number of a user.
    highest: AtomicU64,
}

impl Users {
    pub(super) fn open(store: &dyn StateStore) -> Result<Self, StateError> {
        Ok(Self {
            rows: Table::open(store, "users")?,
            waypoints: Table::open(store, "waypoints")?,
            marks: MarkRows::open(store)?,
            unnumbered: Mutex::default(),
            highest: AtomicU64::new(0),
        })
    }

    /// Takes the number of a stored row into account.
    pub(super) fn note(&self, row: &UserRow) {
        self.highest.fetch_max(row.number, Relaxed);
    }

    /// Users get no number from now on.
    pub(super) fn stop_numbering(&self) {
        *lock(&self.unnumbered) = None;
    }

    /// Users get numbers from now on, as they become known. False: they do already.
    pub(super) fn start_numbering(&self) -> bool {
        let mut unnumbered = lock(&self.unnumbered);
        let is_new = unnumbered.is_none();
        unnumbered.get_or_insert_default();
        is_new
    }

    /// These users, who have no number, get one.
    pub(super) fn await_numbers(&self, users: BTreeSet<UserId>) {
        if let Some(unnumbered) = &mut *lock(&self.unnumbered) {
            unnumbered.extend(users);
        }
    }

    /// The highest number of a user; 0 when no user has one.
    pub(in crate::log::embedded) fn highest(&self) -> u64 {
        self.highest.load(Relaxed)
    }

    /// Up to `most` known users without a number, and true if these are all.
    pub(in crate::log::embedded) fn unnumbered(&self, most: usize) -> (Vec<UserId>, bool) {
        let unnumbered = lock(&self.unnumbered);
        let Some(users) = &*unnumbered else {
            return (Vec::new(), true);
        };
        (
            users.iter().take(most).cloned().collect(),
            users.len() <= most,
        )
    }

    /// Gives a user the number in the key of a row of [`TableId::Numbers`].
    pub(super) fn number(&self, key: &[u8], user: &[u8]) -> Result<(), StateError> {
        let number = key.try_into().map(u64::from_be_bytes);
        let number = number.ok().filter(|number| *number <= NUMBER_MAX);
        let number = number.ok_or(StateError::Undecodable)?;
        let user = read_user(user)?;
        self.update(&user, |row| row.number = number)?;
        self.highest.fetch_max(number, Relaxed);
        if let Some(users) = &mut *lock(&self.unnumbered) {
            users.remove(&user);
        }
        Ok(())
    }

    /// Makes a user with a session known, if that is news. Without numbers the session's row is enough, but for a user who was erased.
    pub(super) fn know(&self, user: &UserId) -> Result<(), StateError> {
        let row = self.get(user)?;
        if row.is_erased || lock(&self.unnumbered).is_some() && row.number == 0 {
            self.update(user, |row| row.is_erased = false)?;
        }
        Ok(())
    }

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
        let (answer, has_number) = self.rows.update(user.as_str().into(), |row| {
            let row = row.get_or_insert_default();
            (change(row), row.number > 0)
        })?;
        if !has_number && let Some(users) = &mut *lock(&self.unnumbered) {
            users.insert(user.clone());
        }
        Ok(answer)
    }

    /// Changes what is pending of a user, under the row's lock. `change` need not take passed marks off: that is done after it.
    pub(super) fn change<T>(
        &self,
        user: &UserId,
        change: impl FnOnce(&mut UserRow) -> T,
    ) -> Result<(T, PendingChange), StateError> {
        self.update(user, |row| {
            let before = *row;
            let answer = change(row);
            let bounds = (before.settled(), before.head);
            let passed = self
                .marks
                .passed(user, before.pending_marks, bounds, row.settled());
            match passed {
                Ok(passed) => {
                    row.pending_marks = row.pending_marks.saturating_sub(passed);
                    Ok((answer, (before.pending(), row.pending())))
                }
                Err(error) => {
                    *row = before;
                    Err(error)
                }
            }
        })?
    }

    /// Adds an entry: moves the head, and keeps waypoints. Replaying an old one changes nothing.
    pub(super) fn add_entry(
        &self,
        user: &UserId,
        seq: Seq,
        at: Position,
        is_marks: bool,
    ) -> Result<PendingChange, StateError> {
        if seq.0.is_multiple_of(WAYPOINT_EVERY) {
            self.waypoints.put(keys::entry(user, seq), at);
        }
        // The row of marks is there before the user's row counts the entry.
        if is_marks && seq >= self.get(user)?.first {
            self.marks.add(user, seq)?;
        }
        let ((), pending) = self.change(user, |row| {
            row.has_marks |= is_marks;
            if seq > row.head {
                if row.newest == Position::NONE {
                    row.first = seq;
                }
                (row.head, row.newest) = (seq, at);
                row.is_erased = false;
                row.pending_marks += u64::from(is_marks);
            }
        })?;
        Ok(pending)
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
            && let Some(position) = self.waypoints.get(&keys::entry(user, waypoint))?
        {
            return Ok((waypoint, position));
        }
        Ok((row.head, row.newest))
    }

    /// Forgets the waypoints of entries that are no longer retained.
    pub(in crate::log::embedded) fn forget_waypoints(&self, user: &UserId, from: Seq, below: Seq) {
        let first = from.0.next_multiple_of(WAYPOINT_EVERY);
        for seq in (first..below.0).step_by(WAYPOINT_EVERY as usize) {
            self.waypoints.remove(keys::entry(user, Seq(seq)));
        }
    }
}

/// The user that a row's key or value names.
pub(super) fn read_user(bytes: &[u8]) -> Result<UserId, StateError> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| UserId::new(text).ok())
        .ok_or(StateError::Undecodable)
}

/// A panic of the lock's holder leaves the set of users whole.
fn lock(users: &Mutex<Option<BTreeSet<UserId>>>) -> MutexGuard<'_, Option<BTreeSet<UserId>>> {
    users.lock().unwrap_or_else(PoisonError::into_inner)
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
                has_marks: false,
                is_erased: number() % 2 == 1,
                pending_marks: 0,
                number: (number() >> 2) * (number() % 2),
            };
            let pending_marks = number();
            let row = UserRow {
                has_marks: pending_marks % 2 == 1,
                pending_marks: pending_marks * (pending_marks % 2),
                ..row
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
            head: Seq((1 << 21) - 1),
            newest: Position((1 << 42) - 1),
            first: Seq((1 << 21) - 1),
            acked: Seq((1 << 21) - 1),
            has_deleted: true,
            has_marks: true,
            is_erased: true,
            pending_marks: 127,
            number: (1 << 35) - 1,
        };
        assert!(row.to_bytes().len() <= 22);
    }
}
