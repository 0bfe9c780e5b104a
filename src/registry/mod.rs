//! Who is online: from user to the connections that hold their sessions now. It owns no socket and no queue.
//!
//! [`Mailbox`] is the seam to where connections live: a reactor of this process today, another node later.
//!
//! - `policy.rs`: who replaces whom at login

use crate::{
    ids::{ConnectionId, Seq},
    wire::frame::Frame,
};

/// What is said to a connection from outside its own thread.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message just became durable, or is online-only (seq 0): push it if it fits, else read the log.
    Live {
        /// Its place in the user's inbox.
        seq: Seq,
        /// The `Push` frame, shared by all sessions of the user.
        frame: Frame,
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
