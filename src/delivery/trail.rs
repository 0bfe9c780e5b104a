//! When the latest pushes and acks happened: enough to tell an operator where a message is, bounded, in memory only.
//!
//! A ring for pushes and one for acks, each in several parts behind locks of their own; the oldest entries fall out. What
//! fell out is still known from the session's cursor, only its time is not.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use crate::ids::{Seq, SessionKey};

/// Parts of the ring, so that reactors seldom wait for each other.
const PARTS: usize = 16;
/// Entries in each part: 0.8 MB in all, the last half minute at 1,000 messages a second.
const ENTRIES_MAX: usize = 2048;

struct Entry {
    session: u64,
    up_to: Seq,
    time_ms: u64,
}

/// The ring of one fact: sent, or acked.
pub(super) struct Trail {
    hasher: RandomState,
    parts: [Mutex<VecDeque<Entry>>; PARTS],
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
    /// Takes note that it is true of everything up to `up_to`.
    pub(super) fn add(&self, session: &SessionKey, up_to: Seq, time_ms: u64) {
        let session = self.hasher.hash_one(session);
        let mut part = self.part(session);
        if part.len() == ENTRIES_MAX {
            part.pop_front();
        }
        part.push_back(Entry {
            session,
            up_to,
            time_ms,
        });
    }

    /// When it first became true of `seq`, as far as is remembered, Unix ms.
    pub(super) fn when(&self, session: &SessionKey, seq: Seq) -> Option<u64> {
        let session = self.hasher.hash_one(session);
        let part = self.part(session);
        let mut entries = part.iter().filter(|entry| entry.session == session);
        entries
            .find(|entry| entry.up_to >= seq)
            .map(|entry| entry.time_ms)
    }

    fn part(&self, session: u64) -> std::sync::MutexGuard<'_, VecDeque<Entry>> {
        // A list of plain values is whole whatever happened to who held it.
        self.parts[session as usize % PARTS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
