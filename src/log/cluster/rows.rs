//! The writes besides messages: registrations, revocations, deletions, settings, rows beside the
//! messages, the begin of sessions, and cursors that are
//! written behind. All that waits goes to the store in one transaction. Each may be done twice, so a lost answer is repeated.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    core::ClusterCore,
    engine::{Durability, EngineError, StoreChange, answer_of},
};
use crate::log::AppendError;

/// The most changes that wait. Each is a call of the admin API or a login.
const STORE_CHANGES_MAX: usize = 8192;
/// The most changes of one transaction.
const BATCH_MAX: usize = 500;
/// Cursors are written behind by this time: what the death of a gateway loses of them.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// The time to the next attempt.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A change that waits, and its caller.
pub(super) struct WaitingChange {
    change: StoreChange,
    caller: oneshot::Sender<Result<(), AppendError>>,
    since: Instant,
}

/// The work of the writer of rows.
pub(super) enum RowWork {
    Change(WaitingChange),
    /// Everything that is written behind is written now.
    Flush(oneshot::Sender<Result<(), EngineError>>),
}

impl RowWork {
    /// A change for this caller.
    pub(super) fn change(
        change: StoreChange,
        caller: oneshot::Sender<Result<(), AppendError>>,
    ) -> Self {
        let since = Instant::now();
        Self::Change(WaitingChange {
            change,
            caller,
            since,
        })
    }
}

/// The queue of the writer of rows.
pub(super) fn queue() -> (mpsc::Sender<RowWork>, mpsc::Receiver<RowWork>) {
    mpsc::channel(STORE_CHANGES_MAX)
}

/// Stores everything that is written behind. Cancel safe.
pub(super) async fn flush(rows: &mpsc::Sender<RowWork>) -> Result<(), EngineError> {
    let closed = || EngineError::Away("the log is closed".into());
    let (caller, flushed) = oneshot::channel();
    let sent = rows.send(RowWork::Flush(caller)).await;
    sent.map_err(|_| closed())?;
    flushed.await.unwrap_or_else(|_| Err(closed()))
}

/// Writes rows until the queue is closed, and then what was to be written behind. Not cancel safe.
pub(super) async fn run(core: Arc<ClusterCore>, mut queue: mpsc::Receiver<RowWork>) {
    let mut flush = interval(FLUSH_INTERVAL);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let first = tokio::select! {
            biased;
            first = queue.recv() => match first {
                Some(first) => first,
                None => break,
            },
            _ = flush.tick() => {
                if let Err(error) = write_behind(&core).await {
                    tracing::debug!(%error, "cursors are not stored yet");
                }
                continue;
            }
        };
        let (mut batch, mut flushes) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(work) = next {
            match work {
                RowWork::Change(change) => batch.push(change),
                RowWork::Flush(caller) => flushes.push(caller),
            }
            next = match batch.len() < BATCH_MAX {
                true => queue.try_recv().ok(),
                false => None,
            };
        }
        if !batch.is_empty() {
            write(&core, batch).await;
        }
        if !flushes.is_empty() {
            let outcome = write_behind(&core).await;
            for caller in flushes {
                drop(caller.send(outcome.clone()));
            }
        }
    }
    if let Err(error) = write_behind(&core).await {
        tracing::warn!(%error, "the last acks are not stored: their messages come again");
    }
}

/// Writes all cursors and times of tokens that are not stored yet.
async fn write_behind(core: &ClusterCore) -> Result<(), EngineError> {
    let changes = core.cursors.changes();
    for batch in changes.chunks(BATCH_MAX) {
        let write = core.engine.write(batch.to_vec(), Durability::WrittenBehind);
        answer_of(write, core.answer_within).await?;
        core.cursors.stored(batch);
    }
    Ok(())
}

/// Brings a batch of changes to its outcome.
async fn write(core: &ClusterCore, batch: Vec<WaitingChange>) {
    let mut batches = vec![batch];
    while let Some(batch) = batches.pop() {
        let changes: Vec<_> = batch.iter().map(|one| newest(core, &one.change)).collect();
        match write_batch(core, &changes, &batch).await {
            Ok(()) => answer(batch, &Ok(())),
            // One of them is refused: the others go alone.
            Err(EngineError::Refused(_) | EngineError::Damaged(_)) if batch.len() > 1 => {
                batches.extend(batch.into_iter().map(|one| vec![one]).rev());
            }
            Err(EngineError::Refused(text) | EngineError::Damaged(text)) => {
                match batch.first().map(|one| &one.change) {
                    Some(StoreChange::RowsIn(..)) => {
                        tracing::warn!(%text, "rows of vendor push or webhooks are not written");
                    }
                    _ => tracing::error!(%text, "the store refuses a change"),
                }
                answer(batch, &Err(ClusterCore::refused()));
            }
            Err(EngineError::Away(_)) => answer(batch, &Err(ClusterCore::away())),
            Err(EngineError::Unknown(_)) => answer(batch, &Err(AppendError::OutcomeUnknown)),
        }
    }
}

/// Repeats a batch until it has an outcome, or its oldest caller has waited for too long.
async fn write_batch(
    core: &ClusterCore,
    changes: &[StoreChange],
    batch: &[WaitingChange],
) -> Result<(), EngineError> {
    let oldest = batch.iter().map(|one| one.since).min();
    let deadline = oldest.unwrap_or_else(Instant::now) + core.answer_within;
    let mut may_be_done = false;
    loop {
        let write = core.engine.write(changes.to_vec(), Durability::Confirmed);
        let outcome = answer_of(write, core.answer_within).await;
        let error = match outcome {
            Err(error @ (EngineError::Unknown(_) | EngineError::Away(_))) => error,
            outcome => return outcome,
        };
        may_be_done |= matches!(error, EngineError::Unknown(_));
        if Instant::now() >= deadline {
            return Err(match error {
                EngineError::Away(text) if may_be_done => EngineError::Unknown(text),
                error => error,
            });
        }
        tracing::debug!(%error, "changes are not stored yet");
        sleep(PAUSE).await;
    }
}

/// The change with the cursor as it is now, so that no older cursor replaces a newer one.
fn newest(core: &ClusterCore, change: &StoreChange) -> StoreChange {
    match change {
        StoreChange::Cursor(key, epoch, fence, row) => {
            let own = (*fence, *row);
            let newest = core.cursors.newest(key, *epoch, Some(own));
            let (fence, row) = newest.unwrap_or(own);
            StoreChange::Cursor(key.clone(), *epoch, fence, row)
        }
        other => other.clone(),
    }
}

fn answer(batch: Vec<WaitingChange>, outcome: &Result<(), AppendError>) {
    for one in batch {
        // A caller may have gone. Then the answer is discarded.
        drop(one.caller.send(outcome.clone()));
    }
}
