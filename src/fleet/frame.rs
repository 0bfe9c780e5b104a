//! The words that gateways of one fleet say to each other. Each is a hint: a lost one costs time, and a late or repeated one changes
//! nothing.

use bytes::Bytes;

use crate::{
    ids::{ConnectionId, Epoch, Fence, GatewayId, Platform, UserId},
    message::Numbers,
};

/// A notice from one gateway to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetFrame {
    /// A message is confirmed, and the receiving gateway holds sessions of these users.
    Hint {
        /// The lane of the commit.
        lane: u64,
        /// The number of the group in its lane.
        group: u64,
        /// The epoch of the entries.
        epoch: Epoch,
        /// The bytes of the append's body.
        body: Bytes,
        /// The message's numbers at each of these users.
        entries: Vec<(UserId, Numbers)>,
    },
    /// A newer session has the place of this connection.
    Replaced {
        /// The user of both sessions.
        user: UserId,
        /// The connection that lost its place, at the receiving gateway.
        connection: ConnectionId,
        /// The fence of the newer session. A place with this fence or a higher one stays.
        fence: Fence,
    },
    /// The tokens of a user and platform are revoked.
    LoggedOut {
        /// The user.
        user: UserId,
        /// The platform.
        platform: Platform,
        /// Tokens issued before this time are revoked, Unix ms.
        before_ms: u64,
    },
    /// A message that is not stored, for the sessions that are connected now.
    OnlineOnly {
        /// The bytes of the message's body.
        body: Bytes,
        /// The receivers with sessions at the receiving gateway.
        users: Vec<UserId>,
    },
}

/// Hands frames to the other gateways of the fleet.
pub trait Teller: Send + Sync + 'static {
    /// Hands a frame to a gateway. Never blocks. A frame without room or without a link is dropped: who needs it finds out later from
    /// the store.
    fn tell(&self, gateway: GatewayId, frame: FleetFrame);

    /// The gateways of the fleet without a link in one of the two directions, ascending.
    fn missing(&self) -> Vec<GatewayId>;
}
