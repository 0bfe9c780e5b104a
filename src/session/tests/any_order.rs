//! Events in any order at sessions whose client asks where it stands: all that follows comes once.

use std::time::Duration;

use super::{
    super::*,
    LIMITS,
    manner::{asks, live, newest, opened, overview, pong, pull, pulled, reached, read, tick},
};
use crate::ids::Seq;

/// A session in an inbox that grows. Events come in any order.
struct World {
    session: Session,
    rng: fastrand::Rng,
    now: u64,
    head: u64,
    /// Messages that are in the inbox and not yet heard of.
    unheard: Vec<u64>,
    /// The read that is ordered.
    order: Option<ReadOrder>,
    asked: Option<(Question, u64)>,
    /// The newest messages up to here are asked for.
    newest: Option<u64>,
    /// A ping is under way.
    is_pinged: bool,
    /// Everything up to here the client has from an answer or a push.
    has: u64,
    acked: u64,
}

impl World {
    fn happen(&mut self, event: Event) {
        let scene = Scene {
            now: Moment(self.now),
            has_room: self.rng.u8(..) > 30,
            is_flushed: true,
            random: || 0.5,
        };
        for action in self.session.handle(event, scene, &LIMITS) {
            match action {
                Action::Send(ToClient::Live(live)) => self.land(live.numbers.seq.0),
                Action::Send(ToClient::Push { messages, .. }) => {
                    for (numbers, _) in messages {
                        self.land(numbers.seq.0);
                    }
                }
                Action::Read(order) => self.order = Some(order),
                Action::Ask { question, sent } => self.asked = Some((question, sent.0)),
                Action::ReadNewest(sent) => self.newest = Some(sent.0),
                Action::Send(ToClient::Ping) => self.is_pinged = true,
                Action::Close(reason) => panic!("{reason:?}"),
                _ => {}
            }
        }
    }

    fn land(&mut self, seq: u64) {
        assert_eq!(seq, self.has + 1, "once, in order");
        self.has = seq;
    }

    fn answer(&mut self) {
        if let Some(sent) = self.newest.take() {
            assert!(
                sent <= self.has,
                "what was sent, or is before the client's place"
            );
            self.happen(newest(sent..sent + 1));
        }
        let Some((question, sent)) = self.asked.take() else {
            return;
        };
        match question {
            Question::Reached => {
                assert_eq!(sent, self.has, "what was sent, and what comes next");
                self.happen(reached());
            }
            Question::Overview(_) => {
                // The client takes all of it from the overview, of which some may be heard of later.
                let is_first = self.has == u64::MAX;
                let shown = self.head;
                if is_first {
                    self.has = shown;
                }
                self.happen(overview(shown));
            }
            Question::Ranges { .. } => self.happen(pulled()),
        }
    }

    fn read(&mut self) {
        let Some(order) = self.order.take() else {
            return;
        };
        let after = order.after.0;
        let to = self.head.min(after + order.messages as u64);
        self.happen(read(after + 1..=to));
    }

    fn pong(&mut self) {
        if std::mem::take(&mut self.is_pinged) {
            self.happen(pong());
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..13) {
            0..3 => {
                self.head += 1;
                self.unheard.push(self.head);
            }
            3..5 if !self.unheard.is_empty() => {
                let seq = self.unheard.remove(0);
                self.happen(live(seq));
            }
            5 if self.session.is_listening() => {
                let question = match self.rng.u8(..3) {
                    0 => Question::Reached,
                    1 => Question::Overview(Vec::new()),
                    _ => pull(self.rng.u64(99..=100)),
                };
                // Before its overview a client without a store asks for nothing else.
                let is_new = self.has == u64::MAX;
                let question = match is_new {
                    true => Question::Overview(Vec::new()),
                    false => question,
                };
                self.happen(asks(question));
            }
            6 => self.answer(),
            7 => self.read(),
            8 if self.has != u64::MAX && self.has > self.acked => {
                self.acked = self.has;
                self.happen(Event::Said(FromClient::Ack(Seq(self.acked))));
            }
            9 => {
                self.now += 300;
                self.happen(tick());
            }
            10 => self.happen(Event::Room),
            11 => self.pong(),
            _ => {}
        }
    }
}

#[test]
fn what_no_answer_has_comes_once_and_in_order_whatever_happens() {
    let start = fastrand::u64(..u64::MAX / 2);
    for seed in start..start + 2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let head = rng.u64(..5);
        let stored = rng.bool().then(|| rng.u64(..=head));
        let manner = match rng.bool() {
            true => Manner::Sifts,
            false => Manner::Forgets,
        };
        let has = match manner {
            Manner::Forgets => u64::MAX,
            _ => stored.unwrap_or(head),
        };
        let mut world = World {
            session: opened(manner, head, stored).0,
            rng,
            now: 0,
            head,
            unheard: Vec::new(),
            order: None,
            asked: None,
            newest: None,
            // A client that sifts is pinged as the session opens.
            is_pinged: manner == Manner::Sifts,
            has,
            acked: has,
        };
        eprintln!("seed {seed}, {manner:?}");
        for _ in 0..200 {
            world.step();
        }
        world.rng = fastrand::Rng::with_seed(seed);
        if world.has == u64::MAX && world.asked.is_none() && world.session.is_listening() {
            world.happen(asks(Question::Overview(Vec::new())));
        }
        for _ in 0..200 {
            world.now += 1000;
            world.happen(tick());
            world.happen(Event::Head(Seq(world.head)));
            world.pong();
            world.read();
            world.answer();
            if world.has != u64::MAX {
                world.happen(Event::Said(FromClient::Ack(Seq(world.has))));
            }
        }
        assert_eq!(world.has, world.head, "all of it");
    }
    assert!(LIMITS.heartbeat < Duration::from_secs(60));
}
