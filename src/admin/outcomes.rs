//! The outcomes of recent sends by operationID, for `check_msg_is_send_success`. They are kept in memory only.
//!
//! An operationID has its newest outcome, because callers repeat operationIDs. `/msg/trace` is the exact answer.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

/// The most operationIDs remembered: some seconds of a busy sender, about 3 MB. Older ones are forgotten.
const OPERATIONS_MAX: usize = 65_536;

/// OpenIM's status numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SendingStatus {
    Unknown = 0,
    Sending = 1,
    Done = 2,
    Failed = 3,
}

/// Remembers one outcome for each of the last [`OPERATIONS_MAX`] operationIDs.
#[derive(Default)]
pub(super) struct Outcomes {
    /// An operationID may have any length. It is kept as a keyed hash, so that no caller can cause collisions on purpose.
    hasher: RandomState,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    outcomes: HashMap<u64, SendingStatus>,
    /// The keys of `outcomes`, in the order in which they were first seen.
    order: VecDeque<u64>,
}

impl Outcomes {
    /// Stores the newest outcome of an operation.
    pub(super) fn note(&self, operation_id: &str, outcome: SendingStatus) {
        let key = self.hasher.hash_one(operation_id);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = &mut *ring;
        match ring.outcomes.entry(key) {
            Entry::Occupied(mut entry) => {
                entry.insert(outcome);
            }
            Entry::Vacant(entry) => {
                entry.insert(outcome);
                ring.order.push_back(key);
            }
        }
        if ring.order.len() > OPERATIONS_MAX {
            let oldest = ring.order.pop_front().expect("it is longer than its bound");
            ring.outcomes.remove(&oldest);
        }
    }

    /// The newest outcome of an operation.
    pub(super) fn of(&self, operation_id: &str) -> SendingStatus {
        let key = self.hasher.hash_one(operation_id);
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.outcomes
            .get(&key)
            .copied()
            .unwrap_or(SendingStatus::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_stands_and_the_oldest_operation_leaves_first() {
        let outcomes = Outcomes::default();
        assert_eq!(outcomes.of("0"), SendingStatus::Unknown);
        for operation in 0..OPERATIONS_MAX {
            outcomes.note(&operation.to_string(), SendingStatus::Sending);
        }
        outcomes.note("0", SendingStatus::Done);
        assert_eq!(outcomes.of("0"), SendingStatus::Done);
        outcomes.note("one more", SendingStatus::Failed);
        assert_eq!(outcomes.of("0"), SendingStatus::Unknown);
        assert_eq!(outcomes.of("1"), SendingStatus::Sending);
        assert_eq!(outcomes.of("one more"), SendingStatus::Failed);
    }
}
