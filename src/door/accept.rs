//! The accept loop of either port. It takes connections while the port has room for them.
//!
//! A port's [`Gate`] decides if there is room, and which other connection is cut off for a new one.

use std::{convert::Infallible, io, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::sleep,
};
use tracing::warn;

/// The pause after an error that the next accept would meet again, such as no memory for a socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The pause between two checks if a crowded port has room again.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);

/// A client's bytes, in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// A source of clients.
pub trait ClientSource {
    /// The stream of one client.
    type Stream: Stream;

    /// The next client's stream, and its address. An error says why there is none now; it may be temporary.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, IpAddr)>>;
}

impl ClientSource for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // A small write must not wait for the ack of the one before. If this fails, the client is gone, and the first read
        // reports it.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.ip()))
    }
}

/// A port's rule for new connections.
pub(crate) trait Gate<S> {
    /// The port's name in the stderr log.
    const PORT: &str;

    /// True while no further connection may come. The next clients wait in the kernel's queue.
    fn is_crowded(&self) -> bool;

    /// Serves a connection in a task of its own. True: another connection was cut off for it.
    fn receive(&self, stream: S, ip: IpAddr) -> bool;
}

/// Accepts connections. Never returns. Cancel safe.
pub(crate) async fn accept<L: ClientSource, G: Gate<L::Stream>>(
    listener: &L,
    gate: &G,
) -> Infallible {
    let mut has_warned = false;
    loop {
        while gate.is_crowded() {
            sleep(CROWDED_PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, ip)) => {
                has_warned = false;
                if gate.receive(stream, ip) {
                    // The yield lets the aborted task close its socket first. Otherwise a flood would use up the
                    // descriptors.
                    yield_now().await;
                }
            }
            // This error belongs to one client that is gone again; the next client is not affected.
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                // Logged once while the fault lasts.
                if !has_warned {
                    warn!(%error, "the {} port could not accept a connection", G::PORT);
                }
                has_warned = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, net::Ipv4Addr};

    use tokio::{
        io::{DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    /// Less than any pause.
    const A_MOMENT: Duration = Duration::from_millis(1);

    /// A port whose first accepts fail, and which is crowded for some looks. Then one client comes.
    #[derive(Default)]
    struct Port {
        failures: usize,
        crowded_looks: usize,
        accepts: Cell<usize>,
        looks: Cell<usize>,
        received: Cell<usize>,
    }

    fn next(counter: &Cell<usize>) -> usize {
        counter.set(counter.get() + 1);
        counter.get()
    }

    impl ClientSource for Port {
        type Stream = DuplexStream;

        async fn accept(&self) -> io::Result<(DuplexStream, IpAddr)> {
            let number = next(&self.accepts);
            if number <= self.failures {
                return Err(io::Error::other("no socket for now"));
            }
            if number > self.failures + 1 {
                pending::<()>().await;
            }
            Ok((duplex(1).0, Ipv4Addr::LOCALHOST.into()))
        }
    }

    impl Gate<DuplexStream> for Port {
        const PORT: &str = "test";

        fn is_crowded(&self) -> bool {
            next(&self.looks) <= self.crowded_looks
        }

        fn receive(&self, _: DuplexStream, _: IpAddr) -> bool {
            next(&self.received);
            false
        }
    }

    /// Accepts for this time, and returns the port.
    async fn accepts_for(time: Duration, port: Port) -> Port {
        let accepting = timeout(time, accept(&port, &port)).await;
        assert!(accepting.is_err(), "it never returns");
        port
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_accept_is_tried_again_after_each_pause() {
        let failing = || Port {
            failures: 3,
            ..Port::default()
        };
        let port = accepts_for(ACCEPT_PAUSE * 3 - A_MOMENT, failing()).await;
        assert_eq!((port.accepts.get(), port.received.get()), (3, 0));
        let port = accepts_for(ACCEPT_PAUSE * 3 + A_MOMENT, failing()).await;
        assert_eq!(port.received.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowded_port_accepts_nobody_and_looks_for_room_after_each_pause() {
        let crowded = || Port {
            crowded_looks: 3,
            ..Port::default()
        };
        let port = accepts_for(CROWDED_PAUSE * 3 - A_MOMENT, crowded()).await;
        assert_eq!((port.looks.get(), port.accepts.get()), (3, 0));
        let port = accepts_for(CROWDED_PAUSE * 3 + A_MOMENT, crowded()).await;
        assert_eq!(port.received.get(), 1);
    }
}
