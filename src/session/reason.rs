//! Why a connection is closed, in one closed list. Which code a client gets for it is its protocol's to say.

use std::time::Duration;

/// Every reason of ours to close a connection; the texts are for whoever mends the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client broke its protocol; the text says how. Mend the client.
    Protocol(&'static str),
    /// The token is missing, invalid, expired or revoked; the text says which. Get another one.
    Unauthorized(&'static str),
    /// A newer login took the place.
    Replaced,
    /// An administrator logged the user out. Get another token.
    LoggedOut,
    /// The user has as many sessions as the policy allows.
    TooManySessions,
    /// Five rewinds without an ack. Come back.
    AcksStopped,
    /// The client was silent for [`SILENCE_HEARTBEATS_MAX`](super::SILENCE_HEARTBEATS_MAX) heartbeats. Come back.
    HeartbeatStopped,
    /// The client reads too slowly. Come back and resume.
    SlowConsumer,
    /// Draining or overloaded. Come back after this long.
    Unavailable(Duration),
    /// No `Connect` in time. Come back.
    ConnectTimeout,
    /// The gateway failed; the text says what. The operator's log says more.
    Internal(&'static str),
}
