//! Erases users: in the log, and then in all that the other rooms keep of them.
//!
//! The log's record decides. It is durable first, with a row that says that the other rooms are not done. From then on each room passes
//! over what the erasure covers, so that nothing of it is told, whatever fails in between. The rows of the rooms go after it; a start
//! finishes what a crash has left.

use std::{sync::Arc, thread};

use crate::{
    delivery::{Delivery, SendError},
    ids::UserId,
    log::{
        AppendError, ERASING_PREFIX, Erasure, Log, RowChange, RowTable, erasing_key,
        read_erasing_key,
    },
    push::PushForgetter,
    webhooks::{HookForgetter, LetterError},
};

/// The erasures that a start finishes with one look at their rows.
const UNFINISHED_TOGETHER: usize = 256;

/// Erases the users of one gateway.
pub struct Eraser {
    log: Arc<dyn Log>,
    delivery: Arc<Delivery>,
    push: PushForgetter,
    hooks: HookForgetter,
}

impl Eraser {
    /// `push` and `hooks`: of the rooms, where they run.
    pub fn new(
        log: Arc<dyn Log>,
        delivery: Arc<Delivery>,
        push: Option<PushForgetter>,
        hooks: Option<HookForgetter>,
    ) -> Self {
        Self {
            push: push.unwrap_or_else(|| PushForgetter::without_vendor(Arc::clone(&log))),
            hooks: hooks.unwrap_or_else(|| HookForgetter::without_receiver(Arc::clone(&log))),
            log,
            delivery,
        }
    }

    /// Erases the user in the log, durably, and ends the user's sessions. Returns the erasure and the number of sessions that
    /// ended. Not cancel safe: after a drop the user may be erased or not. A repeat does no harm.
    pub async fn erase(&self, user: &UserId) -> Result<(Erasure, usize), SendError> {
        self.delivery.erase(user).await
    }

    /// Removes what the other rooms keep from before the erasure, durably. Nothing of it is sent from then on. Not cancel safe: after
    /// a drop some of it may be there; a repeat or the next start removes it.
    pub async fn finish(&self, user: &UserId, erasure: &Erasure) -> Result<(), SendError> {
        self.delivery.remove_erased_devices(user, erasure).await?;
        self.push.forget(user, erasure).await?;
        let forgotten = self.hooks.forget(user, erasure).await;
        forgotten.map_err(|error| match error {
            LetterError::Read(error) => SendError::Read(error),
            LetterError::Write(error) => SendError::Append(error),
        })?;
        let done = RowChange {
            table: RowTable::Consumers,
            key: erasing_key(user),
            value: None,
        };
        let durable = self.log.put_rows(vec![done])?.await;
        Ok(durable.unwrap_or(Err(AppendError::OutcomeUnknown))?)
    }

    /// Finishes the erasures that a crash has left. Blocks. Call it before anything is sent. What fails is left to the next start.
    pub fn finish_all(&self) {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok::<_, std::io::Error>(runtime.block_on(self.finish_rows()))
        };
        // The caller may be a thread of another runtime.
        let finished = thread::scope(|scope| scope.spawn(work).join());
        match finished {
            Ok(Ok(Ok(0))) => {}
            Ok(Ok(Ok(count))) => tracing::info!(count, "erasures of users are finished"),
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the erasure of a user could not be finished: the next start tries again");
            }
            Ok(Err(error)) => tracing::warn!(%error, "there is no thread to finish erasures"),
            Err(_) => tracing::error!("the erasure of a user panicked"),
        }
    }

    async fn finish_rows(&self) -> Result<usize, SendError> {
        let (mut after, mut count) = (Vec::new(), 0);
        loop {
            let rows = self.log.rows(
                RowTable::Consumers,
                ERASING_PREFIX,
                &after,
                UNFINISHED_TOGETHER,
            );
            let rows = rows.wait().await?;
            let Some((last, _)) = rows.last() else {
                return Ok(count);
            };
            after = last.to_vec();
            for (key, _) in rows {
                if let Some(user) = read_erasing_key(&key)
                    && let Some(erasure) = self.log.erasure(&user).wait().await?
                {
                    self.finish(&user, &erasure).await?;
                    count += 1;
                }
            }
        }
    }
}
