//! The places at which new sessions began behind messages: with `delivery.new_session = "head"`, and with OpenIM's clients. Such a
//! session received nothing up to its begin, although its cursor stands above. Bounded; rows of the log keep them over a start.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    mem::take,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::Delivery;
use crate::{
    ids::{Epoch, Seq, SessionKey},
    log::{RowChange, RowTable, SessionBegin},
};

/// The begins of one generation in memory, 2 MB; the one before is kept as well. A decision asks for them within `push.after`: 10 s of
/// 6,500 new sessions a second. A begin that is forgotten lets its session serve as if it had received everything.
const BEGINS_MAX: usize = 65_536;

/// The begins of new sessions, and who wants to know them.
#[derive(Default)]
pub(super) struct Begins {
    /// True if webhooks want their rows.
    for_webhooks: AtomicBool,
    /// True if vendor push wants its rows, and asks memory.
    for_push: AtomicBool,
    hasher: RandomState,
    generations: Mutex<BeginGenerations>,
}

/// Begins by a digest of their session.
#[derive(Default)]
struct BeginGenerations {
    present: HashMap<u64, Seq>,
    before: HashMap<u64, Seq>,
}

impl Begins {
    fn add(&self, session: &SessionKey, cursor: Seq) {
        let key = self.hasher.hash_one(session);
        let mut generations = self.lock();
        if generations.present.len() >= BEGINS_MAX {
            generations.before = take(&mut generations.present);
        }
        generations.present.insert(key, cursor);
    }

    fn get(&self, session: &SessionKey) -> Seq {
        let generations = self.lock();
        if generations.present.is_empty() && generations.before.is_empty() {
            return Seq::ZERO;
        }
        let key = self.hasher.hash_one(session);
        let begun = generations.present.get(&key);
        let begun = begun.or_else(|| generations.before.get(&key));
        begun.copied().unwrap_or(Seq::ZERO)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BeginGenerations> {
        // A panic of the lock's holder leaves the maps of plain values whole.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    /// Keeps from now on where each new session begins, as [`SessionBegin`], for webhooks.
    pub fn keep_begins(&self) {
        self.begins.for_webhooks.store(true, Relaxed);
    }

    /// The same for vendor push, with a row of its own.
    pub fn keep_begins_for_push(&self) {
        self.begins.for_push.store(true, Relaxed);
    }

    /// A session that was never seen begins at `cursor`: it acked nothing up to there. `is_blank`: its client has received nothing up
    /// to there either. The rows are written behind, before the session's cursor.
    pub fn note_begin(&self, key: &SessionKey, epoch: Epoch, cursor: Seq, is_blank: bool) {
        let begins = &self.begins;
        let for_webhooks = begins.for_webhooks.load(Relaxed);
        let for_push = is_blank && begins.for_push.load(Relaxed);
        if cursor == Seq::ZERO || !(for_webhooks || for_push) {
            return;
        }
        let begun = SessionBegin {
            epoch,
            cursor,
            time_ms: self.clock.now_ms(),
        };
        let mut rows = Vec::new();
        let mut add = |key: Vec<u8>| {
            rows.push(RowChange {
                table: RowTable::Consumers,
                key: key.into(),
                value: Some(begun.value()),
            });
        };
        if for_webhooks {
            add(SessionBegin::key(key));
        }
        if for_push {
            self.remember_begin(key, cursor);
            add(SessionBegin::key_for_push(key));
        }
        // Without the row a reader takes the messages below for acked, as the books do.
        let _ = self.log.put_rows(rows);
    }

    /// A session began there, as a row of an earlier start says.
    pub fn remember_begin(&self, key: &SessionKey, cursor: Seq) {
        self.begins.add(key, cursor);
    }

    /// The seq up to which a session received nothing, because it began there; 0 where nothing is remembered.
    pub fn begun(&self, key: &SessionKey) -> Seq {
        self.begins.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Platform, UserId};

    #[test]
    fn the_newest_begins_are_remembered() {
        let begins = Begins::default();
        let session = |device: usize| SessionKey {
            user: UserId::new("u").unwrap(),
            platform: Platform::Ios,
            device: device.to_string().into(),
        };
        assert_eq!(begins.get(&session(0)), Seq(0));
        begins.add(&session(0), Seq(7));
        for device in 1..=BEGINS_MAX {
            begins.add(&session(device), Seq(1));
        }
        assert_eq!(begins.get(&session(0)), Seq(7));
        for device in 1..=BEGINS_MAX {
            begins.add(&session(device), Seq(1));
        }
        assert_eq!(begins.get(&session(0)), Seq(0));
        let generations = begins.lock();
        assert!(generations.present.len() + generations.before.len() <= 2 * BEGINS_MAX);
    }
}
