//! A user's settings outlive a crash, a lost state store and retention.

use super::*;
use crate::message::{ConversationSettings, ReceiveOption, SettingsChange};

impl Bench {
    fn change(&self, changes: Vec<SettingsChange>) -> Pending<()> {
        self.log.change_settings(user("u1"), changes).unwrap()
    }

    /// Waits until this change is durable.
    fn set(&self, change: SettingsChange) {
        let pending = self.change(vec![change]);
        assert_eq!(pending.blocking_recv().unwrap(), Ok(()));
    }

    fn settings(&self, sender: &str) -> ConversationSettings {
        self.conversation(sender).settings
    }

    /// The conversation seqs of the messages that are left in the inbox.
    fn inbox_messages(&self) -> Vec<u64> {
        let read = self.log.read_blocking(&user("u1"), Seq::ZERO, ALL);
        let entries = read.unwrap().entries.into_iter();
        let messages = entries.filter(|entry| matches!(entry.content, Content::Message(_)));
        messages
            .map(|entry| entry.numbers.conversation_seq.0)
            .collect()
    }
}

fn silent(sender: &str) -> SettingsChange {
    SettingsChange {
        conversation_id: of(sender),
        is_pinned: Some(true),
        receive_option: Some(ReceiveOption::Silent),
        ..SettingsChange::default()
    }
}

fn cleared(sender: &str, up_to: u64) -> SettingsChange {
    SettingsChange {
        conversation_id: of(sender),
        cleared: Some(ConversationSeq(up_to)),
        ..SettingsChange::default()
    }
}

#[test]
fn settings_survive_a_kill_and_a_power_cut_with_and_without_the_state_store() {
    for keeps_state in [true, false] {
        let bench = Bench::new();
        for _ in 0..100 {
            bench.send_from("a");
            bench.send_from("b");
        }
        bench.mark("a", 10);
        bench.set(silent("a"));
        bench.set(cleared("a", 90));
        bench.set(silent("b"));
        let back = SettingsChange {
            is_pinned: Some(false),
            receive_option: Some(ReceiveOption::Notify),
            ..silent("b")
        };
        bench.set(back);
        let before = bench.settings("a");
        assert_eq!(before.cleared, ConversationSeq(90));
        let mut bench = bench;
        for disk in [TestDisk::after_kill, TestDisk::after_power_cut] {
            bench = bench.reopen(disk, keeps_state);
            assert_eq!(bench.settings("a"), before);
            assert_eq!(bench.facts("a"), [91, 100, 10, 10]);
            assert_eq!(bench.settings("b"), ConversationSettings::default());
            assert_eq!(bench.facts("b"), [1, 100, 0, 100]);
            assert_eq!(bench.chain("a").len(), 10);
            assert_eq!(bench.inbox_messages().len(), 110);
        }
        assert_eq!(bench.send_from("a"), 101);
        assert_eq!(bench.facts("a"), [91, 101, 10, 11]);
    }
}

#[test]
fn settings_outlive_the_segments_that_held_them() {
    for keeps_state in [true, false] {
        let bench = short_lived();
        for _ in 0..50 {
            bench.send_from("a");
            bench.send_from("b");
        }
        bench.set(silent("a"));
        bench.set(cleared("a", 50));
        bench.set(cleared("b", 20));
        let before = (bench.settings("a"), bench.settings("b"));
        bench.expire_before("b");
        assert_eq!(bench.facts("a"), [51, 50, 0, 0]);
        let mut bench = bench;
        for _ in 0..2 {
            bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
            assert_eq!((bench.settings("a"), bench.settings("b")), before);
            assert_eq!(bench.facts("a"), [51, 50, 0, 0]);
            bench.expire_before("b");
        }
        assert_eq!((bench.settings("a"), bench.settings("b")), before);
        assert_eq!(bench.send_from("a"), 51);
        assert_eq!(bench.facts("a"), [51, 51, 0, 1]);
    }
}

#[test]
fn settings_that_were_taken_back_leave_with_their_segment() {
    let bench = short_lived();
    bench.send_from("a");
    bench.set(silent("a"));
    let back = SettingsChange {
        is_pinned: Some(false),
        receive_option: Some(ReceiveOption::Notify),
        ..silent("a")
    };
    bench.set(back);
    bench.expire_before("a");
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(bench.settings("a"), ConversationSettings::default());
    assert_eq!(bench.facts("a"), [2, 2, 0, 1]);
}

#[test]
fn changes_that_one_group_makes_follow_each_other() {
    let bench = Bench::new();
    for _ in 0..5 {
        bench.send_from("a");
    }
    let frozen = bench.disk.faults.clone();
    let frozen = frozen.frozen.lock().unwrap();
    // The first one is being written. The others wait and come together.
    let pending: Vec<_> = [
        cleared("a", 1),
        silent("a"),
        cleared("a", 4),
        cleared("a", 2),
    ]
    .into_iter()
    .map(|change| bench.change(vec![change]))
    .collect();
    drop(frozen);
    for change in pending {
        assert_eq!(change.blocking_recv().unwrap(), Ok(()));
    }
    let settings = bench.settings("a");
    assert!(settings.is_pinned);
    assert_eq!(settings.receive_option, ReceiveOption::Silent);
    assert_eq!(settings.cleared, ConversationSeq(4));
}

#[test]
fn a_change_that_could_not_be_written_is_not_made() {
    let bench = Bench::new();
    bench.send_from("a");
    bench.disk.faults.is_full.store(true, Relaxed);
    let refused = bench.change(vec![cleared("a", 1)]).blocking_recv().unwrap();
    assert!(refused.is_err());
    assert_eq!(bench.facts("a"), [1, 1, 0, 1]);
    bench.disk.faults.is_full.store(false, Relaxed);
    let bench = bench.reopen(TestDisk::after_kill, false);
    assert_eq!(bench.settings("a"), ConversationSettings::default());
}

#[test]
fn what_was_cleared_among_messages_of_an_earlier_version_stays_cleared() {
    for keeps_state in [true, false] {
        let mut bench = older(|_| {});
        bench.limits.format = config::LOG_FORMAT;
        let bench = bench.reopen(TestDisk::after_kill, true);
        bench.set(cleared("a", 15));
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(bench.facts("a"), [16, 20, 20, 0]);
        assert_eq!(bench.chain("a").len(), 5);
        assert_eq!(bench.send_from("a"), 21);
        assert_eq!(bench.facts("a"), [16, 21, 20, 1]);
    }
}

#[test]
fn a_log_that_is_held_back_refuses_settings_and_keeps_the_older_ones() {
    let mut bench = Bench::new();
    bench.send_from("a");
    bench.set(silent("a"));
    let before = bench.settings("a");
    bench.limits.format = 2;
    let mut bench = bench.reopen(TestDisk::after_kill, true);
    let refused = bench.log.change_settings(user("u1"), vec![cleared("a", 1)]);
    assert!(matches!(refused, Err(AppendError::Refusing(_))));
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, false);
    assert_eq!(bench.settings("a"), before);
}
