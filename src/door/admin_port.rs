//! The admin port: accepts connections, speaks HTTP/1, and ends gracefully.
//!
//! Promises: there are at most `admin.connections_max` connections, and those that wait for their callers keep no other
//! caller out. A head has to arrive within `admin.idle_timeout`, and an answer has to be read within [`UNREAD_TIMEOUT`]. On
//! shutdown nothing new is accepted, requests under way are answered, and all is over within a given time. The module drives
//! hyper itself, because `axum::serve` has no timeout for heads.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    accept::{Gate, accept},
    admin_connections::{AdminConnection, AdminConnections, watched},
    listener::{BindError, bind_admin},
    proxy::{self, Proxies},
    tls::Tls,
};
use crate::{config, metrics::Metrics, threads::Pulse};

/// The kernel closes a connection when its caller leaves an answer unread for this long.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The read buffer of a connection, and so the largest head.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Connections at once before the API is open: probes, and callers that are told to return later. The number of descriptors
/// left for more is known when the log has opened its own.
const STARTING_CONNECTIONS_MAX: usize = 64;

/// The interval at which histogram samples are folded into buckets. Without it, samples use memory until the next scrape.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The admin port, bound and not yet serving.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    api: Api,
    metrics: Arc<Metrics>,
    idle_timeout: Duration,
    tls: Option<Tls>,
    proxies: Proxies,
}

impl Server {
    /// Binds `admin.listen`. Callers wait in the kernel until [`serve`](Self::serve). Needs no runtime.
    pub(crate) fn bind(
        config: &config::Admin,
        tls: Option<Tls>,
        metrics: Arc<Metrics>,
        api: Api,
    ) -> Result<Self, BindError> {
        let (listener, address) = bind_admin(config)?;
        Ok(Self {
            listener,
            address,
            api,
            metrics,
            idle_timeout: config.idle_timeout,
            tls,
            proxies: Proxies::default(),
        })
    }

    /// The same, behind the proxies of the client port.
    pub(crate) fn behind_proxies(self, listener: &config::Listener) -> Self {
        let proxies = Proxies::new(listener);
        Self { proxies, ..self }
    }

    /// The address of the port. It has the real port if the configuration says 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, which gives the time for requests under way. Then ends gracefully within that time. Beats
    /// `pulse` meanwhile. Fails only if the listener cannot be registered with this runtime. Not cancel safe: its
    /// connections go on without it.
    pub async fn serve(
        self,
        pulse: Pulse,
        shutdown: impl Future<Output = Duration>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.idle_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            // A caller may end its own direction after the request. HTTP/1.1 allows that, and the caller still wants the
            // answer.
            .half_close(true);
        let (stop, stopped) = watch::channel(());
        let connections = Arc::new(AdminConnections::new(Arc::clone(&self.metrics)));
        let gate = AdminGate {
            connections: Arc::clone(&connections),
            server: HttpServer {
                tls: self.tls,
                proxies: self.proxies,
                tls_timeout: self.idle_timeout,
                http,
                api: self.api,
                stopped,
            },
        };
        let grace = tokio::select! {
            biased;
            grace = shutdown => grace,
            never = upkeep(self.metrics, pulse) => match never {},
            never = accept(&listener, &gate) => match never {},
        };
        drop(listener);
        drop(stop);
        if timeout(grace, connections.wait_empty()).await.is_err() {
            let connections = connections.cut_off_all();
            tracing::warn!(connections, "admin requests were cut off at shutdown");
        }
        Ok(())
    }
}

/// Folds the samples of histograms into buckets, and beats the pulse. Never returns.
async fn upkeep(metrics: Arc<Metrics>, pulse: Pulse) -> Infallible {
    let metrics = metrics.handle();
    let mut upkeep = interval(UPKEEP_INTERVAL);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        upkeep.tick().await;
        metrics.run_upkeep();
        pulse.beat();
    }
}

/// The rule for new connections: [`AdminConnections`].
struct AdminGate {
    connections: Arc<AdminConnections>,
    server: HttpServer,
}

impl Gate<TcpStream> for AdminGate {
    const PORT: &str = "admin";

    fn is_crowded(&self) -> bool {
        self.connections.is_full(self.server.api.connections_max())
    }

    fn receive(&self, stream: TcpStream, ip: IpAddr) -> bool {
        // A socket that refuses this option is about to fail anyway.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
        let connection = self.connections.enter(self.server.api.connections_max());
        let (number, displaces) = (connection.number(), connection.displaces());
        let task = tokio::spawn(self.server.clone().greet(stream, ip, connection));
        self.connections.attend(number, task.abort_handle());
        displaces
    }
}

/// The handlers that answer now. Clones share the change.
#[derive(Clone)]
pub(crate) struct Api {
    /// The handlers before [`Api::open`].
    starting: TowerToHyperService<Router>,
    open: Arc<OnceLock<OpenApi>>,
}

struct OpenApi {
    router: TowerToHyperService<Router>,
    connections_max: usize,
}

impl Api {
    /// Answers with `starting` until [`open`](Self::open).
    pub(crate) fn new(starting: Router) -> Self {
        Self {
            starting: TowerToHyperService::new(starting),
            open: Arc::default(),
        }
    }

    /// From now on `router` answers, also on connections that were open before. Only the first call counts.
    pub(crate) fn open(&self, router: Router, connections_max: usize) {
        let router = TowerToHyperService::new(router);
        let _ = self.open.set(OpenApi {
            router,
            connections_max,
        });
    }

    fn router(&self) -> &TowerToHyperService<Router> {
        self.open.get().map_or(&self.starting, |open| &open.router)
    }

    fn connections_max(&self) -> usize {
        let open = self.open.get();
        open.map_or(STARTING_CONNECTIONS_MAX, |open| open.connections_max)
    }
}

/// The parts that every connection is served with.
#[derive(Clone)]
struct HttpServer {
    tls: Option<Tls>,
    proxies: Proxies,
    tls_timeout: Duration,
    http: http1::Builder,
    api: Api,
    /// Closed when connections have to end.
    stopped: watch::Receiver<()>,
}

impl HttpServer {
    /// Reads the preface of a proxy that sends one, does the TLS handshake if the port has TLS, then serves HTTP on the stream.
    async fn greet(self, mut stream: TcpStream, peer: IpAddr, connection: AdminConnection) {
        let preface = async {
            // Commands on a proxy's machine come without it.
            if self.proxies.trust(peer) && proxy::begins_with_preface(&stream).await? {
                self.proxies.read_preface(peer, &mut stream).await?;
            }
            io::Result::Ok(())
        };
        match timeout(self.tls_timeout, preface).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "an admin connection broke"),
            Err(_) => return,
        }
        let Some(tls) = &self.tls else {
            return self.converse(stream, connection).await;
        };
        match timeout(self.tls_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(stream, connection).await,
            Ok(Err(error)) => tracing::debug!(%error, "an admin connection does not speak TLS"),
            Err(_) => {}
        }
    }

    /// Serves one connection until it ends by itself, or until its current request ends after `stopped` was closed.
    async fn converse<S>(mut self, stream: S, connection: AdminConnection)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let activity = connection.activity();
        let service = service_fn(|request: Request<Incoming>| {
            activity.begin();
            let request = request.map(|body| watched(body, activity));
            let answer = self.api.router().call(request);
            let activity = Arc::clone(activity);
            async move {
                let answer = answer.await;
                activity.rest();
                answer
            }
        });
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut serving => ended,
            _ = self.stopped.changed() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an admin connection broke");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::threads::watched;

    /// Asks for a path that no handler has, and reads the answer, which has no body.
    async fn ask(stream: &mut TcpStream) {
        let request = b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
    }

    #[tokio::test]
    async fn before_the_api_is_open_a_connection_too_many_cuts_off_the_longest_idle() {
        let config = config::Admin {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..config::Admin::default()
        };
        let api = Api::new(Router::new());
        let server = Server::bind(&config, None, Arc::default(), api).unwrap();
        let address = server.local_addr();
        let (pulse, _watched) = watched("admin");
        tokio::spawn(server.serve(pulse, std::future::pending()));
        let mut streams = Vec::new();
        for _ in 0..=STARTING_CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream).await;
            streams.push(stream);
        }
        assert_eq!(streams[0].read(&mut [0]).await.unwrap(), 0, "it is closed");
        for stream in &mut streams[1..] {
            ask(stream).await;
        }
    }
}
