//! The input of a session: what its client says, and everything else that happens to it.

use std::time::Duration;

use bytes::Bytes;

use super::{Answer, Question, SessionFault};
use crate::{
    ids::{Platform, Seq, UserId},
    message::{Conversation, Entry, Live, Numbers, ReadMark},
};

/// A point in time, in ms since an origin that all calls share. Never goes backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `after` this one.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after.as_millis() as u64))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The facts that a session needs while it handles an event.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// The time of the event.
    pub now: Moment,
    /// True if the outbox takes another push.
    pub has_room: bool,
    /// True if everything sent so far has left for the socket.
    pub is_flushed: bool,
    /// Gives a random number from 0 to 1. It spreads the returns of clients that were sent away together.
    pub random: fn() -> f64,
}

/// The state of a connection's socket and token at a tick. The default is that of a healthy one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Condition {
    /// The time for which the socket has taken nothing although frames waited, or for which the outbox has had no room.
    pub stalled: Duration,
    /// True if so many answers wait that the connection reads nothing from the client.
    pub is_flooded: bool,
    /// True if the client's token has expired for certain.
    pub is_token_over: bool,
    /// A number that rises whenever the presence of any user changes.
    pub presence: u64,
}

/// One thing that a client says. The connection's codec decodes it from a frame.
#[derive(Debug)]
pub enum FromClient {
    /// The client names its user and its resume point. Nothing comes before it.
    Connect(Connect),
    /// The client has stored everything up to this seq durably.
    Ack(Seq),
    /// Send everything after this seq again.
    Resend(Seq),
    /// Send history. No cursor moves.
    Fetch(Fetch),
    /// The client has received everything that was sent before the latest [`ToClient::Ping`](super::ToClient::Ping), and all entries
    /// up to this seq.
    Received(Seq),
    /// Answer with this nonce.
    Ping(u64),
    /// The user has read these conversations up to these messages.
    Read(Vec<ReadMark>),
    /// List the user's conversations.
    Conversations(ListRequest),
    /// Answer a question of OpenIM's v3 protocol.
    Ask(Question),
    /// Tell on which platforms these users are connected, now and at each change. The answer is a
    /// [`ToClient::Presence`](super::ToClient::Presence).
    Watch {
        /// The users to watch from now on. The session watches at most [`WATCHED_MAX`](super::WATCHED_MAX).
        users: Vec<UserId>,
        /// The users to watch no more. They go first.
        unwatch: Vec<UserId>,
    },
    /// The client's app went to the background (true), or came back.
    Background(bool),
    /// The client leaves for good.
    LogOut,
    /// A frame that needs nothing of the session. It is a sign of life.
    Nothing,
}

/// How a client takes pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It acks each message, and takes repeats.
    Acks,
    /// It has a store that sorts and sifts, and asks where it stands first. Pushes wait until its question
    /// [`Reached`](Question::Reached) is answered. A client that reads and asks nothing for one second gets the newest message of each
    /// conversation, and then the pushes. Nothing is sent twice: a push without a receipt for too long closes the connection. A
    /// session never seen begins at the head.
    Sifts,
    /// It has no store, and sorts nothing. As [`Sifts`](Self::Sifts), but the session begins anew at the head with which its
    /// question [`Overview`](Question::Overview) was answered. Then pushes wait until it has read the answer to its last pull by
    /// [`Ranges`](Question::Ranges), or has pulled nothing for one second.
    Forgets,
}

/// The first frame of a client.
#[derive(Debug)]
pub struct Connect {
    /// The client's token. The session does not check it.
    pub token: String,
    /// The device's id, which tells devices of one platform apart; an id, or empty.
    pub device: String,
    /// Name and version of the client, for the operator; an id, or empty.
    pub client: String,
    /// The point from which the client wants to resume.
    pub resume: Resume,
    /// How the client takes pushes. With another than [`Manner::Acks`] the device follows from the token.
    pub manner: Manner,
    /// The user and the platform that the client gives beside its token, which has to name the same. `None`: it gives none.
    pub named: Option<(UserId, Platform)>,
    /// True if its app is in background.
    pub is_background: bool,
}

/// The resume point that a client claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The epoch of the client's store; 0 when it has none.
    pub epoch: u64,
    /// The highest seq in the client's store.
    pub cursor: Option<Seq>,
}

/// A request for history.
#[derive(Debug, Clone, Copy)]
pub struct Fetch {
    /// Chosen by the client, and repeated in the answer.
    pub request_id: u32,
    /// The answer starts with the first retained message after this seq.
    pub after: Seq,
    /// The number of messages wanted; at least 1. The machine caps it.
    pub limit: u32,
}

/// A request for the user's conversations, those with the newest messages first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRequest {
    /// Chosen by the client, and repeated in the answer.
    pub request_id: u32,
    /// Only conversations whose newest message has a lower seq.
    pub before: Seq,
    /// The number of conversations wanted; at least 1. The machine caps it.
    pub limit: u32,
}

/// One thing that happens to a session, or to a connection that has none yet.
#[derive(Debug)]
pub enum Event {
    /// The client sent a frame.
    Said(FromClient),
    /// The client sent a control frame of WebSocket's own: a sign of life.
    Heard,
    /// A message of this user became durable, or is online-only.
    Live(Live),
    /// The inbox is known to reach this seq. The message itself is not at hand.
    Head(Seq),
    /// The answer to an [`super::Action::Read`]: ascending, contiguous entries, beginning with the first retained one.
    Read(Vec<Entry>),
    /// The answer to an [`super::Action::Read`] that found no entry: the oldest retained seq.
    ReadNothing(Seq),
    /// The answer to an [`super::Action::List`].
    Listed {
        /// The conversations, those with the newest messages first.
        conversations: Vec<Conversation>,
        /// True if no other conversation follows.
        is_end: bool,
    },
    /// The answer to an [`super::Action::Ask`].
    Answered {
        /// The answer.
        answer: Answer,
        /// An overview of all conversations shows every message up to this seq, and none above it; `None` with any other answer.
        shown: Option<Seq>,
    },
    /// The answer to an [`super::Action::ReadNewest`]: messages, ascending.
    Newest(Vec<(Numbers, Bytes)>),
    /// The answer to an [`super::Action::Look`]: the users, each with the platforms on which it is connected, ascending.
    Looked(Vec<(UserId, Vec<Platform>)>),
    /// The log took the marks of an [`super::Action::Mark`], or did not: then the client sends them again.
    Marked,
    /// A read of the log or the login failed, for this reason.
    Failed(SessionFault),
    /// The outbox has room again.
    Room,
    /// Time passed. This event comes about once a second.
    Tick(Condition),
    /// A newer connection took the session's place.
    Replaced,
    /// An administrator revoked the token.
    LoggedOut,
    /// The gateway drains. The client should return after this delay.
    Drain(Duration),
}
