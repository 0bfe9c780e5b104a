//! A message keeps the base of the epoch in which it was stored, over a crash, a lost state store and retention.

use super::{
    conversations::{ALL, older, short_lived},
    *,
};
use crate::{
    ids::{ConversationSeq, WireSeq},
    log::embedded::epoch::{self, LogEpoch},
};

impl Bench {
    /// This log after a change to an epoch with this base.
    fn renewed(self, base: u32, keeps_state: bool) -> Self {
        let root = RealDisk::open(self.dir.path()).unwrap();
        epoch::write(&root, LogEpoch::new(base)).unwrap();
        self.reopen(TestDisk::after_power_cut, keeps_state)
    }

    /// The wire seqs of u1's entries.
    fn wires(&self) -> Vec<u64> {
        let read = self.log.read_blocking(&user("u1"), Seq::ZERO, ALL);
        let entries = read.unwrap().entries.into_iter();
        entries.map(|entry| entry.numbers.wire_seq().0).collect()
    }

    /// The wire seqs of a conversation's entries, which are those that the conversation itself tells.
    fn wires_of(&self, sender: &str) -> Vec<u64> {
        let conversation = self.conversation(sender);
        let range = (ConversationSeq(1), ConversationSeq(u64::MAX));
        let (user, id) = (user("u1"), &conversation.id);
        let read = self.log.read_conversation(&user, id, range, ALL);
        let entries = read.blocking_wait().unwrap().entries.into_iter();
        let told = entries.map(|entry| {
            let wire = entry.numbers.wire_seq();
            let seq = entry.numbers.conversation_seq;
            assert_eq!(conversation.wire_of(seq), wire);
            assert_eq!(conversation.seq_of(wire), seq);
            wire.0
        });
        told.collect()
    }

    fn wire_of(&self, sender: &str, seq: u64) -> u64 {
        self.conversation(sender).wire_of(ConversationSeq(seq)).0
    }
}

#[test]
fn a_message_keeps_the_base_of_its_epoch() {
    for keeps_state in [true, false] {
        let mut bench = Bench::new();
        bench.send_from("a");
        bench.send_from("b");
        bench.send_from("a");
        bench = bench.renewed(1000, keeps_state);
        assert_eq!(bench.wires_of("a"), [1, 2], "before the first message");
        bench.send_from("a");
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        bench.send_from("a");
        bench.mark("a", 4);
        bench = bench.renewed(2000, keeps_state);
        bench = bench.renewed(3000, keeps_state);
        for sender in ["a", "b", "new"] {
            bench.send_from(sender);
        }
        for keeps_state in [true, false] {
            assert_eq!(bench.wires_of("a"), [1, 2, 1003, 1004, 3005]);
            assert_eq!(bench.wires_of("b"), [1, 3002]);
            assert_eq!(bench.wires_of("new"), [3001]);
            assert_eq!(
                bench.wires(),
                [1, 1, 2, 1003, 1004, 0, 3005, 3002, 3001],
                "marks are in no conversation"
            );
            bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        }
        let hole = bench.conversation("a").seq_of(WireSeq(2500));
        assert_eq!(hole, ConversationSeq(4));
    }
}

#[test]
fn receipts_and_messages_to_everyone_tell_the_base() {
    let bench = Bench::new().renewed(1000, true);
    let receipt = bench.try_send(&["u1", "u2"], Some("key"), "one").unwrap();
    let bases = |receipt: &Receipt| {
        let bases = receipt.entries.iter().map(|(_, numbers)| numbers.base);
        bases.collect::<Vec<_>>()
    };
    assert_eq!(bases(&receipt), [1000, 1000]);
    let repeat = bench.try_send(&["u1", "u2"], Some("key"), "one");
    assert_eq!(repeat.as_ref(), Ok(&receipt));
    let everyone = bench.everyone(Some("all"), "two").unwrap();
    assert_eq!(bases(&everyone), [1000, 1000]);
    let ahead = everyone.entries.iter().map(|(_, at)| at.time_ahead_ms);
    assert_eq!(ahead.collect::<Vec<_>>(), [1, 1]);
    assert_eq!(bench.everyone(Some("all"), "two"), Ok(everyone));
}

#[test]
fn bases_outlive_their_messages() {
    let bench = short_lived();
    bench.send_from("quiet");
    bench.send_from("loud");
    let bench = bench.renewed(1000, true);
    bench.send_from("quiet");
    bench.send_from("loud");
    // The first messages with the base leave. Each conversation is carried over: the quiet one, and the one that goes on.
    bench.expire_before("loud");
    let mut bench = bench;
    for keeps_state in [true, false, false] {
        assert_eq!(bench.wires_of("loud"), [1003]);
        for sender in ["quiet", "loud"] {
            assert_eq!(bench.wire_of(sender, 1), 1);
            assert_eq!(bench.wire_of(sender, 2), 1002);
        }
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
    }
    // The carried facts are in a segment that is removed as well.
    bench.expire_before("loud");
    let bench = bench.renewed(3000, false);
    assert_eq!(bench.send_from("quiet"), 3);
    assert_eq!(bench.wires_of("quiet"), [3003]);
    assert_eq!(bench.wire_of("quiet", 1), 1);
    assert_eq!(bench.wire_of("quiet", 2), 1002);
    assert_eq!(bench.wire_of("loud", 4), 1004);
    let old = bench.conversation("quiet").seq_of(WireSeq(900));
    assert_eq!(old, ConversationSeq(1));
}

#[test]
fn messages_of_an_earlier_version_have_base_0() {
    let mut bench = older(|_| {});
    bench.limits.format = config::LOG_FORMAT;
    let mut bench = bench.reopen(TestDisk::after_kill, true);
    let wires: Vec<_> = (1..=10).collect();
    assert_eq!(bench.wires_of("b"), wires);
    bench = bench.renewed(1000, true);
    bench.send_from("b");
    let wires: Vec<_> = wires.into_iter().chain([1011]).collect();
    for keeps_state in [true, false] {
        assert_eq!(bench.wires_of("b"), wires);
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
    }
    // The format is held back for a while. Its message is numbered later, and goes on.
    bench.limits.format = 2;
    bench = bench.reopen(TestDisk::after_kill, true);
    bench.send_from("b");
    bench.limits.format = config::LOG_FORMAT;
    bench = bench.reopen(TestDisk::after_kill, true);
    assert_eq!(bench.wires_of("b").last(), Some(&1012));
    assert_eq!(bench.wires().last(), Some(&1012));
}

#[test]
fn a_log_whose_epoch_was_lost_goes_on_with_the_base_that_it_had() {
    let bench = Bench::new().renewed(1000, true);
    bench.send_from("a");
    std::fs::remove_file(bench.dir.path().join("epoch")).unwrap();
    let bench = bench.reopen(TestDisk::after_power_cut, true);
    bench.send_from("a");
    assert_eq!(bench.wires_of("a"), [1001, 1002]);
}

/// A log in a directory of the machine, to which one message is sent.
fn used(dir: &Path) {
    let log = open_directory(dir).unwrap();
    let pending = log.append(message(START_MS, &["u1"], None, "one")).unwrap();
    pending.blocking_recv().unwrap().unwrap();
}

#[test]
fn each_new_epoch_of_a_log_has_a_higher_base() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    used(&dir);
    let later_ms = START_MS + 500_000;
    let first = renew_epoch(&dir, None, later_ms).unwrap();
    assert!(
        (1_000_499..=1_000_500).contains(&first.base),
        "{first:?}: the newest record is of the start"
    );
    let given = renew_epoch(&dir, Some(3_000_000), later_ms).unwrap();
    assert_eq!(given.base, 3_000_000);
    for refused in [0, 3_000_000, 13_000_001] {
        let refused = renew_epoch(&dir, Some(refused), later_ms);
        let Err(RenewError::Base { least, most }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((least, most), (3_000_001, 13_000_000));
    }
    let root = RealDisk::open(&dir).unwrap();
    assert_eq!(epoch::read(&root).unwrap(), Some(given));
    // Without the file the records tell the base.
    used(&dir);
    std::fs::write(dir.join("epoch"), "no epoch").unwrap();
    let refused = open_directory(&dir).err().expect("it is damaged");
    assert!(matches!(refused, OpenError::Epoch(_)));
    let next = renew_epoch(&dir, None, START_MS).unwrap();
    assert_eq!(next.base, 4_000_000);
    let log = open_directory(&dir).unwrap();
    assert!(matches!(
        renew_epoch(&dir, None, START_MS),
        Err(RenewError::Open(OpenError::InUse(_)))
    ));
    drop(log);
}

#[test]
fn a_lost_directory_begins_with_the_base_that_the_operator_gives() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let refused = renew_epoch(&dir, None, START_MS);
    assert!(matches!(refused, Err(RenewError::Open(_))), "{refused:?}");
    assert!(!dir.exists());
    let begun = renew_epoch(&dir, Some(2_000_000), START_MS).unwrap();
    let log = open_directory(&dir).unwrap();
    assert_eq!((log.core.epoch, log.core.base), (begun.number, begun.base));
}
