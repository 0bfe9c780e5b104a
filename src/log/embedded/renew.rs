//! A new epoch for a stopped log, after a restore from a backup or a loss. Every client is then told that its cursor belongs to another
//! log. Clients that know nothing of epochs see that by numbers above a new base.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt, path::Path};

use super::{
    OpenError,
    disk::RealDisk,
    epoch::{self, LogEpoch},
    inspect::{has_log, inspect_records},
};

/// A new base is at least this much above the last one: more messages than one conversation gets in any time between a backup and its
/// restore that an operator would accept.
const BASE_STEP: u32 = 1_000_000;

/// A new base is at most this much above the last one. A client lists every number of the hole in memory: 300 MB and a second for so
/// many.
const BASE_STEP_MAX: u32 = 10_000_000;

/// The reason for which a log keeps its epoch.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The log cannot be read. A log whose epoch alone is unreadable gets a new one.
    #[error("the log is left as it is")]
    Open(#[from] OpenError),
    /// The file cannot be written.
    #[error("{dir} cannot be written: {error}")]
    Io {
        /// The data directory.
        dir: String,
        /// The operating system's error.
        error: io::Error,
    },
    /// The wanted base is not one that clients could follow.
    #[error(
        "the log is left as it is: the base must be {least} to {most}, above what was last used and at most {BASE_STEP_MAX} above it"
    )]
    Base {
        /// The lowest base that is allowed.
        least: u32,
        /// The highest base that is allowed.
        most: u32,
    },
    /// The bases are used up.
    #[error("the log is left as it is: there is no base above {0}")]
    NoBase(u32),
}

/// Gives the stopped log in `dir` a new epoch. `base`: the new base, or one that follows from the time since the newest record. With a
/// base, a log that is not there yet is begun: after a lost directory its clients have numbers that only the operator knows.
pub fn renew(dir: &Path, base: Option<u32>, now_ms: u64) -> Result<LogEpoch, RenewError> {
    let io = |error| RenewError::Io {
        dir: dir.display().to_string(),
        error,
    };
    let (mut last, mut newest_ms) = (0, 0);
    if base.is_some() && !has_log(dir) {
        let mut directory = DirBuilder::new();
        directory.recursive(true).mode(0o700);
        directory.create(dir).map_err(io)?;
    } else {
        // This also ensures that no gateway holds the directory.
        let report = inspect_records(dir, None)?;
        (last, newest_ms) = (report.base, report.newest_ms);
    }
    let root = RealDisk::open(dir).map_err(io)?;
    if let Ok(Some(epoch)) = epoch::read(&root) {
        last = last.max(epoch.base);
    }
    let epoch = LogEpoch::new(next_base(last, newest_ms, base, now_ms)?);
    epoch::write(&root, epoch).map_err(io)?;
    Ok(epoch)
}

/// The base after `last`, of a log whose newest record is of `newest_ms`; 0 for a log without records.
pub(super) fn next_base(
    last: u32,
    newest_ms: u64,
    wanted: Option<u32>,
    now_ms: u64,
) -> Result<u32, RenewError> {
    let least = last.checked_add(1).ok_or(RenewError::NoBase(last))?;
    let most = last.saturating_add(BASE_STEP_MAX);
    let Some(wanted) = wanted else {
        let seconds = match newest_ms {
            0 => 0,
            _ => now_ms.saturating_sub(newest_ms) / 1000,
        };
        let step = seconds.saturating_add(BASE_STEP.into());
        let step = u32::try_from(step).unwrap_or(u32::MAX).min(BASE_STEP_MAX);
        return last.checked_add(step).ok_or(RenewError::NoBase(last));
    };
    (least..=most)
        .contains(&wanted)
        .then_some(wanted)
        .ok_or(RenewError::Base { least, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn next(last: u32, newest_ms: u64, wanted: Option<u32>) -> Option<u32> {
        next_base(last, newest_ms, wanted, NOW_MS).ok()
    }

    #[test]
    fn a_base_is_a_million_and_the_seconds_since_the_newest_record_above_the_last() {
        assert_eq!(next(0, NOW_MS - 77_999, None), Some(1_000_077));
        assert_eq!(next(5_000_000, NOW_MS, None), Some(6_000_000));
        assert_eq!(next(7, 0, None), Some(1_000_007), "without a record");
        assert_eq!(next(7, NOW_MS + 5000, None), Some(1_000_007));
        assert_eq!(next(7, 1, None), Some(10_000_007), "a hole has a bound");
        assert_eq!(next(u32::MAX - 1000, NOW_MS, None), None);
    }

    #[test]
    fn an_operators_base_is_above_the_last_one_and_within_the_bound() {
        for (wanted, is_taken) in [
            (0, false),
            (1000, false),
            (1001, true),
            (10_001_000, true),
            (10_001_001, false),
        ] {
            let next = next(1000, NOW_MS, Some(wanted));
            assert_eq!(next, is_taken.then_some(wanted));
        }
        assert_eq!(next(u32::MAX, NOW_MS, Some(u32::MAX)), None);
    }
}
