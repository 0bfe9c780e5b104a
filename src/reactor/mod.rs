//! The threads that hold the sessions: each has a single-threaded runtime, a listener of its own on the one port, and its
//! own connections, which never change thread.
//!
//! Promises: items from other threads wait in a bounded mailbox. No client keeps a thread busy for long. During the drain
//! every session is told when to return. Leaves to others: the work of a connection on its bytes.
//!
//! - `host.rs`: an admitted client's way to the connections
//! - `mailbox.rs`: items from other threads
//! - `table.rs`: the connections of one thread, and the hand-out of the mailbox's items to them
//! - `sweep.rs`: the deadlines of all connections, on one timer
//! - `drain.rs`: the drain
//! - `turns.rs`: the time for which tasks keep the thread busy
//! - `thread.rs`: one reactor's life

mod drain;
mod host;
mod mailbox;
mod sweep;
mod table;
mod thread;
mod turns;

use std::{
    io,
    net::SocketAddr,
    num::NonZero,
    sync::{Arc, mpsc},
    thread::{JoinHandle, available_parallelism},
    time::Duration,
};

// The locks of `mailbox.rs`. `simulation/tests/interleavings/` compiles that file with shuttle's.
use std::sync;

use tokio::sync::{oneshot, watch};

use self::thread::Reactor;
pub use self::{
    drain::GRACE as CLOSE_GRACE,
    mailbox::MailboxLimits,
    thread::{DISK_GRACE, serve},
};
use crate::{
    config::{self, Config, NewSession},
    connection::OutboxLimits,
    delivery::Delivery,
    door::{Entrance, Port, Rest, tls::Tls},
    metrics::Metrics,
    registry::Registry,
    session::{Limits, REPLAYED_BYTES_MAX},
    threads::{Watched, watched},
};

/// The operating system gives no runtime or no thread.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a reactor thread: {0}")]
pub struct Error(io::Error);

/// The order to the reactors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Serve clients.
    Serving,
    /// Accept no more, send all clients away over this time, then end.
    Draining(Duration),
    /// End now.
    Stopping,
}

/// The parts that each reactor is built from.
#[derive(Clone)]
pub struct Parts {
    config: config::Listener,
    session: Limits,
    /// The bounds of each mailbox.
    pub mailbox: MailboxLimits,
    /// The client port.
    entrance: Entrance,
    delivery: Arc<Delivery>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

impl Parts {
    /// The parts of each reactor of a gateway.
    pub fn new(
        config: &Config,
        tls: Option<Tls>,
        delivery: Arc<Delivery>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            config: config.listener.clone(),
            session: Limits {
                window: config.delivery.window,
                replayed_bytes_max: REPLAYED_BYTES_MAX,
                resend_after: config.delivery.resend_after,
                heartbeat: config.sessions.heartbeat,
                stall_timeout: config.listener.stall_timeout,
                starts_at_head: config.delivery.new_session == NewSession::Head,
            },
            mailbox: MailboxLimits::default(),
            entrance: Entrance::new(&config.listener, tls, Arc::clone(&metrics)),
            delivery,
            registry,
            metrics,
        }
    }

    /// The same, with these REST calls on the client port.
    pub(crate) fn with_rest(self, rest: Rest) -> Self {
        Self {
            entrance: self.entrance.with_rest(Some(rest)),
            ..self
        }
    }

    fn outbox(&self) -> OutboxLimits {
        OutboxLimits {
            frames_max: self.config.outbox_frames_max,
            bytes_max: self.config.outbox_bytes_max,
        }
    }
}

/// The number of reactors.
pub fn count(config: &config::Listener) -> usize {
    match config.reactors {
        0 => available_parallelism().map_or(1, NonZero::get),
        count => count,
    }
}

/// All reactor threads. Dropping it stops them at once.
pub struct Reactors {
    address: SocketAddr,
    /// The address of the port for REST calls alone.
    calls_address: Option<SocketAddr>,
    /// The order to the threads; each thread watches it.
    stage: watch::Sender<Stage>,
    threads: Vec<Thread>,
}

/// A reactor's thread, and the signal that it is about to end: the sender lives in the thread.
struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
    watched: Option<Watched>,
}

impl Reactors {
    /// Serves the port, with a thread for each of its reactors, which are built from `parts`.
    pub fn start(port: Port, parts: &Parts) -> Result<Self, Error> {
        let (stage, _) = watch::channel(Stage::Serving);
        let (calls_address, calls) = port.calls.unzip();
        let mut calls = calls.into_iter().flatten();
        let mut reactors = Self {
            address: port.address,
            calls_address,
            stage,
            threads: Vec::with_capacity(port.listeners.len()),
        };
        for (number, listener) in (0..).zip(port.listeners) {
            let (pulse, watched) = watched(format!("reactor-{number}"));
            let stage = reactors.stage.subscribe();
            let listeners = (listener, calls.next());
            let reactor = Reactor::new(number, listeners, parts.clone(), stage, pulse);
            let thread = start(number, reactor, watched).map_err(Error)?;
            reactors.threads.push(thread);
        }
        Ok(reactors)
    }

    /// The address of the client port, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of the port for REST calls alone, with its real port, if there is one.
    pub fn calls_addr(&self) -> Option<SocketAddr> {
        self.calls_address
    }

    /// The threads for the gateway's watch; only the first call returns them.
    pub fn take_watched(&mut self) -> Vec<Watched> {
        let threads = self.threads.iter_mut();
        threads.filter_map(|thread| thread.watched.take()).collect()
    }

    /// Accepts no more, tells all sessions over `period` to return later, and returns when every connection is gone or its
    /// time is over. False: a thread had panicked. Not cancel safe: a drop in the middle stops the threads at once and waits for
    /// them, so clients that were not told yet are cut off.
    pub async fn drain(mut self, period: Duration) -> bool {
        self.stage.send_replace(Stage::Draining(period));
        for Thread { ended, .. } in &mut self.threads {
            // The thread never sends; it drops the other end.
            let _ = ended.await;
        }
        self.join()
    }

    fn join(&mut self) -> bool {
        let ended = self.threads.drain(..).map(|thread| thread.handle.join());
        ended.filter(Result::is_err).count() == 0
    }
}

impl Drop for Reactors {
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Stopping);
        self.join();
    }
}

/// Starts the thread of a reactor, and returns when the reactor runs there.
fn start(number: u16, reactor: Reactor, watched: Watched) -> io::Result<Thread> {
    let (starting, started) = mpsc::channel();
    let (ending, ended) = oneshot::channel();
    let handle = std::thread::Builder::new()
        .name(format!("reactor-{number}"))
        .spawn(move || {
            reactor.run(|result| {
                // The receiver waits for this.
                let _ = starting.send(result);
            });
            drop(ending);
        })?;
    let result = started.recv();
    result.unwrap_or_else(|_| Err(io::Error::other("a reactor's thread ended at once")))?;
    Ok(Thread {
        handle,
        ended,
        watched: Some(watched),
    })
}

#[cfg(test)]
mod tests;
