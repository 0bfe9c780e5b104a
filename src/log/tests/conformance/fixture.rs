//! The logs under test, and a short way to use one.

use std::{
    any::Any,
    cell::Cell,
    rc::Rc,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use tokio::runtime::Runtime;

use crate::{
    clock::tests::manual::{Manual, NOW_MS},
    config,
    ids::{ConversationSeq, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, AppendError, Commit, Consumer, Conversation, ConversationPage, ConversationRead,
        Inbox, Log, Lookup, ReadLimit, Receipt, ResumePoint, SessionRow,
        cluster::{
            ClusterLog, ClusterPace,
            engine::Engine,
            postgres::{PostgresEngine, tests::server::Server},
        },
        embedded::EmbeddedLog,
        tests::memory::{Answering, MemoryLog, SimEngine},
    },
    message::{Entry, Numbers, ReadMark, StoredMessage},
    metrics::Metrics,
};

/// The retention in these tests. Messages expire only when a test moves the clock further.
const RETENTION: Duration = Duration::from_secs(3600);
/// The longest time in which a log may remove expired messages.
const EXPIRY_WAIT: Duration = Duration::from_secs(30);
/// The longest time from the answer of an append to its announcement.
const ANNOUNCEMENT_WAIT: Duration = Duration::from_secs(30);

/// Remembers the messages that were announced as durable.
#[derive(Default)]
pub(super) struct Announced {
    commits: Mutex<Vec<Commit>>,
    more: Condvar,
}

impl Consumer for Announced {
    fn take(&self, commits: &[Commit]) {
        self.commits.lock().unwrap().extend_from_slice(commits);
        self.more.notify_all();
    }
}

impl Announced {
    /// The commits, once there are `count` of them. A caller may be answered before its commit is announced.
    pub(super) fn first(&self, count: usize) -> Vec<Commit> {
        let commits = self.commits.lock().unwrap();
        let are_too_few = |commits: &mut Vec<Commit>| commits.len() < count;
        let waited = self
            .more
            .wait_timeout_while(commits, ANNOUNCEMENT_WAIT, are_too_few);
        let (commits, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "{} of {count}", commits.len());
        commits.clone()
    }
}

/// A log under test.
pub(super) struct Subject {
    pub(super) log: Arc<dyn Log>,
    pub(super) announced: Arc<Announced>,
    /// True if a consumer may begin a read while it takes a commit. The log in memory would wait for itself.
    pub(super) can_be_read_by_consumers: bool,
    /// Makes retention remove this message and all before it. Returns when they are removed.
    pub(super) expire: Box<dyn Fn(&Receipt)>,
    /// The appends so far that did not say their time.
    sends: Cell<u64>,
    /// The things that the log needs until its end: a directory, a runtime, a server.
    _kept: Vec<Box<dyn Any>>,
}

pub(super) fn memory(answering: Answering) -> Subject {
    let announced = Arc::new(Announced::default());
    let log = Arc::new(MemoryLog::default());
    log.rows().answering = answering;
    log.commits(announced.clone());
    Subject {
        log: log.clone(),
        announced,
        can_be_read_by_consumers: false,
        expire: Box::new(move |_| log.expire_all()),
        sends: Cell::default(),
        _kept: Vec::new(),
    }
}

pub(super) fn embedded() -> Subject {
    let announced = Arc::new(Announced::default());
    let dir = tempfile::tempdir().unwrap();
    let config = config::Log {
        dir: dir.path().into(),
        cache_bytes: 1 << 20,
        retention: RETENTION,
        idempotency_retention: RETENTION * 100,
        ..config::Log::default()
    };
    let machine = Manual::new();
    let metrics = Arc::new(Metrics::new());
    let log = EmbeddedLog::open(&config, machine.clock(), metrics).unwrap();
    log.commits(announced.clone());
    let log = Arc::new(log);
    let expiring = log.clone();
    Subject {
        log,
        announced,
        can_be_read_by_consumers: true,
        expire: Box::new(move |receipt| expire(&machine, &*expiring, receipt)),
        sends: Cell::default(),
        _kept: vec![Box::new(dir)],
    }
}

/// The times of a fleet's log in these tests, which wait for most of its barriers.
const PACE: ClusterPace = ClusterPace {
    answer_within: Duration::from_secs(30),
    barrier_spacing: Duration::from_millis(1),
};

/// The log of a fleet, on a store in memory.
pub(super) fn cluster() -> Subject {
    let engine = Arc::new(SimEngine::default());
    let expiring = engine.clone();
    on_store(store_runtime(), engine, move |_| expiring.expire_all())
}

/// The log of a fleet, on PostgreSQL; `None` where it is not installed.
pub(super) fn postgres() -> Option<Subject> {
    let database = Server::of_process()?.database();
    let runtime = store_runtime();
    let url = database.url();
    let engine = runtime.block_on(PostgresEngine::connect(&url)).unwrap();
    let expiring = engine.clone();
    let expire = move |runtime: &Runtime| runtime.block_on(database.expire(&expiring));
    Some(on_store(runtime, engine, expire))
}

fn store_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn on_store(
    runtime: Runtime,
    engine: Arc<dyn Engine>,
    expire: impl Fn(&Runtime) + 'static,
) -> Subject {
    let announced = Arc::new(Announced::default());
    let opening = ClusterLog::open(engine, PACE, runtime.handle().clone());
    let (log, tasks) = runtime.block_on(opening).unwrap();
    log.commits(announced.clone());
    let runtime = Rc::new(runtime);
    let kept = Rc::clone(&runtime);
    Subject {
        log: Arc::new(log),
        announced,
        can_be_read_by_consumers: true,
        expire: Box::new(move |_| expire(&runtime)),
        sends: Cell::default(),
        _kept: vec![Box::new(tasks), Box::new(kept)],
    }
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// Retention removes whole segments. A segment ends with the first append after it became old.
fn expire(machine: &Manual, log: &dyn Log, receipt: &Receipt) {
    machine.advance(RETENTION.as_millis() as u64 * 2);
    log.append(message(NOW_MS, &["another"], None, "a new segment"))
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    // The messages before a segment may be removed once that segment is old.
    machine.advance(RETENTION.as_millis() as u64 * 2);
    let is_there = |(user, numbers): &(UserId, Numbers)| {
        let inbox = log.inbox(user).blocking_wait().unwrap();
        inbox.first <= numbers.seq
    };
    let is_found = || {
        let found = log.find(Lookup::Id(receipt.message_id)).blocking_wait();
        found != Ok(None)
    };
    let begun = std::time::Instant::now();
    while is_found() || receipt.entries.iter().any(is_there) {
        assert!(begun.elapsed() < EXPIRY_WAIT, "retention removes nothing");
        std::thread::yield_now();
    }
}

impl Subject {
    pub(super) fn try_send(
        &self,
        users: &[&str],
        key: Option<&str>,
        body: &str,
    ) -> Result<Receipt, AppendError> {
        self.append(message(NOW_MS, users, key, body))
    }

    pub(super) fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        let pending = self.log.append(self.later(append))?;
        pending.blocking_recv().expect("every append is answered")
    }

    /// An append that does not say its time comes a millisecond after the one before it, so that its conversation's time is its own.
    fn later(&self, append: Append) -> Append {
        if append.send_time_ms != NOW_MS || append.is_marks {
            return append;
        }
        let sends = self.sends.replace(self.sends.get() + 1);
        Append {
            send_time_ms: NOW_MS + sends,
            ..append
        }
    }

    pub(super) fn append_to_everyone(&self, append: Append) -> Receipt {
        let pending = self.log.append_to_everyone(self.later(append)).unwrap();
        pending.blocking_recv().unwrap().unwrap()
    }

    pub(super) fn delete(&self, name: &str, seqs: &[u64]) {
        let seqs = seqs.iter().copied().map(Seq).collect();
        let pending = self.log.delete(user(name), seqs).unwrap();
        assert_eq!(pending.blocking_recv().unwrap(), Ok(()));
    }

    pub(super) fn send(&self, users: &[&str], body: &str) -> Receipt {
        self.try_send(users, None, body).unwrap()
    }

    pub(super) fn entries(&self, name: &str, after: u64, limit: ReadLimit) -> Vec<Entry> {
        let read = self.log.read(&user(name), Seq(after), limit);
        read.blocking_wait().unwrap().entries
    }

    /// Seqs and bodies after `after`; "" for a deleted message.
    pub(super) fn read(&self, name: &str, after: u64, limit: ReadLimit) -> Vec<(u64, String)> {
        let entries = self.entries(name, after, limit).into_iter();
        let text = |entry: &Entry| {
            let body = entry.content.body().cloned().unwrap_or_default();
            String::from_utf8(body.into()).unwrap()
        };
        entries
            .map(|entry| (entry.numbers.seq.0, text(&entry)))
            .collect()
    }

    pub(super) fn enter(&self, key: &SessionKey) -> ResumePoint {
        self.log.enter(key).blocking_wait().unwrap()
    }

    pub(super) fn store_cursor(&self, key: &SessionKey, row: SessionRow) {
        let epoch = self.enter(key).inbox.epoch;
        self.log.store_cursor(key, epoch, Fence::NONE, row).unwrap();
    }

    pub(super) fn find(&self, lookup: Lookup) -> Option<Receipt> {
        self.log.find(lookup).blocking_wait().unwrap()
    }

    pub(super) fn stored(&self, key: &SessionKey) -> Option<SessionRow> {
        self.enter(key).stored
    }

    /// Sends a message of this group.
    pub(super) fn send_of(&self, group: &str, users: &[&str]) -> Receipt {
        self.append(message_of(group, users)).unwrap()
    }

    /// Marks messages of these groups as read.
    pub(super) fn mark(&self, name: &str, read: &[(&str, u64)]) -> Receipt {
        self.append(marks(name, read)).unwrap()
    }

    pub(super) fn conversations(&self, name: &str, before: u64, limit: usize) -> ConversationPage {
        let page = self.log.conversations(&user(name), Seq(before), limit);
        page.blocking_wait().unwrap()
    }

    /// The entries of a group's conversation, within the limit.
    pub(super) fn read_group(
        &self,
        name: &str,
        group: &str,
        (from, to): (u64, u64),
        limit: ReadLimit,
    ) -> ConversationRead {
        let range = (ConversationSeq(from), ConversationSeq(to));
        let (user, id) = (user(name), conversation_id(group));
        let read = self.log.read_conversation(&user, &id, range, limit);
        read.blocking_wait().unwrap()
    }

    /// A group's conversation. A read of the conversation and the list of all tell the same.
    pub(super) fn conversation(&self, name: &str, group: &str) -> Option<Conversation> {
        let read = self.read_group(name, group, EVERY, ALL).conversation;
        let mut listed = self.conversations(name, u64::MAX, 1000).conversations;
        listed.retain(|conversation| *conversation.id == *conversation_id(group));
        assert_eq!(read.as_slice(), listed);
        read
    }

    pub(super) fn bounds(&self, name: &str) -> (u64, u64) {
        let inbox = self.log.inbox(&user(name)).blocking_wait();
        let Inbox { head, first, .. } = inbox.unwrap();
        (first.0, head.0)
    }
}

pub(super) const ALL: ReadLimit = ReadLimit {
    messages: 1000,
    bytes: usize::MAX,
};

/// All conversation seqs.
pub(super) const EVERY: (u64, u64) = (0, u64::MAX);

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn session(name: &str, platform: Platform) -> SessionKey {
    SessionKey {
        user: user(name),
        platform,
        device: "".into(),
    }
}

pub(crate) fn message(now_ms: u64, users: &[&str], key: Option<&str>, body: &str) -> Append {
    let message_id = MessageId::new(now_ms);
    Append {
        message_id,
        send_time_ms: now_ms,
        sender: "oa".into(),
        client_message_id: key.map_or_else(|| message_id.to_string().into(), Into::into),
        is_keyed: key.is_some(),
        fingerprint: *body
            .as_bytes()
            .first_chunk()
            .unwrap_or(&[body.len() as u8; 16]),
        body: body.to_owned().into(),
        is_marks: false,
        receivers: users.iter().map(|name| user(name)).collect(),
    }
}

/// A message of this group. Each receiver finds it in the conversation of the group.
pub(super) fn message_of(group: &str, users: &[&str]) -> Append {
    let append = message(NOW_MS, users, None, "");
    let stored = StoredMessage {
        server_msg_id: append.message_id.to_string(),
        group_id: group.into(),
        session_type: 3,
        ..StoredMessage::default()
    };
    Append {
        body: stored.to_bytes(),
        ..append
    }
}

pub(super) fn conversation_id(group: &str) -> String {
    ["sg_", group].concat()
}

/// The entry that marks messages of these groups as read.
pub(super) fn marks(name: &str, read: &[(&str, u64)]) -> Append {
    let append = message(NOW_MS, &[name], None, "");
    let mark = |(group, seq): &(&str, u64)| ReadMark {
        conversation_id: conversation_id(group),
        conversation_seq: *seq,
        ..ReadMark::default()
    };
    let stored = StoredMessage {
        server_msg_id: append.message_id.to_string(),
        marks: read.iter().map(mark).collect(),
        ..StoredMessage::default()
    };
    Append {
        body: stored.to_bytes(),
        is_marks: true,
        ..append
    }
}

pub(super) fn entries(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter()
        .map(|(seq, body)| (*seq, (*body).into()))
        .collect()
}

pub(super) fn numbers(seq: u64, conversation_seq: u64) -> Numbers {
    Numbers {
        seq: Seq(seq),
        conversation_seq: ConversationSeq(conversation_seq),
        ..Numbers::default()
    }
}

/// The numbers of a message at users who have one conversation. The bodies of most tests are no messages, and all such bodies
/// are in the same conversation.
pub(super) fn numbered<const USERS: usize>(of: [(&str, u64); USERS]) -> [(UserId, Numbers); USERS] {
    of.map(|(name, seq)| (user(name), numbers(seq, seq)))
}
