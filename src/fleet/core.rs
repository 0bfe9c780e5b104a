//! The state that the parts of the fleet share: the store, this gateway's number, and the other gateways.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::frame::{FleetFrame, Teller};
use crate::{
    ids::{ConnectionId, Fence, GatewayId, UserId},
    log::{
        Cause, LogError, Turns,
        cluster::{
            engine::{EngineError, EngineFuture, answer_of},
            fleet_store::FleetStore,
        },
    },
    registry::Registry,
};

/// The number of the present language between gateways and store.
pub(super) const FLEET_VERSION: u32 = 1;

/// The shared state.
pub(super) struct FleetCore {
    pub(super) store: Arc<dyn FleetStore>,
    pub(super) registry: Arc<Registry>,
    /// Tells the work whether this gateway has the turn.
    pub(super) turns: Turns,
    /// The address at which the other gateways reach this one.
    pub(super) address: String,
    /// The store answers within this time.
    pub(super) answer_within: Duration,
    gateway: AtomicU64,
    pub(super) teller: OnceLock<Arc<dyn Teller>>,
    pub(super) gateways: watch::Sender<Vec<(GatewayId, String)>>,
    /// The sessions of the other gateways, by their last heartbeats.
    pub(super) sessions_elsewhere: AtomicU64,
    /// True if the store may have lost places of this gateway: all sessions register again.
    is_anew: AtomicBool,
    pub(super) has_work: Notify,
    /// True if the store will never be told of a place that was given back: this gateway takes another number.
    has_lost_track: AtomicBool,
}

impl FleetCore {
    pub(super) fn new(
        store: Arc<dyn FleetStore>,
        registry: Arc<Registry>,
        turns: Turns,
        address: String,
        answer_within: Duration,
        gateway: GatewayId,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            registry,
            turns,
            address,
            answer_within,
            gateway: AtomicU64::new(gateway.0),
            teller: OnceLock::new(),
            gateways: watch::Sender::default(),
            sessions_elsewhere: AtomicU64::new(0),
            is_anew: AtomicBool::new(false),
            has_work: Notify::new(),
            has_lost_track: AtomicBool::new(false),
        })
    }

    /// The present number of this gateway.
    pub(super) fn gateway(&self) -> GatewayId {
        GatewayId(self.gateway.load(Acquire))
    }

    /// This gateway has another number. All its sessions register under it.
    pub(super) fn set_gateway(&self, gateway: GatewayId) {
        self.gateway.store(gateway.0, Release);
        self.begin_anew();
    }

    /// All sessions register again.
    pub(super) fn begin_anew(&self) {
        self.is_anew.store(true, Release);
        self.has_work.notify_one();
    }

    /// True if all sessions have to register again. It is false from then on.
    pub(super) fn take_anew(&self) -> bool {
        self.is_anew.swap(false, AcqRel)
    }

    /// The store is not told of a place that was given back. The next heartbeat takes another number.
    pub(super) fn lose_track(&self) {
        self.has_lost_track.store(true, Release);
    }

    /// True if the store was not told of a place. It is false from then on.
    pub(super) fn take_lost_track(&self) -> bool {
        self.has_lost_track.swap(false, AcqRel)
    }

    /// A session with this fence has the place that a connection had.
    pub(super) fn tell_replaced(
        &self,
        user: &UserId,
        (gateway, connection): (GatewayId, ConnectionId),
        fence: Fence,
    ) {
        if gateway == self.gateway() {
            self.registry.replace(user, connection, fence);
        } else {
            let replaced = FleetFrame::Replaced {
                user: user.clone(),
                connection,
                fence,
            };
            self.tell(gateway, replaced);
        }
    }

    /// Tells another gateway. Without links it finds out from the store.
    pub(super) fn tell(&self, gateway: GatewayId, frame: FleetFrame) {
        if let Some(teller) = self.teller.get() {
            teller.tell(gateway, frame);
        }
    }

    /// The store's answer, or the lack of one in time.
    pub(super) async fn answer_of<T>(&self, asked: EngineFuture<'_, T>) -> Result<T, EngineError> {
        answer_of(asked, self.answer_within).await
    }

    pub(super) fn sessions_elsewhere(&self) -> u64 {
        self.sessions_elsewhere.load(Relaxed)
    }
}

/// The failure of a question to the store.
pub(super) fn failure_of(error: EngineError) -> LogError {
    let cause = match error {
        EngineError::Damaged(_) => Cause::Damaged,
        EngineError::Away(_) | EngineError::Unknown(_) | EngineError::Refused(_) => Cause::Away,
    };
    LogError::new(cause, error)
}
