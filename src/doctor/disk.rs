//! The time that the disk takes to make an append durable. Every answered send has waited for one such sync.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

/// The most syncs; enough for a p99.
const SYNCS_MAX: usize = 1000;
/// The longest measurement. A rotating disk syncs about 100 times a second, which is enough to recognise it.
const TIME_MAX: Duration = Duration::from_secs(2);
/// About the bytes of a commit of ten messages.
const BYTES: usize = 4096;

/// The time of one append with its `fdatasync`, µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SyncTime {
    /// Half of them take no longer.
    pub p50_us: u64,
    /// One in a hundred takes longer.
    pub p99_us: u64,
}

/// Appends and syncs in `dir`. The file's name is removed before the first byte is written, so nothing is left behind in
/// any case.
pub(super) fn measure(dir: &Path) -> io::Result<SyncTime> {
    let path = dir.join("sync-time");
    let mut file = File::create(&path)?;
    std::fs::remove_file(path)?;
    let mut times = Vec::with_capacity(SYNCS_MAX);
    let began = Instant::now();
    while times.len() < SYNCS_MAX && (times.is_empty() || began.elapsed() < TIME_MAX) {
        let began = Instant::now();
        file.write_all(&[7; BYTES])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(SyncTime::of(times))
}

impl SyncTime {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros() as u64;
        Self {
            p50_us: at(50),
            p99_us: at(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_that_was_measured() {
        let times = (1..=101).rev().map(Duration::from_micros).collect();
        let (p50_us, p99_us) = (51, 100);
        assert_eq!(SyncTime::of(times), SyncTime { p50_us, p99_us });
    }

    #[test]
    fn measuring_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let time = measure(dir.path()).unwrap();
        assert!(time.p50_us <= time.p99_us);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}
