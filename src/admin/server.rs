//! The admin port: accepts, speaks HTTP/1, and ends gracefully.
//!
//! Promises: at most `admin.connections_max` connections, of which those that wait for their callers keep nobody out; a
//! head within `admin.idle_timeout`; an answer taken within [`UNREAD_TIMEOUT`]; on shutdown nothing new is accepted,
//! requests under way are answered, and all is over within [`GRACE`]. Drives hyper itself, since `axum::serve` has no
//! timeout for heads.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    crowd::{Activity, Crowd, watched},
    opening::{self, Api, Opening},
};
use crate::{
    config,
    metrics::Metrics,
    tls::Tls,
    watch::{Pulse, Watch},
};

/// How long a caller may leave an answer unread before the kernel gives the connection up.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Read buffer of a connection, and so the largest head.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How long requests under way may go on after shutdown. Sends are refused by then, so only slow bodies are cut.
const GRACE: Duration = Duration::from_secs(5);

/// Pause after a failed accept, whose cause does not pass by trying harder, and while all connections are worked for.
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
}

/// The admin port, bound and not yet serving.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    api: Api,
    metrics: Arc<Metrics>,
    idle_timeout: Duration,
    tls: Option<Tls>,
}

impl Server {
    /// Binds `admin.listen`; callers wait in the kernel until [`serve`](Self::serve), and are told to come back until the
    /// opening opens. Needs no runtime.
    pub fn bind(
        config: &config::Admin,
        tls: Option<Tls>,
        metrics: Arc<Metrics>,
        watch: Arc<Watch>,
    ) -> Result<(Self, Opening), BindError> {
        let (api, opening) = opening::new(Arc::clone(&metrics), watch);
        let (listener, address) = listen(config.listen).map_err(|source| BindError::Listen {
            address: config.listen,
            source,
        })?;
        let server = Self {
            listener,
            address,
            api,
            metrics,
            idle_timeout: config.idle_timeout,
            tls,
        };
        Ok((server, opening))
    }

    /// Where it listens; the real port where the configuration says 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then ends gracefully within a few seconds; beats `pulse` meanwhile. Fails only where the listener cannot be
    /// registered with this runtime. Not cancel safe: dropping it cuts connections.
    pub async fn serve(self, pulse: Pulse, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.idle_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            // A caller may end its own direction behind the request: HTTP/1.1 allows that, and the answer is still wanted.
            .half_close(true);
        let metrics = self.metrics.handle();
        let mut upkeep = interval(UPKEEP_INTERVAL);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stop, stopped) = watch::channel(());
        let host = Host {
            tls: self.tls,
            tls_timeout: self.idle_timeout,
            http,
            api: self.api,
            stopped,
        };
        let mut connections = Crowd::new(host.api.connections_max());
        let mut has_warned = false;
        let started = Instant::now();
        let mut shutdown = pin!(shutdown);
        loop {
            connections.set_max(host.api.connections_max());
            let has_room = connections.has_room();
            // The end, the clock, the end of a connection, a new one (while there is room), and a moment without room. In
            // this order, so that a flood of new ones is taken no faster than what becomes of them.
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                _ = upkeep.tick() => {
                    metrics.run_upkeep();
                    pulse.beat();
                }
                Some(()) = connections.ended() => {}
                accepted = listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) => {
                        has_warned = false;
                        connections.add(started, |activity| host.clone().greet(stream, activity)).await;
                    }
                    Err(error) => {
                        // Once for as long as it lasts.
                        if !has_warned {
                            tracing::warn!(%error, "the admin port could not accept a connection");
                        }
                        has_warned = true;
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = sleep(ACCEPT_PAUSE), if !has_room => {}
            }
        }
        drop(listener);
        drop(stop);
        let all_over = timeout(GRACE, async {
            while connections.ended().await.is_some() {}
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

/// What every connection is served with.
#[derive(Clone)]
struct Host {
    tls: Option<Tls>,
    tls_timeout: Duration,
    http: http1::Builder,
    api: Api,
    /// Closed when connections are to end.
    stopped: watch::Receiver<()>,
}

impl Host {
    /// Takes up TLS where the port has it, then goes on over whatever came of it.
    async fn greet(self, stream: TcpStream, activity: Arc<Activity>) {
        // An answer is one small write that must not wait for the next. A socket that refuses these is about to fail
        // anyway.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
        let Some(tls) = &self.tls else {
            return self.converse(stream, activity).await;
        };
        match timeout(self.tls_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(stream, activity).await,
            Ok(Err(error)) => tracing::debug!(%error, "an admin connection is no TLS"),
            Err(_) => {}
        }
    }

    /// One connection until it ends by itself, or after its current request once `stopped` is closed.
    async fn converse<S>(mut self, stream: S, activity: Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            activity.begin();
            let request = request.map(|body| watched(body, &activity));
            let answer = self.api.router().call(request);
            let activity = Arc::clone(&activity);
            async move {
                let answer = answer.await;
                activity.rest();
                answer
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            _ = self.stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an admin connection broke");
        }
    }
}
