//! The promises of settings.

use super::fixture::{ALL, EVERY, Subject, user};
use crate::{
    ids::ConversationSeq,
    message::{Content, ConversationSettings, ReceiveOption, SettingsChange},
};

every_log! {
    a_change_leaves_the_other_settings_as_they_are
    a_change_of_an_unknown_conversation_is_ignored
    settings_belong_to_one_user_and_one_conversation
    what_is_cleared_is_in_no_read_and_not_unread
    clearing_never_goes_back_and_no_further_than_the_head
    a_cleared_conversation_goes_on
    settings_outlive_the_messages
}

impl Subject {
    fn change(&self, name: &str, changes: Vec<SettingsChange>) {
        let pending = self.log.change_settings(user(name), changes).unwrap();
        assert_eq!(pending.blocking_recv().unwrap(), Ok(()));
    }

    fn settings(&self, name: &str, group: &str) -> ConversationSettings {
        self.conversation(name, group).unwrap().settings
    }
}

/// A change of the conversation of a group that changes nothing.
fn change(group: &str) -> SettingsChange {
    SettingsChange {
        conversation_id: format!("sg_{group}"),
        ..SettingsChange::default()
    }
}

fn cleared(group: &str, seq: u64) -> SettingsChange {
    SettingsChange {
        cleared: Some(ConversationSeq(seq)),
        ..change(group)
    }
}

fn a_change_leaves_the_other_settings_as_they_are(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    let pinned = SettingsChange {
        is_pinned: Some(true),
        ..change("g")
    };
    let silent = SettingsChange {
        receive_option: Some(ReceiveOption::Silent),
        ..change("g")
    };
    let unpinned = SettingsChange {
        is_pinned: Some(false),
        ..change("g")
    };
    subject.change("u1", vec![pinned, cleared("g", 1)]);
    subject.change("u1", vec![silent, change("g")]);
    let mut expected = ConversationSettings {
        is_pinned: true,
        receive_option: ReceiveOption::Silent,
        cleared: ConversationSeq(1),
    };
    assert_eq!(subject.settings("u1", "g"), expected);
    subject.change("u1", vec![unpinned]);
    expected.is_pinned = false;
    assert_eq!(subject.settings("u1", "g"), expected);
    let page = subject.conversations("u1", u64::MAX, 10);
    assert_eq!(page.conversations[0].settings, expected);
}

fn a_change_of_an_unknown_conversation_is_ignored(subject: &Subject) {
    let pinned = |group| SettingsChange {
        is_pinned: Some(true),
        ..change(group)
    };
    subject.change("u1", vec![pinned("g")]);
    assert_eq!(subject.conversation("u1", "g"), None);
    subject.send_of("g", &["u1"]);
    assert!(!subject.settings("u1", "g").is_pinned);
    subject.change("u1", vec![pinned("another"), pinned("g")]);
    assert!(subject.settings("u1", "g").is_pinned);
    assert_eq!(
        subject
            .conversations("u1", u64::MAX, 10)
            .conversations
            .len(),
        1
    );
}

fn settings_belong_to_one_user_and_one_conversation(subject: &Subject) {
    for group in ["a", "b"] {
        subject.send_of(group, &["u1", "u2"]);
    }
    subject.change("u1", vec![cleared("a", 1)]);
    let default = ConversationSettings::default();
    for (name, group) in [("u1", "b"), ("u2", "a"), ("u2", "b")] {
        assert_eq!(subject.settings(name, group), default);
        let read = subject.read_group(name, group, EVERY, ALL);
        assert_eq!(read.entries.len(), 1, "{name} {group}");
    }
    assert_eq!(subject.bounds("u2"), (1, 2));
}

/// The conversation seqs of the messages in an inbox; 0 where one is removed.
fn inbox(subject: &Subject, name: &str) -> Vec<u64> {
    let entries = subject.entries(name, 0, ALL).into_iter();
    let seqs = entries.map(|entry| match entry.content {
        Content::Message(_) => entry.numbers.conversation_seq.0,
        Content::Marks(_) | Content::Removed => 0,
    });
    seqs.collect()
}

fn what_is_cleared_is_in_no_read_and_not_unread(subject: &Subject) {
    for group in ["g", "g", "h", "g", "g"] {
        subject.send_of(group, &["u1"]);
    }
    subject.delete("u1", &[1, 5]);
    subject.change("u1", vec![cleared("g", 2)]);
    let conversation = subject.conversation("u1", "g").unwrap();
    assert_eq!((conversation.first.0, conversation.head.0), (3, 4));
    assert_eq!((conversation.unread, conversation.mark.0), (1, 0));
    let read = subject.read_group("u1", "g", EVERY, ALL);
    let seqs = read
        .entries
        .iter()
        .map(|entry| entry.numbers.conversation_seq.0);
    assert_eq!(seqs.collect::<Vec<_>>(), [3, 4]);
    assert_eq!(inbox(subject, "u1"), [0, 0, 1, 3, 0]);
    // The inbox keeps its entries.
    assert_eq!(subject.bounds("u1"), (1, 5));
    subject.mark("u1", &[("g", 3)]);
    assert_eq!(subject.conversation("u1", "g").unwrap().unread, 0);
}

fn clearing_never_goes_back_and_no_further_than_the_head(subject: &Subject) {
    for _ in 0..3 {
        subject.send_of("g", &["u1"]);
    }
    for (seq, expected) in [(2, 2), (1, 2), (0, 2), (u64::MAX, 3), (2, 3)] {
        subject.change("u1", vec![cleared("g", seq)]);
        assert_eq!(subject.settings("u1", "g").cleared.0, expected);
    }
    let conversation = subject.conversation("u1", "g").unwrap();
    assert_eq!((conversation.first.0, conversation.unread), (4, 0));
    let read = subject.read_group("u1", "g", EVERY, ALL);
    assert_eq!(read.entries, []);
}

fn a_cleared_conversation_goes_on(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    subject.change("u1", vec![cleared("g", 1)]);
    subject.send_of("g", &["u1"]);
    let conversation = subject.conversation("u1", "g").unwrap();
    assert_eq!((conversation.first.0, conversation.head.0), (2, 2));
    assert_eq!(conversation.unread, 1);
    assert_eq!(inbox(subject, "u1"), [0, 2]);
}

fn settings_outlive_the_messages(subject: &Subject) {
    let receipt = subject.send_of("g", &["u1"]);
    let silent = SettingsChange {
        receive_option: Some(ReceiveOption::Silent),
        ..change("g")
    };
    subject.change("u1", vec![silent, cleared("g", 1)]);
    let before = subject.settings("u1", "g");
    (subject.expire)(&receipt);
    assert_eq!(subject.settings("u1", "g"), before);
    let conversation = subject.conversation("u1", "g").unwrap();
    assert_eq!((conversation.first.0, conversation.head.0), (2, 1));
    subject.send_of("g", &["u1"]);
    let conversation = subject.conversation("u1", "g").unwrap();
    assert_eq!((conversation.first.0, conversation.head.0), (2, 2));
    assert_eq!((conversation.unread, conversation.settings), (1, before));
}
