//! The times of the latest pushes and acks, so that an operator can trace a message. Bounded, in memory only.
//!
//! One ring holds pushes and one holds acks, each in several parts behind their own locks. New times replace the oldest
//! ones. After that, the session's cursor still tells the fact, but not its time.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use crate::ids::{Seq, SessionKey};

/// The parts of a ring. Because there are several, reactors seldom wait for each other.
const PARTS: usize = 16;
/// Times in each part: 0.8 MB in all, the last half minute at 1,000 messages a second.
const ENTRIES_MAX: usize = 2048;

struct TrailEntry {
    session: u64,
    up_to: Seq,
    time_ms: u64,
}

/// The ring of one fact: pushed, or acked.
pub(super) struct Trail {
    hasher: RandomState,
    parts: [Mutex<VecDeque<TrailEntry>>; PARTS],
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Trail {
    /// Records that the fact became true for everything up to `up_to`.
    pub(super) fn add(&self, session: &SessionKey, up_to: Seq, time_ms: u64) {
        let session = self.hasher.hash_one(session);
        let mut part = self.part(session);
        if part.len() == ENTRIES_MAX {
            part.pop_front();
        }
        part.push_back(TrailEntry {
            session,
            up_to,
            time_ms,
        });
    }

    /// The time at which the fact first became true for `seq`, Unix ms, if it is remembered.
    pub(super) fn when(&self, session: &SessionKey, seq: Seq) -> Option<u64> {
        let session = self.hasher.hash_one(session);
        let part = self.part(session);
        let mut entries = part.iter().filter(|entry| entry.session == session);
        entries
            .find(|entry| entry.up_to >= seq)
            .map(|entry| entry.time_ms)
    }

    fn part(&self, session: u64) -> std::sync::MutexGuard<'_, VecDeque<TrailEntry>> {
        // A panic of the lock's holder leaves the list of plain values whole.
        self.parts[session as usize % PARTS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Platform, UserId};

    #[test]
    fn the_newest_times_replace_the_oldest() {
        let trail = Trail::default();
        let alice = SessionKey {
            user: UserId::new("alice").unwrap(),
            platform: Platform::Web,
            device: "".into(),
        };
        for seq in 1..=ENTRIES_MAX as u64 + 1 {
            trail.add(&alice, Seq(seq), seq * 10);
        }
        let kept: usize = trail
            .parts
            .iter()
            .map(|part| part.lock().unwrap().len())
            .sum();
        assert_eq!(kept, ENTRIES_MAX);
        // The first time is forgotten, so the next one counts.
        assert_eq!(trail.when(&alice, Seq(1)), Some(20));
    }
}
