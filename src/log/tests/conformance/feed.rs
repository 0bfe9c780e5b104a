//! The promises of the feed and of the rows beside the messages.

use bytes::Bytes;

use super::fixture::{Subject, message, numbered, user};
use crate::{
    clock::tests::manual::NOW_MS,
    log::{
        AppendError, FeedCommit, FeedLimit, FeedPage, FeedPosition, ROW_KEY_BYTES_MAX,
        ROW_VALUE_BYTES_MAX, RowChange, RowTable,
    },
};

every_log! {
    the_feed_has_every_commit_once_and_in_order
    the_feed_goes_on_from_any_position_with_pages_of_any_size
    a_page_keeps_its_limits_and_has_at_least_one_commit
    a_commit_that_was_announced_is_in_the_feed
    marks_are_in_the_feed_and_an_append_to_nobody_is_not
    a_message_to_everyone_is_in_the_feed_with_every_receiver_once
    expired_commits_are_told_as_lost
    a_reader_at_the_newest_position_begins_at_the_end
    a_position_behind_the_end_is_a_loss
    a_row_has_its_newest_value_and_is_gone_when_removed
    rows_come_by_their_prefix_after_a_key_and_within_their_limit
    rows_that_do_not_fit_are_refused_and_none_of_them_is_stored
}

const MANY: FeedLimit = FeedLimit {
    commits: 1000,
    bytes: usize::MAX,
};

fn page(subject: &Subject, from: FeedPosition, limit: FeedLimit) -> FeedPage {
    let page = subject.log.feed(from, limit).blocking_wait();
    page.unwrap()
}

/// Everything from a position on, in pages of this size.
fn all(subject: &Subject, mut from: FeedPosition, limit: FeedLimit) -> Vec<FeedCommit> {
    let mut commits = Vec::new();
    loop {
        let page = page(subject, from, limit);
        assert_eq!(page.lost, None);
        commits.extend(page.commits);
        if page.is_end {
            return commits;
        }
        assert!(page.next > from, "each page goes on");
        from = page.next;
    }
}

fn bodies(commits: &[FeedCommit]) -> Vec<String> {
    let text = |commit: &FeedCommit| String::from_utf8(commit.body.to_vec()).unwrap();
    commits.iter().map(text).collect()
}

fn the_feed_has_every_commit_once_and_in_order(subject: &Subject) {
    let first = subject.try_send(&["u1"], Some("key"), "first").unwrap();
    let second = subject.send(&["u2", "u1"], "second");
    subject.try_send(&["u1"], Some("key"), "first").unwrap();
    let page = page(subject, FeedPosition::OLDEST, MANY);
    assert_eq!(bodies(&page.commits), ["first", "second"]);
    assert!(page.is_end && page.lost.is_none());
    assert_eq!(page.epoch, subject.announced.first(1)[0].epoch);
    for (commit, receipt) in page.commits.iter().zip([first, second]) {
        assert_eq!(commit.message_id, receipt.message_id);
        assert_eq!(commit.send_time_ms, receipt.send_time_ms);
        assert_eq!(commit.sender, receipt.sender);
        assert_eq!(commit.client_message_id, receipt.client_message_id);
        assert_eq!(commit.entries, receipt.entries);
        assert!(!commit.is_marks);
    }
    assert_eq!(*page.commits[1].entries, numbered([("u2", 1), ("u1", 2)]));
    subject.send(&["u1"], "third");
    assert_eq!(bodies(&all(subject, page.next, MANY)), ["third"]);
}

fn the_feed_goes_on_from_any_position_with_pages_of_any_size(subject: &Subject) {
    for number in 0..10 {
        subject.send(&["u1", "u2"], &format!("{number}"));
    }
    let whole = all(subject, FeedPosition::OLDEST, MANY);
    assert_eq!(whole.len(), 10);
    for commits in 1..=11 {
        let limit = FeedLimit { commits, ..MANY };
        assert_eq!(all(subject, FeedPosition::OLDEST, limit), whole);
    }
    for (at, commit) in whole.iter().enumerate() {
        assert_eq!(all(subject, commit.position, MANY), whole[at..]);
    }
}

fn a_page_keeps_its_limits_and_has_at_least_one_commit(subject: &Subject) {
    for _ in 0..3 {
        subject.send(&["u1"], &"x".repeat(10_000));
    }
    let count = |commits, bytes| {
        let page = page(subject, FeedPosition::OLDEST, FeedLimit { commits, bytes });
        page.commits.len()
    };
    assert_eq!(count(0, usize::MAX), 1);
    assert_eq!(count(2, usize::MAX), 2);
    assert_eq!(count(9, 0), 1);
    assert_eq!(count(9, 15_000), 2);
    assert_eq!(count(9, usize::MAX), 3);
}

fn a_commit_that_was_announced_is_in_the_feed(subject: &Subject) {
    let mut from = FeedPosition::OLDEST;
    for number in 0..20 {
        subject.send(&["u1"], &format!("{number}"));
        subject.announced.first(number + 1);
        let page = page(subject, from, MANY);
        assert_eq!(bodies(&page.commits), [format!("{number}")]);
        from = page.next;
    }
}

fn marks_are_in_the_feed_and_an_append_to_nobody_is_not(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    subject.mark("u1", &[("g", 1)]);
    subject.try_send(&[], Some("key"), "to nobody").unwrap();
    let commits = all(subject, FeedPosition::OLDEST, MANY);
    let marks: Vec<_> = commits.iter().map(|commit| commit.is_marks).collect();
    assert_eq!(marks, [false, true]);
}

fn a_message_to_everyone_is_in_the_feed_with_every_receiver_once(subject: &Subject) {
    let names: Vec<_> = (0..1100).map(|number| format!("u{number}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    subject.send(&users, "one");
    let end = page(subject, FeedPosition::NEWEST, MANY).next;
    let receipt = subject.append_to_everyone(message(NOW_MS, &[], None, "to all"));
    let mut expected = receipt.entries.to_vec();
    expected.sort_unstable_by(|(user, _), (other, _)| user.cmp(other));
    for commits in [1, 1000] {
        let told = all(subject, end, FeedLimit { commits, ..MANY });
        for commit in &told {
            assert_eq!(commit.message_id, receipt.message_id);
            assert_eq!(&commit.body[..], b"to all");
        }
        let entries = told.iter().flat_map(|commit| commit.entries.to_vec());
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable_by(|(user, _), (other, _)| user.cmp(other));
        assert_eq!(entries, expected);
        let mut positions: Vec<_> = told.iter().map(|commit| commit.position).collect();
        positions.dedup();
        assert_eq!(positions.len(), told.len());
    }
}

fn expired_commits_are_told_as_lost(subject: &Subject) {
    subject.send(&["u1"], "first");
    let first = page(subject, FeedPosition::OLDEST, MANY);
    let last = subject.send(&["u1"], "expires unseen");
    (subject.expire)(&last);
    let next = page(subject, first.next, MANY);
    assert!(next.lost.is_some());
    assert!(!bodies(&next.commits).contains(&"expires unseen".to_owned()));
    subject.send(&["u1"], "later");
    let later = all(subject, next.next, MANY);
    assert_eq!(bodies(&later), ["later"]);
    let oldest = page(subject, FeedPosition::OLDEST, MANY);
    assert_eq!(oldest.lost, None, "a new reader misses none");
}

fn a_reader_at_the_newest_position_begins_at_the_end(subject: &Subject) {
    for body in ["a", "b"] {
        let page = page(subject, FeedPosition::NEWEST, MANY);
        assert!(page.commits.is_empty() && page.is_end && page.lost.is_none());
        subject.send(&["u1"], body);
        assert_eq!(bodies(&all(subject, page.next, MANY)), [body]);
    }
}

fn a_position_behind_the_end_is_a_loss(subject: &Subject) {
    subject.send(&["u1"], "a");
    let end = page(subject, FeedPosition::NEWEST, MANY).next;
    let behind = page(subject, FeedPosition(end.0 + 1_000_000), MANY);
    assert!(behind.lost.is_some() && behind.commits.is_empty());
    assert_eq!(behind.next, end);
}

fn put(subject: &Subject, rows: &[(RowTable, &str, Option<&str>)]) -> Result<(), AppendError> {
    let rows = rows.iter().map(|(table, key, value)| RowChange {
        table: *table,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    });
    let pending = subject.log.put_rows(rows.collect())?;
    pending.blocking_recv().unwrap()
}

fn rows(
    subject: &Subject,
    table: RowTable,
    (prefix, after): (&str, &str),
    limit: usize,
) -> Vec<(String, String)> {
    let (prefix, after) = (prefix.as_bytes(), after.as_bytes());
    let rows = subject.log.rows(table, prefix, after, limit);
    let text = |bytes: Bytes| String::from_utf8(bytes.into()).unwrap();
    let rows = rows.blocking_wait().unwrap().into_iter();
    rows.map(|(key, value)| (text(key), text(value))).collect()
}

fn a_row_has_its_newest_value_and_is_gone_when_removed(subject: &Subject) {
    use RowTable::{Consumers, Devices, PushTasks};
    let all = |table| {
        let rows = rows(subject, table, ("", ""), 100);
        rows.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    put(
        subject,
        &[(Devices, "k", Some("1")), (Consumers, "k", Some("2"))],
    )
    .unwrap();
    assert_eq!(
        (all(Devices), all(Consumers)),
        (vec!["1".into()], vec!["2".into()])
    );
    assert_eq!(all(PushTasks), Vec::<String>::new());
    // The later one of two changes of one row counts.
    put(subject, &[(Devices, "k", None), (Devices, "k", Some("3"))]).unwrap();
    assert_eq!(all(Devices), ["3"]);
    put(subject, &[(Devices, "k", None), (Consumers, "k", Some(""))]).unwrap();
    assert_eq!(
        (all(Devices), all(Consumers)),
        (vec![], vec![String::new()])
    );
    put(subject, &[(Devices, "never there", None)]).unwrap();
    assert_eq!(
        subject.log.users().blocking_wait().unwrap(),
        [] as [crate::ids::UserId; 0]
    );
    subject.send(&["u1"], "a");
    assert_eq!(subject.bounds("u1"), (1, 1));
    assert_eq!(subject.log.users().blocking_wait().unwrap(), [user("u1")]);
}

fn rows_come_by_their_prefix_after_a_key_and_within_their_limit(subject: &Subject) {
    let keys = ["a", "ab", "abc", "abd", "ac", "b"];
    let changes = keys.map(|key| (RowTable::Devices, key, Some(key)));
    put(subject, &changes).unwrap();
    put(
        subject,
        &[(RowTable::PushTasks, "abz", Some("another table"))],
    )
    .unwrap();
    put(subject, &[(RowTable::Devices, "abc", None)]).unwrap();
    let keys = |prefix, after, limit| {
        let rows = rows(subject, RowTable::Devices, (prefix, after), limit);
        rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys("", "", 9), ["a", "ab", "abd", "ac", "b"]);
    assert_eq!(keys("", "ab", 2), ["abd", "ac"]);
    assert_eq!(keys("ab", "", 9), ["ab", "abd"]);
    assert_eq!(keys("ab", "ab", 9), ["abd"]);
    assert_eq!(keys("ab", "aba", 1), ["abd"]);
    for (prefix, after, limit) in [("ab", "abd", 9), ("ab", "z", 9), ("c", "", 9), ("", "", 0)] {
        assert_eq!(keys(prefix, after, limit), Vec::<String>::new());
    }
}

fn rows_that_do_not_fit_are_refused_and_none_of_them_is_stored(subject: &Subject) {
    let long = |bytes| "k".repeat(bytes);
    let (key, value) = (long(ROW_KEY_BYTES_MAX), long(ROW_VALUE_BYTES_MAX));
    let (long_key, long_value) = (long(key.len() + 1), long(value.len() + 1));
    for (key, value) in [("", "v"), (&long_key, "v"), ("k", &long_value)] {
        let rows = [
            (RowTable::Devices, "good", Some("v")),
            (RowTable::Devices, key, Some(value)),
        ];
        let refused = put(subject, &rows);
        assert!(
            matches!(refused, Err(AppendError::Refusing(_))),
            "{refused:?}"
        );
    }
    assert_eq!(rows(subject, RowTable::Devices, ("", ""), 9), []);
    put(subject, &[(RowTable::Devices, &key, Some(&value))]).unwrap();
    assert_eq!(
        rows(subject, RowTable::Devices, ("", ""), 9),
        [(key, value)]
    );
}
