//! The registry under contention: finding the sessions of a user, and sessions that come and go, from one thread and from
//! several at once. 100,000 users with a session each, and as many that come and go; messages of 400 bytes; seeded.
//!
//! The mailboxes drop each item: the work of a reactor is not measured.
//!
//! `cargo bench --bench registry`

#[path = "support/message.rs"]
mod message;

use std::{
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput};
use fastrand::Rng;
use message::{CONTENT_BYTES, message};
use towncrier::{
    config,
    ids::{ConnectionId, ConversationSeq, Platform, Seq, SessionKey, UserId},
    message::{Message, Numbers},
    metrics::Metrics,
    registry::{Item, Mailbox, Registry},
};

const USERS: usize = 100_000;
/// Receivers of a batch.
const BATCH: usize = 100;
/// The log's writer alone; the writer beside one reactor; more threads than the cores of a small machine.
const THREADS: [u64; 3] = [1, 2, 4];

/// A mailbox that drops each item.
struct Deaf;

impl Mailbox for Deaf {
    fn post(&self, to: ConnectionId, item: Item) {
        black_box((to, item));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mailbox: Arc<dyn Mailbox> = Arc::new(Deaf);
    let registry = Registry::new(&config::Sessions::default(), Arc::new(Metrics::new()));
    let keys: Vec<_> = (0..2 * USERS).map(key).collect();
    let (staying, passing) = keys.split_at(USERS);
    for (connection, key) in (0..).map(ConnectionId).zip(staying) {
        let registered = registry.register(key, connection, &mailbox, 0);
        registered.expect("it is the user's first");
    }
    let body = message(&mut Rng::with_seed(1), CONTENT_BYTES).to_bytes();
    let message = Arc::new(Message::new(body));
    let numbers = Numbers {
        seq: Seq(7),
        conversation_seq: ConversationSeq(7),
        ..Numbers::default()
    };
    let deliver = |key: &SessionKey| {
        let reached = registry.deliver(key.user.as_str(), numbers, black_box(&message));
        assert_eq!(reached, 1);
    };

    let mut group = criterion.benchmark_group("registry");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("a message to a batch of 100", |bencher| {
        let mut random = Rng::with_seed(2);
        bencher.iter(|| {
            for _ in 0..BATCH {
                deliver(any(&mut random, staying));
            }
        });
    });
    for threads in THREADS {
        group.throughput(Throughput::Elements(threads));
        let mut bench = |name, work: &(dyn Fn(&mut Rng) + Sync)| {
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|times| together(threads, times, work));
            });
        };
        bench("messages, threads", &|random| {
            deliver(any(random, staying));
        });
        bench("messages to one user, threads", &|_| deliver(&staying[0]));
        bench("sessions that come and go, threads", &|random| {
            let (key, connection) = (any(random, passing), ConnectionId(random.u64(..)));
            let registered = registry.register(key, connection, &mailbox, 0);
            registered.expect("one replaces the other");
            registry.deregister(key, connection);
        });
    }
    group.finish();
    assert_eq!(registry.sessions(), USERS);
    criterion.final_summary();
}

fn key(user: usize) -> SessionKey {
    SessionKey {
        user: UserId::new(&format!("user-{user:07}")).expect("an id"),
        platform: Platform::Web,
        device: "".into(),
    }
}

fn any<'a>(random: &mut Rng, keys: &'a [SessionKey]) -> &'a SessionKey {
    &keys[random.usize(..keys.len())]
}

/// Lets each of the threads do `work` this many times. Returns the time from the common start to the end of the last.
fn together(threads: u64, times: u64, work: &(dyn Fn(&mut Rng) + Sync)) -> Duration {
    let begin = Barrier::new(threads as usize + 1);
    let begun = thread::scope(|scope| {
        for seed in 0..threads {
            let begin = &begin;
            scope.spawn(move || {
                let mut random = Rng::with_seed(seed);
                begin.wait();
                for _ in 0..times {
                    work(&mut random);
                }
            });
        }
        begin.wait();
        Instant::now()
    });
    begun.elapsed()
}
