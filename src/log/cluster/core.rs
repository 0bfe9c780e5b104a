//! The state that the parts of the cluster log share: the store, the barrier, the consumers, and whether the store is away.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{barrier::Barrier, cursors::CursorBuffer, engine::Engine, lock};
use crate::log::{AppendError, Cause, Commit, Consumers, LogError};

/// The shared state.
pub(super) struct ClusterCore {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) barrier: Arc<Barrier>,
    pub(super) cursors: CursorBuffer,
    pub(super) consumers: Consumers,
    /// A caller gets an answer within this time.
    pub(super) answer_within: Duration,
    /// The reason for which the store does not answer or keeps fewer copies than it was told.
    pub(super) store_fault: Mutex<Option<String>>,
    /// True while the store does not answer in time.
    is_away: AtomicBool,
}

impl ClusterCore {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        barrier: Arc<Barrier>,
        answer_within: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            barrier,
            cursors: CursorBuffer::default(),
            consumers: Consumers::default(),
            answer_within,
            store_fault: Mutex::new(None),
            is_away: AtomicBool::new(false),
        })
    }

    /// Says whether the store is away, and logs a change.
    pub(super) fn set_away(&self, is_away: bool) {
        if self.is_away.swap(is_away, Relaxed) != is_away {
            if is_away {
                tracing::warn!("the store does not answer: sends are refused until it does");
            } else {
                tracing::info!("the store answers again");
            }
        }
    }

    /// Remembers whether the store answers and keeps as many copies as it was told, and logs a change.
    pub(super) fn set_store_fault(&self, fault: Option<String>) {
        let mut known = lock(&self.store_fault);
        if *known != fault {
            match &fault {
                Some(fault) => tracing::error!("this gateway is not ready: {fault}"),
                None => tracing::info!(
                    "the store answers, and keeps as many copies as store.copies says"
                ),
            }
            *known = fault;
        }
    }

    pub(super) fn check_writable(&self) -> Result<(), LogError> {
        if self.is_away.load(Relaxed) {
            return Err(store_is_away());
        }
        Ok(())
    }

    /// Gives commits to the consumers. Their callers are answered.
    pub(super) fn hand_on(&self, commits: &[Commit]) {
        if commits.is_empty() {
            return;
        }
        let consumers = self.consumers.read();
        let consumers = consumers.unwrap_or_else(PoisonError::into_inner);
        consumers.iter().for_each(|consumer| consumer.take(commits));
    }

    /// The refusal of an append that was stored nowhere, because the store is away.
    pub(super) fn away() -> AppendError {
        AppendError::Refusing(store_is_away())
    }

    /// The refusal of an append after the log was closed.
    pub(super) fn closed() -> AppendError {
        AppendError::Refusing(LogError::new(Cause::Closed, "the log is closed"))
    }

    /// The refusal of an append that the store does not take.
    pub(super) fn refused() -> AppendError {
        let text = "the store refuses this append: see the stderr log";
        AppendError::Refusing(LogError::new(Cause::LookupFailed, text))
    }
}

fn store_is_away() -> LogError {
    LogError::new(Cause::Away, "the store does not answer")
}
