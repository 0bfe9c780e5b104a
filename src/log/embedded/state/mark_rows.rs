//! The rows that say which entries of an inbox are read marks. A user's row counts the pending ones, and these rows say how many
//! of them a cursor passes. They follow from the segments alone, and stay until their entries are removed: a row that went
//! with an ack could be missing after a crash that the ack does not outlive.

use super::{StateError, keys, keys::MARKS_IN_ROW, store::StateStore, table::Table};
use crate::ids::{Seq, UserId};

/// For each [`MARKS_IN_ROW`] seqs of a user, the bits of those that are read marks. No row means no marks.
pub(super) struct MarkRows {
    pub(super) rows: Table<u64>,
}

impl MarkRows {
    pub(super) fn open(store: &dyn StateStore) -> Result<Self, StateError> {
        Ok(Self {
            rows: Table::open(store, "marks")?,
        })
    }

    /// Notes that an entry holds read marks. Repeats change nothing.
    pub(super) fn add(&self, user: &UserId, seq: Seq) -> Result<(), StateError> {
        let (row, bit) = (seq.0 / MARKS_IN_ROW, seq.0 % MARKS_IN_ROW);
        self.rows.update(keys::marks(user, row), |bits| {
            *bits.get_or_insert_default() |= 1 << bit;
        })
    }

    /// Of `pending` marks, which are all that are above `from`, up to `head`, the number up to `to`. Looks up one row for each
    /// [`MARKS_IN_ROW`] seqs on the shorter side of `to`, and none where the answer is none or all.
    pub(super) fn passed(
        &self,
        user: &UserId,
        pending: u64,
        (from, head): (Seq, Seq),
        to: Seq,
    ) -> Result<u64, StateError> {
        if pending == 0 || to <= from {
            return Ok(0);
        }
        if to >= head {
            return Ok(pending);
        }
        if to.0 - from.0 <= head.0 - to.0 {
            return Ok(self.count(user, from, to)?.min(pending));
        }
        Ok(pending.saturating_sub(self.count(user, to, head)?))
    }

    /// The number of marks above `after`, up to `last`.
    fn count(&self, user: &UserId, after: Seq, last: Seq) -> Result<u64, StateError> {
        let first = after.next();
        let mut count = 0;
        for row in first.0 / MARKS_IN_ROW..=last.0 / MARKS_IN_ROW {
            let Some(mut bits) = self.rows.get(&keys::marks(user, row))? else {
                continue;
            };
            let begin = row * MARKS_IN_ROW;
            bits &= u64::MAX << first.0.saturating_sub(begin);
            let above = (begin + MARKS_IN_ROW - 1).saturating_sub(last.0);
            bits &= u64::MAX >> above;
            count += u64::from(bits.count_ones());
        }
        Ok(count)
    }

    /// Forgets the rows of entries that are no longer retained.
    pub(super) fn forget(&self, user: &UserId, from: Seq, below: Seq) {
        for row in from.0 / MARKS_IN_ROW..below.0 / MARKS_IN_ROW {
            self.rows.remove(keys::marks(user, row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{MemoryHome, store::StoreHome as _},
        *,
    };
    use crate::log::tests::conformance::user;

    #[test]
    fn marks_are_counted_between_any_two_seqs_from_either_side() {
        let store = MemoryHome::default().open().unwrap().store;
        let marks = MarkRows::open(&*store).unwrap();
        let (alice, mut random) = (user("alice"), fastrand::Rng::with_seed(7));
        let (first, head) = (40, 400);
        let of_marks: Vec<_> = (first..=head).filter(|_| random.u8(..3) == 0).collect();
        for seq in of_marks.iter().chain(&of_marks) {
            marks.add(&alice, Seq(*seq)).unwrap();
        }
        marks.add(&user("bob"), Seq(100)).unwrap();
        let between = |from: u64, to: u64| {
            let passed = of_marks.iter().filter(|seq| (from + 1..=to).contains(*seq));
            passed.count() as u64
        };
        for from in (first - 1..=head).step_by(7) {
            for to in from..=head {
                let pending = between(from, head);
                let bounds = (Seq(from), Seq(head));
                let passed = marks.passed(&alice, pending, bounds, Seq(to)).unwrap();
                assert_eq!(passed, between(from, to), "from {from} to {to}");
            }
        }
        marks.forget(&alice, Seq(first), Seq(200));
        let left = marks.count(&alice, Seq(0), Seq(head)).unwrap();
        assert_eq!(left, between(191, head), "rows of retained entries stay");
    }
}
