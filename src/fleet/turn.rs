//! The turn: takes it while there is work for it, keeps it, and tells the work.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::core::FleetCore;
use crate::log::{TurnNumber, cluster::engine::EngineError};

/// The interval between two attempts to take the turn, or to keep it.
const TURN_INTERVAL: Duration = Duration::from_secs(2);
/// The time for which this gateway counts on a turn after it asked for it. Together with one interval it is shorter than the lease, so
/// the work ends before another gateway begins it.
const TURN_TRUST: Duration = Duration::from_secs(6);

/// A turn, and the time up to which this gateway counts on it.
type HeldTurn = (TurnNumber, Instant);

/// Works until it is dropped.
pub(super) async fn run(core: Arc<FleetCore>) {
    let mut attempts = interval(TURN_INTERVAL);
    attempts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held = None;
    loop {
        attempts.tick().await;
        held = attempt(&core, held).await;
        tell(&core, held);
    }
}

/// Takes the turn, or keeps it.
async fn attempt(core: &FleetCore, held: Option<HeldTurn>) -> Option<HeldTurn> {
    if core.turns.receiver_count() == 0 {
        if let Some((turn, _)) = held {
            leave(core, turn).await;
        }
        return None;
    }
    let since = Instant::now();
    let taking = core
        .store
        .take_turn(core.gateway(), held.map(|held| held.0));
    let taking = core.answer_of(taking);
    let taken = match held {
        // The work ends in time, whether the store answers or not.
        Some((_, until)) => timeout_at(until, taking).await.unwrap_or_else(|_| {
            let text = "the store does not answer in time";
            Err(EngineError::Unknown(text.into()))
        }),
        None => taking.await,
    };
    let held = match taken {
        Ok(taken) => taken.map(|turn| (turn, since + TURN_TRUST)),
        Err(error) => {
            tracing::debug!(%error, "the store does not say who has the turn");
            held
        }
    };
    held.filter(|(_, until)| Instant::now() < *until)
}

fn tell(core: &FleetCore, held: Option<HeldTurn>) {
    let turn = held.map(|(turn, _)| turn);
    core.turns.send_if_modified(|known| {
        let is_news = *known != turn;
        *known = turn;
        is_news
    });
}

/// Ends the turn of this gateway, if it has one: the next gateway need not wait.
pub(super) async fn end(core: &FleetCore) {
    if let Some(turn) = core.turns.send_replace(None) {
        leave(core, turn).await;
    }
}

async fn leave(core: &FleetCore, turn: TurnNumber) {
    if let Err(error) = core.answer_of(core.store.leave_turn(turn)).await {
        tracing::debug!(%error, "another gateway gets the turn when its time is over");
    }
}
