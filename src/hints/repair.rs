//! Looks into the store for all sessions of this gateway, after hints were lost and once a minute.
//!
//! Each look tells every session the head of its inbox; a session that is behind reads. It closes the sessions whose tokens are revoked as
//! well. The places of sessions are looked through by `fleet/`. A look is in batches of users, spread over some time, so that
//! gateways that notice the same loss do not ask the store at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    fleet::Fleet,
    ids::{GatewayId, UserId},
    log::{LogError, cluster::ClusterLog},
    mesh::MeshLinks,
    metrics::MeshMetrics,
    registry::Registry,
};

/// The time from one regular look to the next. It bounds a loss that nobody noticed.
const REPAIR_INTERVAL: Duration = Duration::from_secs(60);
/// A regular look takes this long.
const SWEEP_SPREAD: Duration = Duration::from_secs(30);
/// A look after another gateway died takes this long. It was noticed after 10 s at most.
const DEATH_SPREAD: Duration = Duration::from_secs(5);
/// A look after a link lost frames takes this long.
const LINK_SPREAD: Duration = Duration::from_millis(1000);
/// Frames that are lost within this time are looked for together.
const LINK_GATHER: Duration = Duration::from_millis(250);
/// Without a link from another gateway, looks come after this time.
const DOWN_PAUSE_MIN: Duration = Duration::from_secs(2);
/// The longest such time. A link that is down for long is an operator's matter, and the store is shared.
const DOWN_PAUSE_MAX: Duration = Duration::from_secs(15);
/// A look that failed is tried again after this time.
const REPAIR_RETRY: Duration = Duration::from_secs(1);
/// The most users of one question to the store.
const HEADS_MAX: usize = 1000;

/// The way to call for a look.
#[derive(Debug, Default)]
pub(super) struct RepairCalls(Notify);

impl RepairCalls {
    /// Frames were lost. Calls before the look begins count as one.
    pub(super) fn call(&self) {
        self.0.notify_one();
    }
}

/// The reason for a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RepairCause {
    /// A link began, ended, lost frames or is missing.
    Link,
    /// Another gateway died.
    Gateway,
    /// A minute has passed.
    Sweep,
}

impl RepairCause {
    fn spread(self) -> Duration {
        match self {
            Self::Link => LINK_SPREAD,
            Self::Gateway => DEATH_SPREAD,
            Self::Sweep => SWEEP_SPREAD,
        }
    }
}

/// The looks of a gateway.
pub(super) struct Repairer {
    pub(super) fleet: Arc<Fleet>,
    pub(super) log: Arc<ClusterLog>,
    pub(super) registry: Arc<Registry>,
    pub(super) links: MeshLinks,
    pub(super) metrics: MeshMetrics,
    pub(super) calls: Arc<RepairCalls>,
}

/// The other gateways as the store names them.
type Gateways = watch::Receiver<Vec<(GatewayId, String)>>;

impl Repairer {
    /// Looks whenever there is a cause. Never ends by itself. Cancel safe: a drop leaves a look undone.
    pub(super) async fn run(self) {
        let mut gateways = self.fleet.gateways();
        let mut known: Vec<_> = gateways.borrow_and_update().clone();
        let mut sweep_at = Instant::now() + REPAIR_INTERVAL;
        let mut down = DownLooks::default();
        loop {
            let mut cause = self
                .next_cause(&mut gateways, &mut known, sweep_at, &mut down)
                .await;
            while let Err(next) = self.repair(cause).await {
                cause = next;
            }
            // Each look was a whole one.
            let now = Instant::now();
            sweep_at = now + REPAIR_INTERVAL - SWEEP_SPREAD;
            down.looked(now);
        }
    }

    async fn next_cause(
        &self,
        gateways: &mut Gateways,
        known: &mut Vec<(GatewayId, String)>,
        sweep_at: Instant,
        down: &mut DownLooks,
    ) -> RepairCause {
        loop {
            let is_down = known.iter().any(|(from, _)| !self.links.hears(*from));
            let down_at = down.next(is_down, Instant::now());
            tokio::select! {
                biased;
                () = self.calls.0.notified() => {
                    sleep(LINK_GATHER).await;
                    return RepairCause::Link;
                }
                Ok(()) = gateways.changed() => {
                    let now = gateways.borrow_and_update().clone();
                    let is_gone = |(gateway, _): &(GatewayId, String)| {
                        now.iter().all(|(other, _)| other != gateway)
                    };
                    let has_gone = known.iter().any(is_gone);
                    *known = now;
                    if has_gone {
                        return RepairCause::Gateway;
                    }
                }
                () = sleep_until(down_at.unwrap_or(sweep_at)), if down_at.is_some() => {
                    return RepairCause::Link;
                }
                () = sleep_until(sweep_at) => return RepairCause::Sweep,
            }
        }
    }

    /// Looks once. `Err` with the cause of the look that has to follow: a slow look gives way to a fast one.
    async fn repair(&self, cause: RepairCause) -> Result<(), RepairCause> {
        match cause {
            RepairCause::Link => &self.metrics.repairs_of_links,
            RepairCause::Gateway => &self.metrics.repairs_of_gateways,
            RepairCause::Sweep => &self.metrics.sweeps,
        }
        .increment(1);
        let begun = Instant::now();
        let looked = tokio::select! {
            biased;
            looked = self.look(cause.spread()) => looked,
            () = self.calls.0.notified(), if cause != RepairCause::Link => return Err(RepairCause::Link),
        };
        if let Err(error) = looked {
            tracing::debug!(%error, ?cause, "the sessions of this gateway are not compared with the store yet");
            sleep(REPAIR_RETRY).await;
            return Err(cause);
        }
        self.metrics.sweep_seconds.record(begun.elapsed());
        Ok(())
    }

    /// Compares all sessions with the store, spread over this time.
    async fn look(&self, spread: Duration) -> Result<(), LogError> {
        let connections = self.registry.connections();
        let mut users: Vec<_> = connections.into_iter().map(|(user, _)| user).collect();
        users.dedup();
        let begun = Instant::now();
        let batches = users.len().div_ceil(HEADS_MAX).max(1);
        let pause = spread / u32::try_from(batches).unwrap_or(u32::MAX);
        for (index, some) in (0..).zip(users.chunks(HEADS_MAX)) {
            sleep_until(begun + pause * index).await;
            self.compare(some).await?;
        }
        Ok(())
    }

    async fn compare(&self, users: &[UserId]) -> Result<(), LogError> {
        let heads = self.log.heads(users.to_vec()).wait().await?;
        for (user, (epoch, head)) in users.iter().zip(heads) {
            self.registry.tell_head(user.as_str(), epoch, head);
        }
        for (user, platform, before_ms) in self.log.logged_out(users.to_vec()).wait().await? {
            let sessions = self.registry.presence(user.as_str());
            // A later login has another token, which another gateway may have issued just now.
            let is_older = |since_ms: u64| since_ms < before_ms;
            let mut sessions = sessions.iter();
            if sessions.any(|session| session.platform == platform && is_older(session.since_ms)) {
                self.registry.log_out(&user, platform);
            }
        }
        Ok(())
    }
}

/// The looks while there is no link from another gateway. Pure.
#[derive(Debug, Default)]
struct DownLooks(Option<(Instant, Duration)>);

impl DownLooks {
    /// The time of the next look; `None` while all links are up.
    fn next(&mut self, is_down: bool, now: Instant) -> Option<Instant> {
        let first = (now + DOWN_PAUSE_MIN, DOWN_PAUSE_MIN);
        self.0 = is_down.then(|| self.0.unwrap_or(first));
        self.0.map(|(at, _)| at)
    }

    /// A look has ended: the next one comes after twice the pause.
    fn looked(&mut self, now: Instant) {
        self.0 = self.0.map(|(_, pause)| {
            let pause = (pause * 2).min(DOWN_PAUSE_MAX);
            (now + pause, pause)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_without_a_link_come_less_often_up_to_their_bound_and_end_with_the_next_link() {
        let mut looks = DownLooks::default();
        let now = Instant::now();
        assert_eq!(looks.next(false, now), None);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let at = looks.next(true, now).unwrap();
            pauses.push(at.duration_since(now).as_secs());
            assert_eq!(looks.next(true, now + DOWN_PAUSE_MIN), Some(at), "it stays");
            looks.looked(now);
        }
        assert_eq!(pauses, [2, 4, 8, 15, 15]);
        assert_eq!(looks.next(false, now), None);
        assert_eq!(looks.next(true, now), Some(now + DOWN_PAUSE_MIN));
        assert!(DOWN_PAUSE_MAX >= DOWN_PAUSE_MIN);
    }
}
