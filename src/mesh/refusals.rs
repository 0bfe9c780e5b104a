//! Refused connections in the stderr log: one line a minute at most, with the number of those since the line before.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The least time between two lines. Anybody who reaches the port can be refused.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// The refusals since the last line.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<RefusalCount>);

/// Counts refusals. Pure.
#[derive(Debug, Default)]
struct RefusalCount {
    /// `None` before the first line.
    last_line: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    /// Counts a refusal, and logs it if the last line is old enough.
    pub(super) fn log(&self, reason: &str) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = count.add(Instant::now()) {
            tracing::warn!(
                reason,
                refused,
                "a connection to mesh.listen was refused; only the other gateways need this port"
            );
        }
    }
}

impl RefusalCount {
    /// The number of refusals for a line; `None` while the last line is too young.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        let is_young = |last: Instant| now.duration_since(last) < LINE_INTERVAL;
        if self.last_line.is_some_and(is_young) {
            return None;
        }
        self.last_line = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_logged_once_a_minute_with_their_number() {
        let mut count = RefusalCount::default();
        let begin = Instant::now();
        assert_eq!(count.add(begin), Some(1));
        assert_eq!(count.add(begin), None);
        assert_eq!(count.add(begin + LINE_INTERVAL / 2), None);
        assert_eq!(count.add(begin + LINE_INTERVAL), Some(3));
    }
}
