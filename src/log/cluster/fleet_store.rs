//! The second narrow trait between a gateway and its store: which gateways there are, and which of them holds which session. Each method
//! takes and returns plain batches.
//!
//! A *place* is what a newer session takes from an older one: the user and a key that follows from the login policy. The last to
//! register holds it, whatever the order of the gateways' requests. The rows of places are in no write-ahead log, so a crash of the
//! store or another primary empties them. A token among them tells that: each gateway then registers its sessions again.

use std::{net::IpAddr, time::Duration};

use super::engine::EngineFuture;
use crate::{
    ids::{ConnectionId, Fence, GatewayId, Platform, SessionKey, UserId},
    log::TurnNumber,
};

/// A gateway that was not heard of for this long is gone. Five heartbeats may be late or lost.
pub const SILENCE: Duration = Duration::from_secs(10);
/// The turn is over when it was not taken again for this long.
pub const TURN_LEASE: Duration = Duration::from_secs(10);

/// A session that takes its place, or keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceClaim {
    /// The session.
    pub key: SessionKey,
    /// The place among those of the user.
    pub place_key: Box<str>,
    /// The gateway with its connection.
    pub gateway: GatewayId,
    /// The connection at that gateway.
    pub connection: ConnectionId,
    /// Connected since, Unix ms.
    pub since_ms: u64,
    /// True if its app said that it is in background.
    pub is_background: bool,
    /// The client's address, if it is known.
    pub address: Option<IpAddr>,
    /// `None`: a new session. Otherwise the session keeps this fence, and has the place unless a newer session has it.
    pub fence: Option<Fence>,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// The session has the place.
    Taken {
        /// Its fence.
        fence: Fence,
        /// The connection that had the place before, if it was another one.
        previous: Option<(GatewayId, ConnectionId)>,
    },
    /// A newer session has the place, with this fence.
    Lost(Fence),
}

/// A session that gives its place back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceLeft {
    /// The user.
    pub user: UserId,
    /// The place among those of the user.
    pub place_key: Box<str>,
    /// The gateway with its connection.
    pub gateway: GatewayId,
    /// The connection. The place of another one stays.
    pub connection: ConnectionId,
}

/// The holder of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The session.
    pub key: SessionKey,
    /// The place among those of the user.
    pub place_key: Box<str>,
    /// The gateway with its connection.
    pub gateway: GatewayId,
    /// The connection at that gateway.
    pub connection: ConnectionId,
    /// The fence of the session.
    pub fence: Fence,
    /// Connected since, Unix ms.
    pub since_ms: u64,
    /// True if its app said that it is in background.
    pub is_background: bool,
    /// The client's address, if it is known.
    pub address: Option<IpAddr>,
}

/// A gateway of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRow {
    /// Its number.
    pub gateway: GatewayId,
    /// The address at which the others reach it.
    pub address: String,
    /// The number of its sessions at its last heartbeat.
    pub sessions: u64,
    /// True if it was not heard of for [`SILENCE`], by the store's clock.
    pub is_silent: bool,
}

/// A connection whose place another gateway's session has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceLost {
    /// The user.
    pub user: UserId,
    /// The connection that lost the place.
    pub connection: ConnectionId,
    /// The fence of the newer session.
    pub fence: Fence,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// All gateways, the caller among them.
    pub gateways: Vec<GatewayRow>,
    /// True if the caller was removed, because it had been silent. It has to join again.
    pub is_removed: bool,
    /// The token of the places; `None` if it is not known now. Another one than before: the places were emptied meanwhile.
    pub token: Option<u64>,
    /// Places that the caller's connections lost. Each is told once, so a lost answer is found by a look at the holders only.
    pub lost: Vec<PlaceLost>,
}

/// The fleet in the store.
pub trait FleetStore: Send + Sync + 'static {
    /// Adds a gateway, durably, under a number that no gateway had before.
    fn join(&self, address: String, version: u32) -> EngineFuture<'_, GatewayId>;

    /// Tells that a gateway lives, durably, with its number of sessions. Removes gateways that are silent, with all their places.
    fn heartbeat(
        &self,
        gateway: GatewayId,
        address: String,
        sessions: u64,
    ) -> EngineFuture<'_, Heartbeat>;

    /// Removes a gateway at its clean end, with its places.
    fn part(&self, gateway: GatewayId) -> EngineFuture<'_, ()>;

    /// Gives each session its place, in the order of the claims; a place stands once among them. A repeat after a lost answer does
    /// no harm.
    fn register(&self, claims: Vec<PlaceClaim>) -> EngineFuture<'_, Vec<PlaceOutcome>>;

    /// Gives places back.
    fn leave(&self, left: Vec<PlaceLeft>) -> EngineFuture<'_, ()>;

    /// The holders of each user's places at gateways that are not silent. A look-up that begins after a registration was answered
    /// sees it.
    fn holders(&self, users: Vec<UserId>) -> EngineFuture<'_, Vec<Vec<Holder>>>;

    /// Up to `limit` users with a session, each with all holders; with `platform`, users with a session there.
    fn online(
        &self,
        platform: Option<Platform>,
        limit: usize,
    ) -> EngineFuture<'_, Vec<(UserId, Vec<Holder>)>>;

    /// Takes the turn for [`TURN_LEASE`], durably, and returns its number; `None` while another gateway has it. `held`: the turn that the
    /// caller has, which it keeps unless another gateway took the turn since. Without it a turn of the caller is over, and it gets another.
    fn take_turn(
        &self,
        gateway: GatewayId,
        held: Option<TurnNumber>,
    ) -> EngineFuture<'_, Option<TurnNumber>>;

    /// Ends this turn, if it is the present one: any gateway may take the next.
    fn leave_turn(&self, turn: TurnNumber) -> EngineFuture<'_, ()>;
}
