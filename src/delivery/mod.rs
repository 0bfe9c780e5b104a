//! The verbs between the log and who is online: send, replay, ack, and what became of it.
//!
//! A send is appended first and fanned out when it is durable; a session that misses the fan-out reads the log. Leaves to
//! others: HTTP, sockets, the protocol's rules.
//!
//! - `send.rs`: append, then fan out
//! - `replay.rs`: a session reads the log
//! - `ack.rs`: cursors move
//! - `authenticate.rs`: is this token good, now
//! - `trail.rs`, `trace.rs`: where is my message

mod ack;
mod authenticate;
mod replay;
mod send;
#[cfg(test)]
mod tests;
mod trace;
mod trail;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::oneshot;

pub use self::{
    authenticate::AuthError,
    send::{FanOut, Receivers, Send, SendError},
    trace::{Trace, TraceLookup, TracePage, TraceReceiver, TraceSession, TraceState},
};
/// What the log answers, for the rooms that read through this one.
pub use crate::log::{
    AppendError, Cause, Inbox, LogError, ReadLimit, Receipt, ResumePoint, Stored,
};
use crate::{
    clock::{Clock, Doubt},
    ids::UserId,
    log::Log,
    registry::Registry,
    token::Tokens,
};

/// The room's one object, shared by the admin API and every connection.
pub struct Delivery {
    log: Arc<dyn Log>,
    registry: Arc<Registry>,
    tokens: Arc<Tokens>,
    clock: Arc<Clock>,
    sent: trail::Trail,
    acked: trail::Trail,
    is_draining: AtomicBool,
    aside: Aside,
}

/// Runs what may wait for the disk where nobody else has to wait.
pub(crate) type Aside = fn(Box<dyn FnOnce() + std::marker::Send>);

/// Why the gateway should get no traffic now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It is going down.
    #[error("draining")]
    Draining,
    /// The log takes nothing; reads and delivery go on.
    #[error("sends are refused: {0}")]
    Refusing(#[from] LogError),
}

impl Delivery {
    /// Puts the collaborators together. `log` must have been opened with a [`FanOut`] to the same registry.
    pub fn new(
        log: Arc<dyn Log>,
        registry: Arc<Registry>,
        tokens: Arc<Tokens>,
        clock: Arc<Clock>,
    ) -> Self {
        Self {
            log,
            registry,
            tokens,
            clock,
            sent: trail::Trail::default(),
            acked: trail::Trail::default(),
            is_draining: AtomicBool::new(false),
            aside: |work| drop(tokio::task::spawn_blocking(work)),
        }
    }

    /// The same without threads of its own.
    #[cfg(test)]
    pub(crate) fn with_aside(self, aside: Aside) -> Self {
        Self { aside, ..self }
    }

    /// Has `read` run on a thread that may block.
    async fn aside<T: std::marker::Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, LogError> + std::marker::Send + 'static,
    ) -> Result<T, LogError> {
        let (sender, answer) = oneshot::channel();
        // Who no longer waits for the answer does not get it.
        (self.aside)(Box::new(move || drop(sender.send(read()))));
        // No answer: the read panicked, or the runtime ends.
        answer.await.unwrap_or_else(|_| {
            Err(LogError::new(
                Cause::LookupFailed,
                "the read ended without an answer",
            ))
        })
    }

    /// Bounds of a user's inbox.
    pub fn inbox(&self, user: &UserId) -> Result<Inbox, LogError> {
        self.log.inbox(user)
    }

    /// The gateway's clock, Unix ms.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// How far the wall clock is from the gateway's; `None` within a minute.
    pub fn clock_doubt(&self) -> Option<Doubt> {
        self.clock.doubt()
    }

    /// Takes the wall clock's time at once: an administrator says that it is right.
    pub fn accept_clock(&self) {
        self.clock.accept();
    }

    /// Whether damage in the log hides how far inboxes had come.
    pub fn is_damaged(&self) -> bool {
        matches!(
            self.log.check_writable(),
            Err(LogError {
                cause: Cause::Damaged,
                ..
            })
        )
    }

    /// Refuses sends from now on.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Relaxed);
    }

    /// `Err` with the reason while the gateway should get no traffic.
    pub fn check_ready(&self) -> Result<(), NotReady> {
        if self.is_draining.load(Relaxed) {
            return Err(NotReady::Draining);
        }
        Ok(self.log.check_writable()?)
    }
}
