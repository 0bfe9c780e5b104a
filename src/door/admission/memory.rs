//! The memory that the gateway may use, and the memory that it uses. Above the limit no connection is admitted; otherwise
//! the kernel would end the process, and with it every session.
//!
//! Used memory is the process's own memory (the kernel can drop pages that map a file), and the kernel's memory for each
//! socket, which counts towards a container's limit as well. It is read on demand, at most ten times a second.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rustix::process::{Resource, getrlimit};

use super::groups;
use crate::process;

/// The kernel's memory for an idle socket (measured: 4.1 KiB).
pub const SOCKET_BYTES: u64 = 4200;
/// The longest age of a reading. At 5,000 handshakes a second of 6 KiB each, the reading is wrong by 3 MiB.
const READING_AGE_MAX: Duration = Duration::from_millis(100);
/// The share of the machine's or the container's memory, if nothing else is configured. The rest is for the kernel's file
/// cache, and for other processes.
const SHARE: (u64, u64) = (3, 4);
/// Above this share of the limit only sessions that resume are admitted.
const TIGHT: (u64, u64) = (15, 16);

pub(super) struct Memory {
    bytes_max: u64,
    /// The process's own memory, as last read.
    own_bytes: AtomicU64,
    /// The time of that reading, in ns since the process began to count.
    read_at: AtomicU64,
}

impl Memory {
    /// A limit of `bytes_max`; 0: a share of the machine's memory.
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = most(bytes_max);
        tracing::info!(
            bytes_max,
            "above this much memory no connection is admitted"
        );
        Self {
            bytes_max,
            own_bytes: AtomicU64::new(process::memory_bytes()),
            read_at: AtomicU64::new(0),
        }
    }

    /// True if no connection may be admitted, with this many open sockets.
    pub(super) fn is_full(&self, now: Duration, sockets: usize) -> bool {
        self.used_bytes(now, sockets) > self.bytes_max
    }

    /// True if little memory is left.
    pub(super) fn is_tight(&self, now: Duration, sockets: usize) -> bool {
        self.used_bytes(now, sockets) > tight(self.bytes_max)
    }

    fn used_bytes(&self, now: Duration, sockets: usize) -> u64 {
        let read_at = self.read_at.load(Relaxed);
        let is_old = Duration::from_nanos(read_at) + READING_AGE_MAX <= now;
        let now = now.as_nanos() as u64;
        // The first caller that finds the reading old reads again.
        if is_old
            && self
                .read_at
                .compare_exchange(read_at, now, Relaxed, Relaxed)
                .is_ok()
        {
            self.own_bytes.store(process::memory_bytes(), Relaxed);
        }
        self.own_bytes.load(Relaxed) + sockets as u64 * SOCKET_BYTES
    }
}

/// New sessions are admitted up to this many bytes: the process's own, and [`SOCKET_BYTES`] a socket. `bytes_max` as
/// configured; 0: a share of the machine's memory.
pub fn new_sessions_bytes_max(bytes_max: u64) -> u64 {
    tight(most(bytes_max))
}

/// The inverse: the smallest `listener.memory_bytes_max` that lets new sessions use this many bytes.
pub fn memory_bytes_max_for(used_bytes: u64) -> u64 {
    (used_bytes / TIGHT.0 + 1) * TIGHT.1
}

fn most(bytes_max: u64) -> u64 {
    match bytes_max {
        0 => available_bytes().map_or(u64::MAX, |bytes| bytes / SHARE.1 * SHARE.0),
        bytes_max => bytes_max,
    }
}

fn tight(bytes_max: u64) -> u64 {
    bytes_max / TIGHT.1 * TIGHT.0
}

/// The memory of the machine, or this process's limit. `None` if the kernel does not tell it.
fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.and_then(|text| total_bytes(&text));
    // `ulimit -v` and `-d` also count memory that is not resident, so the resident memory that they allow is at most this.
    let own = [Resource::As, Resource::Data].map(|limit| getrlimit(limit).current);
    let limits = [machine, groups::memory_bytes_max()].into_iter().chain(own);
    limits.flatten().min()
}

/// `MemTotal` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_there_is_and_what_is_used() {
        let available = available_bytes().expect("a Linux says so");
        assert!((1..available).contains(&process::memory_bytes()));
        let meminfo = "MemTotal:       16331156 kB\nMemFree:         1 kB\n";
        assert_eq!(total_bytes(meminfo), Some(16_331_156 * 1024));
    }

    #[test]
    fn sockets_count_and_it_is_tight_before_it_is_full() {
        let memory = Memory::new(1 << 40);
        let now = Duration::ZERO;
        let sockets = |bytes: u64| (bytes / SOCKET_BYTES) as usize;
        assert!(!memory.is_tight(now, sockets((1 << 40) / 2)));
        let nearly = sockets((1 << 40) / 32 * 31);
        assert!(memory.is_tight(now, nearly) && !memory.is_full(now, nearly));
        assert!(memory.is_full(now, sockets(1 << 40) + 1));
    }

    #[test]
    fn what_is_set_for_so_many_bytes_lets_new_sessions_use_them() {
        for bytes in [1 << 20, 999_999_999, 1 << 40] {
            let let_in = new_sessions_bytes_max(memory_bytes_max_for(bytes));
            assert!(
                (bytes..=bytes + TIGHT.0).contains(&let_in),
                "{bytes}: {let_in}"
            );
        }
    }

    #[test]
    fn a_reading_is_used_until_it_is_old() {
        let memory = Memory::new(1 << 40);
        memory.own_bytes.store(7, Relaxed);
        assert_eq!(memory.used_bytes(READING_AGE_MAX / 2, 0), 7);
        assert_ne!(memory.used_bytes(READING_AGE_MAX, 0), 7);
    }
}
