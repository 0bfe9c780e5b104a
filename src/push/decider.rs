//! The decisions: from the feed of commits to rows that are due and to tasks.
//!
//! Each step takes the time as a parameter and makes what it decided durable, together with how far the feed was read. So after a crash
//! a message is decided once more at most, and never forgotten.
//!
//! - `start.rs`: takes up the rows of earlier decisions
//! - `write.rs`: writes what was decided, and ends the oldest tasks while too many wait

mod start;
mod write;

use std::{mem::take, sync::Arc};

use bytes::Bytes;
use tokio::task::yield_now;
use tracing::warn;

use super::{
    book::{DeviceBook, class_of, digest_of},
    decide::{ClassStanding, Classes, PushCase, PushRules},
    facts::FactSource,
    lane::VendorLane,
    rows::{self, DUE, Due, PushTask},
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
    webhooks::PushEvents,
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
/// The tasks that end together, each with an event's row.
const ENDING_TOGETHER: usize = ROWS_TOGETHER / 2;
/// The decisions that are due and are made together.
const DUE_TOGETHER: usize = 256;
/// The receivers that are decided before other tasks of the thread have their turn.
const DECIDED_IN_A_ROW: usize = 64;

/// The content type of a message that takes another one back. OpenIM pushes none of these.
const REVOKE: i32 = 111;

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
    events: PushEvents,
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
    /// The rows that end dropped tasks and are not written yet.
    dropping: Vec<RowChange>,
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

/// The decisions of a step, to be written together.
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
            events: PushEvents::default(),
            epoch: Epoch(0),
            position: FeedPosition::NEWEST,
            written_ms: now_ms,
            has_moved: false,
            held: None,
            due: 0,
            first_due_ms: None,
            dropping: Vec::new(),
            last_number: 0,
        }
    }

    /// Tells webhooks of the tasks that end here.
    pub(super) fn tell_events(&mut self, events: PushEvents) {
        self.events = events;
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
            let mut lanes = self.lanes.iter();
            let Some(lane) = lanes.position(|lane| lane.provider == device.provider) else {
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
            no_push: message.no_push || message.content_type == REVOKE,
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
