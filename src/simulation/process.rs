//! The gateway's process as its disk knows it: alive, or dead in the middle of something.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::trace::note;

/// Whether the process lives. It can be made to die at an operation to come: that one and all after it do nothing.
#[derive(Default)]
pub(super) struct Life {
    /// Operations until death; 0: no death in sight.
    left: AtomicU64,
    /// Operations so far.
    done: AtomicU64,
    is_dead: AtomicBool,
    /// Only what changes something counts, and none of it is done in part.
    is_exact: bool,
}

impl Life {
    /// One that ends exactly before an operation that changes something.
    pub(super) fn exact() -> Self {
        Self {
            is_exact: true,
            ..Self::default()
        }
    }

    /// Dies at the operation with this number from now on; 0: not any more.
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

    /// Does something that is not the process's own, and so does not count.
    pub(super) fn beside(&self, look: impl FnOnce()) {
        let left = self.left.swap(0, Relaxed);
        look();
        self.left.store(left, Relaxed);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Relaxed)
    }

    /// An operation that changes nothing begins. An error when the process is dead.
    pub(super) fn look(&self) -> io::Result<()> {
        if self.is_exact {
            self.check()
        } else {
            self.change()
        }
    }

    /// An operation begins. An error when the process is dead.
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
