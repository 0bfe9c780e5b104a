//! The kernel's facts about this host that bound a gateway. A fact that the kernel does not tell is `None`: a container may
//! not see all of them, and nobody inside it could raise such a limit.

use std::{fs, num::NonZero, thread::available_parallelism};

use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
};
use serde::Serialize;

use crate::{
    config::Config, door::new_sessions_bytes_max, log::embedded::inspect::count_segments,
    process::open_descriptors,
};

/// Limits of the host and of this process.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// Cores that this process may use.
    pub cores: usize,
    /// The hard limit of file descriptors. A gateway raises its own limit to it.
    pub descriptors: u64,
    /// `fs.nr_open`: the highest possible hard limit.
    pub descriptors_ceiling: Option<u64>,
    /// The descriptors that are open before the first client comes: this process's, and one for each segment of the log.
    pub descriptors_open: u64,
    /// Memory that is free, or that the kernel can make free.
    pub memory_bytes_available: Option<u64>,
    /// New sessions are admitted up to this many bytes: as configured, or a share of the container's or the host's memory.
    pub memory_bytes_for_sessions: u64,
    /// The size of a page of memory.
    pub page_bytes: u64,
    /// `net.ipv4.tcp_mem`, bytes: below the first the kernel is content, from the second on it is under pressure, above the
    /// third it drops.
    pub tcp_bytes: Option<[u64; 3]>,
    /// `net.core.somaxconn`: connections of one reactor that wait to be accepted.
    pub somaxconn: Option<u64>,
    /// The ports that one client address has for connections: `net.ipv4.ip_local_port_range`.
    pub ports: Option<u64>,
}

impl Host {
    /// Reads the facts.
    pub(super) fn look(config: &Config) -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let number = |path: &str| read(path)?.trim().parse().ok();
        let segments = count_segments(&config.log.dir);
        let page_bytes = page_size() as u64;
        Self {
            cores: available_parallelism().map_or(1, NonZero::get),
            descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            descriptors_ceiling: number("/proc/sys/fs/nr_open"),
            descriptors_open: open_descriptors() + segments as u64,
            memory_bytes_available: read("/proc/meminfo").and_then(|text| available(&text)),
            memory_bytes_for_sessions: new_sessions_bytes_max(config.listener.memory_bytes_max),
            page_bytes,
            tcp_bytes: read("/proc/sys/net/ipv4/tcp_mem")
                .and_then(|text| numbers(&text))
                .map(|pages: [u64; 3]| pages.map(|pages| pages.saturating_mul(page_bytes))),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            ports: read("/proc/sys/net/ipv4/ip_local_port_range").and_then(|text| ports(&text)),
        }
    }
}

/// `MemAvailable` of proc_meminfo(5).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// The number of ports in the range, both ends included.
fn ports(range: &str) -> Option<u64> {
    let [first, last] = numbers(range)?;
    (last + 1).checked_sub(first)
}

fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|n| n.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let meminfo = "MemTotal:       24684084 kB\nMemAvailable:   24261992 kB\nBuffers: 5 kB\n";
        assert_eq!(available(meminfo), Some(24_261_992 * 1024));
        assert_eq!(available("MemTotal:       24684084 kB\n"), None);
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports("60999\t32768\n"), None);
        assert_eq!(
            numbers("287898\t383867\t575796\n"),
            Some([287_898, 383_867, 575_796])
        );
        assert_eq!(numbers::<3>("287898\t383867\n"), None);
    }

    #[test]
    fn a_linux_says_what_it_has() {
        let host = Host::look(&Config::default());
        assert!(host.cores >= 1 && host.descriptors > host.descriptors_open);
        assert!(host.memory_bytes_available > Some(1 << 20) && host.ports > Some(1000));
    }
}
