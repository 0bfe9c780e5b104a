//! The sending end of a link: dials, proves, writes. A link that ends is dialed again, for as long as the store names its gateway.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    LinkFault, MeshShared, codec,
    queue::LinkQueue,
    record::{MESH_FRAME_BYTES_MAX, put_record},
};
use crate::{fleet::FleetFrame, ids::GatewayId};

/// The interval of heartbeats.
const MESH_HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest time to connect: two packets may be lost.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time to the proofs of both ends.
pub(super) const PROOF_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time of one write, and of bytes without an acknowledgement of the network. A receiver that takes nothing for this time is
/// helped by the store sooner.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause after the first failed attempt. It doubles.
const DIAL_PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Frames are gathered up to this many bytes for one write: one TLS record.
const WRITE_BYTES: usize = 16 * 1024;

/// The sending end of one link.
pub(super) struct LinkSender {
    pub(super) shared: Arc<MeshShared>,
    pub(super) queue: Arc<LinkQueue>,
    /// The gateway that sends.
    pub(super) me: GatewayId,
    /// The gateway that receives.
    pub(super) to: GatewayId,
    /// Its host and port.
    pub(super) address: String,
}

impl LinkSender {
    /// Keeps a link. Never ends by itself. Cancel safe: a drop closes the link.
    pub(super) async fn run(self) {
        let mut pauses = DialPauses::default();
        let mut logged = String::new();
        loop {
            let fault = match self.begin().await {
                Ok(stream) => {
                    pauses = DialPauses::default();
                    logged.clear();
                    tracing::info!(gateway = %self.to, address = %self.address, "a link to another gateway is up");
                    let gone = LinkGuard::new(&self.shared, &self.queue);
                    let fault = self.write(stream).await;
                    drop(gone);
                    fault
                }
                Err(fault) => fault,
            };
            let text = fault.to_string();
            // A fault is logged once while it stays the same.
            if text != logged {
                let (gateway, address) = (&self.to, &self.address);
                if fault.is_lasting() {
                    tracing::error!(%gateway, %address, %fault, "there is no link to another gateway");
                } else {
                    tracing::warn!(%gateway, %address, %fault, "there is no link to another gateway");
                }
                logged = text;
            }
            sleep(pauses.next(fastrand::f64())).await;
        }
    }

    /// Dials and proves.
    async fn begin(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LinkFault> {
        let stream = timeout(DIAL_TIMEOUT, TcpStream::connect(&self.address)).await;
        let stream = stream.map_err(|_| LinkFault::Late("the connection"))??;
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
        let proof = self.shared.prover.dial(stream, self.me, self.to);
        let proof = timeout(PROOF_TIMEOUT, proof).await;
        proof.map_err(|_| LinkFault::Late("the proof"))?
    }

    /// Writes frames and heartbeats until the link ends.
    async fn write(&self, stream: tokio_rustls::client::TlsStream<TcpStream>) -> LinkFault {
        let (mut reader, mut writer) = split(stream);
        // The receiver writes nothing: a read ends with the link.
        let mut nothing = [0; 1];
        let mut ended = std::pin::pin!(reader.read(&mut nothing));
        let mut heartbeat = interval(MESH_HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bytes = BytesMut::with_capacity(WRITE_BYTES);
        loop {
            // The first record is a heartbeat: the interval ticks at once. It tells the receiver the first number.
            tokio::select! {
                biased;
                read = &mut ended => return read.map_or_else(LinkFault::Io, |_| LinkFault::Closed),
                _ = heartbeat.tick() => put_record(&mut bytes, self.queue.next_number(), &[]),
                (number, frame) = self.queue.take() => {
                    self.put(&mut bytes, number, &frame);
                    while bytes.len() < WRITE_BYTES
                        && let Some((number, frame)) = self.queue.take_now()
                    {
                        self.put(&mut bytes, number, &frame);
                    }
                }
            }
            if let Err(fault) = write(&mut writer, &mut bytes).await {
                return fault;
            }
        }
    }

    /// Adds a frame. A frame that is too long is dropped, and its number is missing.
    fn put(&self, bytes: &mut BytesMut, number: u64, frame: &FleetFrame) {
        let frame = codec::encode(frame);
        if frame.len() > MESH_FRAME_BYTES_MAX {
            self.shared.metrics.frames_dropped.increment(1);
            tracing::warn!(gateway = %self.to, bytes = frame.len(), "a frame is too long for a link and was dropped");
            return;
        }
        put_record(bytes, number, &frame);
        self.shared.metrics.frames_sent.increment(1);
    }
}

/// Writes all bytes, within the time of a write.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &mut BytesMut,
) -> Result<(), LinkFault> {
    let written = timeout(WRITE_TIMEOUT, async {
        writer.write_all(bytes).await?;
        writer.flush().await
    });
    written.await.map_err(|_| LinkFault::Late("a write"))??;
    bytes.clear();
    // A long frame leaves no large buffer behind.
    if bytes.capacity() > 4 * WRITE_BYTES {
        *bytes = BytesMut::with_capacity(WRITE_BYTES);
    }
    Ok(())
}

/// Marks the queue of a link that is up, and unmarks it at its end, also when the link's task is aborted.
struct LinkGuard<'a> {
    shared: &'a MeshShared,
    queue: &'a LinkQueue,
}

impl<'a> LinkGuard<'a> {
    fn new(shared: &'a MeshShared, queue: &'a LinkQueue) -> Self {
        queue.set_link(true);
        shared.metrics.links_out.increment(1);
        Self { shared, queue }
    }
}

impl Drop for LinkGuard<'_> {
    fn drop(&mut self) {
        let dropped = self.queue.set_link(false);
        self.shared.metrics.frames_dropped.increment(dropped as u64);
        self.shared.metrics.links_out.decrement(1);
    }
}

/// The pauses between attempts. Pure.
#[derive(Debug, Default)]
struct DialPauses(u32);

impl DialPauses {
    /// The next pause, for a random number from 0 to 1: half of it is random, so that gateways do not dial at once.
    fn next(&mut self, random: f64) -> Duration {
        let longest = DIAL_PAUSE_MIN.saturating_mul(1 << self.0.min(16));
        self.0 = self.0.saturating_add(1);
        longest.min(DIAL_PAUSE_MAX).mul_f64((1.0 + random) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_half_of_each_is_random() {
        let mut pauses = DialPauses::default();
        let first: Vec<_> = (0..4).map(|_| pauses.next(1.0).as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 800]);
        for _ in 0..100 {
            assert!(pauses.next(1.0) <= DIAL_PAUSE_MAX);
        }
        assert_eq!(pauses.next(0.0), DIAL_PAUSE_MAX / 2);
    }
}
