//! The logs under test, and a short way to use one.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    clock::tests::manual::{Manual, NOW_MS},
    config,
    ids::{MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, AppendError, Commit, Consumer, Inbox, Log, Lookup, ReadLimit, Receipt, ResumePoint,
        SessionRow,
        embedded::EmbeddedLog,
        tests::memory::{Answering, MemoryLog},
    },
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
    /// Makes retention remove this message and all before it. Returns when they are removed.
    pub(super) expire: Box<dyn Fn(MessageId)>,
    /// The embedded log's directory.
    _dir: Option<tempfile::TempDir>,
}

pub(super) fn memory(answering: Answering) -> Subject {
    let announced = Arc::new(Announced::default());
    let log = Arc::new(MemoryLog::default());
    log.rows().answering = answering;
    log.commits(announced.clone());
    Subject {
        log: log.clone(),
        announced,
        expire: Box::new(move |_| log.expire_all()),
        _dir: None,
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
        expire: Box::new(move |message_id| expire(&machine, &*expiring, message_id)),
        _dir: Some(dir),
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// Retention removes whole segments. A segment ends with the first append after it became old.
fn expire(machine: &Manual, log: &dyn Log, message_id: MessageId) {
    machine.advance(RETENTION.as_millis() as u64 * 2);
    log.append(message(NOW_MS, &["another"], None, "a new segment"))
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    // The messages before a segment may be removed once that segment is old.
    machine.advance(RETENTION.as_millis() as u64 * 2);
    let begun = std::time::Instant::now();
    while log.find(Lookup::Id(message_id)).blocking_wait() != Ok(None) {
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
        let pending = self.log.append(message(NOW_MS, users, key, body))?;
        pending.blocking_recv().expect("every append is answered")
    }

    pub(super) fn send(&self, users: &[&str], body: &str) -> Receipt {
        self.try_send(users, None, body).unwrap()
    }

    /// Seqs and bodies after `after`; "" for a deleted message.
    pub(super) fn read(&self, name: &str, after: u64, limit: ReadLimit) -> Vec<(u64, String)> {
        let read = self.log.read(&user(name), Seq(after), limit);
        let text = |body: Bytes| String::from_utf8(body.into()).unwrap();
        let stored = read.blocking_wait().unwrap().stored.into_iter();
        stored
            .map(|stored| (stored.seq.0, stored.body.map(text).unwrap_or_default()))
            .collect()
    }

    pub(super) fn enter(&self, key: &SessionKey) -> ResumePoint {
        self.log.enter(key).blocking_wait().unwrap()
    }

    pub(super) fn store_cursor(&self, key: &SessionKey, row: SessionRow) {
        let epoch = self.enter(key).inbox.epoch;
        self.log.store_cursor(key, epoch, row).unwrap();
    }

    pub(super) fn find(&self, lookup: Lookup) -> Option<Receipt> {
        self.log.find(lookup).blocking_wait().unwrap()
    }

    pub(super) fn stored(&self, key: &SessionKey) -> Option<SessionRow> {
        self.enter(key).stored
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
        receivers: users.iter().map(|name| user(name)).collect(),
    }
}

pub(super) fn entries(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter()
        .map(|(seq, body)| (*seq, (*body).into()))
        .collect()
}
