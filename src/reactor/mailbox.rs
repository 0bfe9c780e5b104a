//! What other threads say to a reactor's connections: filled under a lock, emptied in batches, one wake-up per batch.
//!
//! When it is full, live messages are dropped and all the reactor's sessions look up their inbox's head instead: the log
//! has what was dropped. The few items that are not in the log always fit: a connection gets at most one of them.

use std::{
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::yield_now};

use super::table::Table;
use crate::{
    ids::ConnectionId,
    metrics::Metrics,
    registry::{Item, Mailbox},
    sabotage::{self, Bug},
};

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MailboxLimits {
    /// Live items: 90 bytes each without their frames. At 250,000 pushes a second, more than two cores do, the default is
    /// a quarter of a second's worth.
    pub(crate) live_max: usize,
    /// Bytes of their frames. Frames that several items share count for each: an upper bound.
    pub(crate) live_bytes_max: usize,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self {
            live_max: 65_536,
            live_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// Items handed out before the connections' tasks run: their outboxes would otherwise fill up from a burst that the
/// sockets would take.
const HANDED_AT_ONCE: usize = 256;

pub(super) struct ReactorMailbox {
    limits: MailboxLimits,
    waiting: Mutex<Waiting>,
    /// Something waits where nothing did.
    filled: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Waiting {
    items: Vec<(ConnectionId, Item)>,
    /// Of `items`, the live ones.
    live: usize,
    /// Their frames' bytes.
    live_bytes: usize,
    has_overflowed: bool,
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

    /// A panic elsewhere does not poison it: between any two statements what it guards is whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Waiting {
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
            Item::Live { frame, .. } => Some(frame.len()),
            Item::Replaced | Item::LoggedOut => None,
        };
        let is_live = live_bytes.is_some();
        let mut waiting = self.waiting();
        let MailboxLimits {
            live_max,
            live_bytes_max,
        } = self.limits;
        if is_live && (waiting.live >= live_max || waiting.live_bytes >= live_bytes_max) {
            waiting.has_overflowed = !sabotage::is(Bug::OverflowInSilence);
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

/// Hands out what comes, for ever.
pub(super) async fn hand_out(mailbox: Arc<ReactorMailbox>, table: Rc<Table>) {
    loop {
        let Waiting {
            items,
            has_overflowed,
            ..
        } = mailbox.take().await;
        let depth = items.len() as f64;
        mailbox.metrics.mailbox_depth.increment(depth);
        let mut handed = 0;
        for (to, item) in items {
            if let Some(handle) = table.get(to) {
                handle.take(item);
            }
            handed += 1;
            if handed % HANDED_AT_ONCE == 0 {
                yield_now().await;
            }
        }
        mailbox.metrics.mailbox_depth.decrement(depth);
        if has_overflowed {
            look_up_heads(&table).await;
        }
    }
}

async fn look_up_heads(table: &Table) {
    let mut position = None;
    loop {
        let (handles, next) = table.after(position, HANDED_AT_ONCE);
        handles.iter().for_each(|handle| handle.look_up_head());
        if next.is_none() {
            return;
        }
        position = next;
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{ids::Seq, wire::frame::push_live};

    #[test]
    fn a_full_mailbox_drops_live_items_only_and_says_so() {
        let limits = MailboxLimits {
            live_max: 7,
            ..MailboxLimits::default()
        };
        let mailbox = ReactorMailbox::new(limits, Arc::default());
        let frame = push_live(Seq(1), "u", &Bytes::new());
        for _ in 0..10 {
            let frame = frame.clone();
            mailbox.post(ConnectionId(1), Item::Live { seq: Seq(1), frame });
        }
        mailbox.post(ConnectionId(1), Item::Replaced);
        let mut taking = std::pin::pin!(mailbox.take());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(waiting) = taking.as_mut().poll(&mut cx) else {
            panic!("something waits")
        };
        assert_eq!(waiting.items.len(), 8);
        assert!(matches!(waiting.items.last(), Some((_, Item::Replaced))));
        assert!(waiting.has_overflowed);
        let mut taking = std::pin::pin!(mailbox.take());
        assert!(
            taking.as_mut().poll(&mut cx).is_pending(),
            "it is empty now"
        );
    }

    /// tokio's wake-up is checked with loom where it is made; what is ours is when it is given.
    #[test]
    fn whatever_threads_post_comes_in_their_order_and_no_wake_up_is_lost() {
        const THREADS: u64 = 4;
        const POSTS: u64 = 10_000;
        let mailbox = Arc::new(ReactorMailbox::new(
            MailboxLimits::default(),
            Arc::default(),
        ));
        for thread in 0..THREADS {
            let mailbox = Arc::clone(&mailbox);
            std::thread::spawn(move || {
                let frame = push_live(Seq(1), "u", &Bytes::new());
                for seq in (0..POSTS).map(Seq) {
                    let frame = frame.clone();
                    mailbox.post(ConnectionId(thread), Item::Live { seq, frame });
                    if fastrand::u8(..8) == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut next = [0; THREADS as usize];
        runtime.block_on(async {
            while next != [POSTS; THREADS as usize] {
                let taking =
                    tokio::time::timeout(std::time::Duration::from_secs(30), mailbox.take());
                for (from, item) in taking.await.expect("a wake-up was lost").items {
                    let Item::Live { seq, .. } = item else {
                        panic!("nobody posted {item:?}")
                    };
                    let expected = &mut next[from.0 as usize];
                    assert_eq!(seq.0, *expected);
                    *expected += 1;
                }
            }
        });
    }
}
