//! The erasure of a user: a transaction of its own, after everything that is written behind.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{
    ClusterLog,
    core::ClusterCore,
    engine::{EngineError, answer_of},
    rows::{PAUSE, RowWork, flush},
};
use crate::{
    ids::UserId,
    log::{AppendError, Erasure, Pending},
};

impl ClusterLog {
    /// See [`Log::erase`](crate::log::Log::erase).
    pub(super) fn begin_erasure(
        &self,
        user: UserId,
        before_ms: u64,
    ) -> Result<Pending<Erasure>, AppendError> {
        let rows = self.sender(|senders| Ok(senders.rows.clone()))?;
        let permit = Arc::clone(&self.questions).try_acquire_owned();
        let permit = permit.map_err(|_| AppendError::QueueFull)?;
        let (caller, pending) = oneshot::channel();
        let core = Arc::clone(&self.core);
        self.runtime.spawn(async move {
            let erased = erase(&core, &rows, &user, before_ms).await;
            // A caller may have gone. Then the answer is discarded.
            drop(caller.send(erased));
            drop(permit);
        });
        Ok(pending)
    }
}

/// Repeats the erasure until it has an outcome, or its caller has waited for too long. A repeat of one that was done finds it done, or
/// erases what came meanwhile as well: its caller has no answer yet.
async fn erase(
    core: &ClusterCore,
    rows: &mpsc::Sender<RowWork>,
    user: &UserId,
    before_ms: u64,
) -> Result<Erasure, AppendError> {
    let deadline = Instant::now() + core.answer_within;
    let mut may_be_done = false;
    loop {
        // Acks that are still in memory tell when the user's sessions were there last.
        let outcome = match flush(rows).await {
            Ok(()) => {
                let erasure = core.engine.erase(user.clone(), before_ms);
                let outcome = answer_of(erasure, core.answer_within).await;
                may_be_done |= matches!(outcome, Err(EngineError::Unknown(_)));
                outcome
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(erasure) => {
                core.cursors.forget(user, &erasure);
                return Ok(erasure);
            }
            Err(EngineError::Refused(text) | EngineError::Damaged(text)) => {
                tracing::error!(%text, "the store refuses an erasure");
                return Err(ClusterCore::refused());
            }
            Err(error) if Instant::now() < deadline => {
                tracing::debug!(%error, "an erasure is not stored yet");
                sleep(PAUSE).await;
            }
            Err(_) if may_be_done => return Err(AppendError::OutcomeUnknown),
            Err(_) => return Err(ClusterCore::away()),
        }
    }
}
