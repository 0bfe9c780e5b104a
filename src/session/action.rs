//! What a session wants done.

use bytes::Bytes;

use crate::{
    ids::Seq,
    wire::{close::Close, proto::server_frame},
};

/// Stored messages of one user, ascending.
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
    /// Send this frame.
    Send(server_frame::Body),
    /// Answer a ping; the sender adds the time.
    Pong(u64),
    /// Push the frame that came with the [`super::Event::Live`].
    PushLive(Seq),
    /// Push these messages, contiguous and at least one.
    Push {
        /// What to push.
        messages: Messages,
        /// How many of them had been pushed before on this connection.
        resent: usize,
    },
    /// Answer a `Fetch`.
    Fetched {
        /// The client's number for it.
        request_id: u32,
        /// The history; fits one frame.
        messages: Messages,
        /// Whether the head was reached.
        is_end: bool,
    },
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
    Close(Close),
}
