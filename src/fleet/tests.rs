//! Two gateways on one store in memory. Time passes only where a test lets it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

use super::{Fleet, FleetFrame, FleetParts, Teller};
use crate::{
    config,
    ids::{ConnectionId, Fence, GatewayId, Platform, SessionKey, UserId},
    log::{
        TurnNumber, Turns, WorkTurn,
        cluster::fleet_store::{SILENCE, TURN_LEASE},
        tests::{conformance::user, memory::SimEngine},
    },
    registry::{Item, Mailbox, Registry},
};

/// A time after which every heartbeat has been heard.
const A_FEW_BEATS: Duration = Duration::from_secs(7);

#[derive(Default)]
struct Told {
    items: Mutex<Vec<(ConnectionId, Item)>>,
    frames: Mutex<Vec<(GatewayId, FleetFrame)>>,
}

impl Mailbox for Told {
    fn post(&self, to: ConnectionId, item: Item) {
        self.items.lock().unwrap().push((to, item));
    }
}

impl Teller for Told {
    fn tell(&self, gateway: GatewayId, frame: FleetFrame) {
        self.frames.lock().unwrap().push((gateway, frame));
    }

    fn missing(&self) -> Vec<GatewayId> {
        Vec::new()
    }
}

struct Gateway {
    turns: Turns,
    fleet: Arc<Fleet>,
    registry: Arc<Registry>,
    told: Arc<Told>,
}

fn web(name: &str) -> SessionKey {
    SessionKey {
        user: user(name),
        platform: Platform::Web,
        device: "".into(),
    }
}

impl Gateway {
    async fn on(store: &Arc<SimEngine>) -> Self {
        let registry = Arc::new(Registry::new(&config::Sessions::default(), Arc::default()));
        let turns = Turns::default();
        let parts = FleetParts {
            store: store.clone(),
            registry: registry.clone(),
            address: "here".into(),
            answer_within: Duration::from_secs(1),
            turns: turns.clone(),
        };
        let fleet = Fleet::join(parts, Handle::current()).await.unwrap();
        let told = Arc::new(Told::default());
        fleet.tell_by(told.clone());
        Self {
            turns,
            fleet,
            registry,
            told,
        }
    }

    fn register(&self, name: &str, connection: u64) {
        let mailbox = self.told.clone() as Arc<dyn Mailbox>;
        let registered = self
            .registry
            .register(&web(name), ConnectionId(connection), &mailbox, 5);
        registered.unwrap();
    }

    async fn log_in(&self, name: &str, connection: u64) {
        self.register(name, connection);
        let user = user(name);
        let taking = self.fleet.take_place(&user, ConnectionId(connection));
        taking.await.unwrap();
    }

    fn deregister(&self, name: &str, connection: u64) {
        self.registry
            .deregister(&web(name), ConnectionId(connection));
    }

    fn fence(&self, name: &str, connection: u64) -> Option<Fence> {
        self.registry.fence(&web(name), ConnectionId(connection))
    }

    fn replaced(&self) -> Vec<u64> {
        let items = self.told.items.lock().unwrap();
        let replaced = items
            .iter()
            .filter(|(_, item)| matches!(item, Item::Replaced));
        replaced.map(|(to, _)| to.0).collect()
    }

    async fn holders(&self, name: &str) -> Vec<(GatewayId, u64)> {
        let holders = self.fleet.holders(vec![user(name)]).await.unwrap();
        let holders = holders.into_iter().flatten();
        holders
            .map(|holder| (holder.gateway, holder.connection.0))
            .collect()
    }
}

async fn two() -> (Arc<SimEngine>, Gateway, Gateway) {
    let store = Arc::new(SimEngine::default());
    let (a, b) = (Gateway::on(&store).await, Gateway::on(&store).await);
    (store, a, b)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_hops_is_replaced_at_the_gateway_that_it_left() {
    let (_, a, b) = two().await;
    a.log_in("u", 1).await;
    b.log_in("u", 2).await;
    let fence = b.fence("u", 2).unwrap();
    assert!(fence > a.fence("u", 1).unwrap());
    let frames = b.told.frames.lock().unwrap().clone();
    let replaced = FleetFrame::Replaced {
        user: user("u"),
        connection: ConnectionId(1),
        fence,
    };
    assert_eq!(frames, [(a.fleet.gateway(), replaced)]);
    // No link tells it, so its next heartbeat does.
    sleep(A_FEW_BEATS).await;
    assert_eq!(a.replaced(), [1]);
    assert_eq!((a.registry.sessions(), b.registry.sessions()), (0, 1));
    assert_eq!(b.replaced(), [0; 0]);
    assert_eq!(b.holders("u").await, [(b.fleet.gateway(), 2)]);
    assert_eq!(a.fleet.sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_gives_its_place_back_and_its_successor_keeps_it() {
    let (_, a, b) = two().await;
    a.log_in("u", 1).await;
    a.log_in("u", 2).await;
    a.deregister("u", 1);
    a.log_in("other", 3).await;
    assert_eq!(b.holders("u").await, [(a.fleet.gateway(), 2)]);
    a.deregister("u", 2);
    a.log_in("another", 4).await;
    assert_eq!(b.holders("u").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_was_replaced_before_its_turn_takes_no_place() {
    let (_, a, b) = two().await;
    a.register("u", 1);
    a.register("u", 2);
    let u = user("u");
    let take = |connection| a.fleet.take_place(&u, ConnectionId(connection));
    let (second, first) = tokio::join!(take(2), take(1));
    assert_eq!((second.is_ok(), first.is_ok()), (true, true));
    assert_eq!(b.holders("u").await, [(a.fleet.gateway(), 2)]);
    assert_eq!(a.fence("u", 1), None);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_of_the_store_all_register_again_and_the_newest_stays() {
    let (store, a, b) = two().await;
    sleep(A_FEW_BEATS).await;
    a.log_in("u", 1).await;
    a.log_in("v", 2).await;
    store.set_away(true);
    store.set_away(false);
    store.crash();
    // The store does not know of the older session when the newer one logs in.
    b.log_in("u", 3).await;
    let (kept, newest) = (a.fence("v", 2), b.fence("u", 3));
    sleep(A_FEW_BEATS).await;
    assert_eq!(a.replaced(), [1]);
    assert_eq!(b.replaced(), [0; 0]);
    assert_eq!(b.holders("u").await, [(b.fleet.gateway(), 3)]);
    assert_eq!(b.holders("v").await, [(a.fleet.gateway(), 2)]);
    assert_eq!((a.fence("v", 2), b.fence("u", 3)), (kept, newest));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_slept_comes_back_under_another_number_with_its_sessions() {
    let (store, a, b) = two().await;
    a.log_in("u", 1).await;
    b.log_in("v", 2).await;
    let before = (a.fleet.gateway(), b.fleet.gateway());
    store.pass(SILENCE * 2);
    sleep(A_FEW_BEATS).await;
    // The first that wakes up removes the other.
    let after = (a.fleet.gateway(), b.fleet.gateway());
    assert!(
        before.0 < after.0 || before.1 < after.1,
        "{before:?} {after:?}"
    );
    assert_eq!(b.holders("u").await, [(after.0, 1)]);
    assert_eq!(a.holders("v").await, [(after.1, 2)]);
    assert_eq!((a.replaced().len(), b.replaced().len()), (0, 0));
    let known = b.fleet.gateways().borrow().clone();
    assert_eq!(known, [(after.0, "here".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_login_without_a_store_is_refused_in_time_and_ends_are_told_later() {
    let (store, a, b) = two().await;
    a.log_in("u", 1).await;
    store.set_away(true);
    a.deregister("u", 1);
    a.register("v", 2);
    let taking = a.fleet.take_place(&user("v"), ConnectionId(2)).await;
    assert_eq!(taking.unwrap_err().cause, crate::log::Cause::Away);
    a.deregister("v", 2);
    store.set_away(false);
    sleep(A_FEW_BEATS).await;
    assert_eq!(b.holders("u").await, []);
    assert_eq!(b.holders("v").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_logout_is_told_to_the_gateways_that_hold_the_user_there() {
    let (_, a, b) = two().await;
    b.log_in("u", 1).await;
    let platform = Platform::Web;
    let told = a.fleet.log_out(&user("u"), platform, 9).await.unwrap();
    assert_eq!(told, 1);
    let frame = FleetFrame::LoggedOut {
        user: user("u"),
        platform,
        before_ms: 9,
    };
    let frames = a.told.frames.lock().unwrap().clone();
    assert_eq!(frames, [(b.fleet.gateway(), frame)]);
    let elsewhere = a.fleet.log_out(&user("u"), Platform::Ios, 9).await;
    assert_eq!(elsewhere.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_parts_leaves_nothing() {
    let (_, a, b) = two().await;
    a.log_in("u", 1).await;
    a.fleet.part().await;
    assert_eq!(b.holders("u").await, []);
    sleep(A_FEW_BEATS).await;
    assert!(b.fleet.gateways().borrow().is_empty());
    let users: [(UserId, _); 0] = b.fleet.online(None, 10).await.unwrap().try_into().unwrap();
    assert!(users.is_empty());
}

fn turns_of(work: &[WorkTurn; 2]) -> [Option<TurnNumber>; 2] {
    [work[0].now(), work[1].now()]
}

#[tokio::test(start_paused = true)]
async fn one_gateway_has_the_turn_and_another_gets_it_after_a_clean_end() {
    let (store, a, b) = two().await;
    sleep(A_FEW_BEATS).await;
    assert!(a.turns.borrow().is_none(), "nobody works");
    let work = [WorkTurn::of(&a.turns), WorkTurn::of(&b.turns)];
    for _ in 0..10 {
        store.pass(Duration::from_secs(4));
        sleep(Duration::from_secs(4)).await;
        let turns = turns_of(&work);
        assert_eq!(turns.iter().flatten().count(), 1, "{turns:?}");
    }
    let (holder, other) = match work[0].now() {
        Some(_) => (&a, &work[1]),
        None => (&b, &work[0]),
    };
    let turn = *holder.turns.borrow();
    holder.fleet.part().await;
    assert!(holder.turns.borrow().is_none());
    other.other_than(None).await;
    assert!(other.now() > turn);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_the_store_does_not_answer_ends_its_work_before_another_begins() {
    let (store, a, b) = two().await;
    let work = [WorkTurn::of(&a.turns), WorkTurn::of(&b.turns)];
    sleep(A_FEW_BEATS).await;
    assert_eq!(turns_of(&work).iter().flatten().count(), 1);
    store.set_away(true);
    sleep(TURN_LEASE).await;
    assert_eq!(turns_of(&work), [None, None]);
    store.pass(TURN_LEASE * 2);
    store.set_away(false);
    sleep(A_FEW_BEATS).await;
    assert_eq!(turns_of(&work).iter().flatten().count(), 1);
}
