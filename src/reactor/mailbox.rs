//! The items from other threads to a reactor's connections: added under a lock, taken in batches, one wake-up per batch.
//!
//! A full mailbox drops live messages. All the reactor's sessions then look up their inbox's head, because the log has the
//! dropped messages. An online-only message is not in the log, so a dropped one is lost. [`Item::Replaced`] and
//! [`Item::LoggedOut`] are never dropped: a connection gets at most one of them.

use std::sync::Arc;

use tokio::sync::Notify;

use super::sync::{Mutex, MutexGuard, PoisonError};
use crate::{
    ids::ConnectionId,
    metrics::Metrics,
    registry::{Item, Mailbox},
};

/// The most live items, by default: a quarter of a second's items at 250,000 pushes a second, which is more than two cores can
/// do. An item takes 32 bytes without its message.
const LIVE_MAX: usize = 65_536;
/// The most bytes of their messages, by default.
const LIVE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The bounds of a mailbox.
#[derive(Debug, Clone, Copy)]
pub struct MailboxLimits {
    /// The most live items.
    pub live_max: usize,
    /// The most bytes of their messages. A message that several items share counts for each, so this is an upper bound.
    pub live_bytes_max: usize,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self {
            live_max: LIVE_MAX,
            live_bytes_max: LIVE_BYTES_MAX,
        }
    }
}

pub(super) struct ReactorMailbox {
    limits: MailboxLimits,
    waiting: Mutex<Waiting>,
    /// Notified when the first item comes into an empty mailbox.
    filled: Notify,
    pub(super) metrics: Arc<Metrics>,
}

/// The items since they were last taken.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) items: Vec<(ConnectionId, Item)>,
    /// The number of live items among them.
    live: usize,
    /// The bytes of the live items' messages.
    live_bytes: usize,
    pub(super) has_overflowed: bool,
}

impl ReactorMailbox {
    pub(super) fn new(limits: MailboxLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            waiting: Mutex::default(),
            filled: Notify::new(),
            metrics,
        }
    }

    /// A panic elsewhere does not poison the lock's content: between any two statements it is consistent.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for at least one item, and takes all of them.
    pub(super) async fn take(&self) -> Waiting {
        loop {
            let waiting = std::mem::take(&mut *self.waiting());
            if !waiting.items.is_empty() {
                return waiting;
            }
            self.filled.notified().await;
        }
    }
}

impl Mailbox for ReactorMailbox {
    fn post(&self, to: ConnectionId, item: Item) {
        let live_bytes = match &item {
            Item::Live(live) => Some(live.message.bytes()),
            // The look-up that follows an overflow tells the same.
            Item::Head(..) => Some(0),
            Item::Replaced | Item::LoggedOut => None,
        };
        let is_live = live_bytes.is_some();
        let mut waiting = self.waiting();
        let MailboxLimits {
            live_max,
            live_bytes_max,
        } = self.limits;
        if is_live && (waiting.live >= live_max || waiting.live_bytes >= live_bytes_max) {
            waiting.has_overflowed = true;
            self.metrics.mailbox_overflows.increment(1);
            return;
        }
        let was_empty = waiting.items.is_empty();
        waiting.live += usize::from(is_live);
        waiting.live_bytes += live_bytes.unwrap_or(0);
        waiting.items.push((to, item));
        drop(waiting);
        if was_empty {
            self.filled.notify_one();
        }
    }
}
