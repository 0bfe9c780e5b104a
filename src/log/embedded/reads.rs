//! The reads that wait for a thread or for the disk: counted and bounded.
//!
//! A session has one read at a time, and so has a request of the admin API. A client that goes away leaves its read behind, so
//! while a disk hangs, clients that come back would add reads without end. A read too many fails as an unreadable log does: the
//! session comes back later.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use metrics::Gauge;

/// About as many as one process has sessions, each with its one read. A read that waits holds some 300 bytes.
pub(super) const READS_WAITING_MAX: usize = 1 << 20;

/// The reads that wait or are being made.
pub(super) struct WaitingReads {
    count: AtomicUsize,
    max: usize,
    gauge: Gauge,
}

/// A read that waits, or is being made, until this is dropped.
pub(super) struct WaitingRead(Arc<WaitingReads>);

impl WaitingReads {
    /// No reads, of which at most `max` may wait. `gauge` shows their number.
    pub(super) fn new(max: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            max,
            gauge,
        })
    }

    /// Adds a read; `None` when too many wait.
    pub(super) fn add(self: &Arc<Self>) -> Option<WaitingRead> {
        let before = self.count.fetch_add(1, Relaxed);
        self.gauge.increment(1);
        let read = WaitingRead(Arc::clone(self));
        (before < self.max).then_some(read)
    }
}

impl Drop for WaitingRead {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Relaxed);
        self.0.gauge.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_too_many_is_refused_until_another_has_ended() {
        let reads = WaitingReads::new(2, Gauge::noop());
        for _ in 0..3 {
            let (first, second) = (reads.add(), reads.add());
            assert!(first.is_some() && second.is_some());
            assert!(reads.add().is_none());
            assert!(reads.add().is_none(), "a refusal takes no room");
            drop(first);
            assert!(reads.add().is_some());
        }
    }
}
