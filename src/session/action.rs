//! The output of a session: actions for its connection, and its words to the client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::Reason;
use crate::{
    ids::{ConnectionId, Epoch, Platform, Seq},
    message::Message,
};

/// Stored messages of one user, ascending: their stored form.
pub type Messages = Vec<(Seq, Bytes)>;

/// A read of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOrder {
    /// Read the places after this one.
    pub after: Seq,
    /// At most this many, at least 1.
    pub messages: usize,
}

/// One thing to do. Done in the order given; nothing follows a [`Action::Close`].
#[derive(Debug)]
pub enum Action {
    /// Send this to the client.
    Send(ToClient),
    /// Answer a ping: a [`ToClient::Pong`] with this nonce and the time.
    Pong(u64),
    /// Read the log; the answer is one of the `Read` events. At most one is under way.
    Read(ReadOrder),
    /// Remember that the session begins here, which is not where it was known to stand.
    Begin(Seq),
    /// The client stored everything up to here.
    StoreAck {
        /// The new cursor.
        seq: Seq,
        /// By how many places it moved.
        advanced: u64,
    },
    /// Close the connection once what was sent before has left.
    Close(Reason),
}

/// One thing that a session says to its client. The connection's codec makes frames of it.
#[derive(Debug)]
pub enum ToClient {
    /// The answer to a good `Connect`; nothing comes before it.
    Connected(Connected),
    /// A message that was handed to the session as it became durable, or is online-only (seq 0).
    Live {
        /// Its place in the inbox.
        seq: Seq,
        /// The message, which other sessions share.
        message: Arc<Message>,
    },
    /// Messages from the log, contiguous and at least one.
    Push {
        /// The messages.
        messages: Messages,
        /// The number of them that had been pushed before on this connection.
        resent: usize,
    },
    /// The backlog present at connect has been sent up to here.
    CaughtUp(Seq),
    /// The answer to a `Fetch`.
    Fetched {
        /// The client's number for it.
        request_id: u32,
        /// The history; at most [`TOGETHER_BYTES_MAX`](crate::message::TOGETHER_BYTES_MAX), or a single message.
        messages: Messages,
        /// The head was reached.
        is_end: bool,
    },
    /// A stretch of the inbox that will not come.
    Gap(Gap),
    /// The connection loses its place; a close follows.
    Kicked(Kicked),
    /// The gateway goes down: come back after this long. A close follows.
    Draining(Duration),
    /// The answer to a ping.
    Pong {
        /// The ping's.
        nonce: u64,
        /// The server's clock, Unix ms.
        server_time_ms: u64,
    },
}

/// The first answer to a client: its session has begun.
#[derive(Debug, Clone, Copy)]
pub struct Connected {
    /// Names the connection.
    pub connection: ConnectionId,
    /// On which platform the session is.
    pub platform: Platform,
    /// Which log it is.
    pub epoch: Epoch,
    /// Delivery begins after it.
    pub cursor: Seq,
    /// Highest seq of the inbox.
    pub head: Seq,
    /// Oldest retained seq; `head` + 1 when none is.
    pub first: Seq,
    /// The client says something at least this often.
    pub heartbeat: Duration,
    /// Stored messages that may be unacked at once.
    pub window: u32,
    /// The server's clock, Unix ms.
    pub server_time_ms: u64,
}

/// The seqs `from`..=`to` will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: Seq,
    /// The last of them. The client's cursor moves there.
    pub to: Seq,
    /// Why.
    pub reason: GapReason,
}

/// Why a stretch of the inbox will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Retention or a deletion removed it.
    Expired,
    /// The client's cursor belongs to another log; it may move backwards.
    EpochChanged,
}

/// Why a connection loses its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kicked {
    /// A newer login took it.
    Replaced,
    /// An administrator revoked the token.
    LoggedOut,
}
