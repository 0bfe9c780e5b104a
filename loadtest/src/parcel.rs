//! One send: its message, its receivers, and its outcome.

use serde::{Deserialize, Serialize};

use crate::ledger::MessageKey;

/// The receivers of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum To {
    /// One random user.
    One,
    /// This many in a row, from a random one on.
    Batch(u32),
    /// This many in a row, in turn.
    InTurn(u32),
    /// Every user that the server knows.
    Everyone,
}

/// One send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parcel {
    /// The key from the ledger, which knows the content.
    pub(crate) key: MessageKey,
    pub(crate) to: To,
    /// The number of receivers, from the key's first on.
    pub(crate) count: u32,
    /// The message has a text for vendor push, with the key in it.
    pub(crate) has_notice: bool,
}

impl Parcel {
    /// The receiver with the number `at`, below `count`, among `of` users.
    pub(crate) fn user(self, at: u32, of: u32) -> u32 {
        (self.key.first + at) % of
    }
}

/// The outcome of a send.
#[derive(Debug)]
pub(crate) enum ParcelOutcome {
    /// Accepted under this serverMsgID.
    Accepted(String),
    /// The parcel will never arrive, for this reason.
    Refused(String),
    /// The parcel may or may not arrive, for this reason. Send it again.
    Unknown(String),
}
