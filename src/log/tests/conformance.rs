//! The tests that every log passes. They run against the log in memory, which answers at once or later, the log of a fleet
//! on a store in memory and on PostgreSQL, and the embedded log. A test's name is a promise of [`Log`](super::Log).
//!
//! Each log adds tests of its own, for durability and for its kinds of damage. `fixture.rs` has the logs under test, and
//! `everyone.rs` the tests of messages to everyone. `conversations.rs` has those of conversations, and `marks.rs` those of
//! read marks. `settings.rs` has those of settings, `erasure.rs` those of erasures, and `feed.rs` those of rows and of the feed. `readable.rs` has the test of a read that a consumer begins.

/// Runs each test of a file against each log.
macro_rules! every_log {
    ($($test:ident)*) => {
        mod of_memory {
            use crate::log::tests::{conformance::fixture, memory::Answering};
            $(#[test] fn $test() { super::$test(&fixture::memory(Answering::Now)); })*
        }
        mod of_memory_that_answers_later {
            use crate::log::tests::{conformance::fixture, memory::Answering};
            $(#[test] fn $test() { super::$test(&fixture::memory(Answering::Later)); })*
        }
        mod of_embedded {
            use crate::log::tests::conformance::fixture;
            $(#[test] fn $test() {
                // Reads that need the disk run on its threads.
                let runtime = fixture::runtime();
                let _entered = runtime.enter();
                super::$test(&fixture::embedded());
            })*
        }
        mod of_cluster_in_memory {
            use crate::log::tests::conformance::fixture;
            $(#[test] fn $test() { super::$test(&fixture::cluster()); })*
        }
        mod of_postgres {
            use crate::log::tests::conformance::fixture;
            $(#[test] fn $test() {
                // Without the server's programs there is nothing to test.
                if let Some(subject) = fixture::postgres() {
                    super::$test(&subject);
                }
            })*
        }
    };
}

mod conversations;
mod erasure;
mod everyone;
mod feed;
mod fixture;
mod marks;
mod readable;
mod settings;

use bytes::Bytes;

pub(crate) use self::fixture::{message, user};
use self::{
    everyone::a_message_to_everyone_reaches_each_known_user_once,
    fixture::{ALL, Subject, entries, numbered, session},
};
use crate::log::{AppendError, Inbox, Lookup, ReadLimit, ResumePoint, SessionRow, TokenTimes};
use crate::{
    clock::tests::manual::NOW_MS,
    ids::{Epoch, Fence, MessageId, Platform, Seq},
};

every_log! {
    every_inbox_has_dense_seqs_from_1
    a_receipt_names_the_entries_in_the_order_of_the_receivers
    every_commit_is_announced_once_and_in_order
    a_repeated_key_returns_the_first_receipt_and_adds_nothing
    a_key_with_another_request_is_refused_and_nothing_is_stored
    a_keyed_append_to_nobody_is_remembered
    a_read_starts_after_its_seq_and_ends_at_the_head
    a_read_keeps_its_limits_and_returns_at_least_one_entry
    a_read_tells_the_bounds_of_the_inbox
    a_deleted_message_leaves_its_entry_empty
    an_expired_message_is_gone_and_its_seq_is_not_given_again
    an_expired_message_is_still_known_by_its_key_alone
    a_message_is_found_by_its_id_and_by_its_key
    a_login_learns_revocation_cursor_bounds_and_epoch_at_once
    a_session_is_known_from_its_first_cursor_on
    a_session_that_begins_is_known_and_only_in_its_epoch
    a_cursor_may_go_back
    a_cursor_of_another_epoch_is_ignored
    a_login_a_read_and_a_commit_name_the_epoch
    the_times_of_tokens_never_go_back_and_are_each_platforms_own
    a_message_to_everyone_reaches_each_known_user_once
    every_user_with_an_inbox_a_session_or_a_registration_is_known
    a_profile_is_that_of_the_newest_registration
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

fn a_receipt_names_the_entries_in_the_order_of_the_receivers(subject: &Subject) {
    subject.send(&["u2"], "before");
    let append = message(NOW_MS + 1, &["u3", "u2", "u1"], None, "to three");
    let message_id = append.message_id;
    let receipt = subject.append(append).unwrap();
    let expected = numbered([("u3", 1), ("u2", 2), ("u1", 1)]);
    assert_eq!(*receipt.entries, expected);
    assert_eq!((receipt.message_id, &*receipt.sender), (message_id, "oa"));
    assert_eq!(*receipt.client_message_id, *message_id.to_string());
    assert_eq!(receipt.send_time_ms, NOW_MS + 1);
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
    let expected = numbered([("u2", 1), ("u1", 2)]);
    assert_eq!(*announced[1].entries, expected);
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
    assert!(first.entries.is_empty());
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

fn a_read_tells_the_bounds_of_the_inbox(subject: &Subject) {
    for expired in [0, 2] {
        let last = ["a", "b"].map(|body| subject.send(&["u1"], body));
        let (first, head) = subject.bounds("u1");
        assert_eq!((first, head), (expired + 1, expired + 2));
        for after in [0, 1, head, head + 1] {
            let read = subject.log.read(&user("u1"), Seq(after), ALL);
            let inbox = read.blocking_wait().unwrap().inbox;
            assert_eq!((inbox.first.0, inbox.head.0), (first, head));
        }
        (subject.expire)(&last[1]);
    }
    let read = subject.log.read(&user("nobody"), Seq::ZERO, ALL);
    let inbox = read.blocking_wait().unwrap().inbox;
    assert_eq!((inbox.first, inbox.head), (Seq(1), Seq::ZERO));
}

fn a_deleted_message_leaves_its_entry_empty(subject: &Subject) {
    for body in ["a", "b", "c"] {
        subject.send(&["u1"], body);
    }
    // Some of these are in no inbox.
    subject.delete("u1", &[0, 2, 99, u64::MAX]);
    let expected = entries(&[(1, "a"), (2, ""), (3, "c")]);
    assert_eq!(subject.read("u1", 0, ALL), expected);
    assert_eq!(subject.bounds("u1"), (1, 3));
    assert_eq!(subject.bounds("u2"), (1, 0));
}

fn an_expired_message_is_gone_and_its_seq_is_not_given_again(subject: &Subject) {
    subject.send(&["u1"], "a");
    let last = subject.send(&["u1"], "b");
    (subject.expire)(&last);
    assert_eq!(subject.bounds("u1"), (3, 2));
    assert_eq!(subject.read("u1", 0, ALL), []);
    subject.send(&["u1"], "c");
    assert_eq!(subject.bounds("u1"), (3, 3));
    assert_eq!(subject.read("u1", 0, ALL), entries(&[(3, "c")]));
}

fn an_expired_message_is_still_known_by_its_key_alone(subject: &Subject) {
    let first = subject.try_send(&["u1"], Some("key"), "body").unwrap();
    let lookup = Lookup::Id(first.message_id);
    assert_eq!(subject.find(lookup.clone()), Some(first.clone()));
    (subject.expire)(&first);
    let again = subject.try_send(&["u1"], Some("key"), "body").unwrap();
    assert_eq!(again.message_id, first.message_id);
    assert!(again.entries.is_empty());
    assert_eq!(subject.bounds("u1"), (2, 1));
    assert_eq!(subject.find(lookup), None);
}

fn a_message_is_found_by_its_id_and_by_its_key(subject: &Subject) {
    let keyed = subject.try_send(&["u1", "u2"], Some("key"), "a").unwrap();
    let unkeyed = subject.send(&["u2"], "b");
    for receipt in [keyed, unkeyed] {
        let by_id = Lookup::Id(receipt.message_id);
        let by_key = Lookup::Key {
            sender: receipt.sender.clone(),
            client_message_id: receipt.client_message_id.clone(),
        };
        for lookup in [by_id, by_key] {
            assert_eq!(subject.find(lookup), Some(receipt.clone()));
        }
        let of_another = Lookup::Key {
            sender: "another".into(),
            client_message_id: receipt.client_message_id.clone(),
        };
        assert_eq!(subject.find(of_another), None);
    }
    let unknown = Lookup::Id(MessageId::new(NOW_MS));
    assert_eq!(subject.find(unknown), None);
}

fn a_login_learns_revocation_cursor_bounds_and_epoch_at_once(subject: &Subject) {
    let key = session("u1", Platform::Web);
    let new = subject.enter(&key);
    let empty = Inbox {
        epoch: new.inbox.epoch,
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
    subject.store_cursor(&key, row);
    for (platform, before_ms) in [(Platform::Web, 77), (Platform::Ios, 99)] {
        let revoked = subject.log.revoke(user("u1"), platform, before_ms);
        assert_eq!(revoked.unwrap().blocking_recv().unwrap(), Ok(()));
    }
    let expected = ResumePoint {
        revoked_before_ms: 77,
        stored: Some(row),
        inbox: Inbox {
            epoch: new.inbox.epoch,
            head: Seq(2),
            first: Seq(1),
        },
    };
    assert_eq!(subject.enter(&key), expected);
}

fn a_session_is_known_from_its_first_cursor_on(subject: &Subject) {
    let (ios, web) = (session("u1", Platform::Ios), session("u1", Platform::Web));
    assert_eq!(subject.stored(&ios), None);
    let row = SessionRow {
        cursor: Seq::ZERO,
        acked_at_ms: NOW_MS,
    };
    for key in [&ios, &web, &session("u2", Platform::Web)] {
        subject.store_cursor(key, row);
    }
    assert_eq!(subject.stored(&ios), Some(row));
    let sessions = subject.log.sessions(&user("u1"));
    let mut sessions = sessions.blocking_wait().unwrap();
    sessions.sort_by_key(|(key, _)| key.platform as u8);
    assert_eq!(sessions, [(ios, row), (web, row)]);
}

fn a_session_that_begins_is_known_and_only_in_its_epoch(subject: &Subject) {
    let (ios, web) = (session("u1", Platform::Ios), session("u1", Platform::Web));
    subject.send(&["u1"], "a");
    let row = SessionRow {
        cursor: Seq(1),
        acked_at_ms: NOW_MS,
    };
    let epoch = subject.enter(&ios).inbox.epoch;
    for (key, epoch) in [(&ios, epoch), (&web, Epoch(epoch.0 + 1))] {
        let begun = subject
            .log
            .begin_session(key, epoch, Fence::NONE, row)
            .unwrap();
        assert_eq!(begun.blocking_recv().unwrap(), Ok(()));
    }
    assert_eq!(subject.stored(&ios), Some(row));
    assert_eq!(subject.stored(&web), None);
}

fn a_cursor_may_go_back(subject: &Subject) {
    let key = session("u1", Platform::Web);
    subject.send(&["u1"], "a");
    for cursor in [1, 0].map(Seq) {
        let row = SessionRow {
            cursor,
            acked_at_ms: NOW_MS,
        };
        subject.store_cursor(&key, row);
        assert_eq!(subject.stored(&key), Some(row));
    }
}

fn a_cursor_of_another_epoch_is_ignored(subject: &Subject) {
    let key = session("u1", Platform::Web);
    subject.send(&["u1"], "a");
    let [before, another] = [0, 1].map(|seq| SessionRow {
        cursor: Seq(seq),
        acked_at_ms: NOW_MS,
    });
    subject.store_cursor(&key, before);
    let other = Epoch(subject.enter(&key).inbox.epoch.0 + 1);
    assert_eq!(
        subject.log.store_cursor(&key, other, Fence::NONE, another),
        Ok(())
    );
    assert_eq!(subject.stored(&key), Some(before));
}

fn a_login_a_read_and_a_commit_name_the_epoch(subject: &Subject) {
    let epoch = subject.enter(&session("u1", Platform::Web)).inbox.epoch;
    subject.send(&["u1"], "a");
    assert_eq!(subject.announced.first(1)[0].epoch, epoch);
    let read = subject.log.read(&user("u1"), Seq::ZERO, ALL);
    assert_eq!(read.blocking_wait().unwrap().inbox.epoch, epoch);
    let inbox = subject.log.inbox(&user("u1")).blocking_wait();
    assert_eq!(inbox.unwrap().epoch, epoch);
}

fn the_times_of_tokens_never_go_back_and_are_each_platforms_own(subject: &Subject) {
    let u1 = user("u1");
    let times = |platform| {
        let times = subject.log.token_times(&u1, platform);
        times.blocking_wait().unwrap()
    };
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
    subject.store_cursor(&key, row);
    let profile = Bytes::from_static(b"{}");
    let pending = subject.log.register(user("registered"), profile).unwrap();
    assert_eq!(pending.blocking_recv().unwrap(), Ok(()));
    let known = ["inbox", "registered", "session"].map(user);
    let users = subject.log.users().blocking_wait();
    assert_eq!(users.unwrap(), known);
}

fn a_profile_is_that_of_the_newest_registration(subject: &Subject) {
    let profile = |of: &str| subject.log.profile(&user(of)).blocking_wait().unwrap();
    subject.send(&["inbox"], "a");
    for text in ["first", "second"] {
        let pending = subject.log.register(user("registered"), text.into());
        assert_eq!(pending.unwrap().blocking_recv().unwrap(), Ok(()));
        assert_eq!(profile("registered"), Some(text.into()));
    }
    assert_eq!(profile("inbox"), None);
}

fn a_log_that_refuses_nothing_is_writable(subject: &Subject) {
    assert_eq!(subject.log.check_writable(), Ok(()));
}
