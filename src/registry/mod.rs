//! Who is online: from user to the connections that hold their sessions now. It owns no socket and no queue.
//!
//! Promise: of the sessions that share a place by the login policy, the one registered last is here, and every other
//! was told `Replaced`; whatever the interleaving of threads, because both happen under the user's entry.
//! [`Mailbox`] is the seam to where connections live: a reactor of this process today, another node later.
//!
//! - `places.rs`: who holds which place
//! - `policy.rs`: who replaces whom at login

mod places;
mod policy;

use std::sync::Arc;

// The map of `places.rs`. In `interleavings.rs` shuttle's has its place.
use ::dashmap;

pub use self::{places::Registry, policy::Policy};
use crate::{
    ids::{ConnectionId, Platform, Seq},
    message::Message,
};

/// What is said to a connection from outside its own thread.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message just became durable, or is online-only (seq 0): push it if it fits, else read the log.
    Live {
        /// Its place in the user's inbox.
        seq: Seq,
        /// The message, which all its sessions share.
        message: Arc<Message>,
    },
    /// A newer connection took the place: `Kicked` REPLACED, close 4409.
    Replaced,
    /// An administrator revoked the token: `Kicked` LOGGED_OUT, close 4410.
    LoggedOut,
}

/// Where the connections of one thread, or one node, get their items.
pub trait Mailbox: Send + Sync + 'static {
    /// Hands `item` to a connection. Never blocks. A connection that is gone ignores it. When there is no room for a
    /// `Live` item it is dropped, and the connection learns that it has to read the log; the others always arrive.
    fn post(&self, to: ConnectionId, item: Item);
}

/// The user has as many sessions as `sessions.per_user_max` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the user has {0} sessions already")]
pub struct TooManySessions(pub usize);

/// A connected session, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// On which class of device.
    pub platform: Platform,
    /// Which device of it; empty unless the policy tells devices apart.
    pub device: Arc<str>,
    /// The connection that holds the session.
    pub connection: ConnectionId,
    /// Connected since, Unix ms.
    pub since_ms: u64,
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
