//! The books: for each kind of entry, accepted = acked + pending + expired, over restarts, a lost state store and retention.

use super::*;
use crate::{
    message::{ReadMark, StoredMessage},
    metrics::ByKind,
};

const USERS: [&str; 3] = ["u0", "u1", "u2"];

/// A user's books, as the test keeps them.
#[derive(Default)]
struct Known {
    /// True for each entry of read marks, by seq from 1.
    is_marks: Vec<bool>,
    acked: u64,
}

impl Bench {
    fn send_marks(&self, name: &str) {
        let mark = ReadMark {
            conversation_id: "si_sender_receiver".into(),
            conversation_seq: 1,
            ..ReadMark::default()
        };
        let stored = StoredMessage {
            marks: vec![mark],
            ..StoredMessage::default()
        };
        let append = Append {
            body: stored.to_bytes(),
            is_marks: true,
            ..message(self.clock.now_ms(), &[name], None, "")
        };
        let pending = self.log.append(append).unwrap();
        pending.blocking_recv().unwrap().unwrap();
    }

    fn ack(&self, name: &str, cursor: u64) {
        let session = SessionKey {
            user: user(name),
            platform: Platform::Web,
            device: "".into(),
        };
        let row = SessionRow {
            cursor: Seq(cursor),
            acked_at_ms: 1,
        };
        self.store_cursor(&session, row);
    }

    /// The values of a metric of the books.
    fn booked(&self, name: &str) -> ByKind<u64> {
        let text = self.log.core.metrics.handle().render();
        let value = |kind: &str| {
            let line = format!("towncrier_messages_{name}{{kind=\"{kind}\"}} ");
            let mut lines = text.lines();
            let value = lines.find_map(|text| text.strip_prefix(&line));
            value.expect("it is there").parse().unwrap()
        };
        ByKind {
            messages: value("message"),
            marks: value("marks"),
        }
    }

    /// The pending entries by the test's own books.
    fn expected(&self, known: &[Known]) -> ByKind<u64> {
        let mut expected = ByKind::default();
        for (name, known) in USERS.iter().zip(known) {
            let (first, head) = self.bounds(name);
            assert_eq!(head, known.is_marks.len() as u64);
            for seq in (known.acked + 1).max(first)..=head {
                match known.is_marks[seq as usize - 1] {
                    true => expected.marks += 1,
                    false => expected.messages += 1,
                }
            }
        }
        expected
    }

    /// Waits until retention has done its work. Then the books of this life, which began with so many entries pending, are closed.
    fn expect_closed(&self, begun: ByKind<u64>, known: &[Known]) {
        eventually("retention", || {
            self.disk.segment_bytes() as u64 <= self.limits.retention_bytes
        });
        eventually("the books to close", || {
            let (pending, expected) = (self.log.pending(), self.expected(known));
            let [accepted, acked, expired, shown] =
                ["accepted_total", "acked_total", "expired_total", "pending"]
                    .map(|name| self.booked(name));
            let is_closed = |of: fn(&ByKind<u64>) -> u64| {
                of(&begun) + of(&accepted) == of(&acked) + of(&expired) + of(&pending)
            };
            (pending, shown) == (expected, expected)
                && is_closed(|kinds| kinds.messages)
                && is_closed(|kinds| kinds.marks)
        });
    }
}

#[test]
fn each_kind_is_accepted_as_often_as_it_is_acked_pending_or_expired() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut bench = Bench::with(|limits| {
        limits.segment_bytes = 8 << 10;
        limits.retention_bytes = 20 << 10;
    });
    let mut known: [Known; 3] = Default::default();
    let mut expired_marks = 0;
    for round in 0..8 {
        let begun = bench.log.pending();
        assert_eq!(begun, bench.expected(&known), "round {round}");
        for _ in 0..120 {
            let number = random.usize(..USERS.len());
            let (name, user) = (USERS[number], &mut known[number]);
            // The first user has no marks, and the last one acks nothing.
            match random.u8(..10) {
                0..3 if number > 0 => {
                    bench.send_marks(name);
                    user.is_marks.push(true);
                }
                3..5 if number < 2 => {
                    user.acked = random.u64(user.acked..=user.is_marks.len() as u64);
                    bench.ack(name, user.acked);
                }
                _ => {
                    bench.send(&[name], &"b".repeat(random.usize(..300)));
                    user.is_marks.push(false);
                }
            }
        }
        bench.expect_closed(begun, &known);
        expired_marks += bench.booked("expired_total").marks;
        bench.log.close();
        bench = bench.reopen(TestDisk::after_kill, random.bool());
    }
    assert!(expired_marks > 20, "{expired_marks} marks expired");
    let row = bench.log.core.state.users.get(&user(USERS[0])).unwrap();
    assert!(!row.has_marks, "a user without marks has no rows of them");
}

#[test]
fn damage_that_hides_entries_leaves_books_that_acks_can_close() {
    let bench = Bench::with(|limits| limits.segment_bytes = 4096);
    for number in 0..60 {
        bench.send(&["u1"], &format!("{number}{}", "d".repeat(200)));
    }
    bench.log.close();
    let disk = bench.disk.after_kill();
    let first = disk.segments().remove(0);
    let mut bytes = disk.get(&first);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.put(&first, bytes);
    let bench = bench.reopen(|_| disk, false);
    assert!(!bench.log.damages().is_empty());
    bench.ack("u1", 60);
    assert_eq!(bench.log.pending(), ByKind::default());
}
