//! The changes of rows by tasks that have ended, until they are written.

use super::decider::StepError;
use crate::{
    log::{AppendError, Log, RowChange, TurnNumber},
    webhooks::PushEvent,
};

/// The ended tasks whose rows are removed together.
const ENDED_TOGETHER: usize = 1024;
/// The longest time for which rows of ended tasks stay, in ms: after a crash these pushes are sent again.
pub(super) const REMOVE_MS: u64 = 1000;

/// A change of a row that is not written yet.
enum EndedRow {
    Change(RowChange),
    /// The event has its place among the events once the log takes its row.
    Event(PushEvent),
}

/// Changes of rows that are not written yet.
#[derive(Default)]
pub(super) struct EndedRows {
    rows: Vec<EndedRow>,
    /// The time of the oldest of them, Unix ms.
    since_ms: Option<u64>,
}

impl EndedRow {
    fn change(&self) -> RowChange {
        match self {
            Self::Change(change) => change.clone(),
            Self::Event(event) => event.row(),
        }
    }
}

impl EndedRows {
    /// A task has ended: its row goes, and an event tells of it.
    pub(super) fn add(&mut self, removal: RowChange, event: Option<PushEvent>, now_ms: u64) {
        // The event is written with the end of its task, or before it.
        self.rows.extend(event.map(EndedRow::Event));
        self.rows.push(EndedRow::Change(removal));
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
    pub(super) async fn write_due(
        &mut self,
        log: (&dyn Log, TurnNumber),
        now_ms: u64,
    ) -> Result<(), StepError> {
        let is_time = self.due_at_ms().is_some_and(|due_ms| due_ms <= now_ms);
        self.write(log, if is_time { 1 } else { ENDED_TOGETHER })
            .await
    }

    /// Writes them while there are at least so many. Not cancel safe: after a drop they may be written or not, and are written again.
    pub(super) async fn write(
        &mut self,
        (log, turn): (&dyn Log, TurnNumber),
        least: usize,
    ) -> Result<(), StepError> {
        while !self.rows.is_empty() && self.rows.len() >= least {
            let together = self.rows.len().min(ENDED_TOGETHER);
            let rows = &mut self.rows[..together];
            let changes: Vec<_> = rows.iter().map(EndedRow::change).collect();
            let pending = log.put_rows_in(turn, changes.clone())?;
            // They may be written from now on, and are tried again as they are.
            for (row, change) in rows.iter_mut().zip(changes) {
                *row = EndedRow::Change(change);
            }
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
