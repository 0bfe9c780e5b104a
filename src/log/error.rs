//! How a log fails, in words that hold for any store: a cause, which says what a caller or the operator does, and a text.
//!
//! A log keeps its own errors for itself and turns them into these at the trait.

use std::{fmt, sync::Arc};

/// What lies behind a failure, and what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no room for more. Callers try again later; the operator makes room. It ends by itself.
    Full,
    /// A write failed, and how much of it is stored shows only when the log is opened again: the operator restarts the gateway.
    WriteFailed,
    /// What is stored is not what was written (P8): the operator restores it. The text says where.
    Damaged,
    /// What the log knows besides messages cannot be looked up: the operator restarts the gateway.
    LookupFailed,
    /// Messages could not be read. Callers try again later; the text says why.
    ReadFailed,
    /// The gateway is going down. Callers try again later.
    Closed,
}

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogError {
    /// The fact, for whoever decides by it.
    pub cause: Cause,
    /// The details, for the operator. Callers do not see it.
    pub text: Arc<str>,
}

impl LogError {
    /// A failure that reads as `text`.
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

/// Why an append was not made. Nothing of it will ever be read, with the one exception that is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many appends wait: try again in a moment.
    #[error("the writer's queue is full")]
    QueueFull,
    /// The same key came before with another body: choose another key.
    #[error("this idempotency key was used before with another body")]
    KeyReused,
    /// No append is possible now. The cause says until when.
    #[error(transparent)]
    Refusing(LogError),
    /// The append may have been stored: send again with the same key.
    #[error("the outcome is not known: send again with the same clientMsgID")]
    OutcomeUnknown,
    /// A stored message that this append needed to look at does not read back.
    #[error(transparent)]
    Read(#[from] LogError),
}
