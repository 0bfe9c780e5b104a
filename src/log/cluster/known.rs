//! The facts about the store that this gateway knows to be confirmed. Pure.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    engine::{LaneId, LaneMark, StoreMeeting, StoreMemory},
    lock,
};

/// The most lanes of other gateways that are remembered: those of 512 gateways. The proof needs one lane only.
const KNOWN_LANES_MAX: usize = 1024;
/// The facts about the store that this gateway knows to be confirmed.
#[derive(Debug, Default)]
pub(super) struct KnownMarks {
    marks: Mutex<HashMap<LaneId, LaneMark>>,
    /// The counts of the newest meeting.
    epochs: AtomicU64,
    incarnation: AtomicU64,
}

impl KnownMarks {
    /// The lane's group with this number is confirmed. The lane may be another gateway's.
    pub(super) fn know(&self, lane: LaneId, group: u64) {
        self.raise(lane, |mark| mark.last_group = mark.last_group.max(group));
    }

    /// The barrier with this number is confirmed.
    pub(super) fn know_barrier(&self, lane: LaneId, number: u64) {
        self.raise(lane, |mark| mark.barriers = mark.barriers.max(number));
    }

    fn raise(&self, lane: LaneId, raise: impl FnOnce(&mut LaneMark)) {
        let mut marks = lock(&self.marks);
        if marks.len() < KNOWN_LANES_MAX || marks.contains_key(&lane) {
            raise(marks.entry(lane).or_default());
        }
    }

    /// All of it, for a meeting with a primary.
    pub(super) fn memory(&self) -> StoreMemory {
        let marks = lock(&self.marks);
        StoreMemory {
            marks: marks.iter().map(|(lane, mark)| (*lane, *mark)).collect(),
            epochs: self.epochs.load(Relaxed),
            incarnation: self.incarnation.load(Relaxed),
        }
    }

    /// A meeting with a primary told this. The numbers that are gone prove nothing any more.
    pub(super) fn learn(&self, met: &StoreMeeting) {
        self.epochs.store(met.epochs, Relaxed);
        self.incarnation.store(met.incarnation, Relaxed);
        lock(&self.marks).retain(|lane, _| !met.lost.contains(lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(last_group: u64, barriers: u64) -> LaneMark {
        LaneMark {
            last_group,
            barriers,
        }
    }

    #[test]
    fn a_missing_group_barrier_or_lane_proves_a_loss_and_more_than_was_known_does_not() {
        let known = KnownMarks::default();
        known.know(LaneId(1), 5);
        known.know(LaneId(1), 4);
        known.know_barrier(LaneId(1), 7);
        let memory = known.memory();
        assert_eq!(memory.marks, [(LaneId(1), mark(5, 7))]);
        let lost = |stored: &[(LaneId, LaneMark)]| !memory.lost(stored).is_empty();
        assert!(!lost(&[(LaneId(1), mark(5, 7))]));
        assert!(!lost(&[(LaneId(1), mark(6, 9)), (LaneId(2), mark(0, 0))]));
        assert!(lost(&[(LaneId(1), mark(4, 7))]));
        assert!(lost(&[(LaneId(1), mark(5, 6))]));
        assert!(lost(&[(LaneId(2), mark(9, 9))]));
    }

    #[test]
    fn the_lanes_that_are_remembered_are_bounded_and_known_ones_stay() {
        let known = KnownMarks::default();
        for lane in 0..2 * KNOWN_LANES_MAX as u64 {
            known.know(LaneId(lane), 1);
        }
        known.know(LaneId(0), 2);
        let marks = known.memory().marks;
        assert_eq!(marks.len(), KNOWN_LANES_MAX);
        assert!(marks.contains(&(LaneId(0), mark(2, 0))));
    }
}
