//! The failures of a log, in words that hold for any store. A failure has a cause, which tells a caller and the operator
//! what to do, and a text.
//!
//! A log keeps its own errors inside and turns them into these at the trait.

use std::{fmt, sync::Arc};

/// The cause of a failure, and the event that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no room for more. Callers try again later; the operator makes room. Then the failure ends by itself.
    Full,
    /// A write failed. The stored part of it is known only after the log is opened again, so the operator restarts the
    /// gateway.
    WriteFailed,
    /// The stored bytes differ from the bytes that were written (P8). The operator restores them. The text names the
    /// position.
    Damaged,
    /// Rows besides messages cannot be looked up. The operator restarts the gateway.
    LookupFailed,
    /// The store of a fleet does not answer. Callers try again later. The failure ends by itself once the store answers.
    Away,
    /// Messages could not be read. Callers try again later. The text gives the reason.
    ReadFailed,
    /// The gateway is going down. Callers try again later.
    Closed,
}

/// The reason for which the log did not do a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogError {
    /// The cause, for code that decides by it.
    pub cause: Cause,
    /// The details, for the operator. Callers do not get them.
    pub text: Arc<str>,
}

impl LogError {
    /// A failure with this cause and text.
    pub fn new(cause: Cause, text: impl fmt::Display) -> Self {
        Self {
            cause,
            text: text.to_string().into(),
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LogError {}

/// The reason for which an append was not made. Nothing of the append will ever be read, except after `OutcomeUnknown`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many appends wait: try again in a moment.
    #[error("the writer's queue is full")]
    QueueFull,
    /// The same key was used before with another body: choose another key.
    #[error("this idempotency key was used before with another body")]
    KeyReused,
    /// No append is possible now. The cause tells how long.
    #[error(transparent)]
    Refusing(LogError),
    /// The append may have been stored: send again with the same key.
    #[error("the outcome is not known: send again with the same clientMsgID")]
    OutcomeUnknown,
    /// A stored message that this append needed cannot be read.
    #[error(transparent)]
    Read(#[from] LogError),
}
