//! Wall time in a run: the paused clock's, and what somebody sets it to. A process never sees it go backwards.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::Instant;

use crate::clock::Clock;

/// When runs begin, Unix ms.
const START_MS: u64 = 1_790_000_000_000;

/// The machine's clock.
pub(super) struct SimClock {
    began: Instant,
    set_ahead_ms: AtomicU64,
}

/// The same as one process sees it.
pub(super) struct ProcessClock {
    machine: Arc<SimClock>,
    latest_ms: AtomicU64,
}

impl SimClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            set_ahead_ms: AtomicU64::new(0),
        })
    }

    /// Somebody sets it ahead by this much.
    pub(super) fn set_ahead(&self, ms: u64) {
        self.set_ahead_ms.fetch_add(ms, Relaxed);
    }

    /// Somebody sets it back by this much, at most to where it would be.
    pub(super) fn set_back(&self, ms: u64) {
        let back = |ahead: u64| Some(ahead.saturating_sub(ms));
        // The update always succeeds.
        let _ = self.set_ahead_ms.fetch_update(Relaxed, Relaxed, back);
    }

    /// As a process that starts now sees it.
    pub(super) fn for_process(self: &Arc<Self>) -> Arc<ProcessClock> {
        Arc::new(ProcessClock {
            machine: self.clone(),
            latest_ms: AtomicU64::new(0),
        })
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        START_MS + self.began.elapsed().as_millis() as u64 + self.set_ahead_ms.load(Relaxed)
    }
}

impl Clock for ProcessClock {
    fn now_ms(&self) -> u64 {
        let now_ms = self.machine.now_ms();
        self.latest_ms.fetch_max(now_ms, Relaxed).max(now_ms)
    }
}
