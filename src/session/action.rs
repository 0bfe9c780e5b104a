//! The output of a session: actions for its connection, and the frames for its client without their encoding.

use std::time::Duration;

use bytes::Bytes;

use super::{Answer, ListRequest, Question, Reason};
use crate::{
    ids::{ConnectionId, Epoch, Platform, Seq, UserId},
    message::{Conversation, Live, Numbers, ReadMark},
};

/// Messages of one user with their places, in ascending order, each in its stored form. Read marks may be among them.
pub type Messages = Vec<(Numbers, Bytes)>;

/// A read of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOrder {
    /// Read the entries after this seq.
    pub after: Seq,
    /// Read at most this many entries; at least 1.
    pub messages: usize,
}

/// One thing that the connection has to do. The connection performs actions in the given order; no action follows an
/// [`Action::Close`].
#[derive(Debug)]
pub enum Action {
    /// Send this to the client.
    Send(ToClient),
    /// Answer a ping with a [`ToClient::Pong`] that holds this nonce and the time.
    Pong(u64),
    /// Read the log. The answer is one of the `Read` events. At most one read is under way, or one `List`.
    Read(ReadOrder),
    /// Look up the user's conversations. The answer is [`Event::Listed`](super::Event::Listed). No read is under way meanwhile.
    List(ListRequest),
    /// Answer a question. [`Event::Answered`](super::Event::Answered) follows. No read is under way meanwhile.
    Ask {
        /// The question.
        question: Question,
        /// Everything up to this seq was sent.
        sent: Seq,
    },
    /// Read the newest message of each conversation of which everything was sent, where everything up to this seq was. The answer
    /// is [`Event::Newest`](super::Event::Newest). No read is under way meanwhile.
    ReadNewest(Seq),
    /// Look up on which platforms these users are connected. [`Event::Looked`](super::Event::Looked) follows at once.
    Look(Vec<UserId>),
    /// Move the user's read marks forward. [`Event::Marked`](super::Event::Marked) follows when the log has taken them or has
    /// not. Until then there is no other `Mark`.
    Mark(Vec<ReadMark>),
    /// Store this seq as the session's cursor. It differs from the stored one.
    Begin(Seq),
    /// The client stored all messages up to `seq`: store the cursor.
    StoreAck {
        /// The new cursor.
        seq: Seq,
        /// The number of entries by which it moved.
        advanced: u64,
    },
    /// Drop the frames of which no byte has left. The client gets their messages again after its return.
    DropUnsent,
    /// Note that the client's app went to the background (true), or came back.
    Background(bool),
    /// Close the connection once everything sent before has left.
    Close(Reason),
}

/// One thing that a session tells its client. The connection's codec makes frames of it.
#[derive(Debug)]
pub enum ToClient {
    /// The answer to a good `Connect`. The client gets nothing before it.
    Connected(Connected),
    /// A message that the session got as it came.
    Live(Live),
    /// Messages from the log with contiguous seqs; at least one.
    Push {
        /// The messages.
        messages: Messages,
        /// The number of them that this connection had pushed before.
        resent: usize,
    },
    /// Messages that the session counts as sent: the newest ones of some conversations, ascending. A client that sifts finds by them
    /// what it misses.
    Newest(Messages),
    /// The session has sent the whole backlog that was present at connect, up to this seq.
    CaughtUp(Seq),
    /// The answer to a `Fetch`.
    Fetched {
        /// The number that the client gave the `Fetch`.
        request_id: u32,
        /// The history, without read marks; at most [`TOGETHER_BYTES_MAX`](crate::message::TOGETHER_BYTES_MAX), or a single message.
        messages: Messages,
        /// True if the messages reach the head.
        is_end: bool,
    },
    /// The answer to a question for the conversations.
    Conversations {
        /// The number that the client gave its question.
        request_id: u32,
        /// The conversations, those with the newest messages first; at most
        /// [`TOGETHER_BYTES_MAX`](crate::message::TOGETHER_BYTES_MAX).
        conversations: Vec<Conversation>,
        /// True if no other conversation follows.
        is_end: bool,
    },
    /// The answer to a [`FromClient::Ask`](super::FromClient::Ask).
    Answer(Answer),
    /// Users, each with the platforms on which it is connected, ascending. The first one after a
    /// [`FromClient::Watch`](super::FromClient::Watch) answers it, and has the users that it named; each later one has those
    /// that changed.
    Presence(Vec<(UserId, Vec<Platform>)>),
    /// Ask the client for a sign of life. [`FromClient::Received`](super::FromClient::Received) answers it once the client has
    /// received everything before.
    Ping,
    /// A range of the inbox that will not come.
    Gap(Gap),
    /// The connection loses its place. A close follows.
    Kicked(Kicked),
    /// The gateway drains: the client should return after this delay. A close follows.
    Draining(Duration),
    /// The answer to a ping.
    Pong {
        /// The nonce of the ping.
        nonce: u64,
        /// The server's clock, Unix ms.
        server_time_ms: u64,
    },
}

/// The first answer to a client: its session has begun.
#[derive(Debug, Clone, Copy)]
pub struct Connected {
    /// The id of the connection.
    pub connection: ConnectionId,
    /// The platform of the session.
    pub platform: Platform,
    /// The epoch of the log.
    pub epoch: Epoch,
    /// The stored cursor. Delivery begins after it.
    pub cursor: Seq,
    /// The highest seq of the inbox.
    pub head: Seq,
    /// The oldest retained seq; `head` + 1 when no message is retained.
    pub first: Seq,
    /// The client has to send something at least this often.
    pub heartbeat: Duration,
    /// Stored messages that may be unacked at once.
    pub window: u32,
    /// The server's clock, Unix ms.
    pub server_time_ms: u64,
    /// True if the client may send [`FromClient::Read`](super::FromClient::Read) and
    /// [`FromClient::Conversations`](super::FromClient::Conversations).
    pub has_conversations: bool,
}

/// The seqs `from`..=`to` will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: Seq,
    /// The last of them. The client's cursor moves there.
    pub to: Seq,
    /// Why they will not come.
    pub reason: GapReason,
}

/// Why a range of the inbox will not come.
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
    /// A newer login took the place.
    Replaced,
    /// An administrator revoked the token.
    LoggedOut,
}
