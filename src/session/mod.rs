//! The protocol machine of one session: events in, actions out. It owns no socket, no clock and no log.
//!
//! A session is a cursor on its user's inbox. Fresh, reconnecting, lagging and resending are one case: read the log
//! after what was sent, push up to the window, go live at the head. A live message is pushed only when it is exactly
//! the next one; otherwise its bytes are forgotten and the log is read. So nothing queues here.
//!
//! It knows no protocol of the wire: [`FromClient`] and [`ToClient`] are what both sides mean, and a codec of the connection's
//! (`protocol/`) puts them into frames. Before a client's [`Connect`] there is no [`Session`] to push to; [`open`] makes it.
//! After a close every event is ignored.
//!
//! - `handshake.rs`: from `Connect` to a session: where delivery resumes, what gap is announced
//! - `window.rs`: sent and not yet acked; rewinds and their deadlines
//! - `machine.rs`: the session itself
//! - `event.rs`, `action.rs`: what goes in, what comes out; `reason.rs`: why a connection is closed

mod action;
mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handshake;
mod machine;
mod reason;
#[cfg(test)]
mod schedule;
mod window;

pub use action::{Action, Connected, Gap, GapReason, Kicked, Messages, ReadOrder, ToClient};
pub use event::{Connect, Event, Fetch, FromClient, Moment, Place, Scene};
pub use handshake::{Resume, Standing, Welcome, open};
pub use machine::Session;
pub use reason::Reason;

use std::time::Duration;

/// [`Limits::replayed_bytes_max`] of every gateway: what 256 messages of 1 KiB are. Whoever never acks has all of it sent again
/// at every rewind, and whole windows of large messages, 2 MiB each, would keep live pushes waiting.
pub const REPLAYED_BYTES_MAX: u32 = 256 * 1024;

/// Heartbeats without a word after which a client's connection ends. The protocol fixes the number for both sides.
pub const SILENCE_HEARTBEATS_MAX: f64 = 2.5;

/// What every session of a gateway is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Stored messages that may be unacked at once; at least 1.
    pub window: u32,
    /// While so many bytes of them, read from the log, are unacked, no more are read: 0 or more.
    pub replayed_bytes_max: u32,
    /// No ack for this long: rewind. Doubles up to 60 s.
    pub resend_after: Duration,
    /// A client says something at least this often; [`SILENCE_HEARTBEATS_MAX`] of them without a word end the connection.
    pub heartbeat: Duration,
    /// Whether a session that was never seen begins after the newest message instead of before the first.
    pub starts_at_head: bool,
}
