//! The promises of every [`FleetStore`]: who holds a place, who is told, and which gateways live. The store in memory passes them here,
//! PostgreSQL in `log/cluster/postgres/tests/`.

use std::{collections::HashSet, sync::Arc};

use tokio::task::JoinSet;

use super::{conformance::user, memory::SimEngine};
use crate::{
    ids::{ConnectionId, Fence, GatewayId, Platform, SessionKey},
    log::{
        RowChange, RowTable,
        cluster::{
            engine::{Durability, Engine, EngineError, Horizon, StoreChange},
            fleet_store::{FleetStore, PlaceClaim, PlaceLeft, PlaceOutcome, SILENCE, TURN_LEASE},
        },
    },
};

/// A store, and what only a test does to it.
pub(crate) trait FleetSubject: Send + Sync + 'static {
    fn store(&self) -> Arc<dyn FleetStore>;
    fn engine(&self) -> Arc<dyn Engine>;
    /// All gateways were silent for longer than a gateway may be.
    fn fall_silent(&self) -> impl Future<Output = ()> + Send;
    /// The lease of the turn is over.
    fn end_lease(&self) -> impl Future<Output = ()> + Send;
    /// The places are empty.
    fn empty_places(&self) -> impl Future<Output = ()> + Send;
}

pub(crate) fn claim(name: &str, gateway: GatewayId, connection: u64) -> PlaceClaim {
    PlaceClaim {
        key: SessionKey {
            user: user(name),
            platform: Platform::Web,
            device: "".into(),
        },
        place_key: "5".into(),
        gateway,
        connection: ConnectionId(connection),
        since_ms: 7,
        is_background: false,
        address: Some([127, 0, 0, 1].into()),
        fence: None,
    }
}

async fn join(store: &Arc<dyn FleetStore>) -> GatewayId {
    store.join("here:1".into(), 1).await.unwrap()
}

async fn take(store: &Arc<dyn FleetStore>, claim: PlaceClaim) -> PlaceOutcome {
    store.register(vec![claim]).await.unwrap()[0]
}

fn fence_of(outcome: PlaceOutcome) -> Fence {
    match outcome {
        PlaceOutcome::Taken { fence, .. } | PlaceOutcome::Lost(fence) => fence,
    }
}

async fn holders(store: &Arc<dyn FleetStore>, name: &str) -> Vec<(GatewayId, ConnectionId)> {
    let holders = store.holders(vec![user(name)]).await.unwrap().remove(0);
    let holders = holders.into_iter();
    holders
        .map(|holder| (holder.gateway, holder.connection))
        .collect()
}

/// All promises.
pub(crate) async fn conform(subject: &impl FleetSubject) {
    of_many_sessions_of_one_place_each_but_the_holder_is_told_once(subject).await;
    a_place_that_is_given_back_late_stays_with_its_newer_session(subject).await;
    emptied_places_go_to_the_newest_sessions_again(subject).await;
    a_silent_gateway_is_removed_and_comes_back(subject).await;
    a_gateway_learns_of_the_places_that_it_lost(subject).await;
    those_online_are_found_by_their_platform(subject).await;
    a_silent_holder_loses_the_turn_and_writes_nothing_more(subject).await;
}

async fn of_many_sessions_of_one_place_each_but_the_holder_is_told_once(
    subject: &impl FleetSubject,
) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 50;
    const PLACES: [&str; 5] = ["p1", "p2", "p3", "p4", "p5"];
    let store = subject.store();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let gateway = join(&store).await;
            let (mut registered, mut told) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                let at = writer * ROUNDS + round;
                let claims = PLACES.iter().map(|name| claim(name, gateway, at));
                let claims: Vec<_> = claims.collect();
                for (place, outcome) in store
                    .register(claims)
                    .await
                    .unwrap()
                    .into_iter()
                    .enumerate()
                {
                    let PlaceOutcome::Taken { fence, previous } = outcome else {
                        panic!("{outcome:?}");
                    };
                    registered.push((place, fence, (gateway, ConnectionId(at))));
                    told.extend(previous.map(|previous| (place, previous)));
                }
            }
            (registered, told)
        });
    }
    let done = writers.join_all().await;
    let (registered, told): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let registered: Vec<_> = registered.into_iter().flatten().collect();
    let told: Vec<_> = told.into_iter().flatten().collect();
    let once: HashSet<_> = told.iter().copied().collect();
    assert_eq!(once.len(), told.len(), "nobody is told twice");
    assert_eq!(told.len() + PLACES.len(), registered.len());
    for (place, name) in PLACES.iter().enumerate() {
        let of_place = registered.iter().filter(|(of, ..)| *of == place);
        let newest = of_place.max_by_key(|(_, fence, _)| *fence).unwrap();
        assert_eq!(holders(&store, name).await, [newest.2]);
        assert!(!once.contains(&(place, newest.2)));
    }
}

async fn a_place_that_is_given_back_late_stays_with_its_newer_session(subject: &impl FleetSubject) {
    let store = subject.store();
    let gateway = join(&store).await;
    take(&store, claim("late", gateway, 1)).await;
    take(&store, claim("late", gateway, 2)).await;
    let left = |connection| PlaceLeft {
        user: user("late"),
        place_key: "5".into(),
        gateway,
        connection: ConnectionId(connection),
    };
    store.leave(vec![left(1)]).await.unwrap();
    assert_eq!(holders(&store, "late").await, [(gateway, ConnectionId(2))]);
    store.leave(vec![left(2)]).await.unwrap();
    assert_eq!(holders(&store, "late").await, []);
}

async fn emptied_places_go_to_the_newest_sessions_again(subject: &impl FleetSubject) {
    let store = subject.store();
    let (one, other) = (join(&store).await, join(&store).await);
    let token = store
        .heartbeat(one, "here:1".into(), 1)
        .await
        .unwrap()
        .token;
    assert!(token.is_some());
    let older = fence_of(take(&store, claim("crash", one, 1)).await);
    let newer = fence_of(take(&store, claim("crash", other, 2)).await);
    assert!(older < newer);
    subject.empty_places().await;
    assert_eq!(holders(&store, "crash").await, []);
    let beat = store.heartbeat(one, "here:1".into(), 1).await.unwrap();
    assert_ne!(beat.token, token, "it tells that the places were emptied");
    let again = |gateway, connection, fence| PlaceClaim {
        fence: Some(fence),
        ..claim("crash", gateway, connection)
    };
    // The newest has the place at the end, in whatever order they come.
    let first = take(&store, again(one, 1, older)).await;
    assert!(matches!(first, PlaceOutcome::Taken { fence, .. } if fence == older));
    let second = take(&store, again(other, 2, newer)).await;
    let previous = Some((one, ConnectionId(1)));
    let taken = PlaceOutcome::Taken {
        fence: newer,
        previous,
    };
    assert_eq!(second, taken);
    let late = take(&store, again(one, 1, older)).await;
    assert_eq!(late, PlaceOutcome::Lost(newer));
    assert_eq!(holders(&store, "crash").await, [(other, ConnectionId(2))]);
    let newest = fence_of(take(&store, claim("crash", one, 3)).await);
    assert!(newest > newer, "fences rise over a crash");
}

async fn a_silent_gateway_is_removed_and_comes_back(subject: &impl FleetSubject) {
    let store = subject.store();
    let sleeper = join(&store).await;
    let held = take(&store, claim("sleeper", sleeper, 1)).await;
    subject.fall_silent().await;
    assert_eq!(
        holders(&store, "sleeper").await,
        [],
        "it is ignored at once"
    );
    let waking = join(&store).await;
    let beat = store.heartbeat(waking, "there:2".into(), 3).await.unwrap();
    assert!(!beat.is_removed);
    let alive = beat.gateways.iter();
    let alive: Vec<_> = alive.map(|row| (row.gateway, row.is_silent)).collect();
    assert_eq!(alive, [(waking, false)]);
    let woken = store.heartbeat(sleeper, "here:1".into(), 1).await.unwrap();
    assert!(woken.is_removed);
    let back = join(&store).await;
    assert!(back > sleeper, "no number is given twice");
    let fence = Some(fence_of(held));
    let again = PlaceClaim {
        fence,
        ..claim("sleeper", back, 1)
    };
    take(&store, again).await;
    assert_eq!(holders(&store, "sleeper").await, [(back, ConnectionId(1))]);
    store.part(back).await.unwrap();
    assert_eq!(holders(&store, "sleeper").await, []);
}

async fn a_gateway_learns_of_the_places_that_it_lost(subject: &impl FleetSubject) {
    let store = subject.store();
    let (one, other) = (join(&store).await, join(&store).await);
    take(&store, claim("hop", one, 1)).await;
    let newer = fence_of(take(&store, claim("hop", other, 2)).await);
    let lost = |beat: crate::log::cluster::fleet_store::Heartbeat| {
        let lost = beat.lost.into_iter();
        let lost = lost.map(|lost| (lost.user, lost.connection, lost.fence));
        lost.collect::<Vec<_>>()
    };
    let beat = store.heartbeat(one, "here:1".into(), 1).await.unwrap();
    assert_eq!(lost(beat), [(user("hop"), ConnectionId(1), newer)]);
    let beat = store.heartbeat(one, "here:1".into(), 1).await.unwrap();
    assert_eq!(lost(beat), []);
    let beat = store.heartbeat(other, "here:1".into(), 1).await.unwrap();
    assert_eq!(lost(beat), []);
}

async fn those_online_are_found_by_their_platform(subject: &impl FleetSubject) {
    let store = subject.store();
    let gateway = join(&store).await;
    let mut phone = claim("online", gateway, 1);
    phone.key.platform = Platform::HarmonyOs;
    phone.place_key = "11".into();
    take(&store, phone.clone()).await;
    take(&store, claim("online", gateway, 2)).await;
    let found = store.online(Some(Platform::HarmonyOs), 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, user("online"));
    assert_eq!(found[0].1.len(), 2, "with all sessions of the user");
    let held = found[0]
        .1
        .iter()
        .find(|held| held.key == phone.key)
        .unwrap();
    assert_eq!((held.since_ms, held.address), (7, phone.address));
    assert_eq!(store.online(None, 1).await.unwrap().len(), 1);
    store.part(gateway).await.unwrap();
    let found = store.online(Some(Platform::HarmonyOs), 10).await.unwrap();
    assert_eq!(found.len(), 0);
}

async fn a_silent_holder_loses_the_turn_and_writes_nothing_more(subject: &impl FleetSubject) {
    let (store, engine) = (subject.store(), subject.engine());
    let (one, other) = (join(&store).await, join(&store).await);
    let take = async |gateway, held| store.take_turn(gateway, held).await.unwrap();
    let write = async |turn, value: &'static str| {
        let row = RowChange {
            table: RowTable::Consumers,
            key: "in a turn".into(),
            value: Some(value.into()),
        };
        let change = StoreChange::RowsIn(turn, vec![row]);
        engine.write(vec![change], Durability::Confirmed).await
    };
    let first = take(one, None).await.expect("nobody has it");
    assert_eq!(take(other, None).await, None);
    assert_eq!(take(one, Some(first)).await, Some(first), "it is kept");
    assert_eq!(write(first, "first").await, Ok(()));
    subject.end_lease().await;
    // Nobody took it meanwhile.
    assert_eq!(take(one, Some(first)).await, Some(first));
    subject.end_lease().await;
    let second = take(other, None).await.expect("the holder was silent");
    assert!(second > first);
    assert_eq!(take(one, Some(first)).await, None);
    assert_eq!(write(second, "second").await, Ok(()));
    let late = write(first, "late").await;
    assert!(matches!(late, Err(EngineError::Refused(_))), "{late:?}");
    let horizon = Horizon::default();
    let rows = engine.rows(
        RowTable::Consumers,
        "in a turn".into(),
        Vec::new(),
        2,
        horizon,
    );
    let kept = rows.await.unwrap().value;
    assert_eq!(kept, [("in a turn".into(), "second".into())]);
    // A start that was told nothing of its turn begins another.
    let third = take(other, None).await.expect("it is its own");
    assert!(third > second);
    store.leave_turn(second).await.unwrap();
    assert_eq!(take(one, None).await, None, "an older turn ends nothing");
    store.leave_turn(third).await.unwrap();
    assert!(take(one, None).await > Some(third));
}

/// The store in memory.
struct InMemory(Arc<SimEngine>);

impl FleetSubject for InMemory {
    fn store(&self) -> Arc<dyn FleetStore> {
        self.0.clone()
    }

    async fn fall_silent(&self) {
        self.0.pass(SILENCE * 2);
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.0.clone()
    }

    async fn end_lease(&self) {
        self.0.pass(TURN_LEASE * 2);
    }

    async fn empty_places(&self) {
        self.0.crash();
    }
}

#[tokio::test]
async fn the_store_in_memory_keeps_the_promises_of_a_fleet_store() {
    conform(&InMemory(Arc::default())).await;
}
