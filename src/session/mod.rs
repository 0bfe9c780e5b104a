//! The protocol machine of one session: events in, actions out. It owns no socket, no clock and no log.
//!
//! A session is a cursor on its user's inbox. Fresh, reconnecting, lagging and resending sessions are one case: read the
//! log after what was sent, and push up to the window. A live message comes from its commit and needs no read. It is pushed
//! only when it is exactly the next one. Otherwise the session drops its bytes and reads the log. So nothing queues here.
//!
//! The machine knows no protocol of the wire: [`FromClient`] and [`ToClient`] are what both sides mean, and the
//! connection's codec (`protocol/`) turns them into frames. Before its session a connection is a [`Greeting`]; [`open`] makes
//! the [`Session`]. After a close every event is ignored. No connection closes for a reason that is not decided here.
//!
//! - `greeting.rs`: a connection before its session: `Connect`, and the wait for the log
//! - `handshake.rs`: from `Connect` to a session: where delivery resumes, which gap is announced
//! - `window.rs`: pushes sent and not yet acked; rewinds and their deadlines
//! - `question.rs`: what the client asked for and has no answer to: history, conversations, where it stands
//! - `asked.rs`: the questions of OpenIM's v3 protocol, and their answers
//! - `marks.rs`: the read marks that wait for the log
//! - `hold.rs`: pushes that wait until the client has asked where it stands
//! - `watch.rs`: the users whose presence the client watches
//! - `wishes.rs`: all that the client wished for and has not got
//! - `machine.rs`: the session itself; `machine/answers.rs`: what it does about its client's questions; `machine/tick.rs`: what it
//!   does as time passes
//! - `event.rs`, `action.rs`: input and output; `reason.rs`: why a connection is closed, from the fact to the reason

mod action;
mod asked;
mod event;
mod greeting;
mod handshake;
mod hold;
mod machine;
mod marks;
mod question;
mod reason;
#[cfg(test)]
mod tests;
mod watch;
mod window;
mod wishes;

pub use action::{Action, Connected, Gap, GapReason, Kicked, Messages, ReadOrder, ToClient};
pub use asked::{Answer, Question, RANGES_BYTES_MAX, RANGES_MAX, Range, RangeAnswer, Standing};
pub use event::{
    Condition, Connect, Event, Fetch, FromClient, ListRequest, Manner, Moment, Resume, Scene,
};
pub use greeting::{Greeting, GreetingStep};
pub use handshake::{Footing, Welcome, open};
pub use machine::Session;
pub use reason::{BadToken, Reason, SessionFault};
pub use watch::WATCHED_MAX;

use std::time::Duration;

/// The [`Limits::replayed_bytes_max`] of every gateway: the size of 256 messages of 1 KiB. A client that never acks gets
/// all these bytes again at every rewind. Whole windows of large messages, 2 MiB each, would delay live pushes.
pub const REPLAYED_BYTES_MAX: u32 = 256 * 1024;

/// Heartbeats without a frame after which a client's connection ends. The protocol fixes the number for both sides.
pub const SILENCE_HEARTBEATS_MAX: f64 = 2.5;

/// The limits of every session of a gateway.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Stored messages that may be unacked at once; at least 1.
    pub window: u32,
    /// The session reads no further messages from the log while this many bytes of replayed messages are unacked; 0 or
    /// more.
    pub replayed_bytes_max: u32,
    /// The session rewinds after this long without an ack. The wait doubles at each rewind, up to 60 s.
    pub resend_after: Duration,
    /// A client has to send something at least this often. Silence of [`SILENCE_HEARTBEATS_MAX`] heartbeats ends the connection.
    pub heartbeat: Duration,
    /// A client ends its session when its socket takes nothing, or its outbox stays full, for this long.
    pub stall_timeout: Duration,
    /// True if a session without a stored cursor begins after the newest message; false: before the first.
    pub starts_at_head: bool,
}
