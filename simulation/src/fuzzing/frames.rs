//! Fuzzing of the session machine: a client's frames, and all other events of a session, in any order.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use towncrier::{
    ids::{ConnectionId, ConversationSeq, Epoch, Platform, Seq},
    message::{Bases, Content, Conversation, Entry, Live, Message, Numbers},
    protocol::{Codec as _, towncrier_v1::TowncrierV1},
    session::*,
};

use super::Input;

const LIMITS: Limits = Limits {
    window: 8,
    replayed_bytes_max: 1000,
    resend_after: Duration::from_secs(5),
    heartbeat: Duration::from_secs(30),
    stall_timeout: Duration::from_secs(20),
    starts_at_head: false,
};

/// The inbox and the connection, as the session's environment gives them.
struct World {
    head: u64,
    first: u64,
    /// Everything up to `sent` was pushed or announced as a gap; its highest value so far; the highest ack.
    sent: u64,
    highest: u64,
    acked: u64,
    /// The read or the list under way; true while marks are on their way.
    order: Option<ReadOrder>,
    list: Option<ListRequest>,
    is_marking: bool,
    is_closed: bool,
}

fn body(seq: u64) -> Option<Bytes> {
    (!seq.is_multiple_of(7)).then(|| seq.to_be_bytes().to_vec().into())
}

/// True if this entry of the inbox holds read marks.
fn is_marks(seq: u64) -> bool {
    seq.is_multiple_of(5)
}

/// The answer to a list: this many conversations.
fn conversations(request: ListRequest, count: u8) -> Event {
    let conversation = |last_seq| Conversation {
        id: "sg_group".into(),
        head: ConversationSeq(1),
        first: ConversationSeq(1),
        mark: ConversationSeq::ZERO,
        unread: 1,
        last_time_ms: 1,
        last_seq: Seq(last_seq),
        bases: Bases::default(),
        settings: Default::default(),
    };
    let count = u64::from(count).min(request.limit.into());
    Event::Listed {
        conversations: (1..=count).rev().map(conversation).collect(),
        is_end: true,
    }
}

/// The places of a message in an inbox with one conversation.
fn numbers(seq: u64) -> Numbers {
    Numbers {
        seq: Seq(seq),
        conversation_seq: ConversationSeq(seq),
        ..Numbers::default()
    }
}

fn live(seq: u64) -> Event {
    let message = Arc::new(Message::new(Bytes::new()));
    Event::Live(Live {
        numbers: numbers(seq),
        message,
    })
}

/// Reads the inbox's state, a first frame and further events from `data`, one after the other. For every input: the session
/// pushes what the log holds, in order, within the window, and announces every hole; after a close it does nothing.
pub fn frames(data: &[u8]) {
    let mut input = Input(data);
    let head = u64::from(input.byte());
    let first = 1 + u64::from(input.byte()) % (head + 1);
    let stored = Some(Seq(input.byte().into())).filter(|seq| seq.0 <= head);
    let frame = Bytes::copy_from_slice(input.counted());
    let Ok(FromClient::Connect(connect)) = TowncrierV1.decode(frame, false) else {
        return;
    };
    let footing = Footing {
        epoch: Epoch(7),
        head: Seq(head),
        first: Seq(first),
        stored,
        is_damaged: false,
        has_conversations: true,
    };
    let welcome = Welcome {
        connection: ConnectionId(1),
        platform: Platform::Web,
        server_time_ms: 0,
    };
    let mut now = Moment::default();
    let opened = open(
        connect.resume,
        connect.manner,
        footing,
        welcome,
        &LIMITS,
        now,
    );
    let (mut session, actions) = opened.expect("the log is whole");
    let Some(Action::Send(ToClient::Connected(connected))) = actions.first() else {
        panic!("{actions:?}")
    };
    let mut world = World {
        head,
        first,
        sent: connected.cursor.0,
        highest: connected.cursor.0,
        acked: connected.cursor.0,
        order: None,
        list: None,
        is_marking: false,
        is_closed: false,
    };
    world.perform(actions, None);
    while !input.is_empty() {
        let what = input.byte();
        let event = match what & 0xf {
            0 if session.is_listening() => {
                match TowncrierV1.decode(Bytes::copy_from_slice(input.counted()), false) {
                    Ok(said) => Event::Said(said),
                    Err(_) => return,
                }
            }
            1 if session.is_listening() => {
                let behind = u64::from(input.byte() & 0xf);
                let ack = Seq(world.sent.saturating_sub(behind));
                Event::Said(FromClient::Ack(ack))
            }
            2 => {
                world.head += 1;
                live(world.head)
            }
            3 => live(0),
            4 => {
                world.head += u64::from(input.byte());
                Event::Head(Seq(world.head))
            }
            5 => match world.order.take() {
                Some(order) => world.read(order, input.byte()),
                None => continue,
            },
            6 => {
                now = now.plus(Duration::from_millis(500) * input.byte().into());
                Event::Tick(Condition::default())
            }
            7 => Event::Room,
            8 => {
                world.first += u64::from(input.byte()) % (world.head + 2 - world.first);
                continue;
            }
            9 => Event::Replaced,
            10 => Event::LoggedOut,
            11 => Event::Drain(Duration::from_secs(1)),
            12 => match world.list.take() {
                Some(request) => conversations(request, input.byte()),
                None => continue,
            },
            13 if world.is_marking => {
                world.is_marking = false;
                Event::Marked
            }
            _ => Event::Heard,
        };
        let scene = Scene {
            now,
            has_room: what & 0x10 == 0,
            is_flushed: what & 0x20 == 0,
            random: || 0.5,
        };
        let live = match event {
            Event::Live(Live { numbers, .. }) => Some(numbers),
            _ => None,
        };
        let actions = session.handle(event, scene, &LIMITS);
        world.perform(actions, live);
    }
}

impl World {
    fn read(&self, order: ReadOrder, most: u8) -> Event {
        let from = order.after.0.max(self.first - 1) + 1;
        let count = order.messages.min(1 + usize::from(most));
        let entries: Vec<_> = (from..=self.head)
            .take(count)
            .map(|seq| Entry {
                numbers: numbers(seq),
                content: match body(seq) {
                    Some(body) if is_marks(seq) => Content::Marks(body),
                    Some(body) => Content::Message(body),
                    None => Content::Removed,
                },
            })
            .collect();
        if entries.is_empty() {
            return Event::ReadNothing(Seq(self.first));
        }
        Event::Read(entries)
    }

    fn perform(&mut self, actions: Vec<Action>, mut live: Option<Numbers>) {
        for action in actions {
            assert!(!self.is_closed, "{action:?} after the close");
            match action {
                Action::Send(said) => self.hear(said, &mut live),
                Action::Pong(_) | Action::Begin(_) | Action::DropUnsent => {}
                Action::Ask { .. }
                | Action::ReadNewest(_)
                | Action::Look(_)
                | Action::Background(_) => {
                    unreachable!("this protocol has no such question")
                }
                Action::Read(order) => {
                    assert!(order.messages >= 1 && order.after.0 <= self.head);
                    assert_eq!(self.order.replace(order), None, "one read at a time");
                    assert_eq!(self.list, None, "no read beside a list");
                }
                Action::List(request) => {
                    assert!((1..=500).contains(&request.limit));
                    assert_eq!(self.list.replace(request), None, "one list at a time");
                    assert_eq!(self.order, None, "no list beside a read");
                }
                Action::Mark(marks) => {
                    assert!((1..=300).contains(&marks.len()));
                    assert!(!self.is_marking, "one entry of marks at a time");
                    self.is_marking = true;
                }
                Action::StoreAck { seq, advanced } => {
                    assert!(seq.0 <= self.highest && seq.0 - advanced == self.acked);
                    self.acked = seq.0;
                    self.sent = self.sent.max(self.acked);
                }
                Action::Close(_) => self.is_closed = true,
            }
        }
    }

    fn hear(&mut self, said: ToClient, live: &mut Option<Numbers>) {
        match said {
            ToClient::Gap(gap) => self.announce(gap.from.0, gap.to.0),
            ToClient::Live(Live { numbers, .. }) => {
                let at_hand = live.take();
                assert_eq!(at_hand, Some(numbers), "the message that is at hand, once");
                let seq = numbers.seq;
                if seq > Seq::ZERO {
                    self.announce(seq.0, seq.0);
                }
            }
            ToClient::Push { messages, .. } => {
                for (pushed_at, pushed) in &messages {
                    let seq = pushed_at.seq;
                    assert_eq!(*pushed_at, numbers(seq.0));
                    assert_eq!(body(seq.0).as_ref(), Some(pushed));
                    self.announce(seq.0, seq.0);
                }
                assert!(!messages.is_empty());
            }
            ToClient::Fetched { messages, .. } => {
                let is_ascending = messages.is_sorted_by(|(a, _), (b, _)| a.seq < b.seq);
                assert!(is_ascending && messages.len() <= 500);
                let is_stored = |(at, fetched): &(Numbers, Bytes)| {
                    !is_marks(at.seq.0) && body(at.seq.0).as_ref() == Some(fetched)
                };
                assert!(messages.iter().all(is_stored));
            }
            _ => {}
        }
    }

    /// A range of the inbox goes out. It joins the range before it, or repeats entries that are not acked.
    fn announce(&mut self, from: u64, to: u64) {
        // A cursor of another log goes back to the first retained message: from 1 to 0 when nothing has expired.
        if to + 1 >= from {
            assert!(from <= self.sent + 1, "{from} after {}", self.sent);
        }
        assert!(to <= self.head.max(self.first - 1));
        self.sent = self.sent.max(to);
        self.highest = self.highest.max(to);
    }
}
