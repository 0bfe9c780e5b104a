//! The decisions: from the feed of commits to rows that are due and to tasks.
//!
//! Each step takes the time as a parameter and makes what it decided durable, together with how far the feed was read. So after a crash
//! a message is decided once more at most, and never forgotten.
//!
//! - `feed.rs`: decides what the feed brings, and tells how far the decisions are behind
//! - `start.rs`: takes up the rows of earlier decisions
//! - `write.rs`: writes what was decided, and ends the oldest tasks and decisions while too many wait

mod feed;
mod start;
mod write;

use std::sync::{Arc, atomic::AtomicUsize};

use bytes::Bytes;
use tracing::warn;

use super::{
    begun::BegunRows,
    book::{DeviceBook, class_of, digest_of},
    decide::{ClassStanding, Classes, Proof, PushCase, PushRules, SessionFacts},
    facts::FactSource,
    forget::is_erased,
    lane::VendorLane,
    rows::{self, DUE, Due, PushTask},
    seen::{self, Seen, SeenFact, SeenState},
};
use crate::{
    config::{self, DeviceClass},
    ids::{ConversationSeq, Epoch, MessageId, Seq, UserId},
    log::{AppendError, FeedPage, FeedPosition, LogError, RowChange, RowTable, TurnNumber},
    message::Device,
    metrics::Metrics,
    webhooks::PushEvents,
};

/// The rows that are written together: below a group of the log's writer.
const ROWS_TOGETHER: usize = 4096;
/// The tasks that end together, each with an event's row.
const ENDING_TOGETHER: usize = ROWS_TOGETHER / 2;
/// The decisions that are due and are made together.
const DUE_TOGETHER: usize = 256;

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

/// Makes the decisions of a gateway in one turn.
pub(super) struct Decider {
    turn: TurnNumber,
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
    /// The time of the oldest commit that is known and not decided, Unix ms.
    undecided_ms: Option<u64>,
    begun: BegunRows,
    /// The rows that are due, and the deadline of the first one, Unix ms.
    due: usize,
    /// The rows of erased users that were removed and are still counted.
    forgotten: Arc<AtomicUsize>,
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
    /// The decisions of a gateway whose turn begins now.
    pub(super) fn new(
        config: &config::Push,
        source: FactSource,
        (lanes, forgotten): (Vec<Arc<VendorLane>>, Arc<AtomicUsize>),
        rules: PushRules,
        seen: Arc<Seen>,
        metrics: Arc<Metrics>,
        (turn, now_ms): (TurnNumber, u64),
    ) -> Self {
        let providers = lanes.iter().map(|lane| lane.provider).collect();
        Self {
            turn,
            book: DeviceBook::new(Arc::clone(&source.delivery), providers),
            source,
            rules,
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
            undecided_ms: None,
            begun: BegunRows::default(),
            due: 0,
            forgotten,
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

    fn is_over(&self, accepted_ms: u64, now_ms: u64) -> bool {
        accepted_ms.saturating_add(self.expire_after_ms) <= now_ms
    }

    /// Makes the decisions whose deadline has come. Not cancel safe: after a drop some may be made once more.
    pub(super) async fn decide_due(&mut self, now_ms: u64) -> Result<DeciderStep, StepError> {
        let until = self.first_due_ms;
        if until.is_none_or(|until_ms| until_ms > now_ms) {
            return Ok(DeciderStep::Until(until));
        }
        self.forget_devices();
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

    /// Other gateways register devices as well: what is remembered of users counts for one page.
    fn forget_devices(&mut self) {
        if self.source.is_shared {
            self.book.clear();
        }
    }

    async fn decide_one_due(
        &mut self,
        due: &Due,
        now_ms: u64,
        decided: &mut Decided,
    ) -> Result<(), StepError> {
        if self.is_over(due.accepted_ms, now_ms) {
            self.expire(due.message_id, &due.user, due.classes, now_ms, decided);
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
        // The page was read, or the row written, before the user was erased.
        if is_erased(&*self.source.log, user, receipt.seq).await? {
            return Ok(());
        }
        let (sessions, mut absent) = self.source.sessions(user, conversation_id, now_ms).await?;
        if now_ms < self.rules.settled_ms {
            // Whoever is not back yet may have been connected a moment before the start.
            absent = Classes::default();
        }
        let case = receipt.case();
        let standings = self.rules.decide(case, classes, &sessions, absent, now_ms);
        let is_served = |standing: &ClassStanding| matches!(standing, ClassStanding::Served(..));
        let is_silent = !standings.iter().all(|(_, standing)| is_served(standing))
            && self.source.is_silent(user, conversation_id).await?;
        let mut waiting = Classes::default();
        for (class, standing) in standings {
            let state = match standing {
                ClassStanding::Served(index, proof) => {
                    self.metrics.push.decided_served.increment(1);
                    decided.serve(message_id, user, class, &sessions[index], proof);
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
            self.last_number = rows::first_number(now_ms).max(self.last_number + 1);
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

impl Addressed<'_> {
    fn case(&self) -> PushCase {
        PushCase {
            seq: self.seq,
            conversation_seq: self.conversation_seq,
            accepted_ms: self.accepted_ms,
        }
    }
}

impl Decided {
    fn serve(
        &mut self,
        message_id: MessageId,
        user: &UserId,
        class: DeviceClass,
        session: &SessionFacts,
        proof: Proof,
    ) {
        let state = SeenState::served(session.platform, &session.device, proof);
        let fact = class_fact(class, state, session.acked_at_ms);
        self.facts.push((message_id, user.clone(), fact));
    }

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
