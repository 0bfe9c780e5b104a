//! Random schedules of appends, acks, losses, reconnects, replacements, expiry and rewinds. In each of them a client that
//! follows the rules lands every message exactly once and in order. A message that it does not land was announced as a gap,
//! and is really gone.
//!
//! `TOWNCRIER_SEED=n` runs the one schedule `n` again; a failure prints its own.
//!
//! - `any_order.rs`: events in any order at the sessions of `manner.rs`
//! - `closing.rs`: the facts that close a session
//! - `fetch.rs`: a `Fetch` reads a bounded part of the inbox
//! - `inbox.rs`: the log that the sessions read
//! - `manner.rs`: sessions whose client asks where it stands before it takes pushes
//! - `presence.rs`: watched users
//! - `read_state.rs`: read marks, and lists of conversations

mod any_order;
mod closing;
mod fetch;
mod inbox;
mod manner;
mod presence;
mod read_state;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;

use self::inbox::{Inbox, body, numbers};
use super::*;
use crate::{
    ids::{ConnectionId, Epoch, Platform, Seq},
    message::{Live, Message, Numbers},
};

const SCHEDULES: u64 = 10_000;
const LIMITS: Limits = Limits {
    window: 8,
    replayed_bytes_max: 12,
    resend_after: Duration::from_secs(5),
    heartbeat: Duration::from_secs(30),
    stall_timeout: Duration::from_secs(20),
    starts_at_head: false,
};

/// A frame on its way to the client.
#[derive(Debug)]
enum Down {
    Said(ToClient),
    Push(Messages),
    Close,
}

/// The server's end of one connection.
struct Server {
    session: Session,
    order: Option<ReadOrder>,
    /// The result of a read that the session has not got yet. Other events may come before it.
    found: Option<Event>,
    mailbox: VecDeque<Seq>,
    /// Everything up to here was pushed or announced as a gap.
    announced: u64,
}

impl Server {
    /// A range of the inbox goes out. It must join the range before it.
    fn announce(&mut self, from: u64, to: u64) {
        assert!(from <= self.announced + 1, "nothing is left out in silence");
        self.announced = self.announced.max(to);
    }
}

/// A client that follows `docs/protocol.md#landing`.
#[derive(Default)]
struct Client {
    epoch: u64,
    cursor: Option<u64>,
    landed: Vec<u64>,
    gapped: BTreeMap<u64, u64>,
    is_connected: bool,
    is_caught_up: bool,
}

struct World {
    rng: Rng,
    now: Moment,
    inbox: Inbox,
    stored: Option<Seq>,
    server: Option<Server>,
    client: Client,
    down: VecDeque<Down>,
    up: VecDeque<FromClient>,
    is_fair: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            now: Moment(0),
            inbox: Inbox {
                epoch: 1,
                bodies: Vec::new(),
                first: 1,
            },
            stored: None,
            server: None,
            client: Client::default(),
            down: VecDeque::new(),
            up: VecDeque::new(),
            is_fair: false,
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        !self.is_fair && self.rng.u32(..one_in) == 0
    }

    fn connect(&mut self) {
        // An older connection is replaced. The client loses the frames that were on their way.
        self.server = None;
        self.down.clear();
        self.up.clear();
        self.client.is_connected = false;
        self.client.is_caught_up = false;
        let has_store = self.client.cursor.is_some();
        assert!(has_store || self.client.epoch == 0);
        // A client may omit the fields that it does not know.
        let resume = Resume {
            epoch: self.client.epoch,
            cursor: self.client.cursor.map(Seq),
        };
        let footing = Footing {
            epoch: Epoch(self.inbox.epoch),
            head: Seq(self.inbox.head()),
            first: Seq(self.inbox.first),
            stored: self.stored,
            is_damaged: false,
            has_conversations: true,
        };
        let welcome = Welcome {
            connection: ConnectionId(1),
            platform: Platform::Web,
            server_time_ms: 0,
        };
        let opened = open(resume, Manner::Acks, footing, welcome, &LIMITS, self.now);
        let (session, actions) = opened.expect("the log is whole");
        self.server = Some(Server {
            session,
            order: None,
            found: None,
            mailbox: VecDeque::new(),
            announced: 0,
        });
        self.perform(actions);
        self.happen(Event::Room);
    }

    fn happen(&mut self, event: Event) {
        let scene = Scene {
            now: self.now,
            has_room: !self.chance(4),
            is_flushed: !self.chance(4),
            random: || 0.5,
        };
        if let Some(server) = &mut self.server {
            let actions = server.session.handle(event, scene, &LIMITS);
            self.perform(actions);
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let server = self.server.as_mut().expect("only a session acts");
        for action in actions {
            match action {
                Action::Pong(_)
                | Action::DropUnsent
                | Action::Background(_)
                | Action::List(_)
                | Action::Mark(_)
                | Action::Ask { .. }
                | Action::ReadNewest(_)
                | Action::Look(_)
                | Action::Send(ToClient::Fetched { .. } | ToClient::Conversations { .. }) => {
                    unreachable!("never asked for")
                }
                Action::Send(ToClient::Live(Live { numbers, .. })) => {
                    let seq = numbers.seq;
                    server.announce(seq.0, seq.0);
                    let stored = self.inbox.bodies[seq.0 as usize - 1].clone();
                    let live = stored.unwrap_or_else(|| body(self.inbox.epoch, seq.0).into());
                    self.down.push_back(Down::Push(vec![(numbers, live)]));
                }
                Action::Send(ToClient::Push { messages, .. }) => {
                    assert!(messages.len() <= LIMITS.window as usize);
                    for (Numbers { seq, .. }, _) in &messages {
                        server.announce(seq.0, seq.0);
                    }
                    self.down.push_back(Down::Push(messages));
                }
                Action::Send(said) => {
                    match &said {
                        ToClient::Connected(connected) => server.announced = connected.cursor.0,
                        ToClient::Gap(gap) => server.announce(gap.from.0, gap.to.0),
                        _ => {}
                    }
                    self.down.push_back(Down::Said(said));
                }
                Action::Read(order) => {
                    assert!(server.found.is_none(), "one read at a time");
                    assert!(server.order.replace(order).is_none(), "one read at a time");
                    assert!((1..=LIMITS.window as usize).contains(&order.messages));
                }
                Action::Begin(seq) | Action::StoreAck { seq, .. } => self.stored = Some(seq),
                Action::Close(reason) => {
                    assert!(
                        !matches!(
                            reason,
                            Reason::Protocol(_)
                                | Reason::LogUnreadable
                                | Reason::LogDamaged
                                | Reason::LogShort
                        ),
                        "{reason:?}"
                    );
                    self.down.push_back(Down::Close);
                }
            }
        }
    }

    fn receive(&mut self, down: Down) {
        match down {
            Down::Close => {
                self.server = None;
                self.client.is_connected = false;
            }
            Down::Said(ToClient::Connected(connected)) => {
                assert!(!self.client.is_connected);
                self.client.is_connected = true;
                if self.client.epoch == 0 {
                    self.client.epoch = connected.epoch.0;
                    self.client.cursor = Some(connected.cursor.0);
                    // A client without a store begins at the cursor that the gateway names. It does not count the messages
                    // before it.
                    self.client.gapped.insert(1, connected.cursor.0);
                }
            }
            Down::Said(ToClient::Gap(gap)) if gap.reason == GapReason::EpochChanged => {
                self.client = Client {
                    epoch: self.inbox.epoch,
                    cursor: Some(gap.to.0),
                    gapped: BTreeMap::from([(gap.from.0, gap.to.0)]),
                    is_connected: true,
                    ..Client::default()
                };
            }
            Down::Said(ToClient::Gap(gap)) => {
                let cursor = self.client.cursor.expect("set at Connected");
                if gap.from.0 > cursor + 1 {
                    return self.up.push_back(resend(cursor));
                }
                for seq in gap.from.0..=gap.to.0 {
                    assert!(
                        self.inbox.is_gone(seq),
                        "{seq} is announced as gone, but is there"
                    );
                }
                if gap.to.0 > cursor {
                    self.client.gapped.insert(cursor + 1, gap.to.0);
                    self.client.cursor = Some(gap.to.0);
                }
            }
            Down::Said(ToClient::CaughtUp(_)) => {
                assert!(!self.client.is_caught_up, "CaughtUp comes once");
                self.client.is_caught_up = true;
            }
            Down::Said(said) => assert!(matches!(said, ToClient::Kicked(_)), "{said:?}"),
            Down::Push(messages) => messages
                .into_iter()
                .for_each(|(numbers, body)| self.land(numbers, &body)),
        }
    }

    fn land(&mut self, numbers: Numbers, content: &Bytes) {
        let Numbers {
            seq,
            conversation_seq,
            ..
        } = numbers;
        assert_eq!(conversation_seq.0, seq.0, "places stay together");
        let cursor = self.client.cursor.expect("set at Connected");
        assert_eq!(&content[..], body(self.client.epoch, seq.0).as_bytes());
        if seq.0 > cursor + 1 {
            return self.up.push_back(resend(cursor));
        }
        if seq.0 == cursor + 1 {
            self.client.landed.push(seq.0);
            self.client.cursor = Some(seq.0);
        }
        if !self.chance(4) {
            let seq = self.client.cursor.expect("set at Connected");
            self.up.push_back(FromClient::Ack(Seq(seq)));
        }
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..15 => {
                let seq = self.inbox.append();
                if let Some(server) = &mut self.server {
                    server.mailbox.push_back(seq);
                }
            }
            15..30 => {
                if let Some(seq) = self.server.as_mut().and_then(|s| s.mailbox.pop_front()) {
                    self.happen(live(seq));
                }
            }
            30..45 => self.take_order(),
            45..65 => {
                if let Some(down) = self.down.pop_front() {
                    // The client loses this frame, for instance because its store crashed.
                    let is_lost = matches!(down, Down::Push(_)) && self.chance(10);
                    if !is_lost {
                        self.receive(down);
                    }
                }
            }
            65..80 => {
                if let Some(said) = self.up.pop_front()
                    && !self.chance(10)
                {
                    self.happen(Event::Said(said));
                }
            }
            80..85 => self.happen(Event::Room),
            85..90 => {
                self.now = self.now.plus(Duration::from_millis(self.rng.u64(..8000)));
                self.happen(Event::Tick(Condition::default()));
            }
            90 => {
                // The mailbox overflowed: all sessions look up the head of their inbox.
                if let Some(server) = &mut self.server {
                    server.mailbox.clear();
                }
                self.happen(Event::Head(Seq(self.inbox.head())));
            }
            91 => self.happen(Event::Replaced),
            92 => {
                let seq = self.rng.u64(..=self.inbox.head()) as usize;
                if seq > 0 {
                    self.inbox.bodies[seq - 1] = None;
                }
            }
            93 => {
                let first = self.rng.u64(self.inbox.first..=self.inbox.head() + 1);
                if self.chance(3) {
                    self.inbox.first = first;
                }
            }
            94 => {
                if self.chance(20) {
                    // The log was restored from an older backup.
                    self.inbox.epoch += 1;
                    let head = self
                        .rng
                        .usize(self.inbox.first as usize - 1..=self.inbox.bodies.len());
                    let epoch = self.inbox.epoch;
                    self.inbox.bodies = (1..=head)
                        .map(|seq| Some(body(epoch, seq as u64).into()))
                        .collect();
                    self.stored = None;
                    self.connect();
                }
            }
            _ => {
                if self.server.is_none() || self.chance(4) {
                    self.connect();
                }
            }
        }
    }

    fn take_order(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        if let Some(found) = server.found.take() {
            return self.happen(found);
        }
        if let Some(order) = server.order.take() {
            server.found = Some(self.inbox.read(order));
        }
    }

    /// Ends the disturbances: everything on its way arrives, and time passes until no event is due.
    fn settle(&mut self) {
        self.is_fair = true;
        for _ in 0..1000 {
            if !self.client.is_connected && self.down.is_empty() {
                self.connect();
            }
            while let Some(seq) = self.server.as_mut().and_then(|s| s.mailbox.pop_front()) {
                self.happen(live(seq));
            }
            self.take_order();
            while let Some(down) = self.down.pop_front() {
                self.receive(down);
            }
            while let Some(said) = self.up.pop_front() {
                self.happen(Event::Said(said));
            }
            let is_landed = self.client.cursor == Some(self.inbox.head());
            if is_landed && self.client.is_connected && self.client.is_caught_up {
                return;
            }
            self.now = self.now.plus(Duration::from_secs(1));
            self.happen(Event::Heard);
            self.happen(Event::Tick(Condition::default()));
        }
        panic!(
            "the client stays at {:?} of {}",
            self.client.cursor,
            self.inbox.head()
        );
    }

    fn check(&self) {
        assert!(
            self.client.landed.is_sorted_by(|a, b| a < b),
            "once, in order"
        );
        let mut next = 1;
        let mut landed = self.client.landed.iter().copied().peekable();
        while next <= self.inbox.head() {
            if landed.next_if_eq(&next).is_some() {
                next += 1;
            } else {
                let gap = self.client.gapped.get(&next);
                next = gap.expect("landed, or announced as a gap") + 1;
            }
        }
        assert!(self.client.is_caught_up);
    }
}

fn resend(after: u64) -> FromClient {
    FromClient::Resend(Seq(after))
}

/// A message became durable. Its content comes from the inbox.
fn live(seq: Seq) -> Event {
    let message = Arc::new(Message::new(Bytes::new()));
    let numbers = numbers(seq);
    Event::Live(Live { numbers, message })
}

#[test]
fn every_message_lands_exactly_once_in_order_whatever_happens() {
    let seed = std::env::var("TOWNCRIER_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seeds = match seed {
        Some(seed) => seed..seed + 1,
        None => {
            let start = fastrand::u64(..u64::MAX / 2);
            start..start + SCHEDULES
        }
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
            world.settle();
            world.check();
        });
        if let Err(panic) = outcome {
            eprintln!("TOWNCRIER_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
