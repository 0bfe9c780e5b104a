//! Every login policy replaces the right sessions, and the newest login holds its place.

use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::{
    config,
    ids::{SessionKey, UserId},
    message::{Message, Numbers},
};

/// Keeps the posted items.
#[derive(Default)]
struct Posted(Mutex<Vec<(ConnectionId, Item)>>);

impl Mailbox for Posted {
    fn post(&self, to: ConnectionId, item: Item) {
        self.0.lock().unwrap().push((to, item));
    }
}

impl Posted {
    fn replaced(&self) -> Vec<u64> {
        let posted = self.0.lock().unwrap();
        let is_replaced = |item: &Item| matches!(item, Item::Replaced);
        let replaced = posted.iter().filter(|(_, item)| is_replaced(item));
        replaced.map(|(to, _)| to.0).collect()
    }
}

struct Setup {
    registry: Registry,
    posted: Arc<Posted>,
    mailbox: Arc<dyn Mailbox>,
}

fn setup(policy: u8, per_user_max: usize) -> Setup {
    let config = config::Sessions {
        policy,
        per_user_max,
        ..config::Sessions::default()
    };
    let posted = Arc::new(Posted::default());
    Setup {
        registry: Registry::new(&config, Arc::default()),
        mailbox: Arc::clone(&posted) as Arc<dyn Mailbox>,
        posted,
    }
}

impl Setup {
    fn register(&self, key: &SessionKey, connection: u64) -> Result<(), TooManySessions> {
        self.registry
            .register(key, ConnectionId(connection), &self.mailbox, 0)
    }

    fn online(&self) -> Vec<u64> {
        let presence = self.registry.presence("u");
        presence.iter().map(|p| p.connection.0).collect()
    }
}

fn key(platform: Platform, device: &str) -> SessionKey {
    SessionKey {
        user: UserId::new("u").unwrap(),
        platform,
        device: device.into(),
    }
}

/// For each policy: the platforms that log in one after the other, and the platforms that stay.
#[test]
fn each_policy_keeps_whom_it_should() {
    use Platform::*;
    let logins = [Ios, Web, Windows, IPad, Android, MiniWeb, Admin, Linux];
    let table = [
        (0, vec![0, 1, 2, 3, 4, 5, 6, 7]),
        (1, vec![0, 1, 2, 3, 4, 5, 6, 7]),
        (2, vec![7]),
        (3, vec![5, 7]),
        (4, vec![3, 4, 5, 6, 7]),
        (5, vec![6, 7]),
    ];
    for (policy, expected) in table {
        let setup = setup(policy, 32);
        for (connection, platform) in logins.into_iter().enumerate() {
            setup
                .register(&key(platform, ""), connection as u64)
                .unwrap();
        }
        assert_eq!(setup.online(), expected, "policy {policy}");
        let mut replaced = setup.posted.replaced();
        replaced.sort_unstable();
        let gone = (0..8).filter(|connection| !expected.contains(connection));
        assert_eq!(replaced, gone.collect::<Vec<_>>(), "policy {policy}");
        assert_eq!(setup.registry.sessions(), expected.len());
    }
}

#[test]
fn the_number_of_changes_rises_with_all_who_come_and_go() {
    let setup = setup(0, 32);
    let changes = || setup.registry.changes();
    let (web, mut last) = (key(Platform::Web, ""), changes());
    let mut has_risen = || {
        let before = std::mem::replace(&mut last, changes());
        before < last
    };
    setup.register(&web, 1).unwrap();
    assert!(has_risen());
    setup.registry.deregister(&web, ConnectionId(2));
    assert!(!has_risen(), "nobody went");
    setup.registry.deregister(&web, ConnectionId(1));
    assert!(has_risen());
}

#[test]
fn a_reconnect_replaces_its_own_older_connection_under_every_policy() {
    for policy in 0..=5 {
        let setup = setup(policy, 1);
        setup.register(&key(Platform::Web, "d"), 1).unwrap();
        setup.register(&key(Platform::Web, "d"), 2).unwrap();
        assert_eq!(setup.online(), [2], "policy {policy}");
        assert_eq!(setup.posted.replaced(), [1], "policy {policy}");
    }
}

#[test]
fn an_older_connections_end_leaves_the_newer_ones_place_alone() {
    let setup = setup(1, 32);
    let web = key(Platform::Web, "");
    setup.register(&web, 1).unwrap();
    setup.register(&web, 2).unwrap();
    setup.registry.deregister(&web, ConnectionId(1));
    assert_eq!(setup.online(), [2]);
    setup.registry.deregister(&web, ConnectionId(2));
    assert!(setup.online().is_empty());
    assert_eq!(setup.registry.sessions(), 0);
}

#[test]
fn one_session_too_many_is_refused_and_replaces_nobody() {
    let setup = setup(0, 2);
    setup.register(&key(Platform::Ios, "a"), 1).unwrap();
    setup.register(&key(Platform::Ios, "b"), 2).unwrap();
    let refused = setup.register(&key(Platform::Ios, "c"), 3);
    assert_eq!(refused, Err(TooManySessions(2)));
    assert_eq!(setup.online(), [1, 2]);
    setup.register(&key(Platform::Ios, "b"), 4).unwrap();
    assert_eq!(setup.online(), [1, 4]);
}

#[test]
fn messages_reach_all_sessions_of_their_receiver_and_of_nobody_else() {
    let setup = setup(1, 32);
    setup.register(&key(Platform::Ios, ""), 1).unwrap();
    setup.register(&key(Platform::Web, ""), 2).unwrap();
    let message = Arc::new(Message::new(Bytes::new()));
    assert_eq!(setup.registry.deliver("u", Numbers::default(), &message), 2);
    assert_eq!(setup.registry.deliver("v", Numbers::default(), &message), 0);
    let posted = setup.posted.0.lock().unwrap();
    let to: Vec<u64> = posted.iter().map(|(to, _)| to.0).collect();
    assert_eq!(to, [1, 2]);
}

#[test]
fn logging_out_ends_the_sessions_of_one_platform() {
    let setup = setup(0, 32);
    setup.register(&key(Platform::Ios, "a"), 1).unwrap();
    setup.register(&key(Platform::Ios, "b"), 2).unwrap();
    setup.register(&key(Platform::Web, ""), 3).unwrap();
    let user = UserId::new("u").unwrap();
    assert_eq!(setup.registry.log_out(&user, Platform::Ios), 2);
    assert_eq!(setup.registry.log_out(&user, Platform::Ios), 0);
    assert_eq!(setup.online(), [3]);
}

#[test]
fn of_racing_connections_exactly_the_last_registered_stays_and_is_never_replaced() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 500;
    let setup = setup(1, 32);
    let web = key(Platform::Web, "");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (setup, web) = (&setup, &web);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    setup.register(web, thread * ROUNDS + round).unwrap();
                    // An older connection ends while newer ones come.
                    if round > 0 {
                        let older = ConnectionId(thread * ROUNDS + round - 1);
                        setup.registry.deregister(web, older);
                    }
                }
            });
        }
    });
    // Each thread ends with a connection that it did not deregister, so the last registered one is still here.
    let online = setup.online();
    let replaced = setup.posted.replaced();
    assert_eq!(online.len(), 1);
    assert_eq!(setup.registry.sessions(), 1);
    assert!(!replaced.contains(&online[0]));
    let mut once = replaced.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), replaced.len(), "nobody is told twice");
    let last_of_threads = (0..THREADS).map(|thread| thread * ROUNDS + ROUNDS - 1);
    for last in last_of_threads.filter(|last| *last != online[0]) {
        assert!(replaced.contains(&last), "{last} was replaced and told");
    }
}
