//! The admin port: accepts, speaks HTTP/1, and ends gracefully.
//!
//! Promises: at most [`CONNECTIONS_MAX`] connections; a head within [`HEAD_TIMEOUT`]; an answer
//! taken within [`UNREAD_TIMEOUT`]; on shutdown nothing new is accepted,
//! requests under way are answered, and all is over within [`GRACE`]. Drives hyper itself, since `axum::serve` has no
//! timeout for heads.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    call::{App, Rooms, SetupError},
    routes,
};
use crate::{config, metrics::Metrics};

/// Connections at once; more wait in the kernel. With one body of `admin.body_bytes_max` each they hold 1 GiB at worst,
/// and 25,000 sends/s of 5 ms keep 125 of them busy.
const CONNECTIONS_MAX: usize = 1024;

/// From the end of one request to the whole head of the next: so it also ends idle connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a caller may leave an answer unread before the kernel gives the connection up.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Read buffer of a connection, and so the largest head.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How long requests under way may go on after shutdown. Sends are refused by then, so only slow bodies are cut.
const GRACE: Duration = Duration::from_secs(5);

/// Pause after a failed accept: the usual cause, no file descriptor left, does not pass by trying harder.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often samples of histograms are folded into buckets: unfolded they pile up in memory until the next scrape.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why the admin port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("admin.listen: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// The admin port, bound and not yet serving.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    router: Router,
    metrics: Arc<Metrics>,
}

impl Server {
    /// Binds `admin.listen`; callers wait in the kernel until [`serve`](Self::serve). Needs no runtime.
    pub fn bind(
        config: &config::Admin,
        auth: &config::Auth,
        delivery: &config::Delivery,
        rooms: Rooms,
    ) -> Result<Self, BindError> {
        let metrics = Arc::clone(&rooms.metrics);
        let app = App::new(config, auth, delivery, rooms)?;
        let (listener, address) = listen(config.listen).map_err(|source| BindError::Listen {
            address: config.listen,
            source,
        })?;
        Ok(Self {
            listener,
            address,
            router: routes::router(Arc::new(app)),
            metrics,
        })
    }

    /// Where it listens; the real port where the configuration says 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then ends gracefully within a few seconds. Fails only where the listener cannot be
    /// registered with this runtime. Not cancel safe: dropping it cuts connections.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let service = TowerToHyperService::new(self.router);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER_BYTES_MAX);
        let metrics = self.metrics.handle();
        let mut upkeep = interval(UPKEEP_INTERVAL);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            // The end, a new connection (while there is room), the end of one, and the clock.
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(converse(stream, http.clone(), service.clone(), stopped.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the admin port could not accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                _ = upkeep.tick() => metrics.run_upkeep(),
            }
        }
        drop(listener);
        drop(stop);
        let all_over = timeout(GRACE, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
        if all_over.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "admin requests were cut off at shutdown"
            );
        }
        Ok(())
    }
}

fn listen(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// One connection until it ends by itself, or after its current request once `stopped` is closed.
async fn converse(
    stream: TcpStream,
    http: http1::Builder,
    service: TowerToHyperService<Router>,
    mut stopped: watch::Receiver<()>,
) {
    // An answer is one small write that must not wait for the next. A socket that refuses these is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection broke");
    }
}
