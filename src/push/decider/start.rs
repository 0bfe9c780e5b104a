//! The start: takes up the rows of earlier decisions.

use std::sync::Arc;

use bytes::Bytes;
use tracing::info;

use super::{Decider, ENDING_TOGETHER, ROWS_TOGETHER, StepError, class_fact, feed::PAGE};
use crate::{
    log::{FeedPosition, RowTable},
    message::Provider,
    push::{
        begun,
        forget::is_erased,
        lane::VendorLane,
        rows::{self, POSITION_KEY, PushTask, put_position, read_position, task_prefix},
        seen::{self, SeenFact, SeenState},
    },
};

impl Decider {
    /// Takes up what the rows say. The first start of a gateway with vendors begins at the end of the feed. Call it before any other
    /// step, and again if it fails.
    pub(in crate::push) async fn start(&mut self, now_ms: u64) -> Result<(), StepError> {
        let log = Arc::clone(&self.source.log);
        let newest = log.feed(FeedPosition::NEWEST, PAGE).wait().await?;
        let row = log
            .rows(RowTable::Consumers, POSITION_KEY, b"", 1)
            .wait()
            .await?;
        let kept = row.first().and_then(|(_, value)| read_position(value));
        self.epoch = newest.epoch;
        match kept {
            Some((epoch, position)) if epoch == newest.epoch => self.position = position,
            // Positions of another epoch mean nothing. Its messages were decided, or were lost with it.
            _ => {
                let rows = vec![put_position(newest.epoch, newest.next)];
                self.put(rows).await?;
                self.position = newest.next;
            }
        }
        begun::take_up(&*log, &self.source.delivery, self.epoch).await?;
        self.take_up_tasks(now_ms).await?;
        self.take_up_due().await
    }

    async fn take_up_tasks(&mut self, now_ms: u64) -> Result<(), StepError> {
        for provider in Provider::ALL {
            let mut lanes = self.lanes.iter();
            let lane = lanes.find(|lane| lane.provider == provider).cloned();
            let mut after = Bytes::new();
            loop {
                let log = &self.source.log;
                let prefix = task_prefix(provider);
                let page = log.rows(RowTable::PushTasks, &prefix, &after, ENDING_TOGETHER);
                let page = page.wait().await?;
                let Some((last, _)) = page.last() else {
                    break;
                };
                after = last.clone();
                match &lane {
                    Some(lane) => self.take_up(lane, &page, now_ms),
                    None => {
                        let (provider, tasks) = (provider.name(), page.len());
                        info!(
                            provider,
                            tasks, "pushes ended: their vendor is configured no more"
                        );
                        let outcomes = self.metrics.push_outcomes(provider);
                        outcomes.expired.increment(tasks as u64);
                        let mut changes = Vec::new();
                        for (key, row) in page {
                            if let Some((_, task)) = PushTask::read(&key, &row)
                                && !is_erased(&**log, &task.user, task.seq).await?
                            {
                                let (message, user) = (task.message_id, &task.user);
                                let reason = "the vendor is configured no more";
                                let event = self.events.failed(message, user, provider, reason);
                                changes.extend(event.map(|event| event.row()));
                            }
                            changes.push(rows::remove(key));
                        }
                        self.put(changes).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_up(&mut self, lane: &VendorLane, page: &[(Bytes, Bytes)], now_ms: u64) {
        let mut numbers = Vec::with_capacity(page.len());
        for (number, task) in page
            .iter()
            .filter_map(|(key, row)| PushTask::read(key, row))
        {
            self.last_number = self.last_number.max(number);
            let fact = SeenFact {
                class: task.class,
                device: Some(seen::device(lane.provider, &task.device)),
                state: SeenState::Queued,
                time_ms: now_ms,
            };
            self.seen.add(task.message_id, &task.user, fact);
            numbers.push(number);
        }
        lane.add(numbers);
    }

    async fn take_up_due(&mut self) -> Result<(), StepError> {
        (self.due, self.first_due_ms) = (0, None);
        let mut after = Bytes::new();
        loop {
            let page = self.due_rows(&after, ROWS_TOGETHER).await?;
            let Some((last, _)) = page.last() else {
                self.metrics.push.due.set(self.due as f64);
                return Ok(());
            };
            after = last.clone();
            self.due += page.len();
            for (_, due) in page
                .iter()
                .filter_map(|(key, due)| Some((key, due.as_ref()?)))
            {
                let deadline_ms = self.rules.deadline_ms(due.accepted_ms);
                self.note_due(deadline_ms);
                for class in due.classes.iter() {
                    let state = SeenState::Waiting(deadline_ms);
                    let fact = class_fact(class, state, due.accepted_ms);
                    self.seen.add(due.message_id, &due.user, fact);
                }
            }
        }
    }
}
