//! A conversation's numbers, its read mark and its unread messages outlive a crash, a lost state store and retention.
//! `settings.rs`: the user's settings do so too.

use super::*;
use crate::{
    ids::ConversationSeq,
    log::Conversation,
    message::{Content, ReadMark, StoredMessage},
};

mod settings;

pub(super) const ALL: ReadLimit = ReadLimit {
    messages: usize::MAX,
    bytes: usize::MAX,
};

/// The conversation of `sender` and `u1`.
fn of(sender: &str) -> String {
    let mut pair = [sender, "u1"];
    pair.sort_unstable();
    format!("si_{}_{}", pair[0], pair[1])
}

impl Bench {
    fn send_stored(&self, stored: &StoredMessage, is_marks: bool) -> Numbers {
        let append = Append {
            body: stored.to_bytes(),
            is_marks,
            ..message(self.clock.now_ms(), &["u1"], None, "")
        };
        let pending = self.log.append(append).unwrap();
        pending.blocking_recv().unwrap().unwrap().entries[0].1
    }

    /// Sends a message to u1. Returns its conversation seq.
    pub(super) fn send_from(&self, sender: &str) -> u64 {
        let stored = StoredMessage {
            send_id: sender.into(),
            session_type: 1,
            ..StoredMessage::default()
        };
        self.send_stored(&stored, false).conversation_seq.0
    }

    pub(super) fn mark(&self, sender: &str, up_to: u64) {
        let mark = ReadMark {
            conversation_id: of(sender),
            conversation_seq: up_to,
            ..ReadMark::default()
        };
        let stored = StoredMessage {
            marks: vec![mark],
            ..StoredMessage::default()
        };
        assert_eq!(self.send_stored(&stored, true).conversation_seq.0, 0);
    }

    pub(super) fn conversation(&self, sender: &str) -> Conversation {
        let page = self.log.conversations(&user("u1"), Seq(u64::MAX), 100);
        let conversations = page.blocking_wait().unwrap().conversations;
        let mut conversations = conversations.into_iter();
        let found = conversations.find(|conversation| *conversation.id == *of(sender));
        found.expect("it is listed")
    }

    /// A conversation's bounds, mark and unread messages.
    fn facts(&self, sender: &str) -> [u64; 4] {
        let found = self.conversation(sender);
        [found.first.0, found.head.0, found.mark.0, found.unread]
    }

    /// The conversation seqs of the messages that a range read returns, with their seqs.
    fn chain(&self, sender: &str) -> Vec<(u64, u64)> {
        let range = (ConversationSeq(1), ConversationSeq(u64::MAX));
        let read = self
            .log
            .read_conversation(&user("u1"), &of(sender), range, ALL);
        let entries = read.blocking_wait().unwrap().entries.into_iter();
        let messages = entries.filter(|entry| matches!(entry.content, Content::Message(_)));
        messages
            .map(|entry| (entry.numbers.conversation_seq.0, entry.numbers.seq.0))
            .collect()
    }

    /// The conversation seqs of the inbox's entries.
    fn inbox_numbers(&self) -> Vec<u64> {
        let read = self.log.read_blocking(&user("u1"), Seq::ZERO, ALL);
        let entries = read.unwrap().entries.into_iter();
        entries
            .map(|entry| entry.numbers.conversation_seq.0)
            .collect()
    }

    /// Makes retention remove all segments but the open one, which holds one more message of `sender`.
    pub(super) fn expire_before(&self, sender: &str) {
        self.machine.advance(2 * 3600 * 1000);
        self.send_from(sender);
        let open = self.disk.last_segment();
        self.machine.advance(3601 * 1000);
        eventually("the old segments are removed", || {
            self.disk.segments()[0] >= open
        });
    }
}

pub(super) fn short_lived() -> Bench {
    Bench::with(|limits| {
        limits.segment_bytes = 1024;
        limits.retention = Duration::from_secs(3600);
    })
}

#[test]
fn numbers_marks_and_unread_messages_survive_a_power_cut_with_and_without_the_state_store() {
    for keeps_state in [true, false] {
        let bench = Bench::new();
        for number in 1..=200 {
            assert_eq!(bench.send_from("a"), number);
            assert_eq!(bench.send_from("b"), number);
        }
        bench.mark("a", 150);
        let deletion = bench
            .log
            .delete(user("u1"), vec![Seq(399), Seq(1), Seq(399)]);
        deletion.unwrap().blocking_recv().unwrap().unwrap();
        assert_eq!(bench.facts("a"), [1, 200, 150, 49]);
        let before = (bench.chain("a"), bench.chain("b"), bench.inbox_numbers());
        assert_eq!(before.0.len(), 198);
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(bench.facts("a"), [1, 200, 150, 49]);
        assert_eq!(bench.facts("b"), [1, 200, 0, 200]);
        let after = (bench.chain("a"), bench.chain("b"), bench.inbox_numbers());
        assert_eq!(before, after);
        assert_eq!(bench.send_from("a"), 201);
    }
}

#[test]
fn a_conversation_outlives_its_messages() {
    for keeps_state in [true, false] {
        let bench = short_lived();
        for _ in 0..40 {
            bench.send_from("quiet");
            bench.send_from("loud");
        }
        bench.mark("quiet", 30);
        let quiet = bench.conversation("quiet");
        bench.expire_before("loud");
        assert_eq!(bench.facts("quiet"), [41, 40, 30, 0]);
        assert_eq!(bench.facts("loud"), [41, 41, 0, 1]);
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(bench.facts("quiet"), [41, 40, 30, 0]);
        assert_eq!(bench.facts("loud"), [41, 41, 0, 1]);
        let now = bench.conversation("quiet");
        assert_eq!(
            (now.last_seq, now.last_time_ms),
            (quiet.last_seq, quiet.last_time_ms)
        );
        assert_eq!(bench.chain("quiet"), []);
        assert_eq!(bench.send_from("quiet"), 41);
        assert_eq!(bench.facts("quiet"), [41, 41, 30, 1]);
        // The carried facts are in a segment that is removed as well.
        bench.expire_before("loud");
        let bench = bench.reopen(TestDisk::after_power_cut, false);
        assert_eq!(bench.facts("quiet"), [42, 41, 30, 0]);
    }
}

#[test]
fn a_mark_outlives_its_entry_while_its_messages_stay() {
    let bench = short_lived();
    bench.send_from("a");
    bench.mark("a", 1);
    bench.expire_before("a");
    bench.send_from("a");
    assert_eq!(bench.facts("a"), [2, 3, 1, 2]);
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(bench.facts("a"), [2, 3, 1, 2]);
}

#[test]
fn a_mark_outlives_the_messages_that_it_marks() {
    // Further messages are in the segment of the mark, so the conversation goes on when retention removes the first one.
    for later in [1, 0] {
        let bench = short_lived();
        bench.send_from("a");
        bench.send_from("a");
        let begin = bench.disk.last_segment();
        bench.machine.advance(2 * 3600 * 1000);
        bench.mark("a", 2);
        for _ in 0..later {
            bench.send_from("a");
        }
        let open = bench.disk.last_segment();
        assert!(begin < open);
        bench.machine.advance(3601 * 1000);
        eventually("the first segment is removed", || {
            bench.disk.segments()[0] > begin
        });
        let now = bench.conversation("a");
        assert_eq!(bench.facts("a"), [3, 2 + later, 2, later]);
        let bench = bench.reopen(TestDisk::after_power_cut, false);
        assert_eq!(bench.conversation("a"), now);
    }
}

/// A directory of an earlier version: messages of two senders, without numbers.
pub(super) fn older(change: impl FnOnce(&mut config::Log)) -> Bench {
    let bench = Bench::with(|limits| {
        limits.format = 2;
        change(limits);
    });
    for _ in 0..10 {
        assert_eq!(bench.send_from("a"), 0);
        assert_eq!(bench.send_from("b"), 0);
        assert_eq!(bench.send_from("a"), 0);
    }
    bench
}

#[test]
fn messages_of_an_earlier_version_are_numbered_in_the_order_of_the_inbox_and_count_as_read() {
    let mut bench = older(|_| {});
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    assert_eq!(bench.facts("a"), [1, 20, 20, 0]);
    assert_eq!(bench.facts("b"), [1, 10, 10, 0]);
    let numbers: Vec<_> = (1..=20).collect();
    let chain = bench.chain("a");
    assert_eq!(
        chain.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        numbers
    );
    assert_eq!(bench.inbox_numbers()[..6], [1, 1, 2, 3, 2, 4]);
    assert_eq!(bench.send_from("a"), 21);
    assert_eq!(bench.facts("a"), [1, 21, 20, 1]);
    let before = (bench.chain("a"), bench.chain("b"), bench.inbox_numbers());
    let mut bench = bench;
    for keeps_state in [true, false] {
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        let after = (bench.chain("a"), bench.chain("b"), bench.inbox_numbers());
        assert_eq!(before, after);
    }
}

#[test]
fn the_numbers_of_an_earlier_versions_messages_stay_when_some_of_them_have_expired() {
    let mut bench = older(|limits| {
        limits.segment_bytes = 1024;
        limits.retention_bytes = 1 << 20;
    });
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    eventually("the rows are written", || {
        bench.log.core.state.conversations.unrecorded(1).is_empty()
    });
    let before = bench.chain("a");
    // Retention by size removes the oldest segments.
    let mut bench = bench;
    bench.limits.retention_bytes = 3 * 1024;
    let bench = bench.reopen(TestDisk::after_kill, true);
    eventually("old segments are removed", || {
        bench.disk.segment_bytes() <= 3 * 1024
    });
    let left = bench.chain("a");
    assert!(!left.is_empty() && left.len() < before.len(), "{left:?}");
    assert!(before.ends_with(&left));
    let numbers = bench.inbox_numbers();
    let mut bench = bench;
    bench.limits.retention_bytes = 0;
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(bench.chain("a"), left);
    assert_eq!(bench.inbox_numbers(), numbers);
    assert_eq!(bench.send_from("a"), 21);
    assert_eq!(bench.send_from("b"), 11);
}

#[test]
fn a_rebuilding_that_was_not_finished_begins_anew() {
    let mut bench = older(|_| {});
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    let before = (bench.chain("a"), bench.chain("b"), bench.inbox_numbers());
    // A kill in the middle of a rebuilding leaves rows of conversations, and none of the rows that belong to them.
    let state = &bench.log.core.state;
    state.spill().unwrap();
    state.begin(bench.log.core.epoch).unwrap();
    let (disk, dir) = (bench.disk.after_kill(), bench.dir.path().to_owned());
    let kept = tempfile::tempdir().unwrap();
    copy(&dir, kept.path());
    drop(bench);
    let sled = sled::open(kept.path().join("state")).unwrap();
    sled.open_tree("unnumbered").unwrap().clear().unwrap();
    drop(sled);
    let limits = config::Log {
        dir: kept.path().into(),
        cache_bytes: 1 << 20,
        ..config::Log::default()
    };
    let bench = Bench::open(disk, kept, limits, Manual::new());
    let after = (bench.chain("a"), bench.chain("b"), bench.inbox_numbers());
    assert_eq!(before, after);
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_deleted_message_that_then_counts_as_read_is_counted_once() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.send_from("a");
    }
    let deletion = bench.log.delete(user("u1"), vec![Seq(1), Seq(2)]);
    deletion.unwrap().blocking_recv().unwrap().unwrap();
    let mut bench = bench;
    bench.limits.format = 2;
    let mut bench = bench.reopen(TestDisk::after_kill, true);
    bench.send_from("a");
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    for _ in 0..2 {
        bench.send_from("a");
    }
    assert_eq!(bench.facts("a"), [1, 6, 4, 2]);
}

#[test]
fn messages_that_come_while_the_format_is_held_back_are_numbered_later() {
    let mut bench = Bench::new();
    bench.send_from("a");
    bench.limits.format = 2;
    let mut bench = bench.reopen(TestDisk::after_kill, true);
    assert!(!bench.log.has_conversations());
    assert_eq!(bench.send_from("a"), 0);
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    assert_eq!(bench.inbox_numbers(), [1, 2]);
    assert_eq!(bench.send_from("a"), 3);
    let bench = bench.reopen(TestDisk::after_kill, false);
    assert_eq!(bench.inbox_numbers(), [1, 2, 3]);
}
