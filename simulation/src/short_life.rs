//! The log alone on a simulated disk: a few operations, the tried and answered messages, and the state that must be found
//! afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use tokio::{
    task::LocalSet,
    time::{sleep, timeout},
};

use super::{
    clock::SimClock,
    disk::SimDisk,
    model::user_id,
    process::Life,
    store::{Fate, SimHome},
};
use towncrier::{
    config,
    ids::{Epoch, MessageId, Platform, Seq, SessionKey},
    log::{
        Append, Log, Lookup, ReadLimit, Receipt, SessionRow,
        embedded::{Directories, EmbeddedLog, OpenError, Workers, epoch_text},
    },
    message::Numbers,
    metrics::Metrics,
};

/// The number of users that get messages.
const USERS: usize = 2;
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
    tried: BTreeSet<String>,
    answered: Vec<(Receipt, String)>,
    /// The messages to everyone, each with the users who were known before.
    to_everyone: Vec<(String, Vec<usize>)>,
    is_delete_tried: bool,
    is_delete_answered: bool,
    may_expire: bool,
}

/// The inboxes as users read them: for each seq the body, if there is one.
pub(super) type Inboxes = Vec<BTreeMap<u64, Option<Bytes>>>;

impl Ground {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let root = SimDisk::new(Rng::with_seed(0));
        root.put("epoch", epoch_text(Epoch(0xc0de)).as_bytes());
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
                    let _ = log.store_cursor(&key, point.inbox.epoch, row);
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
        }
    }

    /// Checks that a message to everyone is nowhere, or once in the inbox of each user who was known before it.
    fn check_everyone(&self, inboxes: &Inboxes) -> Result<(), String> {
        for (body, known) in &self.to_everyone {
            let count = |user: usize| {
                let bodies = inboxes[user].values().flatten();
                bodies.filter(|there| *there == body.as_bytes()).count()
            };
            let counts: Vec<_> = (0..USERS).map(count).collect();
            let is_seen = counts.iter().any(|count| *count > 0);
            let is_incomplete = known.iter().any(|user| counts[*user] == 0);
            let may_miss = self.may_expire || self.is_delete_tried;
            if counts.iter().any(|count| *count > 1) || is_seen && is_incomplete && !may_miss {
                return Err(format!("{body} is {counts:?} times in the inboxes"));
            }
        }
        Ok(())
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

    /// Checks a recovered log, and returns its content.
    pub(super) fn check(&self, log: &EmbeddedLog) -> Result<Inboxes, String> {
        log.check_writable()
            .map_err(|refusing| format!("it refuses: {refusing}"))?;
        let mut inboxes = Inboxes::new();
        for user in 0..USERS {
            let read = read(log, user)?;
            for (seq, body) in &read {
                let Some(body) = body else {
                    if self.is_delete_tried && *seq == 1 {
                        continue;
                    }
                    return Err(format!("entry {seq} is empty"));
                };
                let text = String::from_utf8_lossy(body);
                if !self.tried.contains(&*text) {
                    return Err(format!("{text:?} was never sent"));
                }
            }
            inboxes.push(read);
        }
        for (receipt, body) in &self.answered {
            for (user, Numbers { seq, .. }) in &*receipt.entries {
                let inbox = log
                    .inbox(user)
                    .blocking_wait()
                    .map_err(|error| error.to_string())?;
                if inbox.head < *seq {
                    return Err(format!(
                        "{body} at {seq} is lost: the head is {}",
                        inbox.head
                    ));
                }
                if *seq < inbox.first && self.may_expire {
                    continue;
                }
                let number = (0..USERS)
                    .find(|number| user_id(*number) == *user)
                    .ok_or("an unknown user")?;
                match inboxes[number].get(&seq.0) {
                    Some(Some(there)) if there == body.as_bytes() => {}
                    Some(None) if self.is_delete_tried && seq.0 == 1 => {}
                    other => return Err(format!("{body} at {seq} is {other:?}")),
                }
            }
            let key = Lookup::Key {
                sender: "oa".into(),
                client_message_id: receipt.client_message_id.clone(),
            };
            let found = log.find_blocking(&key).map_err(|error| error.to_string())?;
            let is_keyed = receipt.client_message_id.starts_with("message");
            if is_keyed && found.is_none_or(|found| found.message_id != receipt.message_id) {
                return Err(format!("the key of {body} is forgotten"));
            }
        }
        if self.is_delete_answered && inboxes[0].get(&1).is_some_and(Option::is_some) {
            return Err("what was deleted is there again".into());
        }
        Ok(inboxes)
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

/// Reads a whole inbox.
pub(super) fn read(log: &EmbeddedLog, user: usize) -> Result<BTreeMap<u64, Option<Bytes>>, String> {
    let limit = ReadLimit {
        messages: 1_000,
        bytes: 1 << 20,
    };
    let read = log.read_blocking(&user_id(user), Seq::ZERO, limit);
    let read = read.map_err(|error| format!("the inbox of user {user}: {error}"))?;
    Ok(read
        .entries
        .into_iter()
        .map(|entry| (entry.numbers.seq.0, entry.content.into_message()))
        .collect())
}

/// A log in this state opens, holds what it must, takes a message for all users, and holds that message after one more
/// power cut that loses everything unsynced.
pub(super) async fn recovers(ground: &Ground, known: &Known) -> Result<(), String> {
    let life = Arc::new(Life::exact());
    let tasks = LocalSet::new();
    let before = tasks
        .run_until(async {
            let (log, workers) = ground.open(&life).map_err(|error| error.to_string())?;
            known.check(&log)?;
            let (writer, _keeper) = workers.into_futures();
            tokio::task::spawn_local(writer.ok_or("nothing to append to")?);
            // The log spreads a message to everyone to its end by itself.
            sleep(Duration::from_millis(100)).await;
            let before = known.check(&log)?;
            known.check_everyone(&before)?;
            let heads: Vec<_> = (0..USERS)
                .map(|user| {
                    log.inbox(&user_id(user))
                        .blocking_wait()
                        .map_or(Seq::ZERO, |inbox| inbox.head)
                })
                .collect();
            let pending = log.append(append(ground.clock.now_ms(), None, "one more", USERS));
            let answer = pending.map_err(|error| error.to_string())?.await;
            let receipt = answer
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            for ((_, Numbers { seq, .. }), head) in receipt.entries.iter().zip(heads) {
                if *seq != head.next() {
                    return Err(format!("after {head} comes {seq}"));
                }
            }
            Ok(before)
        })
        .await?;
    drop(tasks);
    ground.root.cut_power(&mut |_| 0, false);
    ground.segments.cut_power(&mut |_| 0, false);
    ground.state.crash(Fate::Kept, &mut |_| 0);
    let (log, _) = ground
        .open(&life)
        .map_err(|error| format!("again: {error}"))?;
    for (user, mut expected) in before.into_iter().enumerate() {
        let inbox = log
            .inbox(&user_id(user))
            .blocking_wait()
            .map_err(|error| error.to_string())?;
        expected.insert(inbox.head.0, Some("one more".into()));
        let found = read(&log, user)?;
        if found != expected {
            return Err(format!("user {user} read {expected:?} and then {found:?}"));
        }
    }
    Ok(())
}
