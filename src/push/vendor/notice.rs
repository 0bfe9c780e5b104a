//! A notice, and what became of it at a device.

use std::time::Duration;

use crate::ids::{MessageId, Seq, UserId};

/// A notice for the devices of one user: a message that no app has shown yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The message. Repeats of the notice have the same, and replace each other where the vendor can do this.
    pub id: MessageId,
    /// The receiver.
    pub user: UserId,
    /// The receiver's conversation.
    pub conversation_id: Box<str>,
    /// The message's place in the receiver's inbox.
    pub seq: Seq,
    /// The title that is shown.
    pub title: Box<str>,
    /// The text that is shown below it; may be empty.
    pub body: Box<str>,
    /// A text for the app, from the request; may be empty.
    pub ex: Box<str>,
    /// The name of a sound in the app; empty: the device's default.
    pub sound: Box<str>,
    /// The number on the app's icon: the user's unread messages. `None`: it stays as it is.
    pub badge: Option<u32>,
    /// The message's own text, if the operator allows vendors to see it. It is shown where `body` is empty.
    pub text: Option<Box<str>>,
    /// The time after which the vendor drops the notice.
    pub expires_in: Duration,
}

impl Notice {
    /// The text below the title; may be empty.
    pub(super) fn shown(&self) -> &str {
        match &self.text {
            Some(text) if self.body.is_empty() => text,
            _ => &self.body,
        }
    }

    /// The time after which the vendor drops the notice, in whole seconds, at most `most`.
    pub(super) fn ttl_s(&self, most: Duration) -> u64 {
        self.expires_in.min(most).as_secs()
    }
}

/// The fate of a notice at one device. A reason is at most 200 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor took it.
    Sent {
        /// The vendor's name for it; may be empty.
        vendor_id: String,
    },
    /// The vendor no longer knows the device: forget it.
    Gone {
        /// The vendor's words.
        reason: String,
    },
    /// Try again.
    Later {
        /// The vendor asks for at least this pause.
        retry_after: Option<Duration>,
        /// The vendor's words, or those of the failed call.
        reason: String,
    },
    /// The vendor refuses this notice for this device. The same again would be refused again.
    Refused {
        /// The vendor's words.
        reason: String,
    },
    /// The vendor refuses us: the operator has to act.
    Credentials {
        /// The vendor's words.
        reason: String,
    },
}

/// The most bytes of a reason: a line in a log.
pub(super) const REASON_BYTES_MAX: usize = 200;

impl Outcome {
    pub(super) fn sent(vendor_id: &str) -> Self {
        let vendor_id = clean(vendor_id);
        Self::Sent { vendor_id }
    }

    pub(super) fn gone(reason: &str) -> Self {
        let reason = clean(reason);
        Self::Gone { reason }
    }

    pub(super) fn later(retry_after: Option<Duration>, reason: &str) -> Self {
        Self::Later {
            retry_after,
            reason: clean(reason),
        }
    }

    pub(super) fn refused(reason: &str) -> Self {
        let reason = clean(reason);
        Self::Refused { reason }
    }

    pub(super) fn credentials(reason: &str) -> Self {
        let reason = clean(reason);
        Self::Credentials { reason }
    }
}

/// A vendor's words as they may stand in a line.
fn clean(text: &str) -> String {
    let end = text.floor_char_boundary(REASON_BYTES_MAX);
    let line = text[..end].replace(char::is_control, " ");
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        let long = format!("bad\r\ntoken {}", "é".repeat(REASON_BYTES_MAX));
        let Outcome::Gone { reason } = Outcome::gone(&long) else {
            panic!("another outcome");
        };
        assert!(reason.len() <= REASON_BYTES_MAX);
        assert!(reason.starts_with("bad  token é") && !reason.contains(char::is_control));
    }
}
