//! The proof of a loss: groups and barriers that were confirmed and that another primary does not have.
//!
//! A standby may take over without all that was confirmed, for example when an operator promotes the wrong one. It then gives seqs
//! that clients know to other messages, and every client would take these for repeats. So a gateway remembers the newest confirmed
//! group of each lane and its own newest barrier. It compares them with each primary that it meets, before anything else is asked of
//! that primary. The log of a server is a prefix of what was confirmed, so one missing number proves that everything behind it may be
//! gone. A new epoch then begins in the store, and every client starts over.
//!
//! A barrier stands for everything that this gateway read and showed, whoever wrote it.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    core::ClusterCore,
    engine::{Engine, EngineError, answer_of},
    known::KnownMarks,
};

/// A meeting waits in the store for that of another gateway, and for a standby. After this time its connection counts as lost. Each
/// further meeting takes a connection of the server while the first one waits there.
const MEETING_TIMEOUT: Duration = Duration::from_secs(30);
/// The time to the next attempt to meet a primary.
const PAUSE: Duration = Duration::from_millis(100);

/// Meets the primary of a store. Returns true if the primary lacked something, so that a new epoch has begun. Cancel safe: the next meeting finds the same.
pub(super) async fn meet(
    engine: &Arc<dyn Engine>,
    known: &KnownMarks,
) -> Result<bool, EngineError> {
    let met = engine.meet(known.memory()).await?;
    known.learn(&met);
    Ok(!met.lost.is_empty())
}

/// Meets each primary that the log has not met before. Never ends. Cancel safe.
pub(super) async fn run(core: Arc<ClusterCore>) {
    loop {
        core.engine.another().await;
        loop {
            let meeting = answer_of(meet(&core.engine, &core.barrier.known), MEETING_TIMEOUT);
            match meeting.await {
                Ok(false) => {
                    tracing::info!("another primary of the store has all that was confirmed");
                    break;
                }
                Ok(true) => {
                    tracing::error!(
                        "another primary of the store lacks messages that were confirmed: a new epoch has begun, and every client \
                         starts over; look for a server that was promoted without them, or for store.copies below 2"
                    );
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "the primary of the store is not met yet");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}
