//! What happens to a session.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    ids::Seq,
    wire::{close::Close, proto::client_frame},
};

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

/// How things stand around the session while it handles an event.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// When it happens.
    pub now: Moment,
    /// Whether the outbox takes another push.
    pub has_room: bool,
    /// Whether all that was sent so far has left for the socket.
    pub is_flushed: bool,
}

/// One place of the inbox as the log gave it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it stands.
    pub seq: Seq,
    /// The stored body; `None` when the message was deleted.
    pub body: Option<Bytes>,
}

/// One thing that happens to a session.
#[derive(Debug)]
pub enum Event {
    /// The client sent a frame.
    Frame(client_frame::Body),
    /// The client sent a control frame of WebSocket's own: a sign of life.
    Heard,
    /// A message of this user became durable (or is online-only: seq 0), and its encoded frame is at hand.
    Live(Seq),
    /// The inbox is known to reach this far; no frame is at hand.
    Head(Seq),
    /// The answer to an [`super::Action::Read`]: ascending and contiguous, starting at the first retained place.
    Read(Vec<Place>),
    /// The answer to an [`super::Action::Read`] when there was nothing above: the oldest retained seq.
    ReadNothing(Seq),
    /// The log would not be read; the close says why.
    ReadFailed(Close),
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
