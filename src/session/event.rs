//! The input of a session: its client's words, and all else that happens to it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Reason, Resume};
use crate::{ids::Seq, message::Message};

/// A point in time: ms since any origin that all calls share. Never goes backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `after` this one.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after.as_millis() as u64))
    }

    /// From `earlier` to this one; zero when it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The surroundings of the session while it handles an event.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// When it happens.
    pub now: Moment,
    /// The outbox takes another push.
    pub has_room: bool,
    /// All that was sent so far has left for the socket.
    pub is_flushed: bool,
}

/// One place of the inbox as the log gave it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it stands.
    pub seq: Seq,
    /// The stored form of the message; `None` when it was deleted.
    pub body: Option<Bytes>,
}

/// One thing that a client says. The connection's codec reads it from frames.
#[derive(Debug)]
pub enum FromClient {
    /// The client names itself and says where it stands. Nothing comes before it.
    Connect(Connect),
    /// Everything up to here is durably stored at the client.
    Ack(Seq),
    /// Send everything after this one again.
    Resend(Seq),
    /// Send history; no cursor moves.
    Fetch(Fetch),
    /// Answer this nonce.
    Ping(u64),
}

/// A client's first word.
#[derive(Debug)]
pub struct Connect {
    /// Says who it is; not looked into here.
    pub token: String,
    /// Tells devices of one platform apart; an id, or empty.
    pub device: String,
    /// Name and version of the client, for the operator; an id, or empty.
    pub client: String,
    /// Where the client stands.
    pub resume: Resume,
}

/// A request for history.
#[derive(Debug, Clone, Copy)]
pub struct Fetch {
    /// Chosen by the client, and repeated in the answer.
    pub request_id: u32,
    /// The answer starts with the first retained message above this one.
    pub after: Seq,
    /// Messages wanted, at least 1; there is a bound on them.
    pub limit: u32,
}

/// One thing that happens to a session.
#[derive(Debug)]
pub enum Event {
    /// The client said something.
    Said(FromClient),
    /// The client sent a control frame of WebSocket's own: a sign of life.
    Heard,
    /// A message of this user became durable (or is online-only: seq 0).
    Live(Seq, Arc<Message>),
    /// The inbox is known to reach this far; the message is not at hand.
    Head(Seq),
    /// The answer to an [`super::Action::Read`]: ascending and contiguous, starting at the first retained place.
    Read(Vec<Place>),
    /// The answer to an [`super::Action::Read`] when there was nothing above: the oldest retained seq.
    ReadNothing(Seq),
    /// The log would not be read, for this reason.
    ReadFailed(Reason),
    /// The outbox has room again.
    Room,
    /// Time passed. Comes about once a second.
    Tick,
    /// A newer connection took the place.
    Replaced,
    /// An administrator revoked the token.
    LoggedOut,
    /// The gateway goes down; the client is to come back after this long.
    Drain(Duration),
}
