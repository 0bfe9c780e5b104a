//! The clocks of a simulated machine. The paused clock gives the true time; operations set the wall clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use towncrier::clock::{Clock, Machine};

/// The time at which runs begin, Unix ms.
const START_MS: u64 = 1_790_000_000_000;
/// A new wall time must hold for this long before a process trusts it. It is short, because a run has minutes where an
/// operator has days.
const PROOF: Duration = Duration::from_secs(120);

/// The machine's clocks.
pub(super) struct SimClock {
    began: Instant,
    /// The time in which the machine slept. It counts as time, but nothing ran.
    slept_ms: AtomicU64,
    /// The distance of the wall clock from true time.
    wrong_ms: AtomicI64,
    /// The number of starts of the machine.
    boots: AtomicU64,
}

impl SimClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            slept_ms: AtomicU64::new(0),
            wrong_ms: AtomicI64::new(0),
            boots: AtomicU64::new(1),
        })
    }

    /// True Unix time, ms.
    pub(super) fn now_ms(&self) -> u64 {
        START_MS + self.boot_ms()
    }

    /// The machine sleeps for this long, and wakes up at once.
    pub(super) fn sleep(&self, ms: u64) {
        self.slept_ms.fetch_add(ms, Relaxed);
    }

    /// Sets the wall clock to this distance from true time.
    pub(super) fn set_wrong(&self, ms: i64) {
        self.wrong_ms.store(ms, Relaxed);
    }

    /// The power was off: the next process sees another run of the machine.
    pub(super) fn reboot(&self) {
        self.boots.fetch_add(1, Relaxed);
    }

    /// The trusted clock of a process that starts now.
    pub(super) fn for_process(self: &Arc<Self>) -> Arc<Clock> {
        Arc::new(Clock::new(Box::new(Seen(self.clone())), PROOF))
    }
}

/// The machine as a process sees it.
struct Seen(Arc<SimClock>);

impl Machine for Seen {
    fn wall_ms(&self) -> u64 {
        let true_ms = self.0.now_ms();
        true_ms.saturating_add_signed(self.0.wrong_ms.load(Relaxed))
    }

    fn boot_ms(&self) -> u64 {
        self.0.boot_ms()
    }

    fn boot_id(&self) -> u128 {
        self.0.boots.load(Relaxed).into()
    }
}

impl SimClock {
    /// The boot time of a machine that starts again continues. No process can tell it from a machine that ran for long.
    fn boot_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + self.slept_ms.load(Relaxed)
    }
}
