//! The registrar: brings the places of this gateway's sessions to the store, one batch after the other.
//!
//! Promise: of two sessions of one place at this gateway, the store gives the place to the one that the registry gave it last. The
//! registry is asked at the time of the batch, and a session that it has replaced meanwhile is not registered.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::core::FleetCore;
use crate::{
    ids::{ConnectionId, Fence, SessionKey, UserId},
    log::cluster::{
        engine::EngineError,
        fleet_store::{PlaceClaim, PlaceLeft, PlaceOutcome},
    },
    registry::Presence,
};

/// The most changes of places that wait: 20 MB. Logins are fewer, because the lobby is bounded. If ends of sessions find no room, the
/// gateway takes another number.
const PLACE_CHANGES_MAX: usize = 1 << 18;
/// The most changes of one statement.
const BATCH_MAX: usize = 500;
/// The most users of one look-up of the sweep.
const SWEPT_MAX: usize = 1000;
/// The interval between two sweeps: the time in which a gateway learns of anything that nobody told it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The time to the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// A change of a place.
pub(super) enum PlaceChange {
    /// The session of this connection takes its place.
    Take(UserId, ConnectionId, oneshot::Sender<()>),
    /// The session of this connection is told anew, with its fence.
    Again(UserId, ConnectionId),
    /// The connection lost its place, or gave it back.
    Left(UserId, Box<str>, ConnectionId),
}

/// The queue of the registrar.
pub(super) fn queue() -> (mpsc::Sender<PlaceChange>, mpsc::Receiver<PlaceChange>) {
    mpsc::channel(PLACE_CHANGES_MAX)
}

/// Works until the queue is closed. Not cancel safe: a drop leaves open what the store was told.
pub(super) async fn run(core: Arc<FleetCore>, mut queue: mpsc::Receiver<PlaceChange>) {
    let mut sweeps = interval_at(Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if core.take_anew() {
            register_all(&core, &mut queue).await;
        }
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH_MAX) => match count {
                0 => break,
                _ => settle(&core, batch).await,
            },
            () = core.has_work.notified() => {}
            _ = sweeps.tick() => {
                if let Err(error) = sweep(&core).await {
                    tracing::debug!(%error, "the places of sessions are not looked through");
                }
            }
        }
    }
}

/// The claim of a session that is connected.
fn claim_of(core: &FleetCore, user: &UserId, session: Presence, is_new: bool) -> PlaceClaim {
    let policy = core.registry.policy();
    PlaceClaim {
        place_key: policy.place_key(session.platform, &session.device),
        key: SessionKey {
            user: user.clone(),
            platform: session.platform,
            device: session.device,
        },
        gateway: core.gateway(),
        connection: session.connection,
        since_ms: session.since_ms,
        is_background: session.is_background,
        address: session.address,
        fence: (!is_new).then_some(session.fence),
    }
}

/// Brings a batch to its outcome, however long the store is away. A login that waited for too long has ended its session by then, and
/// is left out.
async fn settle(core: &FleetCore, batch: Vec<PlaceChange>) {
    let (mut left, mut claims) = (Vec::new(), Vec::new());
    for change in batch {
        match change {
            PlaceChange::Take(user, connection, login) => {
                claims.push((user, connection, Some(login)))
            }
            PlaceChange::Again(user, connection) => claims.push((user, connection, None)),
            PlaceChange::Left(user, place_key, connection) => {
                left.push((user, place_key, connection))
            }
        }
    }
    let mut is_first = true;
    while let Err(error) = try_to_settle(core, &mut left, &mut claims).await {
        if is_first {
            tracing::warn!(%error, "sessions are not registered in the store yet");
        }
        is_first = false;
        sleep(PAUSE).await;
    }
}

/// Sessions that are registered, each with its login if that waits.
type WaitingClaims = Vec<(UserId, ConnectionId, Option<oneshot::Sender<()>>)>;

async fn try_to_settle(
    core: &FleetCore,
    left: &mut Vec<(UserId, Box<str>, ConnectionId)>,
    claims: &mut WaitingClaims,
) -> Result<(), EngineError> {
    // The later of two sessions of one place took it from the earlier.
    let mut places = HashMap::new();
    claims.retain(|(user, connection, login)| {
        // A login whose session was replaced has been told so.
        let Some(session) = core.registry.held(user, *connection) else {
            return false;
        };
        let is_new = session.fence == Fence::NONE;
        if is_new && login.is_none() {
            // Its login registers it.
            return false;
        }
        let claim = claim_of(core, user, session, is_new);
        places.insert((user.clone(), claim.place_key.clone()), claim);
        true
    });
    let gateway = core.gateway();
    // A claim takes the place from the session before it.
    let leaving = left
        .iter()
        .filter(|(user, place_key, _)| !places.contains_key(&(user.clone(), place_key.clone())));
    let leaving: Vec<_> = leaving
        .map(|(user, place_key, connection)| PlaceLeft {
            user: user.clone(),
            place_key: place_key.clone(),
            gateway,
            connection: *connection,
        })
        .collect();
    if !leaving.is_empty() {
        core.answer_of(core.store.leave(leaving)).await?;
    }
    register(core, places.into_values().collect()).await?;
    left.clear();
    for (.., login) in claims.drain(..) {
        if let Some(login) = login {
            // The connection may have gone.
            let _ = login.send(());
        }
    }
    Ok(())
}

/// Registers sessions, and tells who lost a place.
async fn register(core: &FleetCore, claims: Vec<PlaceClaim>) -> Result<(), EngineError> {
    if claims.is_empty() {
        return Ok(());
    }
    let outcomes = core.answer_of(core.store.register(claims.clone())).await?;
    for (claim, outcome) in claims.iter().zip(outcomes) {
        let (user, connection) = (&claim.key.user, claim.connection);
        match outcome {
            PlaceOutcome::Taken { fence, previous } => {
                core.registry.set_fence(user, connection, fence);
                if let Some(previous) = previous {
                    core.tell_replaced(user, previous, fence);
                }
            }
            PlaceOutcome::Lost(newer) => core.registry.replace(user, connection, newer),
        }
    }
    Ok(())
}

/// Registers all sessions with their fences. Logins go on meanwhile.
async fn register_all(core: &FleetCore, queue: &mut mpsc::Receiver<PlaceChange>) {
    for some in core.registry.connections().chunks(BATCH_MAX) {
        let claims = some.iter().filter_map(|(user, connection)| {
            let session = core.registry.held(user, *connection)?;
            // A session without a fence waits in the queue.
            (session.fence != Fence::NONE).then(|| claim_of(core, user, session, false))
        });
        if let Err(error) = register(core, claims.collect()).await {
            tracing::debug!(%error, "the sessions of this gateway are not registered again yet");
            core.begin_anew();
            sleep(PAUSE).await;
            return;
        }
        let waiting = std::iter::from_fn(|| queue.try_recv().ok()).take(BATCH_MAX);
        settle(core, waiting.collect()).await;
    }
}

/// Compares all sessions with the store: closes those that lost their place, and registers those that the store does not know.
async fn sweep(core: &FleetCore) -> Result<(), EngineError> {
    for some in core.registry.connections().chunks(SWEPT_MAX) {
        let users = some.iter().map(|(user, _)| user.clone()).collect();
        let holders = core.answer_of(core.store.holders(users)).await?;
        let mut missing = Vec::new();
        for ((user, connection), holders) in some.iter().zip(holders) {
            let session = core.registry.held(user, *connection);
            let Some(session) = session.filter(|session| session.fence != Fence::NONE) else {
                continue;
            };
            let own = claim_of(core, user, session.clone(), false);
            let mut holders = holders.iter();
            match holders.find(|holder| holder.place_key == own.place_key) {
                Some(holder) if holder.fence > session.fence => {
                    core.registry.replace(user, *connection, holder.fence);
                }
                Some(holder)
                    if (holder.gateway, holder.connection) == (own.gateway, own.connection) => {}
                _ => missing.push(own),
            }
        }
        for some in missing.chunks(BATCH_MAX) {
            register(core, some.to_vec()).await?;
        }
    }
    Ok(())
}
