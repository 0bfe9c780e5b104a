//! The landing of pushes: in order, once, over gaps and resends.

use std::collections::{BTreeMap, VecDeque};

use super::*;

fn message(seq: u64) -> Message {
    Message {
        seq,
        ..Message::default()
    }
}

fn push(seqs: impl IntoIterator<Item = u64>) -> Push {
    Push {
        messages: seqs.into_iter().map(message).collect(),
    }
}

fn connected(epoch: u64, cursor: u64, head: u64) -> Connected {
    Connected {
        epoch,
        cursor,
        head,
        first: 1,
        ..Connected::default()
    }
}

fn gap(from_seq: u64, to_seq: u64, reason: Reason) -> Gap {
    Gap {
        from_seq,
        to_seq,
        reason: reason.into(),
    }
}

/// A machine at `cursor` of log 7, connected to it.
fn landing_at(cursor: u64) -> Landing {
    let mut landing = Landing::new(StorePosition { epoch: 7, cursor });
    landing.connect("", "", "");
    assert_eq!(landing.connected(&connected(7, cursor, 1000)), Ok(None));
    landing
}

fn pushed(landing: &mut Landing, seqs: impl IntoIterator<Item = u64>) -> Batch {
    let mut batch = Batch::default();
    landing.push(push(seqs), &mut batch).expect("connected");
    batch
}

fn seqs(batch: &Batch) -> Vec<u64> {
    batch.land.iter().map(|message| message.seq).collect()
}

#[test]
fn successors_land_and_are_acked_once_for_many() {
    let batch = pushed(&mut landing_at(4), [5, 6, 7]);
    assert_eq!(seqs(&batch), [5, 6, 7]);
    assert_eq!((batch.ack, batch.resend), (Some(7), None));
}

#[test]
fn duplicates_are_dropped_and_acked_again() {
    let batch = pushed(&mut landing_at(4), [3, 4]);
    assert!(batch.land.is_empty());
    assert_eq!(batch.ack, Some(4));
}

#[test]
fn a_hole_lands_nothing_beyond_it_and_asks_once() {
    let mut landing = landing_at(4);
    let batch = pushed(&mut landing, [5, 7, 8]);
    assert_eq!(seqs(&batch), [5]);
    assert_eq!((batch.ack, batch.resend), (Some(5), Some(5)));
    assert_eq!(pushed(&mut landing, [9]), Batch::default(), "already asked");
    assert_eq!(seqs(&pushed(&mut landing, [6, 7])), [6, 7]);
    assert_eq!(
        pushed(&mut landing, [9]).resend,
        Some(7),
        "a new hole asks again"
    );
}

#[test]
fn a_hole_that_the_same_batch_fills_is_not_asked_for() {
    let batch = pushed(&mut landing_at(4), [6, 5, 6]);
    assert_eq!(seqs(&batch), [5, 6]);
    assert_eq!((batch.ack, batch.resend), (Some(6), None));
}

#[test]
fn online_only_messages_are_shown_and_neither_stored_nor_acked() {
    let batch = pushed(&mut landing_at(4), [0]);
    assert_eq!(batch.online_only, [message(0)]);
    assert!(batch.land.is_empty() && batch.ack.is_none());
}

#[test]
fn an_entry_of_marks_moves_the_cursor_and_is_no_message() {
    let marks = vec![ReadMark {
        conversation_id: "sn_office_me".into(),
        conversation_seq: 3,
    }];
    let entry = |seq| Message {
        marks: marks.clone(),
        ..message(seq)
    };
    let pushed = |landing: &mut Landing, messages: Vec<Message>| {
        let mut batch = Batch::default();
        landing.push(Push { messages }, &mut batch).unwrap();
        batch
    };
    let mut landing = landing_at(4);
    let batch = pushed(&mut landing, vec![message(5), entry(6), message(7)]);
    assert_eq!(seqs(&batch), [5, 7]);
    assert_eq!((batch.ack, &batch.marks), (Some(7), &marks));
    let batch = pushed(&mut landing, vec![entry(7), entry(9)]);
    assert!(batch.land.is_empty() && batch.marks.is_empty());
    assert_eq!((batch.ack, batch.resend), (Some(7), Some(7)));
}

#[test]
fn an_empty_store_begins_where_the_server_says_and_names_no_cursor() {
    let mut landing = Landing::new(StorePosition::default());
    let connect = landing.connect("t", "d", "c");
    assert_eq!((connect.epoch, connect.cursor), (0, None));
    let beginning = StorePosition {
        epoch: 7,
        cursor: 12,
    };
    assert_eq!(
        landing.connected(&connected(7, 12, 20)),
        Ok(Some(beginning))
    );
    assert_eq!(seqs(&pushed(&mut landing, [13])), [13]);
    let connect = landing.connect("t", "d", "c");
    assert_eq!((connect.epoch, connect.cursor), (7, Some(13)));
}

#[test]
fn an_expired_gap_moves_the_cursor_forwards_only() {
    let mut landing = landing_at(4);
    let moved = landing.gap(&gap(5, 9, Reason::Expired));
    assert_eq!(
        moved,
        Ok(Some(StorePosition {
            epoch: 7,
            cursor: 9
        }))
    );
    assert_eq!(landing.gap(&gap(5, 9, Reason::Expired)), Ok(None));
    assert!(matches!(
        landing.gap(&gap(12, 13, Reason::Expired)),
        Err(Misled::Gap { .. })
    ));
}

#[test]
fn an_empty_store_is_told_what_expired_before_its_beginning_once() {
    let mut landing = Landing::new(StorePosition::default());
    landing.connect("", "", "");
    let beginning = StorePosition {
        epoch: 7,
        cursor: 5,
    };
    assert_eq!(landing.connected(&connected(7, 5, 9)), Ok(Some(beginning)));
    let expired = gap(2, 5, Reason::Expired);
    assert_eq!(landing.gap(&expired), Ok(Some(beginning)));
    assert_eq!(landing.gap(&expired), Ok(None));
    assert_eq!(seqs(&pushed(&mut landing, [6])), [6]);
}

#[test]
fn another_epoch_takes_its_gap_and_only_then_messages() {
    let mut landing = Landing::new(StorePosition {
        epoch: 7,
        cursor: 40,
    });
    landing.connect("", "", "");
    assert_eq!(landing.connected(&connected(8, 0, 2)), Ok(None));
    let refused = landing.push(push([1]), &mut Batch::default());
    assert_eq!(refused, Err(Misled::Epoch));
    let moved = landing.gap(&gap(1, 0, Reason::EpochChanged));
    assert_eq!(
        moved,
        Ok(Some(StorePosition {
            epoch: 8,
            cursor: 0
        }))
    );
    assert_eq!(seqs(&pushed(&mut landing, [1, 2])), [1, 2]);
}

#[test]
fn a_cursor_above_head_takes_the_same_way_back() {
    let mut landing = Landing::new(StorePosition {
        epoch: 7,
        cursor: 40,
    });
    landing.connect("", "", "");
    assert_eq!(landing.connected(&connected(7, 0, 30)), Ok(None));
    let moved = landing.gap(&gap(1, 10, Reason::EpochChanged));
    assert_eq!(
        moved,
        Ok(Some(StorePosition {
            epoch: 7,
            cursor: 10
        }))
    );
}

#[test]
fn what_the_protocol_rules_out_is_refused() {
    let mut landing = Landing::new(StorePosition {
        epoch: 7,
        cursor: 4,
    });
    landing.connect("", "", "");
    let early = landing.push(push([5]), &mut Batch::default());
    assert_eq!(early, Err(Misled::NotConnected));
    assert_eq!(landing.connected(&connected(0, 0, 0)), Err(Misled::Epoch));
    assert_eq!(landing.connected(&connected(7, 4, 9)), Ok(None));
    assert_eq!(
        landing.connected(&connected(7, 4, 9)),
        Err(Misled::ConnectedTwice)
    );
    assert_eq!(
        landing.gap(&gap(1, 0, Reason::EpochChanged)),
        Err(Misled::Epoch)
    );
}

/// A gateway, a wire that loses and repeats frames, and a store that crashes, all from one seed.
struct World {
    random: fastrand::Rng,
    epoch: u64,
    head: u64,
    first: u64,
    /// The present connection: the highest seq sent, and the frames on the wire.
    sent: u64,
    wire: VecDeque<Frame>,
    landing: Landing,
    /// The store: its position, the landed messages with their counts, and the seqs announced as gone.
    position: StorePosition,
    landed: BTreeMap<(u64, u64), u32>,
    order: Vec<(u64, u64)>,
    gone: Vec<(u64, u64, u64)>,
}

enum Frame {
    Push(Push),
    Gap(Gap),
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            epoch: 1,
            head: 0,
            first: 1,
            sent: 0,
            wire: VecDeque::new(),
            landing: Landing::new(StorePosition::default()),
            position: StorePosition::default(),
            landed: BTreeMap::new(),
            order: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// A new connection, perhaps from a process that lost everything it had not committed.
    fn connect(&mut self) {
        self.wire.clear();
        self.landing = Landing::new(self.position);
        let connect = self.landing.connect("", "", "");
        let cursor = connect.cursor.unwrap_or(self.first - 1);
        let is_foreign = connect.epoch != 0 && (connect.epoch != self.epoch || cursor > self.head);
        self.sent = if is_foreign { self.first - 1 } else { cursor };
        let answer = Connected {
            epoch: self.epoch,
            cursor: self.sent,
            head: self.head,
            first: self.first,
            ..Connected::default()
        };
        if let Some(beginning) = self.landing.connected(&answer).expect("a good answer") {
            self.position = beginning;
        }
        if is_foreign {
            let gap = gap(1, self.first - 1, Reason::EpochChanged);
            self.wire.push_back(Frame::Gap(gap));
        }
    }

    /// The server sends from its cursor on: a gap if retention was faster, then messages.
    fn send(&mut self) {
        if self.sent + 1 < self.first {
            let gap = gap(self.sent + 1, self.first - 1, Reason::Expired);
            self.sent = self.first - 1;
            self.wire.push_back(Frame::Gap(gap));
        }
        let up_to = self.head.min(self.sent + self.random.u64(1..=4));
        self.wire
            .push_back(Frame::Push(push(self.sent + 1..=up_to)));
        self.sent = up_to;
    }

    /// The client takes the next frame from the wire. It may crash before the commit, or between the commit and the ack.
    fn receive(&mut self, may_crash: bool) {
        let crash = if may_crash { self.random.u32(0..20) } else { 2 };
        match self.wire.pop_front() {
            None => {}
            Some(Frame::Gap(gap)) => match self.landing.gap(&gap) {
                // A gap beyond a hole: the client reconnects.
                Err(_) => self.connect(),
                Ok(None) => {}
                Ok(Some(position)) => {
                    self.gone.push((self.epoch, gap.from_seq, gap.to_seq));
                    self.position = position;
                }
            },
            Some(Frame::Push(push)) => {
                let mut batch = Batch::default();
                self.landing.push(push, &mut batch).expect("announced");
                if crash == 0 {
                    return self.connect();
                }
                self.commit(&batch);
                if crash == 1 {
                    return self.connect();
                }
                let acked = batch.ack.unwrap_or(0);
                assert!(
                    acked <= self.sent.max(self.position.cursor),
                    "an ack from the future"
                );
                if let Some(after) = batch.resend {
                    self.sent = after;
                }
            }
        }
    }

    fn commit(&mut self, batch: &Batch) {
        for message in &batch.land {
            assert_eq!(
                message.seq,
                self.position.cursor + 1,
                "only successors land"
            );
            self.position.cursor = message.seq;
            let key = (self.position.epoch, message.seq);
            *self.landed.entry(key).or_default() += 1;
            self.order.push(key);
        }
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..25 => self.head += self.random.u64(1..=3),
            25..55 => self.send(),
            55..85 => self.receive(true),
            // The wire loses a frame, or the server rewinds to the ack.
            85..89 => {
                self.wire
                    .pop_front_if(|frame| matches!(frame, Frame::Push(_)));
            }
            89..93 => self.sent = self.sent.min(self.position.cursor),
            93..96 => self.connect(),
            96..98 => self.first = self.random.u64(self.first..=self.head + 1),
            98 => self.receive(false),
            _ => {
                self.epoch += 1;
                self.head = self.random.u64(0..10);
                self.first = self.random.u64(1..=self.head + 1);
                self.connect();
            }
        }
    }
}

#[test]
fn whatever_is_lost_repeated_or_crashed_each_message_lands_once_in_order() {
    let start = std::env::var("TOWNCRIER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let start = start.unwrap_or_else(|| fastrand::u64(..));
    for seed in (0..200).map(|i| start.wrapping_add(i)) {
        println!("TOWNCRIER_SEED={seed}");
        let mut world = World::new(seed);
        world.connect();
        for _ in 0..500 {
            world.step();
        }
        // The rest arrives without disturbances.
        world.connect();
        while world.position.cursor < world.head || !world.wire.is_empty() {
            if world.sent < world.head {
                world.send();
            }
            world.receive(false);
        }
        assert!(
            world.landed.values().all(|times| *times == 1),
            "landed twice"
        );
        for epoch in 1..=world.epoch {
            let order: Vec<u64> = world
                .order
                .iter()
                .filter(|(of, _)| *of == epoch)
                .map(|(_, seq)| *seq)
                .collect();
            assert!(order.is_sorted(), "out of order: {order:?}");
        }
        for seq in 1..=world.head {
            let is_gone = world
                .gone
                .iter()
                .any(|(epoch, from, to)| *epoch == world.epoch && (*from..=*to).contains(&seq));
            let is_landed = world.landed.contains_key(&(world.epoch, seq));
            assert!(
                is_gone || is_landed || seq < world.first,
                "seq {seq} went in silence"
            );
        }
    }
}
