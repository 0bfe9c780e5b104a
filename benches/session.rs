//! The protocol machine: the cost of a session's own decisions, without socket, clock and log. Messages of 400 bytes;
//! seeded.
//!
//! `cargo bench --bench session`

#[path = "support/message.rs"]
mod message;

use std::{hint::black_box, sync::Arc, time::Duration, vec::IntoIter};

use criterion::{BatchSize, Criterion, Throughput};
use fastrand::Rng;
use message::{CONTENT_BYTES, message};
use towncrier::{
    ids::{ConnectionId, ConversationSeq, Epoch, Platform, Seq},
    message::{Content, Entry, Live, Message, Numbers},
    session::{
        Action, Condition, Event, Footing, FromClient, Limits, Manner, Moment, Resume, Scene,
        Session, Welcome, open,
    },
};

/// The defaults of a gateway.
const LIMITS: Limits = Limits {
    window: 256,
    replayed_bytes_max: towncrier::session::REPLAYED_BYTES_MAX,
    resend_after: Duration::from_secs(5),
    heartbeat: Duration::from_secs(30),
    stall_timeout: Duration::from_secs(20),
    starts_at_head: false,
};
const SCENE: Scene = Scene {
    now: Moment(0),
    has_room: true,
    is_flushed: true,
    random: || 0.5,
};
/// Messages that wait for a session that was away.
const BACKLOG: u64 = 10_000;
/// The messages of one read: as many as fit 64 KiB.
const READ: usize = 128;
/// The sessions of a gateway, which get a tick once a second.
const IDLE: u64 = 100_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("session");

    group.throughput(Throughput::Elements(1));
    let message = message(&mut Rng::with_seed(1), CONTENT_BYTES).to_bytes();
    let message = Arc::new(Message::new(message));
    let live = |seq| {
        let message = Arc::clone(&message);
        let numbers = numbers(seq);
        Event::Live(Live { numbers, message })
    };
    group.bench_function("opens", |bencher| {
        bencher.iter(|| opened(black_box(Seq::ZERO)));
    });
    group.bench_function("live message and its ack", |bencher| {
        let (mut session, mut seq) = (opened(Seq::ZERO), Seq::ZERO);
        bencher.iter(|| {
            seq = seq.next();
            let pushed = session.handle(live(seq), SCENE, &LIMITS);
            (pushed, acked(&mut session, seq))
        });
    });

    group.throughput(Throughput::Elements(LIMITS.window.into()));
    group.bench_function("window of live messages and one ack", |bencher| {
        let (mut session, mut seq) = (opened(Seq::ZERO), Seq::ZERO);
        bencher.iter(|| {
            for _ in 0..LIMITS.window {
                seq = seq.next();
                black_box(session.handle(live(seq), SCENE, &LIMITS));
            }
            acked(&mut session, seq)
        });
    });

    group.throughput(Throughput::Elements(BACKLOG));
    let inbox = inbox();
    group.bench_function("backlog of 10,000, read, pushed and acked", |bencher| {
        bencher.iter_batched(
            || (opened(Seq(BACKLOG)), inbox.clone().into_iter()),
            |(session, inbox)| replay(session, inbox),
            BatchSize::LargeInput,
        );
    });

    group.throughput(Throughput::Elements(IDLE));
    group.bench_function("tick of 100,000 idle ones", |bencher| {
        let mut sessions: Vec<_> = (0..IDLE).map(|_| opened(Seq::ZERO)).collect();
        bencher.iter(|| {
            for session in &mut sessions {
                black_box(session.handle(Event::Tick(Condition::default()), SCENE, &LIMITS));
            }
        });
    });
    group.finish();
    criterion.final_summary();
}

/// A session at the front of an inbox with this head.
fn opened(head: Seq) -> Session {
    let epoch = Epoch(7);
    let resume = Resume {
        epoch: epoch.0,
        cursor: Some(Seq::ZERO),
    };
    let footing = Footing {
        epoch,
        head,
        first: Seq(1),
        stored: Some(Seq::ZERO),
        is_damaged: false,
        has_conversations: true,
    };
    let welcome = Welcome {
        connection: ConnectionId(1),
        platform: Platform::Web,
        server_time_ms: 1_700_000_000_000,
    };
    let opened = open(resume, Manner::Acks, footing, welcome, &LIMITS, SCENE.now);
    let (session, actions) = opened.expect("the log is whole");
    black_box(actions);
    session
}

fn acked(session: &mut Session, seq: Seq) -> Vec<Action> {
    let ack = FromClient::Ack(seq);
    session.handle(Event::Said(ack), SCENE, &LIMITS)
}

/// The places of a message in an inbox with one conversation.
fn numbers(seq: Seq) -> Numbers {
    Numbers {
        seq,
        conversation_seq: ConversationSeq(seq.0),
        ..Numbers::default()
    }
}

fn inbox() -> Vec<Entry> {
    let mut random = Rng::with_seed(1);
    let entry = |seq| Entry {
        numbers: numbers(Seq(seq)),
        content: Content::Message(message(&mut random, CONTENT_BYTES).to_bytes()),
    };
    (1..=BACKLOG).map(entry).collect()
}

/// Gives the session the results of its reads, and acks when it waits for acks.
fn replay(mut session: Session, mut inbox: IntoIter<Entry>) {
    let mut sent = Seq::ZERO;
    let mut actions = session.handle(Event::Room, SCENE, &LIMITS);
    loop {
        let order = actions.iter().find_map(|action| match action {
            Action::Read(order) => Some(*order),
            _ => None,
        });
        actions = match order {
            Some(order) => {
                let entries = inbox.by_ref().take(order.messages.min(READ));
                let entries: Vec<_> = entries.collect();
                let last = entries.last().expect("it asks for what is there");
                sent = last.numbers.seq;
                session.handle(Event::Read(entries), SCENE, &LIMITS)
            }
            None if sent < Seq(BACKLOG) => acked(&mut session, sent),
            None => break,
        };
    }
}
