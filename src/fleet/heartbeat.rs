//! The heartbeat: it tells the store that this gateway lives, and learns what the store knows of the fleet.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::core::{FLEET_VERSION, FleetCore};
use crate::log::cluster::{engine::EngineError, fleet_store::Heartbeat};

/// The interval between two heartbeats. It bounds the time in which this gateway learns of lost places without a link.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Beats until it is dropped.
pub(super) async fn run(core: Arc<FleetCore>) {
    let mut beats = interval(HEARTBEAT_INTERVAL);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut token, mut is_heard) = (None, true);
    loop {
        beats.tick().await;
        let beaten = beat(&core, &mut token).await;
        if let Err(error) = &beaten
            && is_heard
        {
            tracing::warn!(%error, "the store takes no heartbeat of this gateway");
        }
        is_heard = beaten.is_ok();
    }
}

/// Beats once. `token`: that of the last beat.
pub(super) async fn beat(core: &FleetCore, token: &mut Option<u64>) -> Result<(), EngineError> {
    let gateway = core.gateway();
    if core.take_lost_track() {
        let renewed = renew(core).await;
        if renewed.is_err() {
            core.lose_track();
        }
        return renewed;
    }
    let sessions = core.registry.sessions() as u64;
    let beating = core
        .store
        .heartbeat(gateway, core.address.clone(), sessions);
    let heard = core.answer_of(beating).await?;
    if heard.is_removed {
        tracing::warn!(%gateway, "this gateway was silent for too long: it joins the fleet again");
        join(core).await?;
    }
    if heard.token.is_some() && heard.token != *token {
        // The first token is news as well: what was registered before it may be gone.
        core.begin_anew();
        *token = heard.token;
    }
    for lost in &heard.lost {
        core.registry
            .replace(&lost.user, lost.connection, lost.fence);
    }
    note_gateways(core, &heard);
    Ok(())
}

fn note_gateways(core: &FleetCore, heard: &Heartbeat) {
    let own = core.gateway();
    let others = heard.gateways.iter();
    let others = others.filter(|row| row.gateway != own && !row.is_silent);
    let elsewhere = others.clone().map(|row| row.sessions).sum();
    core.sessions_elsewhere.store(elsewhere, Relaxed);
    let others: Vec<_> = others
        .map(|row| (row.gateway, row.address.clone()))
        .collect();
    core.gateways.send_if_modified(|known| {
        let is_news = *known != others;
        *known = others;
        is_news
    });
}

/// Joins under another number.
async fn join(core: &FleetCore) -> Result<(), EngineError> {
    let joining = core.store.join(core.address.clone(), FLEET_VERSION);
    let gateway = core.answer_of(joining).await?;
    core.set_gateway(gateway);
    Ok(())
}

/// Takes another number, so that all places under the old one are removed.
async fn renew(core: &FleetCore) -> Result<(), EngineError> {
    let old = core.gateway();
    tracing::warn!(gateway = %old, "too many sessions ended while the store was away: all others register again");
    join(core).await?;
    core.answer_of(core.store.part(old)).await
}
