//! The promises of erasures.

use bytes::Bytes;

use super::fixture::{ALL, EVERY, Subject, entries, marks, numbered, numbers, session, user};
use crate::{
    clock::tests::manual::NOW_MS,
    ids::{ConversationSeq, Fence, Platform, Seq},
    log::{
        ERASING_PREFIX, Erasure, FeedLimit, FeedPosition, Lookup, RowTable, SessionRow, TokenTimes,
        read_erasing_key,
    },
    message::{ReceiveOption, SettingsChange},
};

every_log! {
    an_erased_inbox_is_empty_and_goes_on_behind_its_head
    an_erased_user_is_unknown_until_something_new_comes
    what_others_have_stays
    a_repeat_of_a_key_tells_no_erased_entry
    an_erased_message_of_nobody_else_is_not_found
    an_erased_conversation_is_in_no_list_and_goes_on_behind_its_head
    profile_sessions_and_settings_go_and_tokens_are_revoked
    the_feeds_pass_over_what_is_erased
    a_session_of_before_that_acks_late_stays_unknown
    an_erasure_names_its_user_to_the_rooms_above
    a_repeated_erasure_is_the_same_until_something_new_comes
    an_unknown_user_can_be_erased
}

const WEB: Platform = Platform::Web;
/// Tokens issued before this are revoked.
const BEFORE_MS: u64 = NOW_MS + 1000;

impl Subject {
    fn erase(&self, name: &str) -> Erasure {
        let pending = self.log.erase(user(name), BEFORE_MS).unwrap();
        pending.blocking_recv().unwrap().unwrap()
    }

    fn known(&self) -> Vec<String> {
        let users = self.log.users().blocking_wait().unwrap();
        users.iter().map(|user| user.as_str().to_owned()).collect()
    }

    fn register(&self, name: &str, profile: &'static str) {
        let pending = self
            .log
            .register(user(name), Bytes::from_static(profile.as_bytes()));
        assert_eq!(pending.unwrap().blocking_recv().unwrap(), Ok(()));
    }

    /// The receivers of each commit in the feed.
    fn fed(&self) -> Vec<Vec<String>> {
        let limit = FeedLimit {
            commits: 1000,
            bytes: usize::MAX,
        };
        let page = self.log.feed(FeedPosition::OLDEST, limit).blocking_wait();
        let names = |entries: &[(crate::ids::UserId, _)]| -> Vec<String> {
            entries
                .iter()
                .map(|(user, _)| user.as_str().to_owned())
                .collect()
        };
        let commits = page.unwrap().commits;
        commits
            .iter()
            .map(|commit| names(&commit.entries))
            .collect()
    }
}

fn row(cursor: u64, acked_at_ms: u64) -> SessionRow {
    SessionRow {
        cursor: Seq(cursor),
        acked_at_ms,
    }
}

fn an_erased_inbox_is_empty_and_goes_on_behind_its_head(subject: &Subject) {
    for body in ["a", "b", "c"] {
        subject.send(&["u1"], body);
    }
    let erasure = subject.erase("u1");
    assert_eq!(
        (erasure.head, erasure.revoked_before_ms),
        (Seq(3), BEFORE_MS)
    );
    assert!(erasure.until_ms >= erasure.time_ms);
    assert_eq!(
        subject.log.erasure(&user("u1")).blocking_wait(),
        Ok(Some(erasure))
    );
    assert_eq!(subject.bounds("u1"), (4, 3));
    assert_eq!(subject.read("u1", 0, ALL), []);
    subject.send(&["u1"], "d");
    assert_eq!(subject.bounds("u1"), (4, 4));
    assert_eq!(subject.read("u1", 0, ALL), entries(&[(4, "d")]));
    // Deletions of before find nothing.
    subject.delete("u1", &[1, 2, 3]);
    assert_eq!(subject.read("u1", 0, ALL), entries(&[(4, "d")]));
}

fn an_erased_user_is_unknown_until_something_new_comes(subject: &Subject) {
    type Coming<'a> = (&'a str, &'a dyn Fn(&str));
    let comes: [Coming<'_>; 3] = [
        ("entry", &|name| drop(subject.send(&[name], "new"))),
        ("registered", &|name| subject.register(name, "new")),
        ("session", &|name| {
            let (_, head) = subject.bounds(name);
            subject.store_cursor(&session(name, WEB), row(head, u64::MAX));
        }),
    ];
    for (name, _) in comes {
        subject.send(&[name], "old");
    }
    subject.send(&["other"], "old");
    for (name, come) in comes {
        subject.erase(name);
        assert!(!subject.known().contains(&name.to_owned()), "{name}");
        let all = subject.append_to_everyone(super::message(NOW_MS, &[], None, "all"));
        assert!(
            all.entries.iter().all(|(user, _)| user.as_str() != name),
            "{name}"
        );
        assert_eq!(all.receivers, all.entries.len() as u64, "{name}");
        come(name);
        assert!(subject.known().contains(&name.to_owned()), "{name}");
        let all = subject.append_to_everyone(super::message(NOW_MS, &[], None, "all again"));
        assert!(
            all.entries.iter().any(|(user, _)| user.as_str() == name),
            "{name}"
        );
    }
}

fn what_others_have_stays(subject: &Subject) {
    let both = subject.send(&["u1", "u2"], "both");
    subject.send(&["u2"], "alone");
    subject.erase("u1");
    assert_eq!(
        subject.read("u2", 0, ALL),
        entries(&[(1, "both"), (2, "alone")])
    );
    let found = subject.find(Lookup::Id(both.message_id)).unwrap();
    assert_eq!(*found.entries, numbered([("u2", 1)]));
    assert_eq!(found.receivers, 1);
}

fn a_repeat_of_a_key_tells_no_erased_entry(subject: &Subject) {
    let first = subject.try_send(&["u1"], Some("key"), "body").unwrap();
    subject.erase("u1");
    let again = subject.try_send(&["u1"], Some("key"), "body").unwrap();
    assert_eq!(again.message_id, first.message_id);
    assert_eq!((again.entries.len(), again.receivers), (0, 0));
    assert_eq!(subject.bounds("u1"), (2, 1));
}

fn an_erased_message_of_nobody_else_is_not_found(subject: &Subject) {
    let alone = subject.send(&["u1"], "alone");
    subject.erase("u1");
    assert_eq!(subject.find(Lookup::Id(alone.message_id)), None);
}

fn an_erased_conversation_is_in_no_list_and_goes_on_behind_its_head(subject: &Subject) {
    for _ in 0..3 {
        subject.send_of("g", &["u1", "u2"]);
    }
    subject.mark("u1", &[("g", 2)]);
    subject.erase("u1");
    assert!(
        subject
            .conversations("u1", u64::MAX, 1000)
            .conversations
            .is_empty()
    );
    let read = subject.read_group("u1", "g", EVERY, ALL);
    let known = read.conversation.unwrap();
    assert_eq!(
        (known.head, known.first),
        (ConversationSeq(3), ConversationSeq(4))
    );
    assert_eq!(
        (known.unread, known.last_time_ms, read.entries.len()),
        (0, 0, 0)
    );
    let next = subject.send_of("g", &["u1", "u2"]);
    assert_eq!(next.entries[0].1, numbers(5, 4));
    let conversation = subject.conversation("u1", "g").unwrap();
    assert_eq!(
        (conversation.first, conversation.unread),
        (ConversationSeq(4), 1)
    );
    assert_eq!(subject.read_group("u1", "g", EVERY, ALL).entries.len(), 1);
    let others = subject.conversation("u2", "g").unwrap();
    assert_eq!((others.first, others.unread), (ConversationSeq(1), 4));
    // A mark may say that the user has read what is erased.
    subject.append(marks("u1", &[("g", 3)])).unwrap();
    assert_eq!(subject.conversation("u1", "g").unwrap().unread, 1);
}

fn profile_sessions_and_settings_go_and_tokens_are_revoked(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    subject.register("u1", "profile");
    let key = session("u1", WEB);
    subject.store_cursor(&key, row(1, NOW_MS));
    subject.log.note_token(&user("u1"), WEB, NOW_MS).unwrap();
    let change = SettingsChange {
        conversation_id: "sg_g".into(),
        is_pinned: Some(true),
        receive_option: Some(ReceiveOption::Silent),
        ..SettingsChange::default()
    };
    let pending = subject.log.change_settings(user("u1"), vec![change]);
    assert_eq!(pending.unwrap().blocking_recv().unwrap(), Ok(()));
    subject.erase("u1");
    assert_eq!(subject.log.profile(&user("u1")).blocking_wait(), Ok(None));
    assert_eq!(
        subject.log.sessions(&user("u1")).blocking_wait(),
        Ok(Vec::new())
    );
    let point = subject.enter(&key);
    assert_eq!((point.stored, point.revoked_before_ms), (None, BEFORE_MS));
    for platform in Platform::ALL {
        let times = subject.log.token_times(&user("u1"), platform);
        let expected = TokenTimes {
            revoked_before_ms: BEFORE_MS,
            newest_ms: 0,
        };
        assert_eq!(times.blocking_wait(), Ok(expected));
    }
    let read = subject.read_group("u1", "g", EVERY, ALL);
    let settings = read.conversation.unwrap().settings;
    assert_eq!(settings, crate::message::ConversationSettings::default());
}

fn the_feeds_pass_over_what_is_erased(subject: &Subject) {
    subject.send(&["u1"], "alone");
    subject.send(&["u1", "u2"], "both");
    subject.store_cursor(&session("u1", WEB), row(1, NOW_MS));
    subject.store_cursor(&session("u2", WEB), row(1, NOW_MS));
    subject.erase("u1");
    subject.send(&["u1"], "new");
    assert_eq!(subject.fed(), [["u2"], ["u1"]]);
    let page = subject.log.cursor_feed(FeedPosition::OLDEST, 1000);
    let moved = page.blocking_wait().unwrap().cursors;
    assert!(moved.iter().all(|moved| moved.session.user != user("u1")));
}

fn a_session_of_before_that_acks_late_stays_unknown(subject: &Subject) {
    for body in ["a", "b"] {
        subject.send(&["u1"], body);
    }
    let key = session("u1", WEB);
    subject.store_cursor(&key, row(1, NOW_MS));
    let erasure = subject.erase("u1");
    for late in [row(1, u64::MAX), row(2, erasure.time_ms - 1)] {
        subject.store_cursor(&key, late);
        let epoch = subject.enter(&key).inbox.epoch;
        let begun = subject
            .log
            .begin_session(&key, epoch, Fence::NONE, late)
            .unwrap();
        assert_eq!(begun.blocking_recv().unwrap(), Ok(()));
        assert_eq!(subject.stored(&key), None);
    }
    let new = row(2, erasure.time_ms);
    subject.store_cursor(&key, new);
    assert_eq!(subject.stored(&key), Some(new));
}

fn an_erasure_names_its_user_to_the_rooms_above(subject: &Subject) {
    subject.erase("u1");
    let rows = subject
        .log
        .rows(RowTable::Consumers, ERASING_PREFIX, &[], 10);
    let rows = rows.blocking_wait().unwrap();
    let named: Vec<_> = rows.iter().map(|(key, _)| read_erasing_key(key)).collect();
    assert_eq!(named, [Some(user("u1"))]);
}

fn a_repeated_erasure_is_the_same_until_something_new_comes(subject: &Subject) {
    subject.send(&["u1"], "a");
    let first = subject.erase("u1");
    assert_eq!(subject.erase("u1"), first);
    subject.send(&["u1"], "b");
    let second = subject.erase("u1");
    assert_eq!(second.head, Seq(2));
    assert_eq!(subject.read("u1", 0, ALL), []);
}

fn an_unknown_user_can_be_erased(subject: &Subject) {
    assert_eq!(subject.erase("nobody").head, Seq::ZERO);
    assert_eq!(subject.known(), [""; 0]);
    assert_eq!(subject.bounds("nobody"), (1, 0));
    subject.send(&["nobody"], "a");
    assert_eq!(subject.read("nobody", 0, ALL), entries(&[(1, "a")]));
}
