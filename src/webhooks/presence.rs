//! Sessions that came online and went offline since the last batch. Bounded, in memory only: when the receiver takes nothing
//! for long, the notes that find no room are counted and their loss is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::event::PresenceNote;
use crate::{
    clock::Clock,
    ids::{Platform, UserId},
    registry::PresenceWatch,
};

/// The notes that wait: 200 bytes each, a minute of logins after a restart with 100,000 sessions is more, and then the loss is
/// told.
pub(super) const PRESENCE_NOTES_MAX: usize = 8192;

/// The notes that wait for the next batch.
pub(super) struct PresenceNotes {
    clock: Arc<Clock>,
    news: Arc<Notify>,
    waiting: Mutex<NotesWaiting>,
}

#[derive(Default)]
struct NotesWaiting {
    notes: VecDeque<PresenceNote>,
    /// The times of the first and the last note that found no room, Unix ms.
    lost: Option<(u64, u64)>,
}

impl PresenceNotes {
    pub(super) fn new(clock: Arc<Clock>, news: Arc<Notify>) -> Self {
        Self {
            clock,
            news,
            waiting: Mutex::default(),
        }
    }

    /// The oldest notes, at most `limit`, and the times of the loss behind all of them. A loss comes after the notes before it.
    pub(super) fn take(&self, limit: usize) -> (Vec<PresenceNote>, Option<(u64, u64)>) {
        let mut waiting = self.lock();
        let count = limit.min(waiting.notes.len());
        let notes: Vec<_> = waiting.notes.drain(..count).collect();
        let has_room = notes.len() < limit && waiting.notes.is_empty();
        let lost = if has_room { waiting.lost.take() } else { None };
        (notes, lost)
    }

    /// Forgets the notes about a user.
    pub(super) fn forget(&self, user: &UserId) {
        self.lock().notes.retain(|note| note.user != *user);
    }

    /// Forgets all notes, because a state that is read after this has them.
    pub(super) fn clear(&self) {
        *self.lock() = NotesWaiting::default();
    }

    fn lock(&self) -> MutexGuard<'_, NotesWaiting> {
        // A panic of the lock's holder leaves the list of plain values whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresenceWatch for PresenceNotes {
    fn changed(&self, user: &UserId, platform: Platform, device: &Arc<str>, is_online: bool) {
        let time_ms = self.clock.now_ms();
        let mut waiting = self.lock();
        // Behind a loss there is no order any more, so further notes are a part of it.
        if waiting.notes.len() >= PRESENCE_NOTES_MAX || waiting.lost.is_some() {
            let (first, _) = waiting.lost.unwrap_or((time_ms, time_ms));
            waiting.lost = Some((first, time_ms));
            return;
        }
        waiting.notes.push_back(PresenceNote {
            user: user.clone(),
            platform,
            device: Arc::clone(device),
            is_online,
            time_ms,
        });
        drop(waiting);
        self.news.notify_one();
    }
}
