//! The connections of one thread, by id, and the hand-out of the mailbox's items to them. Ids ascend, so a caller that goes
//! through the connections may stop anywhere and continue later.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::Bound,
    rc::Rc,
};

use tokio::{sync::Notify, task::yield_now};

use super::mailbox::{ReactorMailbox, Waiting};
use crate::{connection::Handle, ids::ConnectionId};

/// The items handed out before the connections' tasks run. Without these turns a burst would fill up outboxes although the
/// sockets could take it.
const HANDED_AT_ONCE: usize = 256;

pub(super) struct ConnectionTable {
    /// The reactor's number, as the top 16 bits of its ids.
    base: u64,
    opened: Cell<u64>,
    connections: RefCell<BTreeMap<ConnectionId, Handle>>,
    /// Notified when the last connection is gone.
    emptied: Notify,
}

/// A connection's entry in the table; dropped with its task.
pub(super) struct Seat {
    table: Rc<ConnectionTable>,
    id: ConnectionId,
}

impl ConnectionTable {
    pub(super) fn new(reactor: u16) -> Self {
        Self {
            base: u64::from(reactor) << 48,
            opened: Cell::new(0),
            connections: RefCell::default(),
            emptied: Notify::new(),
        }
    }

    /// An id that was never used in this process.
    pub(super) fn next_id(&self) -> ConnectionId {
        self.opened.set(self.opened.get() + 1);
        ConnectionId(self.base | self.opened.get())
    }

    pub(super) fn insert(self: &Rc<Self>, id: ConnectionId, handle: Handle) -> Seat {
        self.connections.borrow_mut().insert(id, handle);
        Seat {
            table: Rc::clone(self),
            id,
        }
    }

    /// Hands the mailbox's items to their connections, in turns. Never returns.
    pub(super) async fn hand_out(&self, mailbox: &ReactorMailbox) {
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
                // A connection that is gone ignores everything.
                if let Some(connection) = self.get(to) {
                    connection.borrow_mut().take(item);
                }
                handed += 1;
                if handed % HANDED_AT_ONCE == 0 {
                    yield_now().await;
                }
            }
            mailbox.metrics.mailbox_depth.decrement(depth);
            if has_overflowed {
                self.look_up_heads().await;
            }
        }
    }

    async fn look_up_heads(&self) {
        let mut position = None;
        loop {
            let (handles, next) = self.after(position, HANDED_AT_ONCE);
            for handle in &handles {
                handle.borrow_mut().look_up_head();
            }
            if next.is_none() {
                return;
            }
            position = next;
            yield_now().await;
        }
    }

    fn get(&self, id: ConnectionId) -> Option<Handle> {
        self.connections.borrow().get(&id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Up to `count` connections after `after`, and the id to continue from: `None` when these were the last.
    pub(super) fn after(
        &self,
        after: Option<ConnectionId>,
        count: usize,
    ) -> (Vec<Handle>, Option<ConnectionId>) {
        let connections = self.connections.borrow();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let found: Vec<Handle> = connections
            .range((start, Bound::Unbounded))
            .take(count)
            .map(|(id, handle)| {
                last = Some(*id);
                handle.clone()
            })
            .collect();
        let next = last.filter(|_| found.len() == count);
        (found, next)
    }

    /// Waits until no connection is left.
    pub(super) async fn wait_empty(&self) {
        while self.len() > 0 {
            self.emptied.notified().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connections = self.table.connections.borrow_mut();
        connections.remove(&self.id);
        if connections.is_empty() {
            self.table.emptied.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc};

    use futures_util::FutureExt as _;

    use super::{super::mailbox::MailboxLimits, *};
    use crate::{
        metrics::Metrics,
        registry::{Item, Mailbox as _},
    };

    /// The number of turns in which so many items that wait together are handed out.
    fn turns(items: usize) -> usize {
        let metrics = Arc::new(Metrics::new());
        let table = ConnectionTable::new(0);
        let mailbox = ReactorMailbox::new(MailboxLimits::default(), Arc::clone(&metrics));
        for _ in 0..items {
            mailbox.post(ConnectionId(1), Item::Replaced);
        }
        let mut handing = pin!(table.hand_out(&mailbox));
        let mut turn = || {
            assert!(handing.as_mut().now_or_never().is_none(), "it never ends");
            let text = metrics.handle().render();
            text.contains("towncrier_mailbox_depth 0\n")
        };
        let mut turns = 1;
        while !turn() {
            turns += 1;
        }
        turns
    }

    #[test]
    fn a_burst_is_handed_out_in_turns() {
        assert_eq!(turns(HANDED_AT_ONCE - 1), 1);
        assert_eq!(turns(HANDED_AT_ONCE), 2);
        assert_eq!(turns(3 * HANDED_AT_ONCE), 4);
    }
}
