//! The worker of one vendor: takes its tasks in order, asks the vendor, and ends them. A vendor that is slow or down delays no other.
//!
//! Each step takes the time as a parameter. The caller makes the calls to the vendor, so it decides what runs at once.
//!
//! - `prepare.rs`: the notices of a call, from its tasks

mod prepare;

use std::{sync::Arc, time::Duration};

use tracing::{error, info, warn};

use super::{
    breaker::BreakerTurn,
    call::VendorCall,
    decide::PushRules,
    decider::StepError,
    ended::EndedRows,
    facts::FactSource,
    forget::is_erased,
    lane::VendorLane,
    line::{TaskLine, Verdict},
    rows::{PushTask, number_of, remove, task_key, task_prefix},
    seen::{self, Seen, SeenFact, SeenState, word},
    text::Wording,
    underway::CallsUnderway,
    vendor::{Outcome, Vendor},
};
use crate::{
    log::{Log, RowTable, TurnNumber},
    message::Device,
    metrics::{Metrics, PushOutcomes},
    webhooks::{PushEvent, PushEvents},
};

/// The pause before a task is tried again that could not be read, in ms.
const UNREAD_MS: u64 = 1000;

/// The rooms and settings that all workers share.
#[derive(Clone)]
pub(super) struct WorkerParts {
    pub(super) source: FactSource,
    pub(super) rules: PushRules,
    pub(super) wording: Arc<Wording>,
    pub(super) seen: Arc<Seen>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) expire_after: Duration,
    /// Tells webhooks of the ends of pushes.
    pub(super) events: PushEvents,
    pub(super) underway: Arc<CallsUnderway>,
    pub(super) turn: TurnNumber,
}

impl WorkerParts {
    /// The log, and the turn in which rows change.
    fn rows(&self) -> (&dyn Log, TurnNumber) {
        (&*self.source.log, self.turn)
    }
}

/// Works through the tasks of one vendor.
pub(super) struct VendorWorker {
    parts: WorkerParts,
    vendor: Arc<dyn Vendor>,
    lane: Arc<VendorLane>,
    line: TaskLine,
    outcomes: PushOutcomes,
    ended: EndedRows,
    /// The floor of the lane that the line knows.
    floor: u64,
}

impl VendorWorker {
    pub(super) fn new(parts: WorkerParts, vendor: Arc<dyn Vendor>, lane: Arc<VendorLane>) -> Self {
        let bounds = (vendor.devices_max(), vendor.takes_many_users());
        Self {
            line: TaskLine::new(bounds, parts.expire_after),
            outcomes: parts.metrics.push_outcomes(lane.provider.name()),
            parts,
            vendor,
            lane,
            ended: EndedRows::default(),
            floor: 0,
        }
    }

    /// The vendor.
    pub(super) fn vendor(&self) -> Arc<dyn Vendor> {
        Arc::clone(&self.vendor)
    }

    /// The tasks of the vendor, which tell when there are more.
    pub(super) fn lane(&self) -> &Arc<VendorLane> {
        &self.lane
    }

    /// There may be new tasks.
    pub(super) fn wake(&mut self) {
        self.line.wake();
    }

    /// The time at which there is something to do without a call's end or a new task, Unix ms; `None`: never.
    pub(super) fn wakes_at_ms(&self) -> Option<u64> {
        let times = [self.line.wakes_at_ms(), self.ended.due_at_ms()];
        times.into_iter().flatten().min()
    }

    /// Ends the tasks that are over, removes the rows of those that ended a while ago, and reads further ones. Not cancel safe: after a
    /// drop rows of ended tasks may be there still, and the tasks are tried again after a restart.
    pub(super) async fn fill(&mut self, now_ms: u64) -> Result<(), StepError> {
        let floor = self.lane.floor();
        if floor > self.floor {
            self.floor = floor;
            self.line.drop_below(floor);
        }
        loop {
            let mut over = self.line.expire(now_ms);
            over.extend(self.line.surplus());
            for (number, task) in over {
                self.end(number, &task, SeenState::Expired, now_ms).await;
                self.outcomes.expired.increment(1);
            }
            self.ended.write_due(self.parts.rows(), now_ms).await?;
            let Some((after, limit)) = self.line.wants() else {
                return Ok(());
            };
            self.read(after, limit).await?;
        }
    }

    /// Reads further tasks from the log.
    async fn read(&mut self, after: u64, limit: usize) -> Result<(), StepError> {
        let provider = self.lane.provider;
        let after = task_key(provider, after);
        let log = &self.parts.source.log;
        let rows = log.rows(RowTable::PushTasks, &task_prefix(provider), &after, limit);
        let rows = rows.wait().await?;
        let last = rows.last().and_then(|(key, _)| number_of(key));
        let tasks: Vec<_> = rows
            .iter()
            .filter_map(|(key, value)| PushTask::read(key, value))
            .collect();
        if tasks.len() < rows.len() {
            warn!("rows of vendor push cannot be read, and are passed over");
        }
        let is_end = rows.len() < limit;
        self.line.add(tasks, last.unwrap_or(0), is_end);
        Ok(())
    }

    /// Removes the rows of all ended tasks. Not cancel safe: after a drop they may be there still.
    pub(super) async fn flush(&mut self) -> Result<(), StepError> {
        self.ended.write(self.parts.rows(), 1).await
    }

    /// The calls that are to be made next; none if none may begin now. Give the end of each to [`take`](Self::take).
    /// Not cancel safe: after a drop the tasks wait until the next start.
    pub(super) async fn next(&mut self, now_ms: u64) -> Vec<VendorCall> {
        let Some(mut batch) = self.line.next(now_ms) else {
            return Vec::new();
        };
        match self.prepare(&mut batch, now_ms).await {
            Ok(notices) => {
                let parts = notices.iter().map(|one| one.places.clone()).collect();
                let batches = self.line.split(batch, parts);
                let calls = batches.into_iter().zip(notices);
                calls
                    .map(|(batch, prepared)| VendorCall {
                        batch,
                        notice: prepared.notice,
                        devices: prepared.devices,
                        log: Arc::clone(&self.parts.source.log),
                        underway: Arc::clone(&self.parts.underway),
                    })
                    .collect()
            }
            Err(failure) => {
                if let Some(error) = failure {
                    warn!(%error, "the message of a push cannot be read now");
                }
                self.line.cancel(&batch, now_ms.saturating_add(UNREAD_MS));
                Vec::new()
            }
        }
    }

    /// Takes the outcomes of a call, one for each of its devices. `random`: 0–1. Not cancel safe: after a drop a device that is gone
    /// may be there still, until its next push.
    pub(super) async fn take(
        &mut self,
        call: VendorCall,
        outcomes: Vec<Outcome>,
        now_ms: u64,
        random: f64,
    ) {
        let verdicts: Vec<_> = outcomes.iter().map(verdict).collect();
        let turn = self.line.end(&call.batch, &verdicts, now_ms, random);
        let mut stopped = None;
        let tasks = call.batch.tasks.iter().zip(&call.devices);
        for (((number, task), device), outcome) in tasks.zip(outcomes) {
            let state = match outcome {
                Outcome::Sent { vendor_id } => {
                    self.outcomes.sent.increment(1);
                    SeenState::Sent(word(&vendor_id))
                }
                Outcome::Gone { reason } => {
                    self.outcomes.gone.increment(1);
                    self.forget(device).await;
                    SeenState::Gone(word(&reason))
                }
                Outcome::Refused { reason } => {
                    self.outcomes.refused.increment(1);
                    SeenState::Refused(word(&reason))
                }
                Outcome::Later { reason, .. } | Outcome::Credentials { reason } => {
                    self.outcomes.retried.increment(1);
                    let at_ms = self.line.retries_at_ms(*number).unwrap_or(now_ms);
                    let state = SeenState::Retried(word(&reason), at_ms);
                    stopped = Some(reason);
                    self.tell(task, state, now_ms);
                    continue;
                }
            };
            self.end(*number, task, state, now_ms).await;
        }
        self.turn(turn, &stopped.unwrap_or_default());
    }

    /// Tells the operator that the vendor works again, or no longer.
    fn turn(&self, turn: BreakerTurn, reason: &str) {
        let provider = self.lane.provider.name();
        match turn {
            BreakerTurn::Same => {}
            BreakerTurn::Opened => warn!(
                provider,
                reason, "a push vendor fails: it is tried now and then"
            ),
            BreakerTurn::Closed => info!(provider, "a push vendor works again"),
            BreakerTurn::Stopped => error!(
                provider,
                reason,
                "a push vendor refuses our credentials: correct its section of the configuration"
            ),
        }
        let is_open = if self.line.is_open() { 1.0 } else { 0.0 };
        let is_stopped = if self.line.is_stopped() { 1.0 } else { 0.0 };
        self.outcomes.paused.set(is_open);
        self.outcomes.stopped.set(is_stopped);
    }

    /// Removes a device that its vendor no longer knows.
    async fn forget(&self, device: &Device) {
        // There is nothing to remove where a vendor knows users by an alias.
        if device.provider.is_by_alias() {
            return;
        }
        let removed = self
            .parts
            .source
            .delivery
            .remove_gone_device(device.clone());
        if let Err(error) = removed.await {
            let user = &device.user;
            warn!(%user, %error, "a device that is gone could not be removed");
        }
    }

    async fn end(&mut self, number: u64, task: &PushTask, state: SeenState, now_ms: u64) {
        let erased = is_erased(&*self.parts.source.log, &task.user, task.seq).await;
        let mut event = None;
        if !erased.unwrap_or(false) {
            event = self.event(task, &state);
            self.tell(task, state, now_ms);
        }
        self.lane.end(number);
        let key = task_key(self.lane.provider, number);
        self.ended.add(remove(key), event, now_ms);
    }

    /// The event that tells webhooks of the end of a task.
    fn event(&self, task: &PushTask, state: &SeenState) -> Option<PushEvent> {
        let (events, provider) = (&self.parts.events, self.lane.provider.name());
        let (message, user) = (task.message_id, &task.user);
        match state {
            SeenState::Sent(id) => events.sent(message, user, provider, id),
            SeenState::Gone(reason) | SeenState::Refused(reason) => {
                events.failed(message, user, provider, reason)
            }
            SeenState::Expired => events.failed(message, user, provider, "expired"),
            SeenState::Served { .. } => {
                events.failed(message, user, provider, "the message was acked")
            }
            _ => None,
        }
    }

    fn tell(&self, task: &PushTask, state: SeenState, now_ms: u64) {
        let fact = SeenFact {
            class: task.class,
            device: Some(seen::device(self.lane.provider, &task.device)),
            state,
            time_ms: now_ms,
        };
        self.parts.seen.add(task.message_id, &task.user, fact);
    }

    /// True if rows of ended tasks are to be removed.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }
}

fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Sent { .. } | Outcome::Gone { .. } | Outcome::Refused { .. } => Verdict::Done,
        Outcome::Later { retry_after, .. } => Verdict::Again(*retry_after),
        Outcome::Credentials { .. } => Verdict::Stop,
    }
}
