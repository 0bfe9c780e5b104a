//! The gateway's process as its disk sees it: alive, or dead in the middle of an operation.

use std::{
    cell::Cell,
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::trace::note;

thread_local! {
    static IS_BESIDE: Cell<bool> = const { Cell::new(false) };
}

/// True within [`Life::beside`].
pub(super) fn is_beside() -> bool {
    IS_BESIDE.get()
}

/// The life of a process. It can be ordered to die at a later operation: that operation and all after it do nothing.
#[derive(Default)]
pub(super) struct Life {
    /// Operations until death; 0: no death was ordered.
    left: AtomicU64,
    /// Operations so far.
    done: AtomicU64,
    is_dead: AtomicBool,
    /// True if only operations that change something count, and none is done in part.
    is_exact: bool,
}

impl Life {
    /// A process that ends exactly before an operation that changes something.
    pub(super) fn exact() -> Self {
        Self {
            is_exact: true,
            ..Self::default()
        }
    }

    /// Orders death at the operation with this number, counted from now; 0 withdraws the order.
    pub(super) fn end_after(&self, operations: u64) {
        self.left.store(operations, Relaxed);
    }

    pub(super) fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Operations that were done.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Runs work that is not the process's own, and so does not count.
    pub(super) fn beside<T>(&self, look: impl FnOnce() -> T) -> T {
        let left = self.left.swap(0, Relaxed);
        IS_BESIDE.set(true);
        let seen = look();
        IS_BESIDE.set(false);
        self.left.store(left, Relaxed);
        seen
    }

    /// The process ends.
    pub(super) fn end(&self) {
        self.is_dead.store(true, Relaxed);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Relaxed)
    }

    /// Begins an operation that changes nothing. An error if the process is dead.
    pub(super) fn look(&self) -> io::Result<()> {
        if self.is_exact {
            self.check()
        } else {
            self.change()
        }
    }

    /// Begins an operation. An error if the process is dead.
    pub(super) fn change(&self) -> io::Result<()> {
        let left = self.left.load(Relaxed);
        if left > 0 {
            self.left.store(left - 1, Relaxed);
            if left == 1 {
                note(format_args!("the process dies in an operation"));
                self.is_dead.store(true, Relaxed);
            }
        }
        self.check()?;
        self.done.fetch_add(1, Relaxed);
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        if self.is_dead() {
            Err(io::Error::other("the process is dead"))
        } else {
            Ok(())
        }
    }
}
