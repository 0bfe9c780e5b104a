//! The answer of a log to a question: at once from memory, or later from a disk or another machine.

use tokio::sync::oneshot;

use super::{Cause, LogError};

/// An answer. No thread has to wait for one that is not there yet.
#[derive(Debug)]
pub enum LogAnswer<T> {
    /// The answer was in memory.
    Now(Result<T, LogError>),
    /// The answer comes here.
    Later(oneshot::Receiver<Result<T, LogError>>),
}

impl<T> LogAnswer<T> {
    /// Waits for the answer. Cancel safe: a drop discards the answer.
    pub async fn wait(self) -> Result<T, LogError> {
        match self {
            Self::Now(result) => result,
            Self::Later(receiver) => receiver.await.unwrap_or_else(|_| Err(unanswered())),
        }
    }

    /// The same, for a thread that may block.
    ///
    /// # Panics
    /// In a future, if the answer comes later.
    pub fn blocking_wait(self) -> Result<T, LogError> {
        match self {
            Self::Now(result) => result,
            Self::Later(receiver) => receiver
                .blocking_recv()
                .unwrap_or_else(|_| Err(unanswered())),
        }
    }
}

/// The sender was dropped: the work for the answer panicked, or its runtime ended.
fn unanswered() -> LogError {
    LogError::new(Cause::LookupFailed, "the read ended without an answer")
}
