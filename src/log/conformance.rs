//! The tests that every log passes. They run against the log in memory and the embedded log. A test's name is a promise of
//! [`Log`].
//!
//! Each log adds tests of its own, for durability and for its kinds of damage.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Append, AppendError, Commit, Consumer, Inbox, Log, Lookup, ReadLimit, Receipt, ResumePoint,
    SessionRow, TokenTimes, embedded::EmbeddedLog, memory::MemoryLog,
};
use crate::{
    clock::fixture::{Manual, NOW_MS},
    config,
    ids::{MessageId, Platform, Seq, SessionKey, UserId},
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
struct Announced {
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
    fn first(&self, count: usize) -> Vec<Commit> {
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
struct Subject {
    log: Arc<dyn Log>,
    announced: Arc<Announced>,
    /// Makes retention remove this message and all before it. Returns when they are removed.
    expire: Box<dyn Fn(MessageId)>,
    /// The embedded log's directory.
    _dir: Option<tempfile::TempDir>,
}

fn memory() -> Subject {
    let announced = Arc::new(Announced::default());
    let log = Arc::new(MemoryLog::default());
    log.commits(announced.clone());
    Subject {
        log: log.clone(),
        announced,
        expire: Box::new(move |_| log.expire_all()),
        _dir: None,
    }
}

fn embedded() -> Subject {
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
    while log.find(Lookup::Id(message_id)) != Ok(None) {
        assert!(begun.elapsed() < EXPIRY_WAIT, "retention removes nothing");
        std::thread::yield_now();
    }
}

impl Subject {
    fn try_send(
        &self,
        users: &[&str],
        key: Option<&str>,
        body: &str,
    ) -> Result<Receipt, AppendError> {
        let pending = self.log.append(message(NOW_MS, users, key, body))?;
        pending.blocking_recv().expect("every append is answered")
    }

    fn send(&self, users: &[&str], body: &str) -> Receipt {
        self.try_send(users, None, body).unwrap()
    }

    /// Seqs and bodies after `after`; "" for a deleted message.
    fn read(&self, name: &str, after: u64, limit: ReadLimit) -> Vec<(u64, String)> {
        let stored = self.log.read(&user(name), Seq(after), limit);
        let text = |body: Bytes| String::from_utf8(body.into()).unwrap();
        let read = stored.unwrap().into_iter();
        read.map(|stored| (stored.seq.0, stored.body.map(text).unwrap_or_default()))
            .collect()
    }

    fn stored(&self, key: &SessionKey) -> Option<SessionRow> {
        self.log.enter(key).unwrap().stored
    }

    fn bounds(&self, name: &str) -> (u64, u64) {
        let Inbox { head, first } = self.log.inbox(&user(name)).unwrap();
        (first.0, head.0)
    }
}

const ALL: ReadLimit = ReadLimit {
    messages: 1000,
    bytes: usize::MAX,
};

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn session(name: &str, platform: Platform) -> SessionKey {
    SessionKey {
        user: user(name),
        platform,
        device: "".into(),
    }
}

pub(super) fn message(now_ms: u64, users: &[&str], key: Option<&str>, body: &str) -> Append {
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

fn entries(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter()
        .map(|(seq, body)| (*seq, (*body).into()))
        .collect()
}

/// Runs each test against each log.
macro_rules! every_log {
    ($($test:ident)*) => {
        mod of_memory {
            $(#[test] fn $test() { super::$test(&super::memory()); })*
        }
        mod of_embedded {
            $(#[test] fn $test() { super::$test(&super::embedded()); })*
        }
    };
}

every_log! {
    every_inbox_has_dense_seqs_from_1
    a_receipt_names_the_places_in_the_order_of_the_receivers
    every_commit_is_announced_once_and_in_order
    a_repeated_key_returns_the_first_receipt_and_adds_nothing
    a_key_with_another_request_is_refused_and_nothing_is_stored
    a_keyed_append_to_nobody_is_remembered
    a_read_starts_after_its_seq_and_ends_at_the_head
    a_read_keeps_its_limits_and_returns_at_least_one_entry
    a_read_that_may_not_wait_returns_the_same_or_nothing
    a_deleted_message_leaves_its_entry_empty
    an_expired_message_is_gone_and_its_seq_is_not_given_again
    an_expired_message_is_still_known_by_its_key_alone
    a_message_is_found_by_its_id_and_by_its_key
    a_login_learns_revocation_cursor_bounds_and_epoch_at_once
    a_session_is_known_from_its_first_cursor_on
    a_cursor_may_go_back
    the_times_of_tokens_never_go_back_and_are_each_platforms_own
    every_user_with_an_inbox_a_session_or_a_registration_is_known
    a_log_that_refuses_nothing_is_writable
}

fn every_inbox_has_dense_seqs_from_1(subject: &Subject) {
    assert_eq!(subject.bounds("u1"), (1, 0));
    for body in ["a", "b", "c"] {
        subject.send(&["u1"], body);
        subject.send(&["u2"], "apart");
    }
    assert_eq!(subject.bounds("u1"), (1, 3));
    let expected = entries(&[(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(subject.read("u1", 0, ALL), expected);
}

fn a_receipt_names_the_places_in_the_order_of_the_receivers(subject: &Subject) {
    subject.send(&["u2"], "before");
    let append = message(NOW_MS, &["u3", "u2", "u1"], None, "to three");
    let message_id = append.message_id;
    let pending = subject.log.append(append).unwrap();
    let receipt = pending.blocking_recv().unwrap().unwrap();
    let placed = [("u3", 1), ("u2", 2), ("u1", 1)].map(|(name, seq)| (user(name), Seq(seq)));
    assert_eq!(*receipt.placed, placed);
    assert_eq!((receipt.message_id, &*receipt.sender), (message_id, "oa"));
    assert_eq!(*receipt.client_message_id, *message_id.to_string());
    assert_eq!(receipt.send_time_ms, NOW_MS);
}

fn every_commit_is_announced_once_and_in_order(subject: &Subject) {
    subject.try_send(&["u1"], Some("key"), "first").unwrap();
    subject.send(&["u2", "u1"], "second");
    subject.try_send(&["u1"], Some("key"), "first").unwrap();
    // Another commit would come before this one's announcement.
    subject.send(&["u1"], "third");
    let announced = subject.announced.first(3);
    let bodies: Vec<_> = announced.iter().map(|commit| &commit.body[..]).collect();
    assert_eq!(bodies, [&b"first"[..], b"second", b"third"]);
    let places = [(user("u2"), Seq(1)), (user("u1"), Seq(2))];
    assert_eq!(*announced[1].placed, places);
}

fn a_repeated_key_returns_the_first_receipt_and_adds_nothing(subject: &Subject) {
    let first = subject.try_send(&["u1"], Some("key"), "body").unwrap();
    assert_eq!(subject.try_send(&["u1"], Some("key"), "body"), Ok(first));
    assert_eq!(subject.bounds("u1"), (1, 1));
    subject.try_send(&["u1"], Some("another"), "body").unwrap();
    assert_eq!(subject.bounds("u1"), (1, 2));
}

fn a_key_with_another_request_is_refused_and_nothing_is_stored(subject: &Subject) {
    subject.try_send(&["u1"], Some("key"), "body").unwrap();
    let reused = subject.try_send(&["u1"], Some("key"), "another body");
    assert_eq!(reused, Err(AppendError::KeyReused));
    assert_eq!(subject.bounds("u1"), (1, 1));
}

fn a_keyed_append_to_nobody_is_remembered(subject: &Subject) {
    let first = subject.try_send(&[], Some("key"), "body").unwrap();
    assert!(first.placed.is_empty());
    assert_eq!(subject.try_send(&["u1"], Some("key"), "body"), Ok(first));
    assert_eq!(subject.bounds("u1"), (1, 0));
}

fn a_read_starts_after_its_seq_and_ends_at_the_head(subject: &Subject) {
    for body in ["a", "b", "c"] {
        subject.send(&["u1"], body);
    }
    assert_eq!(subject.read("u1", 1, ALL), entries(&[(2, "b"), (3, "c")]));
    for after in [3, 4, u64::MAX] {
        assert_eq!(subject.read("u1", after, ALL), []);
    }
    assert_eq!(subject.read("nobody", 0, ALL), []);
}

fn a_read_keeps_its_limits_and_returns_at_least_one_entry(subject: &Subject) {
    for body in ["aaaa", "bbbb", "cccc"] {
        subject.send(&["u1"], body);
    }
    let seqs = |messages, bytes| {
        let read = subject.read("u1", 0, ReadLimit { messages, bytes });
        read.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(2, 1000), [1, 2]);
    assert_eq!(seqs(1000, 8), [1, 2]);
    assert_eq!(seqs(1000, 7), [1]);
    assert_eq!(seqs(1000, 0), [1]);
}

fn a_read_that_may_not_wait_returns_the_same_or_nothing(subject: &Subject) {
    subject.send(&["u1"], "a");
    subject.send(&["u1"], "b");
    for after in [0, 1, 2].map(Seq) {
        let read = subject.log.read(&user("u1"), after, ALL).unwrap();
        let now = subject.log.read_now(&user("u1"), after, ALL).unwrap();
        assert!(now.is_none_or(|now| now == read), "after {after}");
    }
}

fn a_deleted_message_leaves_its_entry_empty(subject: &Subject) {
    for body in ["a", "b", "c"] {
        subject.send(&["u1"], body);
    }
    // Some of these are in no inbox.
    let seqs = [0, 2, 99, u64::MAX].map(Seq).to_vec();
    let pending = subject.log.delete(user("u1"), seqs).unwrap();
    assert_eq!(pending.blocking_recv().unwrap(), Ok(()));
    let expected = entries(&[(1, "a"), (2, ""), (3, "c")]);
    assert_eq!(subject.read("u1", 0, ALL), expected);
    assert_eq!(subject.bounds("u1"), (1, 3));
    assert_eq!(subject.bounds("u2"), (1, 0));
}

fn an_expired_message_is_gone_and_its_seq_is_not_given_again(subject: &Subject) {
    subject.send(&["u1"], "a");
    let last = subject.send(&["u1"], "b");
    (subject.expire)(last.message_id);
    assert_eq!(subject.bounds("u1"), (3, 2));
    assert_eq!(subject.read("u1", 0, ALL), []);
    subject.send(&["u1"], "c");
    assert_eq!(subject.bounds("u1"), (3, 3));
    assert_eq!(subject.read("u1", 0, ALL), entries(&[(3, "c")]));
}

fn an_expired_message_is_still_known_by_its_key_alone(subject: &Subject) {
    let first = subject.try_send(&["u1"], Some("key"), "body").unwrap();
    let lookup = Lookup::Id(first.message_id);
    assert_eq!(subject.log.find(lookup), Ok(Some(first.clone())));
    (subject.expire)(first.message_id);
    let again = subject.try_send(&["u1"], Some("key"), "body").unwrap();
    assert_eq!(again.message_id, first.message_id);
    assert!(again.placed.is_empty());
    assert_eq!(subject.bounds("u1"), (2, 1));
    assert_eq!(subject.log.find(lookup), Ok(None));
}

fn a_message_is_found_by_its_id_and_by_its_key(subject: &Subject) {
    let keyed = subject.try_send(&["u1", "u2"], Some("key"), "a").unwrap();
    let unkeyed = subject.send(&["u2"], "b");
    for receipt in [keyed, unkeyed] {
        let by_id = Lookup::Id(receipt.message_id);
        let by_key = Lookup::Key {
            sender: &receipt.sender,
            client_message_id: &receipt.client_message_id,
        };
        for lookup in [by_id, by_key] {
            assert_eq!(subject.log.find(lookup), Ok(Some(receipt.clone())));
        }
        let of_another = Lookup::Key {
            sender: "another",
            client_message_id: &receipt.client_message_id,
        };
        assert_eq!(subject.log.find(of_another), Ok(None));
    }
    let unknown = Lookup::Id(MessageId::new(NOW_MS));
    assert_eq!(subject.log.find(unknown), Ok(None));
}

fn a_login_learns_revocation_cursor_bounds_and_epoch_at_once(subject: &Subject) {
    let key = session("u1", Platform::Web);
    let new = subject.log.enter(&key).unwrap();
    let empty = Inbox {
        head: Seq::ZERO,
        first: Seq(1),
    };
    let expected = (0, None, empty);
    assert_eq!((new.revoked_before_ms, new.stored, new.inbox), expected);
    for body in ["a", "b"] {
        subject.send(&["u1"], body);
    }
    let row = SessionRow {
        cursor: Seq(1),
        acked_at_ms: NOW_MS,
    };
    subject.log.store_cursor(&key, row).unwrap();
    for (platform, before_ms) in [(Platform::Web, 77), (Platform::Ios, 99)] {
        let revoked = subject.log.revoke(user("u1"), platform, before_ms);
        assert_eq!(revoked.unwrap().blocking_recv().unwrap(), Ok(()));
    }
    let expected = ResumePoint {
        epoch: new.epoch,
        revoked_before_ms: 77,
        stored: Some(row),
        inbox: Inbox {
            head: Seq(2),
            first: Seq(1),
        },
    };
    assert_eq!(subject.log.enter(&key), Ok(expected));
}

fn a_session_is_known_from_its_first_cursor_on(subject: &Subject) {
    let (ios, web) = (session("u1", Platform::Ios), session("u1", Platform::Web));
    assert_eq!(subject.stored(&ios), None);
    let row = SessionRow {
        cursor: Seq::ZERO,
        acked_at_ms: NOW_MS,
    };
    for key in [&ios, &web, &session("u2", Platform::Web)] {
        subject.log.store_cursor(key, row).unwrap();
    }
    assert_eq!(subject.stored(&ios), Some(row));
    let mut sessions = subject.log.sessions(&user("u1")).unwrap();
    sessions.sort_by_key(|(key, _)| key.platform as u8);
    assert_eq!(sessions, [(ios, row), (web, row)]);
}

fn a_cursor_may_go_back(subject: &Subject) {
    let key = session("u1", Platform::Web);
    subject.send(&["u1"], "a");
    for cursor in [1, 0].map(Seq) {
        let row = SessionRow {
            cursor,
            acked_at_ms: NOW_MS,
        };
        subject.log.store_cursor(&key, row).unwrap();
        assert_eq!(subject.stored(&key), Some(row));
    }
}

fn the_times_of_tokens_never_go_back_and_are_each_platforms_own(subject: &Subject) {
    let u1 = user("u1");
    let times = |platform| subject.log.token_times(&u1, platform).unwrap();
    assert_eq!(times(Platform::Web), TokenTimes::default());
    for before_ms in [77, 5] {
        let revoked = subject.log.revoke(u1.clone(), Platform::Web, before_ms);
        assert_eq!(revoked.unwrap().blocking_recv().unwrap(), Ok(()));
    }
    for issued_at_ms in [90, 80] {
        let noted = subject.log.note_token(&u1, Platform::Web, issued_at_ms);
        assert_eq!(noted, Ok(()));
    }
    let expected = TokenTimes {
        revoked_before_ms: 77,
        newest_ms: 90,
    };
    assert_eq!(times(Platform::Web), expected);
    assert_eq!(times(Platform::Ios), TokenTimes::default());
}

fn every_user_with_an_inbox_a_session_or_a_registration_is_known(subject: &Subject) {
    subject.send(&["inbox"], "a");
    let row = SessionRow {
        cursor: Seq::ZERO,
        acked_at_ms: NOW_MS,
    };
    let key = session("session", Platform::Web);
    subject.log.store_cursor(&key, row).unwrap();
    let profile = Bytes::from_static(b"{}");
    let pending = subject.log.register(user("registered"), profile).unwrap();
    assert_eq!(pending.blocking_recv().unwrap(), Ok(()));
    let known = ["inbox", "registered", "session"].map(user);
    assert_eq!(subject.log.users().unwrap(), known);
}

fn a_log_that_refuses_nothing_is_writable(subject: &Subject) {
    assert_eq!(subject.log.check_writable(), Ok(()));
}
