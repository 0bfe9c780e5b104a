//! The worker of one vendor: takes its tasks in order, asks the vendor, and ends them. A vendor that is slow or down delays no other.
//!
//! Each step takes the time as a parameter. The caller makes the calls to the vendor, so it decides what runs at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tracing::{error, info, warn};

use super::{
    book::{digest_of, has_badge},
    breaker::BreakerTurn,
    decider::StepError,
    ended::EndedRows,
    lane::VendorLane,
    line::{TaskBatch, TaskLine, Verdict},
    rows::{PushTask, number_of, remove, task_key, task_prefix},
    seen::{self, Seen, SeenFact, SeenState, word},
    text::{PushWords, Wording},
    vendor::{Notice, Outcome, Vendor},
};
use crate::{
    config,
    delivery::Delivery,
    ids::{Seq, UserId},
    log::{Log, LogError, ReadLimit, RowTable},
    message::{Device, Numbers, OVERVIEW_MAX, Origin, StoredMessage, TOGETHER_BYTES_MAX},
    metrics::{Metrics, PushOutcomes},
    webhooks::{PushEvent, PushEvents},
};

/// The pause before a task is tried again that could not be read, in ms.
const UNREAD_MS: u64 = 1000;
/// The most conversations whose unread messages a badge counts: a phone shows a number, nobody reads beyond it.
const BADGE_CONVERSATIONS_MAX: usize = 10_000;

/// The rooms and settings that all workers share.
#[derive(Clone)]
pub(super) struct WorkerParts {
    pub(super) log: Arc<dyn Log>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) wording: Arc<Wording>,
    pub(super) seen: Arc<Seen>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) expire_after: Duration,
    /// Tells webhooks of the ends of pushes.
    pub(super) events: PushEvents,
}

impl WorkerParts {
    pub(super) fn new(
        config: &config::Push,
        log: Arc<dyn Log>,
        delivery: Arc<Delivery>,
        seen: Arc<Seen>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            log,
            delivery,
            wording: Arc::new(Wording::new(config)),
            seen,
            metrics,
            expire_after: config.expire_after,
            events: PushEvents::default(),
        }
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

/// A call that is to be made.
pub(super) struct VendorCall {
    batch: TaskBatch,
    notice: Notice,
    devices: Vec<Device>,
}

impl VendorCall {
    /// Makes the call. Cancel safe: after a drop the devices may have got the notice, and their tasks are still there.
    pub(super) async fn make(&self, vendor: &dyn Vendor) -> Vec<Outcome> {
        vendor.push(&self.notice, &self.devices).await
    }
}

/// A notice for some tasks of a batch.
struct PreparedNotice {
    notice: Notice,
    devices: Vec<Device>,
    /// The places of their tasks in the batch.
    places: Vec<usize>,
}

/// A message of a task, as far as all its receivers share it.
struct TaskMessage {
    numbers: Numbers,
    message: StoredMessage,
    origin: Origin,
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

    /// Tells webhooks of the ends of pushes.
    pub(super) fn tell_events(&mut self, events: PushEvents) {
        self.parts.events = events;
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
                self.end(number, &task, SeenState::Expired, now_ms);
                self.outcomes.expired.increment(1);
            }
            let log = &*self.parts.log;
            self.ended.write_due(log, now_ms).await?;
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
        let log = &self.parts.log;
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
        self.ended.write(&*self.parts.log, 1).await
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

    /// The notices of a batch, each with its devices and their places in the batch. Ends the tasks whose message or device is no
    /// longer there. `Err(None)`: no task is left.
    async fn prepare(
        &mut self,
        batch: &mut TaskBatch,
        now_ms: u64,
    ) -> Result<Vec<PreparedNotice>, Option<LogError>> {
        let mut shared: Option<TaskMessage> = None;
        let mut by_words: HashMap<(PushWords, bool), usize> = HashMap::new();
        let mut notices: Vec<PreparedNotice> = Vec::new();
        let mut place = 0;
        while let Some((number, task)) = batch.tasks.get(place).cloned() {
            if shared.is_none() {
                shared = self.message(&task).await?;
            }
            let Some(message) = &shared else {
                let reason = "the message is no longer there";
                self.finish(batch, number, &task, reason, now_ms);
                continue;
            };
            let Some(device) = self.device(&task).await? else {
                self.finish(batch, number, &task, "the device was removed", now_ms);
                continue;
            };
            let words = self.parts.wording.words(&message.message, &device.lang);
            let key = (words, has_badge(&device));
            if let Some(index) = by_words.get(&key) {
                notices[*index].devices.push(device);
                notices[*index].places.push(place);
            } else {
                let notice = self.notice(&task, message, &key.0, key.1, now_ms).await?;
                by_words.insert(key, notices.len());
                notices.push(PreparedNotice {
                    notice,
                    devices: vec![device],
                    places: vec![place],
                });
            }
            place += 1;
        }
        if notices.is_empty() {
            return Err(None);
        }
        Ok(notices)
    }

    fn finish(
        &mut self,
        batch: &mut TaskBatch,
        number: u64,
        task: &PushTask,
        reason: &str,
        now_ms: u64,
    ) {
        self.line.finish(batch, number);
        self.end(number, task, SeenState::Gone(reason.into()), now_ms);
        self.outcomes.gone.increment(1);
    }

    /// The message of a task; `None` if it was deleted, cleared or has expired.
    async fn message(&self, task: &PushTask) -> Result<Option<TaskMessage>, LogError> {
        let limit = ReadLimit {
            messages: 1,
            bytes: TOGETHER_BYTES_MAX,
        };
        let read = self.parts.log.read(&task.user, task.seq.previous(), limit);
        let entry = read.wait().await?.entries.into_iter().next();
        let entry = entry.filter(|entry| entry.numbers.seq == task.seq);
        Ok(entry.and_then(|entry| {
            let numbers = entry.numbers;
            let body = entry.content.into_message()?;
            let message = StoredMessage::from_bytes(&body);
            let origin = Origin::of(&body);
            let id = task.message_id.to_string();
            // After a new epoch another message may have this seq.
            (message.server_msg_id == id).then_some(TaskMessage {
                numbers,
                message,
                origin,
            })
        }))
    }

    async fn device(&self, task: &PushTask) -> Result<Option<Device>, LogError> {
        let provider = self.lane.provider;
        if provider.is_by_alias() {
            return Ok(Some(Device::of_alias(provider, &task.user)));
        }
        let devices = self.parts.delivery.devices(&task.user).await?;
        let mut devices = devices.into_iter();
        Ok(devices.find(|one| one.provider == provider && digest_of(one) == task.device))
    }

    async fn notice(
        &self,
        task: &PushTask,
        message: &TaskMessage,
        words: &PushWords,
        has_badge: bool,
        now_ms: u64,
    ) -> Result<Notice, LogError> {
        let badge = if has_badge {
            Some(self.unread(&task.user).await?)
        } else {
            None
        };
        let age = Duration::from_millis(now_ms.saturating_sub(task.accepted_ms));
        Ok(Notice {
            id: task.message_id,
            user: task.user.clone(),
            conversation_id: message.origin.conversation_id(task.user.as_str()).into(),
            seq: message.numbers.seq,
            title: words.title.as_str().into(),
            body: words.body.as_str().into(),
            ex: words.ex.as_str().into(),
            sound: words.sound.as_str().into(),
            badge,
            text: words.text.as_deref().map(Into::into),
            expires_in: self.parts.expire_after.saturating_sub(age),
        })
    }

    /// The sum of a user's unread messages.
    async fn unread(&self, user: &UserId) -> Result<u32, LogError> {
        let (mut sum, mut looked, mut before) = (0_u64, 0, Seq(u64::MAX));
        loop {
            let page = self.parts.log.conversations(user, before, OVERVIEW_MAX);
            let page = page.wait().await?;
            let unread = page.conversations.iter().map(|one| one.unread);
            sum = unread.fold(sum, u64::saturating_add);
            looked += page.conversations.len();
            match page.conversations.last() {
                Some(last) if !page.is_end && looked < BADGE_CONVERSATIONS_MAX => {
                    before = last.last_seq;
                }
                _ => return Ok(u32::try_from(sum).unwrap_or(u32::MAX)),
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
            self.end(*number, task, state, now_ms);
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
        let removed = self.parts.delivery.remove_gone_device(device.clone());
        if let Err(error) = removed.await {
            let user = &device.user;
            warn!(%user, %error, "a device that is gone could not be removed");
        }
    }

    fn end(&mut self, number: u64, task: &PushTask, state: SeenState, now_ms: u64) {
        let event = self.event(task, &state);
        self.tell(task, state, now_ms);
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
