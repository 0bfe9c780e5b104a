//! Why a connection is closed, as two closed lists. [`SessionFault`] has the facts about the token, the user's sessions and
//! the log that end a session or keep it from beginning. [`Reason`] has everything that a client can be told. Each fault
//! becomes one reason, and the client's protocol maps each reason to a close code.

use std::time::Duration;

/// The time that the log has for the answers of a login. Most come at once. Then the client has to return later.
pub(super) const LOGIN_MAX: Duration = Duration::from_secs(5);

/// The retry time for a client whose token is out of its time while the clocks disagree. The client waits this long, up to
/// twice as long. A clock is usually set right within minutes.
const CLOCK_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Clients of an older epoch return within this time.
const EPOCH_RETRY_MAX: Duration = Duration::from_secs(10);

/// Every reason of ours to close a connection. The texts are for the developer of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client broke its protocol; the text says how. The client's developer has to repair it.
    Protocol(&'static str),
    /// The token is not good. The client needs another one.
    Unauthorized(BadToken),
    /// A newer login took the place.
    Replaced,
    /// An administrator logged the user out. The client needs another token.
    LoggedOut,
    /// The user has as many sessions as the policy allows.
    TooManySessions,
    /// The client logged out.
    Left,
    /// Five rewinds passed without an ack. The client may return.
    AcksStopped,
    /// No receipt came in time, from a client to which nothing is sent twice. The client may return.
    ReceiptsStopped,
    /// The client was silent for [`SILENCE_HEARTBEATS_MAX`](super::SILENCE_HEARTBEATS_MAX) heartbeats. It may return.
    HeartbeatStopped,
    /// The client reads too slowly. It may return and resume.
    SlowConsumer,
    /// The gateway drains or is overloaded. The client should return after this delay.
    Unavailable(Duration),
    /// No `Connect` arrived in time. The client may return.
    ConnectTimeout,
    /// The log or its state could not be read. The stderr log gives the cause. The client may return.
    LogUnreadable,
    /// The log is damaged where the session has to read. The stderr log says where. The client may return.
    LogDamaged,
    /// The log has no entry where the head of the inbox says that there is one. The client may return.
    LogShort,
}

impl Reason {
    /// A frame that the gateway cannot read, or that its log has no answer to.
    pub const UNKNOWN_FRAME: Self = Self::Protocol("an undecodable or unknown frame");
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// It is missing or invalid.
    Invalid,
    /// Its time is over.
    Expired,
    /// An administrator revoked it.
    Revoked,
    /// It names another user or platform than its client.
    OfAnother,
}

impl BadToken {
    /// The text for the developer of the client.
    pub fn text(self) -> &'static str {
        match self {
            Self::Invalid => "the token is missing, invalid or expired",
            Self::Expired => "the token has expired",
            Self::Revoked => "the token was revoked",
            Self::OfAnother => "the token names another user or platform",
        }
    }
}

/// A fact about a token, the user's sessions or the log that ends a session, or keeps it from beginning. The connection
/// reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFault {
    /// The token is not good.
    Token(BadToken),
    /// The token is out of its time by the gateway's clock, but the clock may be wrong.
    ClockDoubted,
    /// The token is of a key that is not known, and the keys of the company's login cannot be read now.
    KeysUnread,
    /// The user has as many sessions as the policy allows.
    TooManySessions,
    /// A session that was never seen has to return after this delay, so that sessions that resume go first.
    NewcomersWait(Duration),
    /// The log did not answer a login in time.
    LogSilent,
    /// The log or its state could not be read.
    LogUnreadable,
    /// The log is damaged where the session has to read.
    LogDamaged,
    /// The log has begun another epoch: the session's seqs and cursor mean nothing there.
    EpochOver,
}

impl SessionFault {
    /// The reason that the client gets. `random` gives a number from 0 to 1. It spreads the returns of clients that were sent
    /// away together.
    pub fn reason(self, random: fn() -> f64) -> Reason {
        match self {
            Self::Token(bad) => Reason::Unauthorized(bad),
            Self::ClockDoubted => Reason::Unavailable(CLOCK_RETRY_AFTER.mul_f64(1.0 + random())),
            Self::TooManySessions => Reason::TooManySessions,
            Self::NewcomersWait(delay) => Reason::Unavailable(delay),
            Self::LogSilent | Self::KeysUnread => {
                Reason::Unavailable(LOGIN_MAX.mul_f64(1.0 + random()))
            }
            Self::LogUnreadable => Reason::LogUnreadable,
            Self::LogDamaged => Reason::LogDamaged,
            Self::EpochOver => Reason::Unavailable(EPOCH_RETRY_MAX.mul_f64(random())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_are_sent_away_together_return_spread_over_time() {
        for (fault, least, most) in [
            (SessionFault::ClockDoubted, 30, 60),
            (SessionFault::LogSilent, 5, 10),
            (SessionFault::KeysUnread, 5, 10),
            (SessionFault::EpochOver, 0, 10),
        ] {
            let after = |seconds| Reason::Unavailable(Duration::from_secs(seconds));
            assert_eq!(fault.reason(|| 0.0), after(least));
            assert_eq!(fault.reason(|| 1.0), after(most));
        }
    }
}
