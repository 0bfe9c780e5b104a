//! The news that gateways of one store tell each other, so that a message is live everywhere and not only where it was accepted.
//!
//! After a commit the sessions of this gateway have the message at once. Then the store is asked which other gateways hold sessions of
//! the receivers, and each of them gets one hint with the message. The look-up comes after the commit: a session that registers later
//! reads the message from the store. Hints may be lost, late or repeated. A session takes a message only if it is the next one, and
//! reads the store otherwise. So a lost hint costs time only, and these looks into the store bound it (`repair.rs`):
//!
//! | lost because | noticed by | repaired within |
//! |---|---|---|
//! | a link broke or dropped frames | its numbers, its end | 2 s |
//! | another gateway died | its links, the list of gateways | 15 s |
//! | anything else | nobody | 60 s |
//!
//! - this file: [`Hints`], the start of these parts
//! - `outgoing.rs`: from commits of this gateway to hints
//! - `incoming.rs`: from frames of other gateways to the sessions of this one
//! - `repair.rs`: looks into the store for all sessions of this gateway
//!
//! Leaves to others: links (`mesh/`), places of sessions (`fleet/`).

mod incoming;
mod outgoing;
mod repair;

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use self::{
    incoming::FleetEar,
    outgoing::CommitQueue,
    repair::{RepairCalls, Repairer},
};
use crate::{
    fleet::Fleet,
    log::{Consumer, Log as _, cluster::ClusterLog},
    mesh::{Mesh, MeshError, MeshLimits, MeshPort, MeshSecret, MeshView},
    metrics::MeshMetrics,
    registry::Registry,
    threads::Pulse,
};

/// The interval at which this gateway looks for its own number. It has another one after it was silent for too long.
const VIEW_INTERVAL: Duration = Duration::from_secs(1);

/// The parts that hints stand on.
pub struct HintParts {
    /// This gateway in its fleet.
    pub fleet: Arc<Fleet>,
    /// The log, whose commits become hints.
    pub log: Arc<ClusterLog>,
    /// The sessions of this gateway.
    pub registry: Arc<Registry>,
    /// Hands commits to these sessions.
    pub fan_out: Arc<dyn Consumer>,
    /// The metrics of links and repairs.
    pub metrics: MeshMetrics,
}

/// The links of a gateway, its hints and its repairs.
pub struct Hints {
    mesh: Mesh,
    /// The tasks end when this is dropped.
    _tasks: JoinSet<()>,
}

impl Hints {
    /// Begins to tell and to hear. The tasks run on the runtime of the log.
    pub fn start(
        parts: HintParts,
        port: MeshPort,
        secret: MeshSecret,
        pulse: Pulse,
        runtime: &Handle,
    ) -> Result<Self, MeshError> {
        let HintParts {
            fleet,
            log,
            registry,
            fan_out,
            metrics,
        } = parts;
        let calls = Arc::new(RepairCalls::default());
        let ear = FleetEar {
            registry: registry.clone(),
            fan_out,
            calls: calls.clone(),
        };
        let (view, viewed) = watch::channel(view_of(&fleet));
        let ear = (Arc::new(ear) as _, metrics.clone());
        let mesh = Mesh::start(port, secret, MeshLimits::default(), viewed, ear, pulse)?;
        let links = mesh.links();
        fleet.tell_by(Arc::new(links.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn_on(follow(fleet.clone(), view), runtime);
        let repairer = Repairer {
            fleet: fleet.clone(),
            log: log.clone(),
            registry,
            links: links.clone(),
            metrics,
            calls,
        };
        tasks.spawn_on(repairer.run(), runtime);
        let queue = Arc::new(CommitQueue::new(fleet.gateways()));
        log.commits(queue.clone());
        tasks.spawn_on(outgoing::run(queue, fleet, links), runtime);
        Ok(Self {
            mesh,
            _tasks: tasks,
        })
    }

    /// Ends all links. Blocks. False if the thread of the links had panicked.
    pub fn stop(self) -> bool {
        self.mesh.stop()
    }
}

fn view_of(fleet: &Fleet) -> MeshView {
    MeshView {
        me: fleet.gateway(),
        others: fleet.gateways().borrow().clone(),
    }
}

/// Keeps the links' view of the fleet. Never ends by itself.
async fn follow(fleet: Arc<Fleet>, view: watch::Sender<MeshView>) {
    let mut gateways = fleet.gateways();
    let mut look = interval(VIEW_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = gateways.changed() => if changed.is_err() {
                return;
            },
            _ = look.tick() => {}
        }
        let now = view_of(&fleet);
        view.send_if_modified(|view| {
            let is_news = *view != now;
            *view = now;
            is_news
        });
    }
}
