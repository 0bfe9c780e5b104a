//! The threads that hold the sessions: each has a single-threaded runtime, a listener of its own on the one port, and its
//! own connections, which never change thread.
//!
//! Promises: what comes from other threads waits in a bounded mailbox; nothing a client does keeps a thread busy for
//! long; going down, every session is told when to come back. Leaves to others: what a connection does with its bytes.
//!
//! - `listener.rs`: sockets that share a port
//! - `accept.rs`: from a TCP connection to a WebSocket
//! - `upgrade.rs`: the HTTP in between
//! - `site.rs`: the inbox page
//! - `table.rs`: the connections of one thread
//! - `mailbox.rs`: what other threads say to them; `hand_out.rs`: how it gets there
//! - `sweep.rs`: deadlines of all of them, on one timer
//! - `drain.rs`: going down gently
//! - `turns.rs`: whether anything keeps the thread busy for long
//! - `thread.rs`: one reactor's life

mod accept;
mod drain;
mod hand_out;
mod listener;
mod mailbox;
mod site;
mod sweep;
mod table;
mod thread;
mod turns;
mod upgrade;

use std::{
    io,
    net::SocketAddr,
    num::NonZero,
    sync::{Arc, mpsc},
    thread::{JoinHandle, available_parallelism},
    time::Duration,
};

// The locks of `mailbox.rs`. In `interleavings.rs` shuttle's have their place.
use std::sync;

use tokio::sync::{oneshot, watch};

pub use self::listener::Port;
#[cfg(test)]
pub(crate) use self::{accept::Listener, thread::serve};
pub(crate) use self::{listener::BACKLOG, mailbox::MailboxLimits};
use self::{site::Site, thread::Reactor};
use crate::{
    admission::Admission,
    config::{self, Config, NewSession},
    connection::OutboxLimits,
    delivery::Delivery,
    metrics::Metrics,
    registry::Registry,
    session::{Limits, REPLAYED_BYTES_MAX},
    tls::Tls,
    watch::{Watched, watched},
};

/// Why the reactors did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client port cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No runtime or thread to be had.
    #[error("cannot start a reactor thread: {0}")]
    Thread(io::Error),
}

/// What the reactors are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Serve.
    Serving,
    /// Accept no more, send everyone away over this time, then end.
    Draining(Duration),
    /// End now.
    Stopping,
}

/// What each reactor is built from.
#[derive(Clone)]
pub(crate) struct Parts {
    config: config::Listener,
    session: Limits,
    /// How much may wait for the connections of one thread.
    pub(crate) mailbox: MailboxLimits,
    /// The inbox page, where it is served.
    site: Option<Arc<Site>>,
    delivery: Arc<Delivery>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    tls: Option<Tls>,
}

impl Parts {
    pub(crate) fn new(
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
                starts_at_head: config.delivery.new_session == NewSession::Head,
            },
            mailbox: MailboxLimits::default(),
            site: config.listener.inbox.then(|| Arc::new(Site::new())),
            admission: Arc::new(Admission::new(&config.listener, Arc::clone(&metrics))),
            delivery,
            registry,
            metrics,
            tls,
        }
    }

    fn outbox(&self) -> OutboxLimits {
        OutboxLimits {
            frames_max: self.config.outbox_frames_max,
            bytes_max: self.config.outbox_bytes_max,
        }
    }
}

/// How many reactors there will be.
pub fn count(config: &config::Listener) -> usize {
    match config.reactors {
        0 => available_parallelism().map_or(1, NonZero::get),
        count => count,
    }
}

/// All reactor threads. Dropping it stops them at once.
pub struct Reactors {
    address: SocketAddr,
    /// Tells the threads what to do; each watches it.
    stage: watch::Sender<Stage>,
    threads: Vec<Thread>,
}

/// A reactor's thread, and the word that it is about to end: the sender lives in the thread.
struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
    watched: Option<Watched>,
}

impl Reactors {
    /// Serves the port, with a thread for each of its reactors.
    pub fn start(
        config: &Config,
        port: Port,
        tls: Option<Tls>,
        delivery: Arc<Delivery>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let parts = Parts::new(config, tls, delivery, registry, metrics);
        let (stage, _) = watch::channel(Stage::Serving);
        let mut reactors = Self {
            address: port.address,
            stage,
            threads: Vec::with_capacity(port.listeners.len()),
        };
        for (number, listener) in (0..).zip(port.listeners) {
            let (pulse, watched) = watched(format!("reactor-{number}"));
            let stage = reactors.stage.subscribe();
            let reactor = Reactor::new(number, listener, parts.clone(), stage, pulse);
            let thread = start(number, reactor, watched).map_err(Error::Thread)?;
            reactors.threads.push(thread);
        }
        Ok(reactors)
    }

    /// Where the client port really is.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The threads, once, for the gateway's watch.
    pub fn take_watched(&mut self) -> Vec<Watched> {
        let threads = self.threads.iter_mut();
        threads.filter_map(|thread| thread.watched.take()).collect()
    }

    /// Accepts no more, tells all sessions over `period` to come back later, and returns when every connection is gone
    /// or has had its time. False: a thread had panicked.
    pub async fn drain(mut self, period: Duration) -> bool {
        self.stage.send_replace(Stage::Draining(period));
        for Thread { ended, .. } in &mut self.threads {
            // It never sends: the thread drops the other end.
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

/// Gives a reactor its thread, and returns when it runs there.
fn start(number: u16, reactor: Reactor, watched: Watched) -> io::Result<Thread> {
    let (starting, started) = mpsc::channel();
    let (ending, ended) = oneshot::channel();
    let handle = std::thread::Builder::new()
        .name(format!("reactor-{number}"))
        .spawn(move || {
            reactor.run(|result| {
                // Whoever asked for it waits.
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
mod interleavings;
#[cfg(test)]
mod tests;
