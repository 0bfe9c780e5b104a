//! The decisions: from the feed of commits to rows that are due and to tasks.
//!
//! Each step takes the time as a parameter and makes what it decided durable, together with how far the feed was read. So after a crash
//! a message is decided once more at most, and never forgotten.

use std::{mem::take, sync::Arc};

use bytes::Bytes;
use tokio::task::yield_now;
use tracing::{info, warn};

use super::{
    book::{DeviceBook, class_of, digest_of},
    decide::{ClassStanding, Classes, PushCase, PushRules},
    facts::FactSource,
    lane::VendorLane,
    rows::{
        self, DUE, Due, POSITION_KEY, PushTask, put_position, read_position, task_key, task_prefix,
    },
    seen::{self, Seen, SeenFact, SeenState},
};
use crate::{
    config::{self, DeviceClass},
    ids::{ConversationSeq, Epoch, MessageId, Seq, UserId},
    log::{
        AppendError, FeedCommit, FeedLimit, FeedPage, FeedPosition, LogError, RowChange, RowTable,
    },
    message::{Device, Origin, StoredMessage},
    metrics::Metrics,
};

/// A page of the feed is decided when its newest commit is this old, in ms: most acks have come by then, so most messages need no row.
const ACKS_COME_MS: u64 = 500;
/// The bounds of a page: half a second's messages at 1,000 a second.
const PAGE: FeedLimit = FeedLimit {
    commits: 512,
    bytes: 256 * 1024,
};
/// The rows that are written together: below a group of the log's writer.
const ROWS_TOGETHER: usize = 4096;
/// The decisions that are due and are made together.
const DUE_TOGETHER: usize = 256;
/// The receivers that are decided before other tasks of the thread have their turn.
const DECIDED_IN_A_ROW: usize = 64;
/// The longest time for which the position is not written while there is nothing else to write, in ms: after a crash so much of the
/// feed is read again.
const POSITION_MS: u64 = 5000;

/// Why a step was not made. It is repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// The rows were not written, or may not have been.
    #[error(transparent)]
    Write(#[from] AppendError),
}

/// The end of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeciderStep {
    /// There was something to do, and there may be more.
    Done,
    /// There is nothing to do before this time, Unix ms; `None`: before something new comes.
    Until(Option<u64>),
}

/// Makes the decisions of a gateway.
pub(super) struct Decider {
    source: FactSource,
    book: DeviceBook,
    rules: PushRules,
    expire_after_ms: u64,
    tasks_max: usize,
    lanes: Vec<Arc<VendorLane>>,
    seen: Arc<Seen>,
    metrics: Arc<Metrics>,
    epoch: Epoch,
    position: FeedPosition,
    /// The time at which the position was written last, Unix ms.
    written_ms: u64,
    /// True if it has moved since.
    has_moved: bool,
    /// The page whose newest commit is not old enough.
    held: Option<FeedPage>,
    /// The rows that are due, and the deadline of the first one, Unix ms.
    due: usize,
    first_due_ms: Option<u64>,
    /// The number of the last task.
    last_number: u64,
}

/// A message at one receiver that is to be decided.
struct Addressed<'a> {
    message_id: MessageId,
    user: &'a UserId,
    seq: Seq,
    accepted_ms: u64,
    conversation_id: &'a str,
    conversation_seq: ConversationSeq,
}

/// What a step decided, to be written together.
#[derive(Default)]
struct Decided {
    rows: Vec<RowChange>,
    /// Tasks by the index of their lane.
    tasks: Vec<(usize, u64)>,
    /// The deadlines of the new rows that are due, Unix ms.
    due_ms: Vec<u64>,
    /// Rows that are no longer due.
    undue: usize,
    facts: Vec<(MessageId, UserId, SeenFact)>,
}

impl Decider {
    /// The decisions of a gateway that starts now: none falls before clients had `push.after` to come back.
    pub(super) fn new(
        config: &config::Push,
        source: FactSource,
        lanes: Vec<Arc<VendorLane>>,
        seen: Arc<Seen>,
        metrics: Arc<Metrics>,
        now_ms: u64,
    ) -> Self {
        let after_ms = config.after.as_millis() as u64;
        let providers = lanes.iter().map(|lane| lane.provider).collect();
        Self {
            book: DeviceBook::new(Arc::clone(&source.delivery), providers),
            source,
            rules: PushRules {
                after_ms,
                unless_acked_on: config.unless_acked_on.iter().copied().collect(),
                settled_ms: now_ms.saturating_add(after_ms),
            },
            expire_after_ms: config.expire_after.as_millis() as u64,
            tasks_max: config.tasks_max,
            lanes,
            seen,
            metrics,
            epoch: Epoch(0),
            position: FeedPosition::NEWEST,
            written_ms: now_ms,
            has_moved: false,
            held: None,
            due: 0,
            first_due_ms: None,
            last_number: 0,
        }
    }

    /// Takes up what the rows say. The first start of a gateway with vendors begins at the end of the feed. Call it before any other
    /// step, and again if it fails.
    pub(super) async fn start(&mut self, now_ms: u64) -> Result<(), StepError> {
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
        self.take_up_tasks(now_ms).await?;
        self.take_up_due().await
    }

    async fn take_up_tasks(&mut self, now_ms: u64) -> Result<(), StepError> {
        for lane in self.lanes.clone() {
            let prefix = task_prefix(lane.provider);
            let mut after = Bytes::new();
            loop {
                let log = &self.source.log;
                let page = log.rows(RowTable::PushTasks, &prefix, &after, ROWS_TOGETHER);
                let page = page.wait().await?;
                let Some((last, _)) = page.last() else {
                    break;
                };
                after = last.clone();
                let tasks: Vec<_> = page
                    .iter()
                    .filter_map(|(key, value)| PushTask::read(key, value))
                    .collect();
                for (number, task) in &tasks {
                    self.last_number = self.last_number.max(*number);
                    let fact = SeenFact {
                        class: task.class,
                        device: Some(seen::device(lane.provider, &task.device)),
                        state: SeenState::Queued,
                        time_ms: now_ms,
                    };
                    self.seen.add(task.message_id, &task.user, fact);
                }
                lane.add(tasks.into_iter().map(|(number, _)| number));
            }
        }
        Ok(())
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

    async fn due_rows(
        &self,
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Option<Due>)>, LogError> {
        let rows = self
            .source
            .log
            .rows(RowTable::PushTasks, &[DUE], after, limit);
        let rows = rows.wait().await?.into_iter();
        Ok(rows
            .map(|(key, value)| {
                let due = Due::read(&key, &value);
                (key, due)
            })
            .collect())
    }

    fn note_due(&mut self, deadline_ms: u64) {
        let first_ms = self
            .first_due_ms
            .map_or(deadline_ms, |ms| ms.min(deadline_ms));
        self.first_due_ms = Some(first_ms);
    }

    /// Decides the next page of the feed, once it is old enough. Not cancel safe: after a drop the page may be decided once more.
    pub(super) async fn take_feed(&mut self, now_ms: u64) -> Result<DeciderStep, StepError> {
        let page = match self.held.take() {
            Some(page) => page,
            None => self.source.log.feed(self.position, PAGE).wait().await?,
        };
        if let Some(lost) = page.lost {
            warn!(
                ?lost,
                "vendor push missed messages that the log no longer has"
            );
        }
        let newest_ms = page.commits.iter().map(|commit| commit.send_time_ms).max();
        let Some(newest_ms) = newest_ms else {
            self.write(Decided::default(), Some(page.next), now_ms)
                .await?;
            return Ok(if page.is_end {
                DeciderStep::Until(None)
            } else {
                DeciderStep::Done
            });
        };
        // After a step back of the clock nothing waits for the old time.
        let ready_ms = newest_ms.saturating_add(ACKS_COME_MS);
        if now_ms < ready_ms && newest_ms <= now_ms {
            self.held = Some(page);
            return Ok(DeciderStep::Until(Some(ready_ms)));
        }
        let mut decided = Decided::default();
        let mut looked = 0_usize;
        for commit in &page.commits {
            if commit.is_marks || self.is_over(commit.send_time_ms, now_ms) {
                continue;
            }
            let mut told = None;
            for (user, numbers) in &*commit.entries {
                looked += 1;
                if looked.is_multiple_of(DECIDED_IN_A_ROW) {
                    yield_now().await;
                }
                let devices = self.book.devices(user).await?;
                if devices.is_empty() {
                    continue;
                }
                // The message is looked at once a receiver has a device.
                let told = told.get_or_insert_with(|| Told::of(commit));
                if told.no_push {
                    break;
                }
                let receipt = Addressed {
                    message_id: commit.message_id,
                    user,
                    seq: numbers.seq,
                    accepted_ms: commit.send_time_ms,
                    conversation_id: &told.origin.conversation_id(user.as_str()),
                    conversation_seq: numbers.conversation_seq,
                };
                let classes = classes_of(&devices);
                self.decide(&receipt, classes, &devices, now_ms, &mut decided)
                    .await?;
                if decided.rows.len() >= ROWS_TOGETHER {
                    // Without the position: after a crash the page is decided again from its begin.
                    self.write(take(&mut decided), None, now_ms).await?;
                }
            }
        }
        self.write(decided, Some(page.next), now_ms).await?;
        Ok(DeciderStep::Done)
    }

    fn is_over(&self, accepted_ms: u64, now_ms: u64) -> bool {
        accepted_ms.saturating_add(self.expire_after_ms) <= now_ms
    }

    /// Makes the decisions whose deadline has come. Not cancel safe: after a drop some may be made once more.
    pub(super) async fn decide_due(&mut self, now_ms: u64) -> Result<DeciderStep, StepError> {
        let until = self.first_due_ms;
        if until.is_none_or(|until_ms| until_ms > now_ms) {
            return Ok(DeciderStep::Until(until));
        }
        let page = self.due_rows(b"", DUE_TOGETHER).await?;
        let is_last = page.len() < DUE_TOGETHER;
        let mut decided = Decided::default();
        let mut first_ms = None;
        for (key, due) in page {
            let Some(due) = due else {
                warn!("a row of vendor push cannot be read, and is removed");
                decided.undo(key);
                continue;
            };
            let deadline_ms = self.rules.deadline_ms(due.accepted_ms);
            if deadline_ms > now_ms {
                first_ms = Some(deadline_ms);
                break;
            }
            decided.undo(key);
            self.decide_one_due(&due, now_ms, &mut decided).await?;
        }
        let is_more = first_ms.is_none() && !is_last;
        self.write(decided, None, now_ms).await?;
        if is_more {
            return Ok(DeciderStep::Done);
        }
        self.first_due_ms = first_ms;
        Ok(DeciderStep::Until(first_ms))
    }

    async fn decide_one_due(
        &mut self,
        due: &Due,
        now_ms: u64,
        decided: &mut Decided,
    ) -> Result<(), StepError> {
        if self.is_over(due.accepted_ms, now_ms) {
            for class in due.classes.iter() {
                self.metrics.push.decided_expired.increment(1);
                decided.tell(due.message_id, &due.user, class, SeenState::Expired, now_ms);
            }
            return Ok(());
        }
        let devices = self.book.devices(&due.user).await?;
        // A device that came meanwhile is of a class that was decided, or had none.
        let classes = classes_of(&devices).and(due.classes);
        let receipt = Addressed {
            message_id: due.message_id,
            user: &due.user,
            seq: due.seq,
            accepted_ms: due.accepted_ms,
            conversation_id: &due.conversation_id,
            conversation_seq: due.conversation_seq,
        };
        self.decide(&receipt, classes, &devices, now_ms, decided)
            .await
    }

    /// Decides a message at one receiver, as far as it can be decided now.
    async fn decide(
        &mut self,
        receipt: &Addressed<'_>,
        classes: Classes,
        devices: &[Device],
        now_ms: u64,
        decided: &mut Decided,
    ) -> Result<(), StepError> {
        if classes.is_empty() {
            return Ok(());
        }
        let Addressed {
            message_id,
            user,
            conversation_id,
            ..
        } = *receipt;
        let (sessions, mut absent) = self.source.sessions(user, conversation_id, now_ms).await?;
        if now_ms < self.rules.settled_ms {
            // Whoever is not back yet may have been connected a moment before the start.
            absent = Classes::default();
        }
        let case = PushCase {
            seq: receipt.seq,
            conversation_seq: receipt.conversation_seq,
            accepted_ms: receipt.accepted_ms,
        };
        let standings = self.rules.decide(case, classes, &sessions, absent, now_ms);
        let is_served = |standing: &ClassStanding| matches!(standing, ClassStanding::Served(..));
        let is_silent = !standings.iter().all(|(_, standing)| is_served(standing))
            && self.source.is_silent(user, conversation_id).await?;
        let mut waiting = Classes::default();
        for (class, standing) in standings {
            let state = match standing {
                ClassStanding::Served(index, proof) => {
                    self.metrics.push.decided_served.increment(1);
                    let session = &sessions[index];
                    let state = SeenState::served(session.platform, &session.device, proof);
                    let fact = class_fact(class, state, session.acked_at_ms);
                    decided.facts.push((message_id, user.clone(), fact));
                    continue;
                }
                _ if is_silent => {
                    self.metrics.push.decided_silent.increment(1);
                    SeenState::DoNotDisturb
                }
                ClassStanding::Waits(until_ms) => {
                    waiting = waiting.with(class);
                    SeenState::Waiting(until_ms)
                }
                ClassStanding::Push => {
                    self.metrics.push.decided_pushed.increment(1);
                    self.push(receipt, class, devices, now_ms, decided);
                    continue;
                }
            };
            decided.tell(message_id, user, class, state, now_ms);
        }
        if !waiting.is_empty() {
            let due = Due {
                message_id,
                user: user.clone(),
                seq: receipt.seq,
                accepted_ms: receipt.accepted_ms,
                conversation_id: conversation_id.to_owned(),
                conversation_seq: receipt.conversation_seq,
                classes: waiting,
            };
            decided.rows.push(due.put());
            let deadline_ms = self.rules.deadline_ms(receipt.accepted_ms);
            decided.due_ms.push(deadline_ms);
        }
        Ok(())
    }

    /// Makes tasks for the devices of a class.
    fn push(
        &mut self,
        receipt: &Addressed<'_>,
        class: DeviceClass,
        devices: &[Device],
        now_ms: u64,
        decided: &mut Decided,
    ) {
        for device in devices.iter().filter(|device| class_of(device) == class) {
            let lanes = self.lanes.iter();
            let Some(lane) = lanes
                .clone()
                .position(|lane| lane.provider == device.provider)
            else {
                continue;
            };
            let provider = device.provider;
            // Ascends also when the clock goes back.
            self.last_number = (now_ms << 20).max(self.last_number + 1);
            let number = self.last_number;
            let task = PushTask {
                message_id: receipt.message_id,
                user: receipt.user.clone(),
                seq: receipt.seq,
                accepted_ms: receipt.accepted_ms,
                class,
                device: digest_of(device),
            };
            decided.rows.push(task.put(provider, number));
            decided.tasks.push((lane, number));
            let fact = SeenFact {
                class,
                device: Some(seen::device(provider, &task.device)),
                state: SeenState::Queued,
                time_ms: now_ms,
            };
            decided
                .facts
                .push((receipt.message_id, receipt.user.clone(), fact));
        }
    }

    /// Writes what was decided, and the position up to which the feed is decided with it. Only then it counts. A position alone is
    /// written now and then.
    async fn write(
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
        self.put(rows).await?;
        (self.position, self.has_moved, self.written_ms) = (position, false, now_ms);
        self.tell(decided);
        self.bound(now_ms).await
    }

    async fn put(&self, rows: Vec<RowChange>) -> Result<(), StepError> {
        let pending = self.source.log.put_rows(rows)?;
        let durable = pending.await;
        Ok(durable.unwrap_or(Err(AppendError::OutcomeUnknown))?)
    }

    /// Tells the workers and the trace what counts now.
    fn tell(&mut self, decided: Decided) {
        self.due += decided.due_ms.len();
        self.due = self.due.saturating_sub(decided.undue);
        self.metrics.push.due.set(self.due as f64);
        for deadline_ms in decided.due_ms {
            self.note_due(deadline_ms);
        }
        for (message_id, user, fact) in decided.facts {
            self.seen.add(message_id, &user, fact);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            let numbers: Vec<_> = decided
                .tasks
                .iter()
                .filter(|(of, _)| *of == index)
                .map(|(_, number)| *number)
                .collect();
            if !numbers.is_empty() {
                lane.add(numbers);
            }
        }
    }

    /// Ends the oldest tasks while too many decisions and tasks wait.
    async fn bound(&mut self, now_ms: u64) -> Result<(), StepError> {
        loop {
            let waiting = self.due + self.lanes.iter().map(|lane| lane.len()).sum::<usize>();
            let excess = waiting.saturating_sub(self.tasks_max).min(ROWS_TOGETHER);
            let oldest = self.lanes.iter().filter(|lane| lane.oldest().is_some());
            let oldest = oldest.min_by_key(|lane| lane.oldest());
            let Some(lane) = oldest.filter(|_| excess > 0).cloned() else {
                return Ok(());
            };
            let before = lane.oldest().unwrap_or(0).saturating_sub(1);
            let rows = self.source.log.rows(
                RowTable::PushTasks,
                &task_prefix(lane.provider),
                &task_key(lane.provider, before),
                excess,
            );
            for (key, value) in rows.wait().await? {
                if let Some((_, task)) = PushTask::read(&key, &value) {
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
                provider = lane.provider.name(),
                tasks = dropped.len(),
                "pushes ended as expired: more wait than push.tasks_max"
            );
            let outcomes = self.metrics.push_outcomes(lane.provider.name());
            outcomes.expired.increment(dropped.len() as u64);
            let removed = dropped
                .into_iter()
                .map(|number| rows::remove(task_key(lane.provider, number)));
            self.put(removed.collect()).await?;
        }
    }

    /// True if the position has moved since it was written last.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Writes the position, if it has moved. Call it now and then while nothing comes, and at the end. Not cancel safe: after a drop it
    /// may be written or not.
    pub(super) async fn keep_position(&mut self) -> Result<(), StepError> {
        if self.has_moved {
            self.put(vec![put_position(self.epoch, self.position)])
                .await?;
            self.has_moved = false;
        }
        Ok(())
    }
}

impl Decided {
    fn tell(
        &mut self,
        message_id: MessageId,
        user: &UserId,
        class: DeviceClass,
        state: SeenState,
        now_ms: u64,
    ) {
        let fact = class_fact(class, state, now_ms);
        self.facts.push((message_id, user.clone(), fact));
    }

    fn undo(&mut self, key: Bytes) {
        self.rows.push(rows::remove(key));
        self.undue += 1;
    }
}

/// The parts of a message that a decision needs.
struct Told {
    no_push: bool,
    origin: Origin,
}

impl Told {
    fn of(commit: &FeedCommit) -> Self {
        let message = StoredMessage::from_bytes(&commit.body);
        Self {
            no_push: message.no_push,
            origin: Origin::of(&commit.body),
        }
    }
}

fn classes_of(devices: &[Device]) -> Classes {
    devices.iter().map(class_of).collect()
}

fn class_fact(class: DeviceClass, state: SeenState, time_ms: u64) -> SeenFact {
    SeenFact {
        class,
        device: None,
        state,
        time_ms,
    }
}
