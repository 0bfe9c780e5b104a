//! The sessions that are online: a map from each user to the connections that hold the user's sessions now. It owns no
//! socket and no queue.
//!
//! Promise: when the login policy gives several sessions one place, the session registered last holds it, and every other
//! was told `Replaced`. This holds for every interleaving of threads, because both steps happen under the lock of the
//! user's entry. The registry reaches connections only through [`Mailbox`]: a reactor of this process today, another node
//! later.
//!
//! - `places.rs`: the sessions and the places that they hold
//! - `departures.rs`: who left a short while ago
//! - `policy.rs`: the login policies, which decide what a new login replaces

mod departures;
mod places;
mod policy;

use std::{net::IpAddr, sync::Arc};

// The map of `places.rs`. `simulation/tests/interleavings/` compiles that file with shuttle's.
use ::dashmap;

pub use self::{departures::Departures, places::Registry, policy::Policy};
use crate::{
    ids::{ConnectionId, Epoch, Fence, Platform, Seq, UserId},
    message::Live,
};

/// A notice to a connection from outside its own thread.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message came. Push it if it fits; otherwise read the log.
    Live(Live),
    /// The head of the user's inbox, as the store of all gateways has it. Read what is missing.
    Head(Epoch, Seq),
    /// A newer connection took the place. Send `Kicked` REPLACED and close with 4409.
    Replaced,
    /// An administrator revoked the token. Send `Kicked` LOGGED_OUT and close with 4410.
    LoggedOut,
}

/// Receives the items for the connections of one thread, or of one node.
pub trait Mailbox: Send + Sync + 'static {
    /// Hands `item` to a connection. Never blocks. A connection that is gone ignores it. A `Live` or `Head` item without room is
    /// dropped, and the connection learns that it has to read the log. All other items always arrive.
    fn post(&self, to: ConnectionId, item: Item);
}

/// Is told of each session that comes online or goes offline.
pub trait PresenceWatch: Send + Sync + 'static {
    /// A session changed. Called under the lock of the user's entry, in the order of the changes, so it must be quick.
    fn changed(&self, user: &UserId, platform: Platform, device: &Arc<str>, is_online: bool);
}

/// Follows the places for the other gateways of the fleet. Its methods are called under the lock of the user's entry, so they must be
/// quick.
pub trait PlaceWatch: Send + Sync + 'static {
    /// The connection of this session lost its place, or gave it back.
    fn left(&self, user: &UserId, session: &Presence);
    /// The app of this session went to the background, or came back.
    fn turned(&self, user: &UserId, session: &Presence);
}

/// The user has as many sessions as `sessions.per_user_max` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the user has {0} sessions already")]
pub struct TooManySessions(pub usize);

/// A connected session, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The class of its device.
    pub platform: Platform,
    /// The id of its device; empty unless the policy tells devices apart.
    pub device: Arc<str>,
    /// The connection that holds the session.
    pub connection: ConnectionId,
    /// Connected since, Unix ms.
    pub since_ms: u64,
    /// True if its app said that it is in background.
    pub is_background: bool,
    /// The order of the session among those that had its place at any gateway.
    pub fence: Fence,
    /// The client's address, also behind a proxy that is believed; `None` if it is not known.
    pub address: Option<IpAddr>,
}

#[cfg(test)]
mod tests;
