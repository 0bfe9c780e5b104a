//! The gateway: builds the rooms, binds the ports, and shuts everything down in order.
//!
//! - `base.rs`: the rooms that both ports stand on
//! - `links.rs`: the gateway among the others of its log
//!
//! Start: client port, admin port (health only), log, registry, delivery, webhooks, reactors, admin API, vendor push. Drain: sends
//! refused, clients told to return over `drain.period`, log flushed and closed, admin port last, so that `/readyz` answers to the
//! end. Clients and admin requests under way have their time at once, not one after the other.

mod base;
mod links;

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, task::AbortHandle};
use towncrier_client::Trust;

pub use self::base::Base;
use self::links::Membership;
use crate::{
    admin::{self, Rooms},
    clock::Clock,
    config::{Config, SecretsError},
    door::{
        self, Port, Shares, TooFew,
        tls::{self, Tls, TlsError},
    },
    jwks::{self, KeySource, KeySourceFault},
    lines::Lines,
    log::{
        Log,
        cluster::{
            ClusterError, ClusterHost,
            secrets::{self, StoreSecretsError},
        },
        embedded::{EmbeddedLog, OpenError},
    },
    mesh::MeshError,
    metrics::Metrics,
    push::{
        PushRoom, PushThread,
        vendor::{VendorFault, vendors},
    },
    reactor::{self, Reactors},
    threads::{self, Pulse, Unwell, Watch, Watched},
    webhooks::{self, WebhooksError, WebhooksThread},
};

/// A drain may take this much longer than its period. The time is for clients that do not answer the close, and for the log's
/// last checkpoint on a slow disk.
const DRAIN_SLACK: Duration = Duration::from_secs(30);
/// The time for admin requests under way, from the begin of the drain. Sends are refused by then, so only slow bodies are
/// cut. The time runs beside the clients' time, because a supervisor's patience is one budget.
const REQUESTS_GRACE: Duration = Duration::from_secs(5);
/// The least time for admin requests under way once all else is over. It is enough to answer what has arrived.
const REQUESTS_GRACE_MIN: Duration = Duration::from_millis(500);
/// The threads that read the log's disk for the admin port; further reads wait. With as many, a few long lists do not keep a
/// short read from the disk. The runtime would begin 512.
const ADMIN_DISK_THREADS: usize = 16;

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log's servers cannot be used.
    #[error(transparent)]
    Store(#[from] ClusterError),
    /// The reactors do not start.
    #[error(transparent)]
    Reactor(#[from] reactor::Error),
    /// A port cannot be listened on.
    #[error(transparent)]
    Listen(#[from] door::BindError),
    /// The admin API cannot be configured.
    #[error(transparent)]
    Setup(#[from] admin::SetupError),
    /// A port's certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Webhooks do not start.
    #[error(transparent)]
    Webhooks(#[from] WebhooksError),
    /// There are too few file descriptors to serve with.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The other gateways of the log cannot be reached or listened for.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A vendor of the configuration cannot be used.
    #[error(transparent)]
    Vendor(#[from] VendorFault),
    /// The keys of the company's own login cannot be read.
    #[error(transparent)]
    LoginKeys(#[from] KeySourceFault),
    /// The key of Web Push cannot be read or written.
    #[error(transparent)]
    WebPushKey(#[from] SecretsError),
    /// The store has no secrets to use.
    #[error(transparent)]
    StoreSecrets(#[from] StoreSecretsError),
    /// A thread could not be started.
    #[error("the operating system gives no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The gateway has drained, but one of its threads panicked before or meanwhile. Every accepted message is still on disk.
#[derive(Debug, thiserror::Error)]
#[error("a thread of {0} ended in a panic: the stderr log says why")]
pub struct Unclean(&'static str);

/// The log of a running gateway.
enum OpenLog {
    Embedded(Arc<EmbeddedLog>),
    Cluster(ClusterHost),
}

impl OpenLog {
    /// Opens the log that `log.store` names. Blocks.
    fn open(config: &Config, clock: Arc<Clock>, metrics: Arc<Metrics>) -> Result<Self, Error> {
        Ok(match config.log.store.url() {
            None => Self::Embedded(Arc::new(EmbeddedLog::open(&config.log, clock, metrics)?)),
            Some(url) => Self::Cluster(ClusterHost::start(url, config, clock)?),
        })
    }

    fn shared(&self) -> Arc<dyn Log> {
        match self {
            Self::Embedded(log) => log.clone(),
            Self::Cluster(host) => host.log(),
        }
    }

    fn take_watched(&self) -> Vec<Watched> {
        match self {
            Self::Embedded(log) => log.take_watched(),
            Self::Cluster(host) => host.take_watched(),
        }
    }

    /// Blocks until every accepted message is stored. False if a thread of the log had panicked.
    fn close(&self) -> bool {
        match self {
            Self::Embedded(log) => log.close(),
            Self::Cluster(host) => host.close(),
        }
    }
}

/// A running gateway.
pub struct Gateway {
    config: Config,
    watch: Arc<Watch>,
    base: Base<dyn Log>,
    log: OpenLog,
    /// The other gateways, where several share the log's store.
    membership: Option<Membership>,
    reactors: Reactors,
    admin: AdminThread,
    /// Vendor push, where a vendor is configured.
    push: Option<PushThread>,
    /// The thread that sends events, if there is one.
    webhooks: Option<WebhooksThread>,
    /// The task that watches the certificates' files. It never ends by itself.
    certificates: AbortHandle,
    /// The task that reads the keys of the company's own login, if it has one. It never ends by itself.
    login_keys: Option<AbortHandle>,
}

/// The thread and runtime of the admin API. They are its own, so that no load on it delays a session.
struct AdminThread {
    address: SocketAddr,
    /// Takes the time for requests under way.
    stop: oneshot::Sender<Duration>,
    handle: JoinHandle<()>,
}

impl Gateway {
    /// Starts everything. When it returns, both ports are served. Blocks while the log is read. Call it in a runtime.
    pub fn start(mut config: Config) -> Result<Self, Error> {
        // The configuration is checked before any port or file is opened.
        let client_tls = Tls::load(&config.listener.tls_certificate, &config.listener.tls_key)?;
        let admin_tls = Tls::load(&config.admin.tls_certificate, &config.admin.tls_key)?;
        let clock = Arc::new(Clock::system());
        let webpush_key = match config.log.store.url() {
            Some(url) => secrets::webpush_key(url, &config)?,
            None => config.read_or_create_webpush_key()?,
        };
        let trust = Trust::default();
        let login_keys = KeySource::open(&config.auth, &trust)?;
        let vendors = vendors(&config.push, webpush_key.as_ref(), &clock, &trust)?;
        let metrics = Arc::new(Metrics::new());
        let watch = Arc::new(Watch::default());
        // Clients that return while the log is read wait at the port and are not refused.
        let mut port = Port::bind(&config.listener, reactor::count(&config.listener))?;
        if let Some(listen) = config.openim.api_listen {
            port = port.with_calls(&config.listener, listen)?;
        }
        let mesh_port = links::bind(&config)?;
        // While the log is read, health probes are answered, and callers are told to return later.
        let (server, opening) = admin::bind(
            &config.admin,
            admin_tls.clone(),
            metrics.clone(),
            watch.clone(),
        )?;
        let (pulse, admin_watched) = threads::watched("admin");
        let server = server.behind_proxies(&config.listener);
        let admin = AdminThread::start(server, pulse)?;
        watch.add([admin_watched]);
        let log = OpenLog::open(&config, clock.clone(), metrics.clone())?;
        let base = Base::over(&config, metrics, clock.clone(), log.shared(), log.shared());
        let membership = Membership::join(&config, mesh_port, &log, &base, &watch)?;
        // Clients that come at once wait for its first look.
        let login_keys = login_keys
            .zip(base.tokens.login_keys().cloned())
            .map(|(source, keys)| {
                let following = jwks::follow(source, keys, base.metrics.clone());
                tokio::spawn(following).abort_handle()
            });
        // Before anything is sent.
        base.eraser(None, None).finish_all();
        let webhooks = webhooks::start(
            &config,
            log.shared(),
            base.registry.clone(),
            clock.clone(),
            base.metrics.clone(),
        )?;
        if webhooks.thread.is_some() {
            base.delivery.keep_begins();
        }
        let shares = Shares::of_process(&config, reactor::count(&config.listener))?;
        config.listener.connections_max = shares.connections_max;
        config.admin.connections_max = shares.admin_connections_max;
        if let Some(key) = webpush_key {
            base.delivery.offer_webpush_key(key.public);
        }
        let push = base.push(&config, vendors);
        let push = push.map(|push| push.telling(&webhooks.push_events));
        let push_forgetter = push.as_ref().map(PushRoom::forgetter);
        let eraser = base.eraser(push_forgetter, webhooks.hooks.forgetter.clone());
        let rooms = Rooms {
            delivery: base.delivery.clone(),
            metrics: base.metrics.clone(),
            watch: watch.clone(),
            seen: push.as_ref().map(PushRoom::seen),
            hooks: webhooks.hooks,
            eraser,
        };
        let parts = base.parts(&config, client_tls.clone());
        let mut reactors = Reactors::start(port, &parts)?;
        opening.open(&config, rooms)?;
        watch.add(log.take_watched());
        watch.add(reactors.take_watched());
        let push = push.map(|push| {
            let (pulse, push_watched) = threads::watched("push");
            watch.add([push_watched]);
            PushThread::start(push, pulse)
        });
        let push = push.transpose()?;
        let (webhooks, webhooks_watched) = webhooks.thread.unzip();
        watch.add(webhooks_watched);
        let ports = [client_tls, admin_tls].into_iter().flatten().collect();
        let certificates = tokio::spawn(tls::follow(ports)).abort_handle();
        Ok(Self {
            config,
            watch,
            base,
            log,
            membership,
            reactors,
            admin,
            push,
            webhooks,
            certificates,
            login_keys,
        })
    }

    /// The address at which clients connect. It has the real port if the configuration says 0.
    pub fn client_addr(&self) -> SocketAddr {
        self.reactors.local_addr()
    }

    /// The address of the port that serves OpenIM's REST calls alone, if there is one. It has the real port if the
    /// configuration says 0.
    pub fn calls_addr(&self) -> Option<SocketAddr> {
        self.reactors.calls_addr()
    }

    /// The address of the admin API. It has the real port if the configuration says 0.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.address
    }

    /// Adds the number of dropped lines of the stderr log to the gateway's metrics.
    pub fn count_dropped_lines(&self, lines: &Lines) {
        lines.count_with(self.base.metrics.log_lines_dropped.clone());
    }

    /// Returns when a thread has ended that the gateway needs. Drain it then, and end the process with an error. Cancel
    /// safe.
    pub async fn failed(&self) -> Unwell {
        self.watch.ended().await
    }

    /// True while every thread moves, as `/healthz` says.
    pub fn is_well(&self) -> bool {
        self.watch.check().is_ok()
    }

    /// The longest time that [`drain`](Self::drain) may take. After it something hangs: end the process.
    pub fn drain_deadline(&self) -> Duration {
        self.config.drain.period + DRAIN_SLACK
    }

    /// Shuts down in order. Returns when every accepted message is on disk and both ports are closed. Not cancel safe: after a
    /// drop, threads may still run and the log may still be open. End the process then.
    pub async fn drain(self) -> Result<(), Unclean> {
        tracing::info!(period = ?self.config.drain.period, "draining");
        let begun = Instant::now();
        self.base.delivery.start_draining();
        // A drain is no absence: no decision falls for clients that are sent away.
        if let Some(push) = &self.push {
            push.stop();
        }
        // Both end beside the clients, and before the log.
        if let Some(webhooks) = &self.webhooks {
            webhooks.halt();
        }
        let reactors_ended = self.reactors.drain(self.config.drain.period).await;
        let push = self.push;
        let push_ended = tokio::task::spawn_blocking(|| push.is_none_or(PushThread::join)).await;
        let webhooks = self.webhooks;
        let join = move || webhooks.is_none_or(WebhooksThread::join);
        let webhooks_ended = tokio::task::spawn_blocking(join).await;
        let has_parted = match self.membership {
            Some(membership) => membership.part().await,
            None => true,
        };
        let log = self.log;
        let log_closed = tokio::task::spawn_blocking(move || log.close()).await;
        let requests_grace = REQUESTS_GRACE.saturating_sub(begun.elapsed());
        // The thread may have ended by itself, and said why. Then nobody takes this.
        let _ = self.admin.stop.send(requests_grace.max(REQUESTS_GRACE_MIN));
        let handle = self.admin.handle;
        let admin_ended = tokio::task::spawn_blocking(move || handle.join().is_ok()).await;
        self.certificates.abort();
        self.login_keys.iter().for_each(AbortHandle::abort);
        for (part, has_ended) in [
            ("the reactors", reactors_ended),
            ("vendor push", push_ended.unwrap_or(false)),
            ("webhooks", webhooks_ended.unwrap_or(false)),
            ("the mesh", has_parted),
            ("the log", log_closed.unwrap_or(false)),
            ("the admin port", admin_ended.unwrap_or(false)),
        ] {
            if !has_ended {
                return Err(Unclean(part));
            }
        }
        tracing::info!("drained");
        Ok(())
    }
}

impl AdminThread {
    fn start(server: door::Server, pulse: Pulse) -> Result<Self, std::io::Error> {
        let address = server.local_addr();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(ADMIN_DISK_THREADS)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let stopped = async {
                // A dropped sender also ends the gateway.
                stopped.await.unwrap_or(REQUESTS_GRACE_MIN)
            };
            if let Err(error) = runtime.block_on(server.serve(pulse, stopped)) {
                tracing::error!(%error, "the admin port is not served");
            }
        };
        let handle = std::thread::Builder::new()
            .name("admin".into())
            .spawn(serve)?;
        Ok(Self {
            address,
            stop,
            handle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, reactor};

    /// The time after which `docker stop` kills.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// The log's close: a last checkpoint of some rows, and threads that end.
    const LOG_CLOSE: Duration = Duration::from_secs(1);

    #[test]
    fn a_drain_by_default_ends_within_dockers_patience() {
        let clients = config::Drain::default().period + reactor::CLOSE_GRACE + reactor::DISK_GRACE;
        let requests = REQUESTS_GRACE.max(clients + LOG_CLOSE + REQUESTS_GRACE_MIN);
        assert!(requests < PATIENCE, "{requests:?}");
    }
}
