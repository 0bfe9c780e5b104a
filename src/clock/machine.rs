//! The machine's clocks: the wall clock, which others set, and the boot time, which nobody sets. The boot time also counts
//! the hours in which the machine sleeps.

use std::{
    fs,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Unix time by the machine's wall clock, ms.
    pub wall_ms: u64,
    /// Time since the machine was started, ms.
    pub boot_ms: u64,
}

/// A machine with two clocks.
pub trait Machine: Send + Sync + 'static {
    /// Unix time by the machine's wall clock, ms. It may jump in both directions.
    fn wall_ms(&self) -> u64;
    /// Time since the machine was started, ms. It never jumps, and counts suspended time.
    fn boot_ms(&self) -> u64;
    /// Identifies this run of the machine. Each start has another id. Never 0.
    fn boot_id(&self) -> u128;

    /// Reads both clocks, one right after the other.
    fn read(&self) -> Reading {
        Reading {
            boot_ms: self.boot_ms(),
            wall_ms: self.wall_ms(),
        }
    }
}

/// The machine that this process runs on.
#[derive(Debug, Default)]
pub(super) struct SystemMachine {
    boot_id: OnceLock<u128>,
}

impl Machine for SystemMachine {
    fn wall_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        since_epoch.unwrap_or_default().as_millis() as u64
    }

    fn boot_ms(&self) -> u64 {
        let time = clock_gettime(ClockId::Boottime);
        time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
    }

    fn boot_id(&self) -> u128 {
        *self.boot_id.get_or_init(|| {
            let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let known = uuid::Uuid::parse_str(text.trim()).ok();
            // If the kernel does not tell the id, every process counts as one after a new start of the machine.
            known.unwrap_or_else(uuid::Uuid::new_v4).as_u128()
        })
    }
}
