//! From a TCP connection to a WebSocket, if `admission` allows it.
//!
//! A handshake runs in a task of its own and then starts a new small task, because a task keeps the size of its largest
//! state for life. It is in the lobby from its first moment. When a later arrival needs its place, its task is aborted,
//! whatever it waits for. A client with a good request that cannot be admitted is told when to return.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context as Cx, Poll},
    time::Duration,
};

use axum::http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{spawn_local, yield_now},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::warn;

use super::{
    admission::{Arrival, Lobby, Permit},
    tls::Tls,
    upgrade::{self, Refusal, Upgrade},
};
use crate::{
    connection::{self, Context, Task},
    metrics::RefusalReason,
    protocol::{self, Codec},
    reactor::{
        Parts, Stage,
        table::{Seat, Table},
    },
    session::Moment,
};

/// The pause after an error that the next accept would meet again, such as no memory for a socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The pause between two checks if a crowded lobby has room again.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);
/// Clients that come during the drain return after 1 s to this many seconds.
const RETRY_AFTER_MAX_S: u64 = 10;
/// The longest time for a browser to take a file of a page: 100 KB at 5 KB/s.
const SITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The entrance for clients of one reactor.
pub(crate) struct Door {
    pub(crate) parts: Rc<Parts>,
    pub(crate) context: Rc<Context>,
    pub(crate) table: Rc<Table>,
    pub(crate) lobby: Rc<Lobby>,
    pub(crate) stage: watch::Receiver<Stage>,
}

/// The answer to a good request.
enum Answer {
    /// The stream becomes a WebSocket, with a place among the connections.
    Upgrade(Upgrade, Permit),
    /// A file of the page, which ends the connection.
    Site(Vec<u8>),
}

impl Door {
    fn answer(&self, request: &Request<()>, arrival: &Arrival) -> Result<Answer, Refusal> {
        let Parts { site, config, .. } = &*self.parts;
        let site = site.as_ref();
        let Some(site) = site.filter(|_| protocol::at(request.uri().path()).is_none()) else {
            let upgrade = upgrade::accept(request, &config.origins)?;
            self.check_serving()?;
            let permit = arrival.admit().map_err(Refusal::Admission)?;
            return Ok(Answer::Upgrade(upgrade, permit));
        };
        self.check_serving()?;
        arrival.check().map_err(Refusal::Admission)?;
        let answer = site.answer(request).ok_or(Refusal::NotFound)?;
        Ok(Answer::Site(answer))
    }

    fn check_serving(&self) -> Result<(), Refusal> {
        if *self.stage.borrow() == Stage::Serving {
            return Ok(());
        }
        let wait = Duration::from_secs(fastrand::u64(1..=RETRY_AFTER_MAX_S));
        Err(Refusal::Draining(wait))
    }
}

/// A client's bytes, in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// A source of clients.
pub(crate) trait Listener {
    /// The stream of one client.
    type Stream: Stream;

    /// The next client's stream, and its address. An error says why there is none now; it may be temporary.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, IpAddr)>>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // A push of one small frame must not wait for the ack of the one before. If this fails, the client is gone, and the
        // first read reports it.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.ip()))
    }
}

/// Accepts clients. Never returns.
pub(crate) async fn accept<L: Listener>(door: Rc<Door>, listener: L) {
    let mut has_warned = false;
    loop {
        while door.lobby.is_crowded() {
            sleep(CROWDED_PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, ip)) => {
                has_warned = false;
                let arrival = door.lobby.enter(ip);
                let displaces = arrival.displaces();
                receive(&door, stream, arrival);
                if displaces {
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
                    warn!(%error, "the client port could not accept a connection");
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

fn receive<S: Stream>(door: &Rc<Door>, stream: S, arrival: Arrival) {
    let number = arrival.number();
    let greeting = spawn_local(greet(Rc::clone(door), stream, arrival));
    door.lobby.attend(number, greeting.abort_handle());
}

/// The deadlines and the place of a handshake.
struct Terms {
    arrival: Arrival,
    /// The deadline of the answered request.
    upgraded_by: Instant,
    /// The deadline of `Connect`.
    connected_by: Moment,
}

/// Does the TLS handshake if the port has TLS, then continues on the stream.
async fn greet<S: Stream>(door: Rc<Door>, stream: S, arrival: Arrival) {
    let config = &door.parts.config;
    let terms = Terms {
        arrival,
        upgraded_by: Instant::now() + config.upgrade_timeout.min(config.connect_timeout),
        connected_by: door.context.now().plus(config.connect_timeout),
    };
    match &door.parts.tls {
        None => upgrade(&door, stream, terms).await,
        // This future is four times as large as the other, and without the box both would have its size.
        Some(tls) => Box::pin(greet_by_tls(&door, tls, stream, terms)).await,
    }
}

async fn greet_by_tls<S: Stream>(door: &Door, tls: &Tls, stream: S, terms: Terms) {
    if terms.arrival.is_rushed() {
        // A TLS handshake costs more than everything after it. Clients have a delay of their own after a cut.
        return door.parts.metrics.refused(RefusalReason::Rate);
    }
    match timeout_at(terms.upgraded_by, tls.accept(stream)).await {
        Ok(Ok(stream)) => upgrade(door, stream, terms).await,
        _ => door.parts.metrics.refused(RefusalReason::Tls),
    }
}

/// Reads the request, answers it, and admits the connection if all is well.
async fn upgrade<S: Stream>(door: &Door, mut stream: S, terms: Terms) {
    let metrics = &door.parts.metrics;
    let read = timeout_at(terms.upgraded_by, upgrade::read(&mut stream)).await;
    let Ok(Ok(mut read)) = read else {
        return metrics.refused(RefusalReason::Handshake);
    };
    // A caller of the page may have ended its own direction after the request, and still wants its answer. A WebSocket
    // needs both directions.
    let is_upgrade = |request: &Request<()>| protocol::at(request.uri().path()).is_some();
    if read.request.as_ref().is_ok_and(is_upgrade)
        && upgrade::has_gone(&mut stream, &mut read.rest).await
    {
        return metrics.refused(RefusalReason::Handshake);
    }
    let answer = read
        .request
        .and_then(|request| door.answer(&request, &terms.arrival));
    let (Upgrade { answer, codec }, permit) = match answer {
        Ok(Answer::Upgrade(upgrade, permit)) => (upgrade, permit),
        // If one of these two writes fails, the client is gone.
        Ok(Answer::Site(answer)) => {
            let _ = timeout(SITE_TIMEOUT, say_and_end(&mut stream, &answer)).await;
            return;
        }
        Err(refusal) => {
            metrics.refused(refusal.reason());
            let response = refusal.response();
            let _ = timeout_at(terms.upgraded_by, say_and_end(&mut stream, &response)).await;
            return;
        }
    };
    let written = timeout_at(terms.upgraded_by, say(&mut stream, &answer)).await;
    if !matches!(written, Ok(Ok(()))) {
        return metrics.refused(RefusalReason::Handshake);
    }
    let_in(door, codec, stream, read.rest, terms, permit);
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.flush().await
}

async fn say_and_end<S: AsyncWrite + Unpin>(stream: &mut S, answer: &[u8]) -> io::Result<()> {
    say(stream, answer).await?;
    stream.shutdown().await
}

fn let_in<S: Stream>(
    door: &Door,
    codec: Box<dyn Codec>,
    stream: S,
    rest: Vec<u8>,
    terms: Terms,
    permit: Permit,
) {
    let number = terms.arrival.number();
    let id = door.table.next_id();
    let context = Rc::clone(&door.context);
    let (handle, task) = connection::open(
        context,
        id,
        codec,
        stream,
        rest,
        terms.connected_by,
        terms.arrival,
    );
    let seat = door.table.insert(id, handle);
    let seated = spawn_local(Seated {
        task,
        _seat: seat,
        _permit: permit,
    });
    door.lobby.attend(number, seated.abort_handle());
}

/// A connection's task with everything that it holds as long as it lives. An `async` block would hold the task twice.
struct Seated<S> {
    task: Task<S>,
    _seat: Seat,
    _permit: Permit,
}

impl<S: Stream> Future for Seated<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        Pin::new(&mut self.get_mut().task).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a restart there are thousands of handshakes at once.
    #[test]
    fn a_handshakes_future_stays_below_1200_bytes() {
        fn size<F>(_: impl Fn(Rc<Door>, TcpStream, Arrival) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(greet::<TcpStream>);
        assert!(size < 1200, "{size}");
    }

    #[test]
    fn a_connections_future_stays_below_400_bytes() {
        // tokio adds about 100 bytes and rounds up to a multiple of 128: together 512.
        let size = size_of::<Seated<TcpStream>>();
        assert!(size < 400, "{size}");
    }
}
