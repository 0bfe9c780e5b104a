//! Writes what was decided, keeps the position in the feed, and ends the oldest tasks while too many wait.

use std::{mem::take, sync::atomic::Ordering::Relaxed};

use tracing::info;

use super::{Decided, Decider, ENDING_TOGETHER, StepError};
use crate::{
    log::{AppendError, FeedPosition, RowChange, RowTable},
    push::{
        forget::is_erased,
        rows::{self, PushTask, put_position, task_key, task_prefix},
        seen::{self, SeenFact, SeenState},
    },
};

/// The longest time for which the position is not written while there is nothing else to write, in ms: after a crash so much of the
/// feed is read again.
const POSITION_MS: u64 = 5000;

impl Decider {
    /// Writes what was decided, and the position up to which the feed is decided with it. Only then it counts. A position alone is
    /// written now and then.
    pub(super) async fn write(
        &mut self,
        mut decided: Decided,
        position: Option<FeedPosition>,
        now_ms: u64,
    ) -> Result<(), StepError> {
        let position = position.unwrap_or(self.position);
        let has_moved = self.has_moved || position != self.position;
        let is_time = now_ms.saturating_sub(self.written_ms) >= POSITION_MS;
        if decided.rows.is_empty() && !(has_moved && is_time) {
            (self.position, self.has_moved) = (position, has_moved);
            self.tell(decided);
            return Ok(());
        }
        let mut rows = take(&mut decided.rows);
        if has_moved {
            rows.push(put_position(self.epoch, position));
        }
        for (lane, number) in &decided.tasks {
            self.lanes[*lane].add([*number]);
        }
        if let Err(error) = self.put(rows).await {
            for (lane, number) in &decided.tasks {
                self.lanes[*lane].end(*number);
            }
            return Err(error);
        }
        (self.position, self.has_moved, self.written_ms) = (position, false, now_ms);
        self.tell(decided);
        self.bound(now_ms).await
    }

    pub(super) async fn put(&self, rows: Vec<RowChange>) -> Result<(), StepError> {
        let pending = self.source.log.put_rows_in(self.turn, rows)?;
        let durable = pending.await;
        Ok(durable.unwrap_or(Err(AppendError::OutcomeUnknown))?)
    }

    /// Tells the workers and the trace what counts now.
    fn tell(&mut self, decided: Decided) {
        self.due += decided.due_ms.len();
        let undue = decided.undue + self.forgotten.swap(0, Relaxed);
        self.due = self.due.saturating_sub(undue);
        self.metrics.push.due.set(self.due as f64);
        for deadline_ms in decided.due_ms {
            self.note_due(deadline_ms);
        }
        for (message_id, user, fact) in decided.facts {
            self.seen.add(message_id, &user, fact);
        }
        for (lane, _) in decided.tasks {
            self.lanes[lane].changed.notify_one();
        }
    }

    /// Ends the oldest tasks while too many decisions and tasks wait; without tasks, the oldest decisions that are due.
    async fn bound(&mut self, now_ms: u64) -> Result<(), StepError> {
        loop {
            // Rows that an earlier attempt could not write. Their tasks wait no longer.
            if !self.dropping.is_empty() {
                self.put(self.dropping.clone()).await?;
                self.dropping.clear();
            }
            let waiting = self.due + self.lanes.iter().map(|lane| lane.len()).sum::<usize>();
            let excess = waiting.saturating_sub(self.tasks_max).min(ENDING_TOGETHER);
            if excess == 0 {
                return Ok(());
            }
            let oldest = self.lanes.iter().filter(|lane| lane.oldest().is_some());
            let oldest = oldest.min_by_key(|lane| lane.oldest());
            let Some(lane) = oldest.cloned() else {
                self.end_due(excess, now_ms).await?;
                continue;
            };
            let before = lane.oldest().unwrap_or(0).saturating_sub(1);
            let rows = self.source.log.rows(
                RowTable::PushTasks,
                &task_prefix(lane.provider),
                &task_key(lane.provider, before),
                excess,
            );
            let mut told = Vec::new();
            let provider = lane.provider.name();
            for (key, value) in rows.wait().await? {
                if let Some((_, task)) = PushTask::read(&key, &value) {
                    let (message, user) = (task.message_id, &task.user);
                    if is_erased(&*self.source.log, user, task.seq).await? {
                        continue;
                    }
                    let event = self.events.failed(message, user, provider, "expired");
                    told.extend(event.map(|event| event.row()));
                    let fact = SeenFact {
                        class: task.class,
                        device: Some(seen::device(lane.provider, &task.device)),
                        state: SeenState::Expired,
                        time_ms: now_ms,
                    };
                    self.seen.add(task.message_id, &task.user, fact);
                }
            }
            let dropped = lane.drop_oldest(excess);
            info!(
                provider,
                tasks = dropped.len(),
                "pushes ended as expired: more wait than push.tasks_max"
            );
            let outcomes = self.metrics.push_outcomes(provider);
            outcomes.expired.increment(dropped.len() as u64);
            // An event's row is written with the end of its task.
            let removed = dropped
                .into_iter()
                .map(|number| rows::remove(task_key(lane.provider, number)));
            told.extend(removed);
            self.dropping = told;
        }
    }

    /// Ends the oldest decisions that are due, so many at most.
    async fn end_due(&mut self, count: usize, now_ms: u64) -> Result<(), StepError> {
        let page = self.due_rows(b"", count).await?;
        let ended = page.len();
        let removed = page.iter().map(|(key, _)| rows::remove(key.clone()));
        self.put(removed.collect()).await?;
        info!(
            decisions = ended,
            "decisions about pushes ended as expired: more wait than push.tasks_max"
        );
        let mut decided = Decided::default();
        for due in page.into_iter().filter_map(|(_, due)| due) {
            self.expire(due.message_id, &due.user, due.classes, now_ms, &mut decided);
        }
        decided.undue = ended;
        if ended < count {
            // No other row is there.
            self.due = ended;
        }
        self.tell(decided);
        Ok(())
    }

    /// Removes the rows of begins of sessions that no decision needs any more, now and then. Cancel safe: a later call repeats it.
    pub(in crate::push) async fn sweep(&mut self, now_ms: u64) -> Result<(), StepError> {
        let since_ms = now_ms.saturating_sub(self.expire_after_ms);
        let log = &*self.source.log;
        Ok(self.begun.sweep((log, self.turn), since_ms, now_ms).await?)
    }

    /// True if the position has moved since it was written last.
    pub(in crate::push) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Writes the position, if it has moved. Call it now and then while nothing comes, and at the end. Not cancel safe: after a drop it
    /// may be written or not.
    pub(in crate::push) async fn keep_position(&mut self) -> Result<(), StepError> {
        if self.has_moved {
            self.put(vec![put_position(self.epoch, self.position)])
                .await?;
            self.has_moved = false;
        }
        Ok(())
    }
}
