//! The changes of rows by tasks that have ended, until they are written.

use super::decider::StepError;
use crate::log::{AppendError, Log, RowChange};

/// The ended tasks whose rows are removed together.
const ENDED_TOGETHER: usize = 1024;
/// The longest time for which rows of ended tasks stay, in ms: after a crash these pushes are sent again.
pub(super) const REMOVE_MS: u64 = 1000;

/// Changes of rows that are not written yet.
#[derive(Default)]
pub(super) struct EndedRows {
    rows: Vec<RowChange>,
    /// The time of the oldest of them, Unix ms.
    since_ms: Option<u64>,
}

impl EndedRows {
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = RowChange>, now_ms: u64) {
        self.rows.extend(rows);
        self.since_ms.get_or_insert(now_ms);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The time at which they are to be written however few they are, Unix ms; `None`: there are none.
    pub(super) fn due_at_ms(&self) -> Option<u64> {
        let since_ms = self.since_ms?;
        Some(since_ms.saturating_add(REMOVE_MS))
    }

    /// Writes them if they are many or old. Not cancel safe: after a drop they may be written or not, and are written again.
    pub(super) async fn write_due(&mut self, log: &dyn Log, now_ms: u64) -> Result<(), StepError> {
        let is_time = self.due_at_ms().is_some_and(|due_ms| due_ms <= now_ms);
        self.write(log, if is_time { 1 } else { ENDED_TOGETHER })
            .await
    }

    /// Writes them while there are at least so many. Not cancel safe: after a drop they may be written or not, and are written again.
    pub(super) async fn write(&mut self, log: &dyn Log, least: usize) -> Result<(), StepError> {
        while !self.rows.is_empty() && self.rows.len() >= least {
            let together = self.rows.len().min(ENDED_TOGETHER);
            let pending = log.put_rows(self.rows[..together].to_vec())?;
            let durable = pending.await;
            durable.unwrap_or(Err(AppendError::OutcomeUnknown))?;
            self.rows.drain(..together);
        }
        if self.rows.is_empty() {
            self.since_ms = None;
        }
        Ok(())
    }
}
