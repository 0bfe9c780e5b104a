//! A machine whose clocks stand still until a test moves them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::clock::{Clock, Machine, PROOF};

/// The first time of its wall clock, Unix ms.
pub(crate) const NOW_MS: u64 = 1_645_697_804_432;
/// The time that it ran before, ms.
const BOOT_MS: u64 = 5_000_000;

/// The machine.
pub(crate) struct Manual {
    wall_ms: AtomicU64,
    boot_ms: AtomicU64,
    boot: AtomicU64,
}

impl Manual {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            wall_ms: NOW_MS.into(),
            boot_ms: BOOT_MS.into(),
            boot: AtomicU64::new(1),
        })
    }

    /// A trusted clock on this machine.
    pub(crate) fn clock(self: &Arc<Self>) -> Arc<Clock> {
        Arc::new(Clock::new(Box::new(self.clone()), PROOF))
    }

    /// Time passes.
    pub(crate) fn advance(&self, ms: u64) {
        self.boot_ms.fetch_add(ms, Relaxed);
        self.wall_ms.fetch_add(ms, Relaxed);
    }

    /// An operator sets the wall clock.
    pub(crate) fn jump(&self, ms: i64) {
        let wall_ms = self.wall_ms.load(Relaxed).saturating_add_signed(ms);
        self.wall_ms.store(wall_ms, Relaxed);
    }

    /// The machine is off for some time. Its wall clock continues.
    pub(crate) fn restart(&self, off_ms: u64) {
        self.wall_ms.fetch_add(off_ms, Relaxed);
        self.boot_ms.store(1000, Relaxed);
        self.boot.fetch_add(1, Relaxed);
    }

    /// The time since it was made or started, ms.
    pub(crate) fn passed_ms(&self) -> u64 {
        self.boot_ms.load(Relaxed) - BOOT_MS
    }
}

impl Machine for Arc<Manual> {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Relaxed)
    }

    fn boot_ms(&self) -> u64 {
        self.boot_ms.load(Relaxed)
    }

    fn boot_id(&self) -> u128 {
        self.boot.load(Relaxed).into()
    }
}
