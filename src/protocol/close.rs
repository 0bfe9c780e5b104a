//! The close codes of all protocols. After 4000–4499 a client of `towncrier.v1` does not return by itself, after 4500–4999 it
//! does. The SDKs of OpenIM look at no code. The operator counts by them.

use std::borrow::Cow;

use towncrier_websocket::{Close, Violation};

use crate::session::Reason;

/// The code and text for a reason of ours: `docs/protocol.md#close-codes`.
pub(super) fn close(reason: Reason) -> Close {
    Close {
        code: code(reason),
        text: text(reason).into_owned(),
    }
}

fn code(reason: Reason) -> u16 {
    match reason {
        Reason::Protocol(_) => 4400,
        Reason::Unauthorized(_) => 4401,
        Reason::Replaced => 4409,
        Reason::LoggedOut | Reason::Left => 4410,
        Reason::TooManySessions => 4429,
        Reason::AcksStopped | Reason::ReceiptsStopped => 4500,
        Reason::HeartbeatStopped => 4501,
        Reason::SlowConsumer => 4502,
        Reason::Unavailable(_) => 4503,
        Reason::ConnectTimeout => 4508,
        Reason::LogUnreadable | Reason::LogDamaged | Reason::LogShort => 1011,
    }
}

/// The reason for a human; for [`Reason::Unavailable`] the delay in ms.
pub(super) fn text(reason: Reason) -> Cow<'static, str> {
    match reason {
        Reason::Protocol(text) => text.into(),
        Reason::Unauthorized(bad) => bad.text().into(),
        Reason::Replaced => "replaced by a newer login".into(),
        Reason::LoggedOut => "logged out by an administrator".into(),
        Reason::TooManySessions => "too many sessions of this user".into(),
        Reason::Left => "logged out by the client".into(),
        Reason::AcksStopped => "acks stopped".into(),
        Reason::ReceiptsStopped => "receipts stopped".into(),
        Reason::HeartbeatStopped => "heartbeat stopped".into(),
        Reason::SlowConsumer => "outbound stalled".into(),
        Reason::Unavailable(delay) => delay.as_millis().to_string().into(),
        Reason::ConnectTimeout => "no Connect in time".into(),
        Reason::LogUnreadable => "messages cannot be read now: come back later".into(),
        Reason::LogDamaged => {
            "a stored message is damaged: come back later, and tell the operator".into()
        }
        Reason::LogShort => {
            "a stored message is missing: come back later, and tell the operator".into()
        }
    }
}

/// The code of RFC 6455, and a text in the words of this protocol.
pub(super) fn refuse(violation: Violation) -> Close {
    let text = match violation {
        Violation::Framing(text) => text,
        Violation::Text => "frames are binary",
        Violation::NotUtf8 => "a reason that is not UTF-8",
        Violation::TooLarge => "frame above 64 KiB",
    };
    Close {
        code: violation.code(),
        text: text.to_owned(),
    }
}
