//! The clocks of a simulated machine: true time is the paused clock's, the wall clock is what somebody sets it to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::{Clock, Machine};

/// When runs begin, Unix ms.
const START_MS: u64 = 1_790_000_000_000;
/// How long a new wall time must hold before a process trusts it: a run has minutes where an operator has days.
const PROOF: Duration = Duration::from_secs(120);

/// The machine's clocks.
pub(super) struct SimClock {
    began: Instant,
    /// Time in which the machine slept: it counts as time, and nothing ran.
    slept_ms: AtomicU64,
    /// How far the wall clock is from true time.
    wrong_ms: AtomicI64,
    /// Starts of the machine.
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

    /// Somebody sets the wall clock this far from true time.
    pub(super) fn set_wrong(&self, ms: i64) {
        self.wrong_ms.store(ms, Relaxed);
    }

    /// The power was off: to the next process this is another run of the machine.
    pub(super) fn reboot(&self) {
        self.boots.fetch_add(1, Relaxed);
    }

    /// The trusted clock of a process that starts now.
    pub(super) fn for_process(self: &Arc<Self>) -> Arc<Clock> {
        Arc::new(Clock::new(Box::new(self.clone()), PROOF))
    }
}

impl Machine for Arc<SimClock> {
    fn wall_ms(&self) -> u64 {
        self.now_ms()
            .saturating_add_signed(self.wrong_ms.load(Relaxed))
    }

    fn boot_ms(&self) -> u64 {
        SimClock::boot_ms(self)
    }

    fn boot_id(&self) -> u128 {
        self.boots.load(Relaxed).into()
    }
}

impl SimClock {
    /// A machine that starts again goes on counting, which no process can tell from one that ran for long.
    fn boot_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + self.slept_ms.load(Relaxed)
    }
}
