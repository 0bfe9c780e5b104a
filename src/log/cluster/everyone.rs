//! Messages to everyone. The store accepts such a message first, and from then on it is spread to its end. Its entries follow in
//! pieces, each a transaction of its own, so that other sends need not wait.
//!
//! Messages are spread one after the other. A piece may be made twice: the store then returns the entries that are there.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    core::ClusterCore,
    engine::{EngineError, Placement, Unfinished, answer_of},
    group::{LaneCaller, of_repeat},
};
use crate::log::{Append, AppendError, Commit, CommitGroup, Receipt};

/// The most messages to everyone that wait. Each has its body in memory, at most a frame.
const EVERYONE_MAX: usize = 64;
/// The most entries of a piece: its users are locked until it is confirmed.
const PIECE_MAX: usize = 1000;
/// The time to the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// A message to everyone, and its caller.
pub(super) struct ToEveryone {
    pub(super) append: Append,
    pub(super) caller: LaneCaller,
}

/// The queue of messages to everyone.
pub(super) fn queue() -> (mpsc::Sender<ToEveryone>, mpsc::Receiver<ToEveryone>) {
    mpsc::channel(EVERYONE_MAX)
}

/// Spreads messages until the queue is closed; first those that are not complete in the store. Not cancel safe.
pub(super) async fn run(core: Arc<ClusterCore>, mut queue: mpsc::Receiver<ToEveryone>) {
    match core.engine.unfinished().await {
        Ok(unfinished) => {
            for message in unfinished {
                tracing::info!(id = %message.message_id, "a message to everyone is spread to its end");
                spread(&core, message).await;
            }
        }
        Err(error) => tracing::error!(%error, "unfinished messages to everyone are not known"),
    }
    while let Some(ToEveryone { append, caller }) = queue.recv().await {
        let answer = send(&core, append).await;
        drop(caller.send(answer));
    }
}

/// Accepts a message and spreads it.
async fn send(core: &ClusterCore, append: Append) -> Result<Receipt, AppendError> {
    let message = Unfinished {
        message_id: append.message_id,
        body: append.body.clone(),
        upto: 0,
    };
    let appends: Arc<[Append]> = [append].into();
    if accept(core, &appends).await? {
        spread(core, message).await;
    }
    let firsts = repeated(core, || core.engine.firsts(appends.clone())).await;
    let first = firsts.into_iter().next().flatten();
    of_repeat(&appends[0], first.ok_or(AppendError::OutcomeUnknown)?)
}

/// Accepts a message. False: its key was used before.
async fn accept(core: &ClusterCore, appends: &Arc<[Append]>) -> Result<bool, AppendError> {
    let deadline = Instant::now() + core.answer_within;
    let mut may_be_done = false;
    loop {
        let accept = core.engine.accept_to_everyone(appends[0].clone());
        let error = match answer_of(accept, core.answer_within).await {
            Ok(Placement::Placed { .. }) => return Ok(true),
            // After a lost answer the key may be this very message's.
            Ok(Placement::Repeated) if may_be_done => {
                let firsts = repeated(core, || core.engine.firsts(appends.clone())).await;
                let is_own = |first: &super::engine::First| {
                    first.receipt.message_id == appends[0].message_id
                };
                return Ok(firsts.iter().flatten().any(is_own));
            }
            Ok(Placement::Repeated) => return Ok(false),
            Err(EngineError::Refused(text) | EngineError::Damaged(text)) => {
                tracing::error!(%text, "the store refuses a message to everyone");
                return Err(ClusterCore::refused());
            }
            Err(error) => error,
        };
        may_be_done |= matches!(error, EngineError::Unknown(_));
        if Instant::now() >= deadline {
            return Err(match may_be_done {
                true => AppendError::OutcomeUnknown,
                false => ClusterCore::away(),
            });
        }
        sleep(PAUSE).await;
    }
}

/// Spreads an accepted message to its end, however long the store takes.
async fn spread(core: &ClusterCore, message: Unfinished) {
    let Unfinished {
        message_id,
        body,
        mut upto,
    } = message;
    loop {
        let piece = repeated(core, || core.engine.spread(message_id, upto, PIECE_MAX)).await;
        if !piece.entries.is_empty() {
            core.hand_on(&[Commit {
                epoch: piece.epoch,
                body: body.clone(),
                entries: piece.entries,
                group: CommitGroup::default(),
            }]);
        }
        if piece.is_last {
            return;
        }
        upto = piece.upto;
    }
}

/// Asks the store until it answers.
async fn repeated<'a, T>(
    core: &ClusterCore,
    ask: impl Fn() -> super::engine::EngineFuture<'a, T>,
) -> T {
    loop {
        match answer_of(ask(), core.answer_within).await {
            Ok(answer) => return answer,
            Err(error) => tracing::debug!(%error, "a message to everyone waits for the store"),
        }
        sleep(PAUSE).await;
    }
}
