//! The promises of read marks.

use super::fixture::{ALL, EVERY, Subject, marks, message_of, numbers, user};
use crate::{
    ids::ConversationSeq,
    log::{AppendError, Log as _, tests::memory::MemoryLog},
    message::{Content, Entry},
};

every_log! {
    a_mark_moves_forward_only_and_no_further_than_the_head
    a_mark_of_an_unknown_conversation_is_ignored
    one_entry_marks_several_conversations
    marks_belong_to_one_user
    marks_are_an_entry_of_the_inbox_and_of_no_conversation
    marks_are_no_message
    the_deletion_of_messages_leaves_marks_where_they_are
}

/// A conversation's mark and its unread messages.
fn read_state(subject: &Subject, name: &str, group: &str) -> (u64, u64) {
    let conversation = subject.conversation(name, group).unwrap();
    (conversation.mark.0, conversation.unread)
}

fn a_mark_moves_forward_only_and_no_further_than_the_head(subject: &Subject) {
    for _ in 0..4 {
        subject.send_of("g", &["u1"]);
    }
    let steps = [
        (2, 2),
        (1, 2),
        (0, 2),
        (3, 3),
        (99, 4),
        (u64::MAX, 4),
        (1, 4),
    ];
    for (mark, expected) in steps {
        subject.mark("u1", &[("g", mark)]);
        assert_eq!(read_state(subject, "u1", "g"), (expected, 4 - expected));
    }
    // The mark was not above the head, and does not cover later messages.
    subject.send_of("g", &["u1"]);
    assert_eq!(read_state(subject, "u1", "g"), (4, 1));
}

fn a_mark_of_an_unknown_conversation_is_ignored(subject: &Subject) {
    subject.mark("u1", &[("g", 1)]);
    assert_eq!(subject.conversation("u1", "g"), None);
    subject.send_of("g", &["u1"]);
    assert_eq!(read_state(subject, "u1", "g"), (0, 1));
}

fn one_entry_marks_several_conversations(subject: &Subject) {
    for group in ["a", "b", "c"].repeat(3) {
        subject.send_of(group, &["u1"]);
    }
    subject.mark("u1", &[("c", 2)]);
    subject.mark("u1", &[("a", 2), ("unknown", 9), ("b", 9), ("c", 1)]);
    let states = ["a", "b", "c"].map(|group| read_state(subject, "u1", group));
    assert_eq!(states, [(2, 1), (3, 0), (2, 1)]);
}

fn marks_belong_to_one_user(subject: &Subject) {
    for _ in 0..2 {
        subject.send_of("g", &["u1", "u2"]);
    }
    subject.mark("u1", &[("g", 2)]);
    assert_eq!(read_state(subject, "u1", "g"), (2, 0));
    assert_eq!(read_state(subject, "u2", "g"), (0, 2));
    assert_eq!(subject.bounds("u2"), (1, 2));
}

fn marks_are_an_entry_of_the_inbox_and_of_no_conversation(subject: &Subject) {
    assert!(subject.log.has_conversations());
    subject.send_of("g", &["u1"]);
    let append = marks("u1", &[("g", 1)]);
    let body = append.body.clone();
    let receipt = subject.append(append).unwrap();
    let expected = [(user("u1"), numbers(2, 0))];
    assert_eq!(*receipt.entries, expected);
    subject.send_of("g", &["u1"]);
    let announced = &subject.announced.first(3)[1];
    assert_eq!(*announced.entries, expected);
    assert_eq!(announced.body, body);
    let inbox = subject.entries("u1", 0, ALL);
    let entry = Entry {
        numbers: numbers(2, 0),
        content: Content::Marks(body),
    };
    assert_eq!(inbox[1], entry);
    let found: Vec<_> = inbox.iter().map(|entry| entry.numbers).collect();
    assert_eq!(found, [numbers(1, 1), numbers(2, 0), numbers(3, 2)]);
    let read = subject.read_group("u1", "g", EVERY, ALL);
    assert_eq!(read.entries, [inbox[0].clone(), inbox[2].clone()]);
}

fn marks_are_no_message(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    let before = subject.conversation("u1", "g").unwrap();
    subject.mark("u1", &[("another", 1)]);
    assert_eq!(subject.bounds("u1"), (1, 2));
    assert_eq!(subject.conversation("u1", "g"), Some(before.clone()));
    subject.mark("u1", &[("g", 1)]);
    let after = subject.conversation("u1", "g").unwrap();
    assert_eq!((after.mark, after.unread), (ConversationSeq(1), 0));
    assert_eq!((after.head, after.first), (before.head, before.first));
    assert_eq!(after.last_seq, before.last_seq);
    assert_eq!(after.last_time_ms, before.last_time_ms);
    let page = subject.conversations("u1", u64::MAX, 10);
    assert_eq!(page.conversations, [after]);
}

fn the_deletion_of_messages_leaves_marks_where_they_are(subject: &Subject) {
    for _ in 0..2 {
        subject.send_of("g", &["u1"]);
    }
    subject.mark("u1", &[("g", 1)]);
    let before = subject.entries("u1", 2, ALL);
    subject.delete("u1", &[1, 3]);
    assert_eq!(subject.entries("u1", 2, ALL), before);
    assert_eq!(read_state(subject, "u1", "g"), (1, 1));
}

#[test]
fn a_log_without_conversations_says_so_and_refuses_marks() {
    let log = MemoryLog::default();
    log.rows().lacks_conversations = true;
    assert!(!log.has_conversations());
    let pending = log.append(message_of("g", &["u1"])).unwrap();
    let receipt = pending.blocking_recv().unwrap().unwrap();
    assert_eq!(*receipt.entries, [(user("u1"), numbers(1, 0))]);
    let pending = log.append(marks("u1", &[("g", 1)])).unwrap();
    let refused = pending.blocking_recv().unwrap();
    assert!(matches!(refused, Err(AppendError::Refusing(_))));
    let bounds = log.inbox(&user("u1")).blocking_wait().unwrap();
    assert_eq!(bounds.head.0, 1);
}
