//! The log alone on a simulated disk: a few operations, and the tried and answered ones. `recovered.rs` has what must be found
//! afterwards.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use tokio::{
    task::LocalSet,
    time::{sleep, timeout},
};

use super::{clock::SimClock, disk::SimDisk, model::user_id, process::Life, store::SimHome};
use towncrier::{
    config,
    ids::{Epoch, Fence, MessageId, Platform, Seq, SessionKey},
    log::{
        Append, Log, Receipt, SessionRow,
        embedded::{Directories, EmbeddedLog, OpenError, Workers, epoch_text},
    },
    message::{ReadMark, StoredMessage},
    metrics::Metrics,
};

/// The number of users that get messages.
pub(super) const USERS: usize = 2;
/// The time for which a caller waits for the last piece of a message to everyone.
const CALLER_WAITS: Duration = Duration::from_secs(5);
/// One operation of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A message with a key for one user.
    Message,
    /// A message without a key for all users.
    Batch,
    /// A send that repeats the first key.
    Repeat,
    /// A session's cursor moves, and a checkpoint follows.
    Checkpoint,
    /// The first message is deleted.
    Delete,
    /// A message that begins a new segment.
    Roll,
    /// Time passes until retention removes everything old.
    Retention,
    /// A message with a key for everyone, in several pieces.
    Everyone,
    /// The first user has read everything.
    Marks,
}

/// The disk and the store of a log.
pub(super) struct Ground {
    pub(super) root: SimDisk,
    pub(super) segments: SimDisk,
    pub(super) state: SimHome,
    pub(super) clock: Arc<SimClock>,
    metrics: Arc<Metrics>,
    config: config::Log,
}

/// The tried operations, and those that were answered.
#[derive(Default)]
pub(super) struct Known {
    pub(super) tried: BTreeSet<String>,
    pub(super) answered: Vec<(Receipt, String)>,
    /// The messages to everyone, each with the users who were known before.
    pub(super) to_everyone: Vec<(String, Vec<usize>)>,
    pub(super) is_delete_tried: bool,
    pub(super) is_delete_answered: bool,
    pub(super) may_expire: bool,
    /// The highest mark of the first user that was tried, and that was answered.
    pub(super) mark_tried: u64,
    pub(super) mark_answered: u64,
}

impl Ground {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let root = SimDisk::new(Rng::with_seed(0));
        root.put("epoch", epoch_text(Epoch(0xc0de), 0).as_bytes());
        Self {
            root,
            segments: SimDisk::new(Rng::with_seed(0)),
            state: SimHome::new(),
            clock: SimClock::new(),
            metrics,
            config: config::Log {
                dir: "simulated".into(),
                // A segment lasts an eighth of it: 10 s.
                retention: Duration::from_secs(80),
                // Every sixth interval is a checkpoint: each round of the keeper makes one.
                checkpoint_interval: Duration::from_millis(150),
                ..config::Log::default()
            },
        }
    }

    pub(super) fn copy(&self) -> Self {
        Self {
            root: self.root.copy(),
            segments: self.segments.copy(),
            state: self.state.copy(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            config: self.config.clone(),
        }
    }

    pub(super) fn open(&self, life: &Arc<Life>) -> Result<(EmbeddedLog, Workers), OpenError> {
        let directories = Directories {
            root: Arc::new(self.root.for_process(life.clone())),
            segments: Arc::new(self.segments.for_process(life.clone())),
            state: Box::new(self.state.for_process(life.clone())),
        };
        EmbeddedLog::open_in(
            &directories,
            &self.config,
            self.clock.for_process(),
            self.metrics.clone(),
            |job| job(),
        )
    }
}

/// Runs a workload on a new disk until it ends, or until the process does. The process ends before the change with the
/// number `end_after`; 0: the workload ends normally. The last values are the number of changes, and the number before the
/// last operation.
pub(super) async fn live(
    steps: &[Step],
    end_after: u64,
    metrics: Arc<Metrics>,
) -> (Ground, Known, u64, u64) {
    fastrand::seed(7);
    let ground = Ground::new(metrics);
    let mut known = Known::default();
    let life = Arc::new(Life::exact());
    life.end_after(end_after);
    let mut before_last = 0;
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let Ok((log, workers)) = ground.open(&life) else {
                return;
            };
            let (writer, keeper) = workers.into_futures();
            let writing = writer.map(tokio::task::spawn_local);
            let keeping = tokio::task::spawn_local(keeper);
            for step in steps {
                before_last = life.done();
                known.take(*step, &log, &ground.clock, &life).await;
            }
            if !life.is_dead() {
                log.close();
                let _ = keeping.await;
                if let Some(writing) = writing {
                    let _ = writing.await;
                }
            }
        })
        .await;
    (ground, known, life.done(), before_last)
}

impl Known {
    /// These messages were tried; the check does not demand that they are there.
    pub(super) fn of<const N: usize>(tried: [&str; N]) -> Self {
        Self {
            tried: tried.map(str::to_owned).into(),
            ..Self::default()
        }
    }

    async fn take(&mut self, step: Step, log: &EmbeddedLog, clock: &SimClock, life: &Life) {
        let body = format!("message {}", self.tried.len());
        match step {
            Step::Message => {
                self.send(log, clock, life, Some(&body.clone()), body, 1)
                    .await
            }
            Step::Batch => self.send(log, clock, life, None, body, USERS).await,
            Step::Repeat => {
                self.send(log, clock, life, Some("message 0"), "message 0".into(), 1)
                    .await
            }
            Step::Checkpoint => {
                let key = SessionKey {
                    user: user_id(0),
                    platform: Platform::Web,
                    device: "".into(),
                };
                if let Ok(point) = log.enter(&key).blocking_wait() {
                    let row = SessionRow {
                        cursor: point.inbox.head,
                        acked_at_ms: clock.now_ms(),
                    };
                    // A dead process does not get here.
                    let _ = log.store_cursor(&key, point.inbox.epoch, Fence::NONE, row);
                }
                sleep(Duration::from_millis(1_100)).await;
            }
            Step::Delete => {
                self.is_delete_tried = true;
                if let Ok(pending) = log.delete(user_id(0), vec![Seq(1)])
                    && let Ok(Ok(())) = pending.await
                    && !life.is_dead()
                {
                    // A delete in an empty inbox removes nothing, and no later message.
                    self.is_delete_answered |= !self.answered.is_empty();
                }
            }
            Step::Roll => {
                clock.sleep(11_000);
                self.send(log, clock, life, Some(&body.clone()), body, 1)
                    .await;
            }
            Step::Retention => {
                self.may_expire = true;
                clock.sleep(300_000);
                sleep(Duration::from_millis(1_100)).await;
            }
            Step::Everyone => {
                let is_known = |user: &usize| {
                    let inbox = log.inbox(&user_id(*user));
                    let inbox = inbox.blocking_wait();
                    inbox.is_ok_and(|inbox| inbox.head > Seq::ZERO)
                };
                let known = (0..USERS).filter(is_known).collect();
                self.to_everyone.push((body.clone(), known));
                self.tried.insert(body.clone());
                let append = append(clock.now_ms(), Some(&body), &body, 0);
                // The pieces of a process that died never end. Its caller gives up.
                if let Ok(pending) = log.append_to_everyone(append)
                    && let Ok(Ok(Ok(receipt))) = timeout(CALLER_WAITS, pending).await
                    && !life.is_dead()
                {
                    self.answered.push((receipt, body));
                }
            }
            Step::Marks => self.mark(log, clock, life).await,
        }
    }

    /// Marks everything of the first user as read, if there is something.
    async fn mark(&mut self, log: &EmbeddedLog, clock: &SimClock, life: &Life) {
        let page = log.conversations(&user_id(0), Seq(u64::MAX), 1).wait();
        let Some(conversation) = page
            .await
            .ok()
            .and_then(|mut page| page.conversations.pop())
        else {
            return;
        };
        let mark = conversation.head.0;
        self.mark_tried = mark;
        let marks = StoredMessage {
            marks: vec![ReadMark {
                conversation_id: conversation.id.into(),
                conversation_seq: mark,
                ..ReadMark::default()
            }],
            ..StoredMessage::default()
        };
        let append = Append {
            body: marks.to_bytes(),
            is_marks: true,
            ..append(clock.now_ms(), None, "", 1)
        };
        if let Ok(pending) = log.append(append)
            && let Ok(Ok(_)) = pending.await
            && !life.is_dead()
        {
            self.mark_answered = mark;
        }
    }

    async fn send(
        &mut self,
        log: &EmbeddedLog,
        clock: &SimClock,
        life: &Life,
        key: Option<&str>,
        body: String,
        users: usize,
    ) {
        self.tried.insert(body.clone());
        if let Ok(pending) = log.append(append(clock.now_ms(), key, &body, users))
            && let Ok(Ok(receipt)) = pending.await
            && !life.is_dead()
        {
            self.answered.push((receipt, body));
        }
    }
}

pub(super) fn append(now_ms: u64, key: Option<&str>, body: &str, users: usize) -> Append {
    let message_id = MessageId::new(now_ms);
    Append {
        message_id,
        send_time_ms: now_ms,
        sender: "oa".into(),
        client_message_id: key.map_or_else(|| message_id.to_string().into(), Into::into),
        is_keyed: key.is_some(),
        fingerprint: [0; 16],
        body: Bytes::copy_from_slice(body.as_bytes()),
        is_marks: false,
        receivers: (0..users).map(user_id).collect(),
    }
}
