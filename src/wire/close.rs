//! Why we close a connection, in one closed list: code and text for the client, a label for the metrics.
//!
//! 4000–4499: do not come back by yourself. 4500–4999: come back.

use std::{borrow::Cow, time::Duration};

use towncrier_websocket::Violation;

/// Every reason for which the gateway closes a connection: design section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// 4400: the client broke the protocol; the text says how. Mend the client.
    Protocol(&'static str),
    /// 4401: the token is missing, invalid, expired or revoked. Get another one.
    Unauthorized(&'static str),
    /// 4403: the origin or a permission was refused.
    Forbidden(&'static str),
    /// 4409: a newer login took the place.
    Replaced,
    /// 4410: an administrator logged the user out. Get another token.
    LoggedOut,
    /// 4429: the user has as many sessions as the policy allows.
    TooManySessions,
    /// 4500: five rewinds without an ack. Come back.
    AcksStopped,
    /// 4501: nothing was heard for 2.5 heartbeats. Come back.
    HeartbeatStopped,
    /// 4502: the client reads too slowly. Come back and resume.
    SlowConsumer,
    /// 4503: draining or overloaded. Come back after the delay in the text, in ms.
    Unavailable(Duration),
    /// 4508: no `Connect` in time.
    ConnectTimeout,
    /// 1002: the client broke RFC 6455; the text says how. Mend the client, or the proxy before it.
    NotWebSocket(&'static str),
    /// 1003: a text frame.
    TextFrame,
    /// 1007: a close frame whose reason is not UTF-8.
    NotUtf8,
    /// 1009: a frame above 64 KiB.
    TooLarge,
    /// 1011: the gateway failed; the text says what. The operator's log says more.
    Internal(&'static str),
}

impl From<Violation> for Close {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Framing(text) => Self::NotWebSocket(text),
            Violation::Text => Self::TextFrame,
            Violation::NotUtf8 => Self::NotUtf8,
            Violation::TooLarge => Self::TooLarge,
        }
    }
}

impl Close {
    /// The WebSocket close code.
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 4400,
            Self::Unauthorized(_) => 4401,
            Self::Forbidden(_) => 4403,
            Self::Replaced => 4409,
            Self::LoggedOut => 4410,
            Self::TooManySessions => 4429,
            Self::AcksStopped => 4500,
            Self::HeartbeatStopped => 4501,
            Self::SlowConsumer => 4502,
            Self::Unavailable(_) => 4503,
            Self::ConnectTimeout => 4508,
            Self::NotWebSocket(_) => 1002,
            Self::TextFrame => 1003,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::Internal(_) => 1011,
        }
    }

    /// The reason text, at most 123 bytes (RFC 6455 section 5.5).
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::Protocol(text)
            | Self::Unauthorized(text)
            | Self::Forbidden(text)
            | Self::NotWebSocket(text)
            | Self::Internal(text) => text.into(),
            Self::Replaced => "replaced by a newer login".into(),
            Self::LoggedOut => "logged out by an administrator".into(),
            Self::TooManySessions => "too many sessions of this user".into(),
            Self::AcksStopped => "acks stopped".into(),
            Self::HeartbeatStopped => "heartbeat stopped".into(),
            Self::SlowConsumer => "outbound stalled".into(),
            Self::Unavailable(delay) => delay.as_millis().to_string().into(),
            Self::ConnectTimeout => "no Connect in time".into(),
            Self::TextFrame => "frames are binary".into(),
            Self::NotUtf8 => "a reason that is not UTF-8".into(),
            Self::TooLarge => "frame above 64 KiB".into(),
        }
    }
}
