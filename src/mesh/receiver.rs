//! The receiving ends of links: the port, and the frames of each link. Each gap of numbers, each new link and each end is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    FramesMissed, LinkFault, MeshShared, codec,
    record::{FrameNumbers, take_record},
    sender::PROOF_TIMEOUT,
};
use crate::ids::GatewayId;

/// The most connections at once that have proven nothing yet. Each takes some kilobytes, and has its time.
const UNPROVEN_MAX: usize = 64;
/// A link without a record for this long has ended: three heartbeats.
const MESH_SILENCE_MAX: Duration = Duration::from_secs(3);
/// A failed accept is tried again after this time: the next one would meet the same fault.
const MESH_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The bytes of one read.
const LINK_READ_BYTES: usize = 64 * 1024;

/// The port of the mesh.
pub(super) struct LinkPort {
    pub(super) shared: Arc<MeshShared>,
    pub(super) listener: TcpListener,
}

impl LinkPort {
    /// Accepts links. Never ends by itself. Cancel safe: a drop closes the port and all links.
    pub(super) async fn run(self) {
        let unproven = Arc::new(Semaphore::new(UNPROVEN_MAX));
        let mut links = JoinSet::new();
        loop {
            // Links that have ended.
            while links.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "the port of the mesh accepts nothing now");
                    sleep(MESH_ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&unproven).try_acquire_owned() else {
                self.shared
                    .refused("too many connections wait for their proof");
                continue;
            };
            let shared = Arc::clone(&self.shared);
            links.spawn(async move {
                let proven = prove(&shared, stream).await;
                drop(permit);
                match proven {
                    Ok((stream, from)) => receive(&shared, stream, from).await,
                    Err(fault) => shared.refused(&fault.to_string()),
                }
            });
        }
    }
}

async fn prove(
    shared: &MeshShared,
    stream: TcpStream,
) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, GatewayId), LinkFault> {
    stream.set_nodelay(true)?;
    let me = shared.view.borrow().me;
    let proof = timeout(PROOF_TIMEOUT, shared.prover.accept(stream, me)).await;
    proof.map_err(|_| LinkFault::Late("the proof"))?
}

/// Receives until the link ends, or a newer link of the same gateway takes over.
async fn receive(shared: &MeshShared, stream: impl AsyncRead + Unpin, from: GatewayId) {
    let (arrived, replaced) = ArrivedLink::begin(shared, from);
    shared.ear.missed(from, FramesMissed::BeforeLink);
    tokio::select! {
        biased;
        _ = replaced => {}
        fault = read(shared, stream, from) => {
            tracing::warn!(gateway = %from, %fault, "a link from another gateway has ended");
        }
    }
    drop(arrived);
}

/// Reads frames until the link ends.
async fn read(
    shared: &MeshShared,
    mut stream: impl AsyncRead + Unpin,
    from: GatewayId,
) -> LinkFault {
    let mut bytes = BytesMut::new();
    let mut numbers = FrameNumbers::default();
    loop {
        // A frame that is long comes in several reads, and none of them may take longer.
        bytes.reserve(LINK_READ_BYTES);
        match timeout(MESH_SILENCE_MAX, stream.read_buf(&mut bytes)).await {
            Err(_) => return LinkFault::Late("the next heartbeat"),
            Ok(Err(error)) => return error.into(),
            Ok(Ok(0)) => return LinkFault::Closed,
            Ok(Ok(_)) => {}
        }
        loop {
            let record = match take_record(&mut bytes) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(fault) => return fault.into(),
            };
            match numbers.take(&record) {
                Ok(0) => {}
                Ok(missing) => {
                    tracing::debug!(gateway = %from, missing, "frames of a link are missing");
                    shared.ear.missed(from, FramesMissed::InLink);
                }
                Err(fault) => return fault.into(),
            }
            if record.frame.is_empty() {
                continue;
            }
            shared.metrics.frames_received.increment(1);
            match codec::decode(record.frame) {
                Ok(frame) => shared.ear.hear(from, frame),
                Err(fault) => {
                    tracing::debug!(gateway = %from, %fault, "a frame is not understood");
                    shared.ear.missed(from, FramesMissed::InLink);
                }
            }
        }
    }
}

/// The links that are up, by the gateway that sends. A gateway has one.
#[derive(Default)]
pub(super) struct ArrivedLinks(Mutex<HashMap<GatewayId, (u64, oneshot::Sender<()>)>>);

impl ArrivedLinks {
    fn lock(&self) -> MutexGuard<'_, HashMap<GatewayId, (u64, oneshot::Sender<()>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while there is a link from this gateway.
    pub(super) fn has(&self, from: GatewayId) -> bool {
        self.lock().contains_key(&from)
    }
}

/// A link that is up. Its drop says that it has ended, unless a newer one took over.
struct ArrivedLink<'a> {
    shared: &'a MeshShared,
    from: GatewayId,
    number: u64,
}

impl<'a> ArrivedLink<'a> {
    /// Begins a link, and ends an older one of the same gateway. The receiver wakes when a newer one takes over.
    fn begin(shared: &'a MeshShared, from: GatewayId) -> (Self, oneshot::Receiver<()>) {
        let (holder, replaced) = oneshot::channel();
        let mut links = shared.arrived.lock();
        let older = links.get(&from).map_or(0, |(number, _)| *number);
        let number = older + 1;
        if links.insert(from, (number, holder)).is_none() {
            shared.metrics.links_in.increment(1);
        }
        drop(links);
        let link = Self {
            shared,
            from,
            number,
        };
        (link, replaced)
    }
}

impl Drop for ArrivedLink<'_> {
    fn drop(&mut self) {
        let mut links = self.shared.arrived.lock();
        let is_mine = links
            .get(&self.from)
            .is_some_and(|(number, _)| *number == self.number);
        if is_mine {
            links.remove(&self.from);
            drop(links);
            self.shared.metrics.links_in.decrement(1);
            self.shared.ear.missed(self.from, FramesMissed::AfterLink);
        }
    }
}
