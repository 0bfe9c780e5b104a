//! This gateway as a member of its fleet, as the rooms above see it.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    core::{FLEET_VERSION, FleetCore, failure_of},
    frame::{FleetFrame, Teller},
    heartbeat,
    registrar::{self, PlaceChange},
    turn,
};
use crate::{
    ids::{ConnectionId, GatewayId, Platform, UserId},
    log::{
        Cause, LogError, Turns,
        cluster::{
            engine::{EngineError, answer_of},
            fleet_store::{FleetStore, Holder},
        },
    },
    registry::{PlaceWatch, Presence, Registry},
};

/// The most look-ups of presence that wait for the store. Each has a task and its answer in memory.
const LOOK_UPS_MAX: usize = 1024;

/// The parts of a fleet that its gateway has already.
pub struct FleetParts {
    /// The store.
    pub store: Arc<dyn FleetStore>,
    /// The sessions of this gateway.
    pub registry: Arc<Registry>,
    /// The address at which the other gateways reach this one.
    pub address: String,
    /// The longest time to an answer of the store.
    pub answer_within: Duration,
    /// Told whether this gateway has the turn.
    pub turns: Turns,
}

/// A member of the fleet. It registers the sessions of the registry, and knows those of all gateways.
pub struct Fleet {
    core: Arc<FleetCore>,
    runtime: Handle,
    look_ups: Semaphore,
    tasks: Mutex<Option<FleetTasks>>,
    places: Arc<Places>,
}

struct FleetTasks {
    heartbeat: JoinHandle<()>,
    registrar: JoinHandle<()>,
    turn: JoinHandle<()>,
}

/// The callers' end of the registrar.
struct Places {
    core: Arc<FleetCore>,
    /// `None` after this gateway parted.
    queue: RwLock<Option<mpsc::Sender<PlaceChange>>>,
}

impl Places {
    /// False if there is no room.
    fn put(&self, change: PlaceChange) -> bool {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        queue
            .as_ref()
            .is_some_and(|queue| queue.try_send(change).is_ok())
    }
}

impl PlaceWatch for Places {
    fn left(&self, user: &UserId, session: &Presence) {
        let policy = self.core.registry.policy();
        let place_key = policy.place_key(session.platform, &session.device);
        if !self.put(PlaceChange::Left(
            user.clone(),
            place_key,
            session.connection,
        )) {
            self.core.lose_track();
        }
    }

    fn turned(&self, user: &UserId, session: &Presence) {
        if !self.put(PlaceChange::Again(user.clone(), session.connection)) {
            self.core.begin_anew();
        }
    }
}

impl Fleet {
    /// Joins the fleet of a store. The tasks run on this runtime. Not cancel safe: a drop may leave the row of a gateway, which is
    /// removed when it has been silent.
    pub async fn join(parts: FleetParts, runtime: Handle) -> Result<Arc<Self>, EngineError> {
        let joining = parts.store.join(parts.address.clone(), FLEET_VERSION);
        let gateway = answer_of(joining, parts.answer_within).await?;
        let core = FleetCore::new(
            parts.store,
            parts.registry,
            parts.turns,
            parts.address,
            parts.answer_within,
            gateway,
        );
        let (sender, waiting) = registrar::queue();
        let tasks = FleetTasks {
            heartbeat: runtime.spawn(heartbeat::run(Arc::clone(&core))),
            registrar: runtime.spawn(registrar::run(Arc::clone(&core), waiting)),
            turn: runtime.spawn(turn::run(Arc::clone(&core))),
        };
        let places = Arc::new(Places {
            core: Arc::clone(&core),
            queue: RwLock::new(Some(sender)),
        });
        core.registry.share(places.clone());
        Ok(Arc::new(Self {
            core,
            runtime,
            look_ups: Semaphore::new(LOOK_UPS_MAX),
            tasks: Mutex::new(Some(tasks)),
            places,
        }))
    }

    /// The same, on a thread that may block.
    pub fn join_blocking(parts: FleetParts, runtime: &Handle) -> Result<Arc<Self>, EngineError> {
        let (joined, joining) = std::sync::mpsc::channel();
        let join = Self::join(parts, runtime.clone());
        // The receiver waits below.
        runtime.spawn(async move { drop(joined.send(join.await)) });
        let ended = |_| Err(EngineError::Away("the thread of the log ended".into()));
        joining.recv().unwrap_or_else(ended)
    }

    /// The number of this gateway. It takes another one when it was silent for too long.
    pub fn gateway(&self) -> GatewayId {
        self.core.gateway()
    }

    /// The other gateways that live, with the addresses at which they are reached.
    pub fn gateways(&self) -> watch::Receiver<Vec<(GatewayId, String)>> {
        self.core.gateways.subscribe()
    }

    /// Frames for other gateways go this way from now on. The first one stays.
    pub fn tell_by(&self, teller: Arc<dyn Teller>) {
        // A gateway has one way, which it sets when it starts.
        let _ = self.core.teller.set(teller);
    }

    /// Hands a frame to another gateway. A frame without a link is dropped.
    pub fn tell(&self, gateway: GatewayId, frame: FleetFrame) {
        self.core.tell(gateway, frame);
    }

    /// The other gateways without a link in one of the two directions, ascending.
    pub fn missing_links(&self) -> Vec<GatewayId> {
        let teller = self.core.teller.get();
        teller.map_or_else(Vec::new, |teller| teller.missing())
    }

    /// Gives the connection's session its place in the store, after the registry gave it the place here. Cancel safe: the connection's
    /// deregistration ends what was begun.
    pub async fn take_place(
        &self,
        user: &UserId,
        connection: ConnectionId,
    ) -> Result<(), LogError> {
        let (login, taken) = oneshot::channel();
        if !self
            .places
            .put(PlaceChange::Take(user.clone(), connection, login))
        {
            let text = "too many sessions wait for their place in the store";
            return Err(LogError::new(Cause::Away, text));
        }
        match timeout(self.core.answer_within, taken).await {
            // Without an answer the session was replaced, and is told so.
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => {
                let text = "the store did not give a session its place in time";
                Err(LogError::new(Cause::Away, text))
            }
        }
    }

    /// The sessions of each user at all gateways. It sees every session whose login has been told its resume point. Cancel safe: it
    /// only reads.
    pub async fn holders(&self, users: Vec<UserId>) -> Result<Vec<Vec<Holder>>, LogError> {
        let core = Arc::clone(&self.core);
        self.ask(async move { core.answer_of(core.store.holders(users)).await })
            .await
    }

    /// Up to `limit` users with a session at any gateway, each with all its sessions. With `platform`, users with a session there.
    /// Cancel safe: it only reads.
    pub async fn online(
        &self,
        platform: Option<Platform>,
        limit: usize,
    ) -> Result<Vec<(UserId, Vec<Holder>)>, LogError> {
        let core = Arc::clone(&self.core);
        self.ask(async move { core.answer_of(core.store.online(platform, limit)).await })
            .await
    }

    /// The sessions of all gateways, those of the others as of their last heartbeats.
    pub fn sessions(&self) -> usize {
        self.core.registry.sessions() + self.core.sessions_elsewhere() as usize
    }

    /// Tells the other gateways that the tokens of (user, platform) from before this Unix ms are revoked, after the store knows it.
    /// Returns the number of connections there. Cancel safe: a gateway that was not told finds out from the store.
    pub async fn log_out(
        &self,
        user: &UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<usize, LogError> {
        let own = self.gateway();
        let holders = self.holders(vec![user.clone()]).await?;
        let elsewhere = holders.into_iter().flatten();
        let elsewhere = elsewhere
            .filter(|holder| holder.gateway != own && holder.key.platform == platform)
            .map(|holder| holder.gateway);
        let mut elsewhere: Vec<_> = elsewhere.collect();
        let connections = elsewhere.len();
        elsewhere.sort_unstable();
        elsewhere.dedup();
        for gateway in elsewhere {
            let frame = FleetFrame::LoggedOut {
                user: user.clone(),
                platform,
                before_ms,
            };
            self.core.tell(gateway, frame);
        }
        Ok(connections)
    }

    /// Leaves the fleet at a clean end: the store forgets this gateway and its sessions. Not cancel safe: a drop leaves the gateway's
    /// row until it has been silent.
    pub async fn part(&self) {
        let queue = &self.places.queue;
        drop(queue.write().unwrap_or_else(PoisonError::into_inner).take());
        let tasks = &self.tasks;
        let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(tasks) = tasks else {
            return;
        };
        tasks.heartbeat.abort();
        tasks.turn.abort();
        let core = Arc::clone(&self.core);
        let parting = self.runtime.spawn(async move {
            turn::end(&core).await;
            // The rest goes with the gateway's row.
            if timeout(core.answer_within, tasks.registrar).await.is_err() {
                tracing::debug!("places that were given back are not told to the store");
            }
            core.answer_of(core.store.part(core.gateway())).await
        });
        match parting.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the store was not told that this gateway ends");
            }
            Err(error) => tracing::error!(%error, "this gateway could not leave its fleet"),
        }
    }

    /// Asks the store on the runtime that has its connections.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, LogError> {
        let Ok(_permit) = self.look_ups.try_acquire() else {
            let text = "too many look-ups of sessions wait for the store";
            return Err(LogError::new(Cause::Away, text));
        };
        let answer = self.runtime.spawn(question).await;
        let ended = |_| Err(EngineError::Away("the log is closed".into()));
        answer.unwrap_or_else(ended).map_err(failure_of)
    }
}
