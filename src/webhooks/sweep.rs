//! Removes rows of sessions that the log has forgotten: an OpenIM session is another one with each token.

use std::time::Duration;

use super::rows::{self, ToldUpTo};
use crate::log::{Log, RowTable, SessionBegin, TurnNumber, read_session_row_key};

/// The interval between two steps.
const SWEEP_INTERVAL_MS: u64 = 60_000;
/// The rows that one step looks at: a million sessions take a day.
const SWEPT_AT_ONCE: usize = 1024;

/// A walk through the rows of sessions, round and round.
pub(super) struct Sweep {
    retention: Duration,
    /// The prefixes that are walked, and the present one.
    walk: usize,
    after: Vec<u8>,
    next_ms: u64,
}

impl Sweep {
    /// A sweep that forgets OpenIM sessions as the log does.
    pub(super) fn new(retention: Duration) -> Self {
        Self {
            retention,
            walk: 0,
            after: Vec::new(),
            next_ms: 0,
        }
    }

    /// Looks at some rows, if it is time. A failure is repaired by the next round.
    pub(super) async fn step(&mut self, (log, turn): (&dyn Log, TurnNumber), now_ms: u64) {
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms.saturating_add(SWEEP_INTERVAL_MS);
        let prefix = [rows::TOLD_PREFIX, SessionBegin::PREFIX][self.walk];
        let page = log.rows(RowTable::Consumers, prefix, &self.after, SWEPT_AT_ONCE);
        let Ok(page) = page.wait().await else {
            return;
        };
        match page.last() {
            Some((last, _)) => self.after = last.to_vec(),
            None => (self.walk, self.after) = ((self.walk + 1) % 2, Vec::new()),
        }
        let kept_ms = u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX);
        let since_ms = now_ms.saturating_sub(kept_ms);
        let is_old = |key: &[u8], value: &[u8]| {
            let session = read_session_row_key(prefix, key);
            // A row of a begin has the same form.
            let told_ms = ToldUpTo::read(value).map(|told| told.acked_at_ms);
            session.is_some_and(|session| session.is_openim())
                && told_ms.is_some_and(|told_ms| told_ms < since_ms)
        };
        let old = page.into_iter().filter(|(key, value)| is_old(key, value));
        let removed: Vec<_> = old.map(|(key, _)| rows::remove(key)).collect();
        if !removed.is_empty() {
            // Nobody waits for it.
            let _ = log.put_rows_in(turn, removed);
        }
    }
}
