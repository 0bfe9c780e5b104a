//! The registry: logins, logouts and messages of one user on several threads.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use shuttle::{rand::Rng as _, sync::Mutex, thread};
// Replaces the real `dashmap`.
use shuttle_dashmap as dashmap;

use self::places::Registry;
use crate::{
    config,
    ids::{ConnectionId, Platform, Seq, SessionKey, UserId},
    message::{Message, Numbers},
    metrics::Metrics,
    registry::{Item, Mailbox},
};

/// The same source file, compiled again with shuttle's map.
#[expect(dead_code, unreachable_pub, reason = "it is tested here, not used")]
#[path = "../../../src/registry/places.rs"]
mod places;

/// Keeps the posted items in order.
#[derive(Default)]
struct Posted(Mutex<Vec<(ConnectionId, Item)>>);

impl Mailbox for Posted {
    fn post(&self, to: ConnectionId, item: Item) {
        self.0.lock().unwrap().push((to, item));
    }
}

/// The items that one connection received: the seqs of its messages, and its end.
#[derive(Default)]
struct Told {
    seqs: Vec<u64>,
    ends: usize,
}

/// Connections of one session race, are logged out, leave by themselves, and get messages meanwhile. The items that each
/// received must fit some order in which these calls ran one at a time.
fn race(metrics: &Arc<Metrics>) {
    const THREADS: u64 = 3;
    const LOGINS: u64 = 3;
    const MESSAGES: u64 = 4;
    let web = SessionKey {
        user: UserId::new("u").unwrap(),
        platform: Platform::Web,
        device: "".into(),
    };
    let posted = Arc::new(Posted::default());
    let sessions = config::Sessions::default();
    let registry = Arc::new(Registry::new(&sessions, Arc::clone(metrics)));
    let threads = (0..THREADS).map(|number| {
        let (registry, web) = (Arc::clone(&registry), web.clone());
        let mailbox = Arc::clone(&posted) as Arc<dyn Mailbox>;
        thread::spawn(move || {
            let mut left = Vec::new();
            for connection in (0..LOGINS).map(|login| ConnectionId(number * LOGINS + login)) {
                registry.register(&web, connection, &mailbox, 0).unwrap();
                match shuttle::rand::thread_rng().gen_range(0..4) {
                    0 => {
                        registry.deregister(&web, connection);
                        left.push(connection.0);
                    }
                    1 => drop(registry.log_out(&web.user, web.platform)),
                    _ => {}
                }
            }
            left
        })
    });
    let threads: Vec<_> = threads.collect();
    // One thread delivers a user's messages in order, as the log's writer does.
    let message = Arc::new(Message::new(Bytes::new()));
    let deliver = |seq| {
        let numbers = Numbers {
            seq: Seq(seq),
            ..Numbers::default()
        };
        registry.deliver("u", numbers, &message)
    };
    let delivered: usize = (1..=MESSAGES).map(deliver).sum();
    let left = threads.into_iter().map(|thread| thread.join().unwrap());
    let left: HashSet<u64> = left.flatten().collect();

    let mut all: HashMap<u64, Told> = HashMap::new();
    for (to, item) in posted.0.lock().unwrap().iter() {
        let told = all.entry(to.0).or_default();
        match item {
            Item::Live(live) => {
                assert_eq!(told.ends, 0, "{to} had lost its place");
                told.seqs.push(live.numbers.seq.0);
            }
            Item::Head(..) => panic!("nobody looks into a store"),
            Item::Replaced | Item::LoggedOut => told.ends += 1,
        }
    }
    let seqs: Vec<u64> = all.values().flat_map(|told| told.seqs.clone()).collect();
    assert_eq!(seqs.len(), delivered, "what was counted was posted");
    let each: HashSet<u64> = seqs.iter().copied().collect();
    assert_eq!(each.len(), seqs.len(), "a message had two holders");
    let online = registry.presence("u");
    assert_eq!(registry.sessions(), online.len());
    let online: Vec<u64> = online.iter().map(|place| place.connection.0).collect();
    assert!(online.len() <= 1, "{online:?} hold one place");
    for connection in 0..THREADS * LOGINS {
        let told = all.remove(&connection).unwrap_or_default();
        let is_dense = told.seqs.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(is_dense, "{connection} missed a message in its place");
        assert!(told.ends <= 1, "{connection} was told its end twice");
        let has_ended = told.ends == 1 || left.contains(&connection);
        assert_ne!(
            has_ended,
            online.contains(&connection),
            "{connection} is online until its end"
        );
    }
}

#[test]
fn racing_logins_logouts_and_messages_leave_what_one_order_of_them_explains() {
    let metrics = Arc::default();
    let run = move || race(&metrics);
    shuttle::check_random(run.clone(), 2000);
    shuttle::check_pct(run, 2000, 3);
}
