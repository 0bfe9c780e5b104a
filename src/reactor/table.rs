//! The connections of one thread, by id. Ids ascend, so a caller that goes through them may stop anywhere and continue
//! later.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::Bound,
    rc::Rc,
};

use tokio::sync::Notify;

use crate::{connection::Handle, ids::ConnectionId};

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

    pub(super) fn get(&self, id: ConnectionId) -> Option<Handle> {
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
