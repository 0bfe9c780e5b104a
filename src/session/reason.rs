//! Why a connection is closed, as one closed list. The client's protocol maps each reason to a close code.

use std::time::Duration;

/// Every reason of ours to close a connection. The texts are for the developer of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client broke its protocol; the text says how. The client's developer has to repair it.
    Protocol(&'static str),
    /// The token is missing, invalid, expired or revoked; the text says which. The client needs another token.
    Unauthorized(&'static str),
    /// A newer login took the place.
    Replaced,
    /// An administrator logged the user out. The client needs another token.
    LoggedOut,
    /// The user has as many sessions as the policy allows.
    TooManySessions,
    /// Five rewinds passed without an ack. The client may return.
    AcksStopped,
    /// The client was silent for [`SILENCE_HEARTBEATS_MAX`](super::SILENCE_HEARTBEATS_MAX) heartbeats. It may return.
    HeartbeatStopped,
    /// The client reads too slowly. It may return and resume.
    SlowConsumer,
    /// The gateway drains or is overloaded. The client should return after this delay.
    Unavailable(Duration),
    /// No `Connect` arrived in time. The client may return.
    ConnectTimeout,
    /// The gateway failed; the text says how. The operator's log says more.
    Internal(&'static str),
}
