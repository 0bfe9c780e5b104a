//! The links between the gateways of one fleet: a TCP connection for each pair and direction, dialed by the gateway that sends.
//!
//! Promises: a frame reaches only gateways that have proven the fleet's secret (`proof.rs`). A frame comes at most once, and frames of one
//! link come in their order. A link drops frames when it is too slow, is down or ends. Then its receiver is told, within
//! three heartbeats at most, and finds out from the store what it missed. Nothing here waits for another gateway but the mesh's own thread.
//!
//! - this file: [`Mesh`], its port and its thread
//! - `codec.rs`: the bytes of a frame
//! - `record.rs`: the records of a link, with their numbers
//! - `queue.rs`: the frames that wait for a link
//! - `proof.rs`: TLS, and the proofs of both ends
//! - `peers.rs`: a link to each other gateway of the fleet
//! - `sender.rs`, `receiver.rs`: the two ends of a link
//! - `refusals.rs`: connections that were refused, logged at a bounded rate
//! - `fault.rs`: why a link ended, and why there is no mesh
//!
//! Leaves to others: which gateways there are, what the frames mean, and the look into the store.

mod codec;
mod fault;
mod peers;
mod proof;
mod queue;
mod receiver;
mod record;
mod refusals;
mod sender;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    thread::JoinHandle,
};

use tokio::sync::{oneshot, watch};

pub use self::{
    codec::{FrameError, decode, encode},
    fault::MeshError,
    proof::MeshSecret,
    queue::MeshLimits,
    record::{FrameNumbers, MeshRecord, RecordError, take_record},
};
use self::{
    fault::LinkFault,
    proof::Prover,
    queue::LinkQueue,
    receiver::{ArrivedLinks, LinkPort},
    refusals::Refusals,
};
use crate::{
    fleet::{FleetFrame, Teller},
    ids::GatewayId,
    metrics::MeshMetrics,
    threads::Pulse,
};

/// The reason for which frames of another gateway are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramesMissed {
    /// A link began. Frames from before it are missing.
    BeforeLink,
    /// A link jumped over numbers, or had a frame that this version does not understand.
    InLink,
    /// A link has ended. Frames are missing from now on.
    AfterLink,
}

/// Takes all that comes by the links.
pub trait MeshEar: Send + Sync + 'static {
    /// Takes a frame, in the order of its link, on the mesh's thread. Must be quick and never wait.
    fn hear(&self, from: GatewayId, frame: FleetFrame);

    /// Frames of this gateway are missing. Called on the mesh's thread. Must be quick and never wait.
    fn missed(&self, from: GatewayId, why: FramesMissed);
}

/// The gateways of the fleet, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshView {
    /// The gateway itself.
    pub me: GatewayId,
    /// The others, each with host and port of its mesh.
    pub others: Vec<(GatewayId, String)>,
}

/// The port of a mesh that does not run yet. Gateways that dial wait in the kernel's queue.
#[derive(Debug)]
pub struct MeshPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl MeshPort {
    /// Binds the port.
    pub fn bind(listen: SocketAddr) -> Result<Self, MeshError> {
        let bind = || {
            let listener = TcpListener::bind(listen)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|error| MeshError::Listen {
            address: listen,
            error,
        })
    }

    /// The address, with the real port if the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The queue of the link to each gateway.
type LinkQueues = HashMap<GatewayId, Arc<LinkQueue>>;

/// The state that the parts of a mesh share.
struct MeshShared {
    prover: Prover,
    limits: MeshLimits,
    view: watch::Receiver<MeshView>,
    ear: Arc<dyn MeshEar>,
    metrics: MeshMetrics,
    /// The queues of the links to other gateways. One for each gateway of the view.
    queues: RwLock<LinkQueues>,
    arrived: ArrivedLinks,
    refusals: Refusals,
}

impl MeshShared {
    /// Counts a connection that was refused.
    fn refused(&self, reason: &str) {
        self.metrics.refused.increment(1);
        self.refusals.log(reason);
    }
}

/// The links of a gateway. They run on a thread of their own, until this is stopped.
pub struct Mesh {
    shared: Arc<MeshShared>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Mesh {
    /// Starts the links. They follow the view.
    pub fn start(
        port: MeshPort,
        secret: MeshSecret,
        limits: MeshLimits,
        view: watch::Receiver<MeshView>,
        (ear, metrics): (Arc<dyn MeshEar>, MeshMetrics),
        pulse: Pulse,
    ) -> Result<Self, MeshError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(MeshShared {
            prover: Prover::new(secret)?,
            limits,
            view,
            ear,
            metrics,
            queues: RwLock::default(),
            arrived: ArrivedLinks::default(),
            refusals: Refusals::default(),
        });
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(port.listener)?
        };
        let port = LinkPort {
            shared: shared.clone(),
            listener,
        };
        let (stop, stopped) = oneshot::channel();
        let links = peers::follow(shared.clone());
        let work = async move {
            pulse.rest();
            tokio::select! {
                // A dropped sender ends the mesh as well.
                _ = stopped => {}
                () = links => {}
                () = port.run() => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("mesh".into())
            .spawn(move || runtime.block_on(work))?;
        Ok(Self {
            shared,
            stop,
            thread,
        })
    }

    /// The links, for those who tell.
    pub fn links(&self) -> MeshLinks {
        MeshLinks(Arc::clone(&self.shared))
    }

    /// Ends all links. Blocks until the thread has ended. False if it had panicked.
    pub fn stop(self) -> bool {
        // The thread may have ended.
        let _ = self.stop.send(());
        self.thread.join().is_ok()
    }
}

impl MeshShared {
    fn queues(&self) -> RwLockReadGuard<'_, LinkQueues> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The links of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct MeshLinks(Arc<MeshShared>);

impl MeshLinks {
    /// Says on all links that frames are missing.
    pub fn skip(&self) {
        self.0.queues().values().for_each(|queue| queue.skip());
    }

    /// True while there is a link from this gateway.
    pub fn hears(&self, from: GatewayId) -> bool {
        self.0.arrived.has(from)
    }
}

impl Teller for MeshLinks {
    fn tell(&self, gateway: GatewayId, frame: FleetFrame) {
        let queues = self.0.queues();
        let is_put = queues.get(&gateway).is_some_and(|queue| queue.put(frame));
        if !is_put {
            self.0.metrics.frames_dropped.increment(1);
        }
    }

    fn missing(&self) -> Vec<GatewayId> {
        let queues = self.0.queues();
        let is_missing = |(to, queue): &(&GatewayId, &Arc<LinkQueue>)| {
            !queue.has_link() || !self.0.arrived.has(**to)
        };
        let missing = queues.iter().filter(is_missing).map(|(to, _)| *to);
        let mut missing: Vec<_> = missing.collect();
        missing.sort_unstable();
        missing
    }
}
