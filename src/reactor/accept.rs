//! From a TCP connection to a WebSocket, within limits on how many there are and how many are being made.
//!
//! A handshake runs in a task of its own, because a task keeps the size of its largest state for life, and ends with a
//! new small task. Over a limit, the client is told when to come back; far over it, it is cut off without a word.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context as Cx, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::spawn_local,
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;

use super::{
    Parts, Stage,
    table::{Seat, Table},
    upgrade::{self, Refusal},
};
use crate::{
    connection::{self, Context, Task},
    session::Moment,
};

/// After an error that the next accept would meet again, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client that will be refused may take to send its request.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(2);
/// Refused clients come back after 1 s to this many seconds.
const RETRY_AFTER_MAX_S: u64 = 10;

/// How many connections there are in the whole process, and may be.
pub(super) struct Admission {
    open: AtomicUsize,
    max: usize,
}

/// One connection's share of the admission; given back when dropped.
struct Permit {
    parts: Rc<Parts>,
}

impl Admission {
    pub(super) fn new(max: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            max,
        }
    }
}

impl Permit {
    fn take(parts: &Rc<Parts>) -> Option<Self> {
        let Admission { open, max } = &*parts.admission;
        let more = |open: usize| (open < *max).then_some(open + 1);
        open.fetch_update(Relaxed, Relaxed, more).ok()?;
        parts.metrics.connections.increment(1);
        Some(Self {
            parts: Rc::clone(parts),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.parts.admission.open.fetch_sub(1, Relaxed);
        self.parts.metrics.connections.decrement(1);
    }
}

/// Where clients come in.
pub(super) struct Door {
    pub(super) parts: Rc<Parts>,
    pub(super) context: Rc<Context>,
    pub(super) table: Rc<Table>,
    /// Handshakes under way in this reactor, those that will be refused included.
    pub(super) handshakes: Rc<Cell<usize>>,
    pub(super) stage: watch::Receiver<Stage>,
}

/// One handshake's share of [`Door::handshakes`]; given back when dropped.
struct Handshake(Rc<Cell<usize>>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A client's bytes, in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// Where clients come from.
pub(crate) trait Listener {
    /// One client's.
    type Stream: Stream;

    /// The next client's stream. An error says why there is none now; it may pass.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        // A push of one small frame must not wait for the ack of the one before. Where that fails, the client is gone, and
        // the first read says so.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Accepts for ever.
pub(super) async fn accept<L: Listener>(door: Rc<Door>, listener: L) {
    loop {
        match listener.accept().await {
            Ok(stream) => receive(&door, stream),
            // That client is gone again; the next one has nothing to do with it.
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept");
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

fn receive<S: Stream>(door: &Rc<Door>, stream: S) {
    let under_way = door.handshakes.get();
    let max = door.parts.config.handshakes_max;
    // As many again may be told why they are refused.
    if under_way >= max.saturating_mul(2) {
        return door.parts.metrics.refused("overload");
    }
    door.handshakes.set(under_way + 1);
    let handshake = Handshake(Rc::clone(&door.handshakes));
    let permit = (under_way < max)
        .then(|| Permit::take(&door.parts))
        .flatten();
    let door = Rc::clone(door);
    spawn_local(async move {
        greet(&door, stream, permit).await;
        drop(handshake);
    });
}

/// Reads the request, answers it, and lets the connection in if all is well.
async fn greet<S: Stream>(door: &Door, mut stream: S, permit: Option<Permit>) {
    let timeout = door.parts.config.connect_timeout;
    let deadline = door.context.now().plus(timeout);
    let read_by = Instant::now()
        + permit
            .as_ref()
            .map_or(REFUSED_TIMEOUT.min(timeout), |_| timeout);
    let metrics = &door.parts.metrics;
    let Ok(Ok(read)) = timeout_at(read_by, upgrade::read(&mut stream)).await else {
        return metrics.refused("handshake");
    };
    let is_draining = *door.stage.borrow() != Stage::Serving;
    let answer = read
        .request
        .and_then(|request| upgrade::accept(&request, &door.parts.config.origins));
    let (answer, permit) = match (answer, permit) {
        (Ok(answer), Some(permit)) if !is_draining => (answer, permit),
        (Err(refusal), _) => return refuse(stream, read_by, refusal, refusal.reason(), door).await,
        (Ok(_), _) => {
            let refusal =
                Refusal::Overloaded(Duration::from_secs(fastrand::u64(1..=RETRY_AFTER_MAX_S)));
            let reason = if is_draining {
                "draining"
            } else {
                refusal.reason()
            };
            return refuse(stream, read_by, refusal, reason, door).await;
        }
    };
    let written = timeout_at(read_by, stream.write_all(&answer)).await;
    if !matches!(written, Ok(Ok(()))) {
        return metrics.refused("handshake");
    }
    let_in(door, stream, read.rest, deadline, permit);
}

async fn refuse<S: Stream>(
    mut stream: S,
    deadline: Instant,
    refusal: Refusal,
    reason: &'static str,
    door: &Door,
) {
    door.parts.metrics.refused(reason);
    let response = refusal.response();
    let farewell = async {
        stream.write_all(&response).await?;
        stream.shutdown().await
    };
    // Nobody is left to tell when that fails.
    let _ = timeout_at(deadline, farewell).await;
}

fn let_in<S: Stream>(door: &Door, stream: S, rest: Vec<u8>, deadline: Moment, permit: Permit) {
    let id = door.table.next_id();
    let (handle, task) = connection::open(Rc::clone(&door.context), id, stream, rest, deadline);
    let seat = door.table.insert(id, handle);
    spawn_local(Seated {
        task,
        _seat: seat,
        _permit: permit,
    });
}

/// A connection's task with what it holds as long as it lives. Not an `async` block: that would hold the task twice.
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

    #[test]
    fn a_connections_future_stays_below_400_bytes() {
        // tokio adds about 100 bytes and rounds up to a multiple of 128: together 512.
        assert!(
            size_of::<Seated<TcpStream>>() < 400,
            "{}",
            size_of::<Seated<TcpStream>>()
        );
    }
}
