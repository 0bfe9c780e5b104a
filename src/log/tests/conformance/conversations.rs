//! The promises of conversations.

use super::fixture::{
    ALL, EVERY, Subject, conversation_id, message, message_of, numbers, session, user,
};
use crate::{
    clock::tests::manual::NOW_MS,
    ids::{ConversationSeq, Platform, Seq},
    log::{Append, Conversation, Lookup, ReadLimit},
    message::{Bases, Content, Entry, Numbers, StoredMessage},
};

every_log! {
    each_conversation_has_dense_seqs_from_1
    a_conversation_follows_from_sender_group_and_session_type
    the_receipt_the_commit_and_both_reads_tell_the_same_conversation_seq
    the_receivers_of_a_group_message_each_count_on_their_own
    a_message_to_everyone_has_a_conversation_seq_at_each_user
    a_repeated_key_returns_the_first_conversation_seq
    conversation_times_ascend_and_are_the_send_time_where_that_is_later
    a_range_read_returns_the_newest_entries_within_its_limits
    a_range_read_agrees_with_the_inbox_wherever_it_begins_and_ends
    a_range_read_of_an_unknown_conversation_is_empty
    conversations_are_listed_by_their_newest_message
    pages_list_each_conversation_once
    a_deleted_message_keeps_its_conversation_seq_and_is_not_unread
    a_conversation_outlives_its_messages
}

/// The conversation seqs of these entries.
fn seqs(entries: &[Entry]) -> Vec<u64> {
    let seqs = entries.iter().map(|entry| entry.numbers.conversation_seq.0);
    seqs.collect()
}

fn each_conversation_has_dense_seqs_from_1(subject: &Subject) {
    let groups = ["a", "a", "b", "a", "c", "b"];
    let expected = [1, 2, 1, 3, 1, 2];
    for ((seq, group), conversation_seq) in (1..).zip(groups).zip(expected) {
        let receipt = subject.send_of(group, &["u1"]);
        let entries = [(user("u1"), numbers(seq, conversation_seq))];
        assert_eq!(*receipt.entries, entries);
    }
    for (group, head) in [("a", 3), ("b", 2), ("c", 1)] {
        let conversation = subject.conversation("u1", group).unwrap();
        assert_eq!(conversation.first, ConversationSeq(1));
        assert_eq!(conversation.head, ConversationSeq(head));
        assert_eq!(conversation.mark, ConversationSeq::ZERO);
        assert_eq!(conversation.unread, head);
    }
}

fn a_conversation_follows_from_sender_group_and_session_type(subject: &Subject) {
    let origins = [
        ("oa", "", 1),
        ("oa", "", 4),
        ("oa", "g", 3),
        ("another", "g", 2),
        ("oa", "", 4),
        ("zoe", "", 1),
    ];
    for (sender, group, session_type) in origins {
        let stored = StoredMessage {
            send_id: sender.into(),
            group_id: group.into(),
            session_type,
            ..StoredMessage::default()
        };
        let append = Append {
            body: stored.to_bytes(),
            ..message(NOW_MS, &["u1"], None, "")
        };
        subject.append(append).unwrap();
    }
    let listed = subject.conversations("u1", u64::MAX, 10).conversations;
    let listed: Vec<_> = listed.iter().map(|one| (&*one.id, one.head.0)).collect();
    let expected = [
        ("si_u1_zoe", 1),
        ("sn_oa_u1", 2),
        ("sg_g", 2),
        ("si_oa_u1", 1),
    ];
    assert_eq!(listed, expected);
}

fn the_receipt_the_commit_and_both_reads_tell_the_same_conversation_seq(subject: &Subject) {
    subject.send_of("another", &["u1"]);
    subject.send_of("g", &["u1"]);
    let append = message_of("g", &["u1"]);
    let body = append.body.clone();
    let receipt = subject.append(append).unwrap();
    let expected = [(user("u1"), numbers(3, 2))];
    assert_eq!(*receipt.entries, expected);
    let announced = &subject.announced.first(3)[2];
    assert_eq!(*announced.entries, expected);
    assert_eq!(announced.body, body);
    let entry = Entry {
        numbers: numbers(3, 2),
        content: Content::Message(body),
    };
    let expected = [entry];
    assert_eq!(subject.entries("u1", 2, ALL), expected);
    let read = subject.read_group("u1", "g", (2, 2), ALL);
    assert_eq!(read.entries, expected);
    let epoch = subject.enter(&session("u1", Platform::Web)).inbox.epoch;
    assert_eq!(read.epoch, epoch);
}

fn the_receivers_of_a_group_message_each_count_on_their_own(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    subject.send_of("another", &["u2"]);
    let receipt = subject.send_of("g", &["u2", "u1"]);
    let expected = [(user("u2"), numbers(2, 1)), (user("u1"), numbers(2, 2))];
    assert_eq!(*receipt.entries, expected);
    for (name, given) in expected {
        let read = subject.read_group(name.as_str(), "g", EVERY, ALL);
        assert_eq!(read.entries.last().unwrap().numbers, given);
    }
}

fn a_message_to_everyone_has_a_conversation_seq_at_each_user(subject: &Subject) {
    subject.send_of("g", &["a", "b"]);
    subject.send_of("another", &["a", "c"]);
    let append = Append {
        is_keyed: true,
        ..message_of("g", &[])
    };
    let receipt = subject.append_to_everyone(append.clone());
    let expected = [
        ("a", numbers(3, 2)),
        ("b", numbers(2, 2)),
        ("c", numbers(2, 1)),
    ];
    for (name, given) in expected {
        let id = receipt.message_id;
        let entry = subject.log.entry_of(id, &user(name)).blocking_wait();
        assert_eq!(entry, Ok(Some(given)));
        assert!(receipt.entries.contains(&(user(name), given)));
        let read = subject.read_group(name, "g", EVERY, ALL);
        assert_eq!(read.entries.last().unwrap().numbers, given);
        subject.send_of("g", &[name]);
        let conversation = subject.conversation(name, "g").unwrap();
        assert_eq!(conversation.head, given.conversation_seq.next());
    }
    let entries = subject.log.entries(receipt.message_id, 0, 10);
    assert_eq!(entries.blocking_wait().unwrap(), *receipt.entries);
    assert_eq!(subject.append_to_everyone(append), receipt);
}

fn a_repeated_key_returns_the_first_conversation_seq(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    let append = Append {
        is_keyed: true,
        ..message_of("g", &["u1", "u2"])
    };
    let first = subject.append(append.clone()).unwrap();
    let expected = [(user("u1"), numbers(2, 2)), (user("u2"), numbers(1, 1))];
    assert_eq!(*first.entries, expected);
    subject.send_of("g", &["u1", "u2"]);
    let by_key = Lookup::Key {
        sender: append.sender.clone(),
        client_message_id: append.client_message_id.clone(),
    };
    assert_eq!(subject.find(by_key), Some(first.clone()));
    assert_eq!(
        subject.find(Lookup::Id(first.message_id)),
        Some(first.clone())
    );
    assert_eq!(subject.append(append), Ok(first));
    let conversation = subject.conversation("u1", "g").unwrap();
    assert_eq!(conversation.head, ConversationSeq(3));
}

fn conversation_times_ascend_and_are_the_send_time_where_that_is_later(subject: &Subject) {
    let last_time = |group, after_ms| {
        let append = Append {
            send_time_ms: NOW_MS + 1 + after_ms,
            ..message_of(group, &["u1"])
        };
        let receipt = subject.append(append).unwrap();
        assert_eq!(receipt.send_time_ms, NOW_MS + 1 + after_ms);
        let conversation = subject.conversation("u1", group).unwrap();
        conversation.last_time_ms - (NOW_MS + 1)
    };
    // The last send time is behind the others.
    let times = [0, 0, 0, 50, 51, 20].map(|after_ms| last_time("g", after_ms));
    assert_eq!(times, [0, 1, 2, 50, 51, 52]);
    assert_eq!(last_time("another", 20), 20);
    // Every place that tells the numbers tells this time.
    let ahead = [0, 1, 2, 0, 0, 32, 0];
    let of = |numbers: Vec<Numbers>| -> Vec<u32> {
        let ahead = numbers.iter().map(|numbers| numbers.time_ahead_ms);
        ahead.collect()
    };
    let entries = |entries: Vec<Entry>| of(entries.iter().map(|entry| entry.numbers).collect());
    assert_eq!(entries(subject.entries("u1", 0, ALL)), ahead);
    let read = subject.read_group("u1", "g", EVERY, ALL);
    assert_eq!(entries(read.entries), ahead[..6]);
    let commits = subject.announced.first(ahead.len());
    let committed = commits.iter().map(|commit| commit.entries[0].1);
    assert_eq!(of(committed.collect()), ahead);
    let Numbers { seq, .. } = commits[5].entries[0].1;
    assert_eq!(commits[5].entries[0].1.time_ms(NOW_MS + 21), NOW_MS + 53);
    subject.delete("u1", &[seq.0]);
    let deleted = subject.entries("u1", 5, ALL)[0].numbers;
    assert_eq!(
        deleted.time_ahead_ms, 0,
        "it has no send time to be ahead of"
    );
}

fn a_range_read_returns_the_newest_entries_within_its_limits(subject: &Subject) {
    for group in ["g", "another"].repeat(5) {
        subject.send_of(group, &["u1"]);
    }
    let whole = subject.read_group("u1", "g", EVERY, ALL).entries;
    assert_eq!(seqs(&whole), [1, 2, 3, 4, 5]);
    let each = whole[0].content.body().unwrap().len();
    let read = |range, messages, bytes| {
        let limit = ReadLimit { messages, bytes };
        let read = subject.read_group("u1", "g", range, limit);
        assert_eq!(read.conversation, subject.conversation("u1", "g"));
        seqs(&read.entries)
    };
    assert_eq!(read((2, 4), 1000, usize::MAX), [2, 3, 4]);
    assert_eq!(read((4, 99), 1000, usize::MAX), [4, 5]);
    assert_eq!(read((0, 1), 1000, usize::MAX), [1]);
    assert_eq!(read((2, 4), 2, usize::MAX), [3, 4]);
    assert_eq!(read((2, 4), 1000, 2 * each), [3, 4]);
    assert_eq!(read((2, 4), 1000, 2 * each - 1), [4]);
    assert_eq!(read((2, 4), 1000, 0), [4]);
    for empty in [(6, 9), (4, 3), (0, 0), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
        assert!(read(empty, 1000, usize::MAX).is_empty());
    }
}

/// Conversations of different lengths lie between each other, with marks and deleted messages among them.
fn a_range_read_agrees_with_the_inbox_wherever_it_begins_and_ends(subject: &Subject) {
    const MESSAGES: u64 = 300;
    let group = |number| match number {
        _ if number % 50 == 0 => "rare",
        _ if number % 3 == 0 => "some",
        _ => "most",
    };
    let append = |number| {
        let append = message_of(group(number), &["u1"]);
        subject.log.append(append).unwrap()
    };
    let pending: Vec<_> = (1..=MESSAGES).map(append).collect();
    for pending in pending {
        pending.blocking_recv().unwrap().unwrap();
    }
    subject.mark("u1", &[("most", 100)]);
    subject.delete("u1", &[1, 2, 3, 50, 150, 151]);
    let inbox = subject.entries("u1", 0, ALL);
    assert_eq!(inbox.len() as u64, MESSAGES + 1);
    for name in ["most", "some", "rare"] {
        let is_of = |entry: &&Entry| {
            let seq = entry.numbers.seq.0;
            seq <= MESSAGES && group(seq) == name
        };
        let of_group: Vec<_> = inbox.iter().filter(is_of).cloned().collect();
        let head = of_group.len() as u64;
        assert_eq!(seqs(&of_group), (1..=head).collect::<Vec<_>>());
        let ends = [1, 2, 63, 64, 65, 66, 127, 128, 129, head - 1, head];
        let ends = ends.into_iter().filter(|end| *end <= head);
        for to in ends.clone() {
            for from in ends.clone().filter(|from| *from <= to) {
                for messages in [1, 70, 1000] {
                    let limit = ReadLimit { messages, ..ALL };
                    let read = subject.read_group("u1", name, (from, to), limit);
                    let begin = from.max((to + 1).saturating_sub(messages as u64));
                    let expected = &of_group[begin as usize - 1..to as usize];
                    assert_eq!(read.entries, expected, "{name} {from}..={to}");
                }
            }
        }
    }
}

fn a_range_read_of_an_unknown_conversation_is_empty(subject: &Subject) {
    subject.send_of("g", &["u1"]);
    for (name, group) in [("u1", "another"), ("nobody", "g")] {
        let read = subject.read_group(name, group, EVERY, ALL);
        assert_eq!((read.conversation, read.entries), (None, vec![]));
        assert_eq!(subject.conversation(name, group), None);
    }
    let page = subject.conversations("nobody", u64::MAX, 10);
    assert_eq!((page.conversations, page.is_end), (vec![], true));
}

fn conversations_are_listed_by_their_newest_message(subject: &Subject) {
    for group in ["a", "b", "c", "a"] {
        subject.send_of(group, &["u1"]);
    }
    // Neither a mark nor the removal of its newest message moves a conversation.
    subject.mark("u1", &[("b", 1)]);
    subject.delete("u1", &[4]);
    let page = subject.conversations("u1", u64::MAX, 10);
    let listed = page.conversations.iter();
    let listed: Vec<_> = listed.map(|one| (&*one.id, one.last_seq.0)).collect();
    assert_eq!(listed, [("sg_a", 4), ("sg_c", 3), ("sg_b", 2)]);
    let epoch = subject.enter(&session("u1", Platform::Web)).inbox.epoch;
    assert_eq!((page.epoch, page.is_end), (epoch, true));
}

fn pages_list_each_conversation_once(subject: &Subject) {
    let groups = ["a", "b", "c", "d", "e"];
    for group in groups {
        subject.send_of(group, &["u1"]);
    }
    let whole = subject.conversations("u1", u64::MAX, 5);
    assert!(whole.is_end);
    for limit in [1, 2, 4] {
        let (mut listed, mut before) = (Vec::new(), u64::MAX);
        loop {
            let page = subject.conversations("u1", before, limit);
            assert!(page.conversations.len() <= limit);
            listed.extend(page.conversations);
            assert_eq!(page.is_end, listed.len() == groups.len());
            if page.is_end {
                break;
            }
            before = listed.last().unwrap().last_seq.0;
        }
        assert_eq!(listed, whole.conversations);
    }
    let beyond = subject.conversations("u1", 1, 5);
    assert_eq!((beyond.conversations, beyond.is_end), (vec![], true));
}

fn a_deleted_message_keeps_its_conversation_seq_and_is_not_unread(subject: &Subject) {
    for _ in 0..4 {
        subject.send_of("g", &["u1"]);
    }
    subject.mark("u1", &[("g", 1)]);
    // A message that was read, and one that was not. Neither counts twice.
    for _ in 0..2 {
        subject.delete("u1", &[1, 3]);
        let conversation = subject.conversation("u1", "g").unwrap();
        assert_eq!(conversation.unread, 2);
        assert_eq!(conversation.first, ConversationSeq(1));
        assert_eq!(conversation.head, ConversationSeq(4));
    }
    let entries = subject.read_group("u1", "g", EVERY, ALL).entries;
    assert_eq!(seqs(&entries), [1, 2, 3, 4]);
    let is_removed = |entry: &Entry| entry.content == Content::Removed;
    let removed: Vec<_> = entries.iter().map(is_removed).collect();
    assert_eq!(removed, [true, false, true, false]);
    let receipt = subject.send_of("g", &["u1"]);
    assert_eq!(*receipt.entries, [(user("u1"), numbers(6, 5))]);
}

fn a_conversation_outlives_its_messages(subject: &Subject) {
    let expected = |head, first, mark, unread, last_seq| {
        let conversation = Conversation {
            id: conversation_id("g").into(),
            head: ConversationSeq(head),
            first: ConversationSeq(first),
            mark: ConversationSeq(mark),
            unread,
            last_time_ms: NOW_MS + head - 1,
            last_seq: Seq(last_seq),
            bases: Bases::default(),
            settings: Default::default(),
        };
        Some(conversation)
    };
    subject.send_of("g", &["u1"]);
    subject.mark("u1", &[("g", 1)]);
    let last = subject.send_of("g", &["u1"]);
    assert_eq!(subject.conversation("u1", "g"), expected(2, 1, 1, 1, 3));
    (subject.expire)(&last);
    assert_eq!(subject.conversation("u1", "g"), expected(2, 3, 1, 0, 3));
    assert_eq!(subject.read_group("u1", "g", EVERY, ALL).entries, []);
    let next = subject.send_of("g", &["u1"]);
    assert_eq!(*next.entries, [(user("u1"), numbers(4, 3))]);
    assert_eq!(subject.conversation("u1", "g"), expected(3, 3, 1, 1, 4));
    let entries = subject.read_group("u1", "g", EVERY, ALL).entries;
    assert_eq!(seqs(&entries), [3]);
    // The state is carried once more.
    (subject.expire)(&next);
    assert_eq!(subject.conversation("u1", "g"), expected(3, 4, 1, 0, 4));
}
