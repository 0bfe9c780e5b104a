//! The client port of one reactor: from a TCP connection to an admitted WebSocket.
//!
//! Each handshake runs in a task of its own. The connection of an admitted client then gets a new task, because a task
//! keeps the memory of its largest state for life, and a handshake needs more than an idle connection. The client is in the
//! lobby from its first moment. When a later arrival needs its room, its task is aborted at any point of the handshake. A
//! client with a good request that cannot be admitted is told when to return. Leaves to others: the connection of an
//! admitted client ([`ClientHost`]).

use std::{io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use axum::http::{Method, Request, Response, header::UPGRADE};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    task::{AbortHandle, spawn_local},
    time::{Instant, timeout, timeout_at},
};

use super::{
    accept::{Gate, Stream},
    admission::{Admission, Arrival, Lobby, Permit},
    proxy::Proxies,
    response::{encode, may_go_on},
    rest::{self, Rest},
    site::Site,
    tls::Tls,
    upgrade::{self, Upgrade, UpgradeRefusal},
};
use crate::{
    config,
    metrics::{Metrics, RefusalReason},
    protocol::{self, Codec},
};

/// Clients that come during the drain return after 1 s to this many seconds.
const RETRY_AFTER_MAX_S: u64 = 10;
/// The longest time for a browser to take a file of a page: 100 KB at 5 KB/s.
const SITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The thread behind a client port. It takes the admitted clients.
pub(crate) trait ClientHost: 'static {
    /// False during the drain: clients are told when to return.
    fn is_serving(&self) -> bool;

    /// The body of the answer that refuses the login of a client that has to know before its upgrade; `None`: it may come in.
    fn refuse(&self, codec: &dyn Codec, arrival: &Arrival) -> impl Future<Output = Option<Bytes>>;

    /// Starts the connection of an admitted client in a task of its own, which may be aborted at any time.
    fn let_in<S: Stream>(&self, client: Admitted<S>) -> AbortHandle;
}

/// A client whose stream is a WebSocket, and its permit.
pub(crate) struct Admitted<S> {
    /// The WebSocket's stream.
    pub(crate) stream: S,
    /// The bytes read beyond the request.
    pub(crate) rest: Vec<u8>,
    /// The protocol that the client speaks.
    pub(crate) codec: Box<dyn Codec>,
    /// The client in the lobby, until it has a session.
    pub(crate) arrival: Arrival,
    /// The client's permit, which counts it among the connections.
    pub(crate) permit: Permit,
    /// The deadline of `Connect`.
    pub(crate) connected_by: Instant,
}

/// The parts of the client port that all reactors share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Entrance {
    config: config::Listener,
    admission: Arc<Admission>,
    proxies: Proxies,
    /// The inbox page, if it is served.
    site: Option<Arc<Site>>,
    /// The REST calls, if there are any.
    rest: Option<Rest>,
    tls: Option<Tls>,
    metrics: Arc<Metrics>,
}

impl Entrance {
    pub(crate) fn new(config: &config::Listener, tls: Option<Tls>, metrics: Arc<Metrics>) -> Self {
        Self {
            config: config.clone(),
            admission: Arc::new(Admission::new(config, Arc::clone(&metrics))),
            proxies: Proxies::new(config),
            site: config.inbox.then(|| Arc::new(Site::new())),
            rest: None,
            tls,
            metrics,
        }
    }

    /// The same, with these REST calls beside the WebSocket.
    pub(crate) fn with_rest(self, rest: Option<Rest>) -> Self {
        Self { rest, ..self }
    }
}

/// The client port of one reactor, or the port beside it that serves REST calls alone.
pub(crate) struct ClientPort<H> {
    door: Rc<Door<H>>,
    is_for_calls: bool,
}

struct Door<H> {
    entrance: Entrance,
    lobby: Rc<Lobby>,
    host: H,
}

impl<H: ClientHost> ClientPort<H> {
    pub(crate) fn new(entrance: Entrance, host: H) -> Self {
        let door = Rc::new(Door {
            lobby: Lobby::new(&entrance.config, Arc::clone(&entrance.admission)),
            entrance,
            host,
        });
        Self {
            door,
            is_for_calls: false,
        }
    }

    /// The port for REST calls alone. It shares the lobby and the limits of this one.
    pub(crate) fn for_calls(&self) -> Self {
        Self {
            door: Rc::clone(&self.door),
            is_for_calls: true,
        }
    }
}

impl<H: ClientHost, S: Stream> Gate<S> for ClientPort<H> {
    const PORT: &str = "client";

    fn is_crowded(&self) -> bool {
        self.door.lobby.is_crowded()
    }

    fn receive(&self, stream: S, ip: IpAddr) -> bool {
        let door = &self.door;
        let is_proxy = door.entrance.proxies.trust(ip);
        let Some(arrival) = door.lobby.enter((!is_proxy).then_some(ip)) else {
            return false;
        };
        let (number, displaces) = (arrival.number(), arrival.displaces());
        let terms = Terms::new(&door.entrance.config, arrival, None, self.is_for_calls);
        let door = Rc::clone(door);
        // A task for each, so that no other handshake has the size of one from a proxy.
        let greeting = if is_proxy {
            spawn_local(greet_proxy(Rc::clone(&door), ip, stream, terms))
        } else {
            spawn_local(greet(Rc::clone(&door), stream, terms))
        };
        door.lobby.attend(number, greeting.abort_handle());
        displaces
    }
}

/// What a good request gets.
enum Grant {
    /// The stream becomes a WebSocket, with the permit of a connection.
    Upgrade(Upgrade, Permit),
    /// A file of the page, as bytes.
    Site { bytes: Vec<u8>, is_last: bool },
}

impl<H: ClientHost> Door<H> {
    fn answer(&self, request: &Request<()>, arrival: &Arrival) -> Result<Grant, UpgradeRefusal> {
        let rest = self.entrance.rest.as_ref();
        let codec = protocol::of(request, rest.is_some_and(|rest| rest.is_for_sdks));
        let Entrance { site, config, .. } = &self.entrance;
        let site = site.as_ref();
        let Some(site) = site.filter(|_| codec.is_none()) else {
            let codec = codec.ok_or(UpgradeRefusal::NotFound)?;
            let upgrade = upgrade::accept(request, codec, &config.origins)?;
            self.check_serving()?;
            let permit = arrival.admit().map_err(UpgradeRefusal::Admission)?;
            return Ok(Grant::Upgrade(upgrade, permit));
        };
        self.check_serving()?;
        arrival.check().map_err(UpgradeRefusal::Admission)?;
        let answer = site.answer(request).ok_or(UpgradeRefusal::NotFound)?;
        // A new connection costs a handshake only over TLS. Without it, the peer is a proxy or a program on this machine. A
        // proxy's connection may be idle for longer than this port waits, so that its next request would come too late.
        let is_last = self.entrance.tls.is_none() || !may_go_on(request);
        let bytes = encode(&answer, request.method(), is_last);
        Ok(Grant::Site { bytes, is_last })
    }

    /// The REST calls, if the request is one of them.
    fn rest(&self, request: &Request<()>) -> Option<&Rest> {
        let rest = self.entrance.rest.as_ref()?;
        rest.takes(request).then_some(rest)
    }

    /// Answers a REST call, and waits for the next request. False: the connection is over. The future is apart, because it takes
    /// more memory than a handshake.
    fn serve<'a, S: Stream>(
        &'a self,
        rest: &'a Rest,
        request: &'a Request<()>,
        stream: &'a mut S,
        bytes: &'a mut Vec<u8>,
        terms: &'a Terms,
    ) -> LocalBoxFuture<'a, Result<bool, UpgradeRefusal>> {
        let served = async move {
            let origins = &self.entrance.config.origins;
            upgrade::check_origin(request, origins)?;
            self.check_serving()?;
            let arrival = &terms.arrival;
            arrival.check().map_err(UpgradeRefusal::Admission)?;
            let terms = (arrival, terms.upgraded_by);
            let answer = rest.answer(request, stream, bytes, terms, origins.is_empty());
            let Some(answer) = answer.await else {
                return Ok(false);
            };
            let written = timeout(SITE_TIMEOUT, say(stream, &answer.bytes)).await;
            if answer.is_last || !matches!(written, Ok(Ok(()))) {
                // A client that is gone reads no end either.
                let _ = timeout(SITE_TIMEOUT, stream.shutdown()).await;
                return Ok(false);
            }
            let next = timeout(rest::IDLE_TIMEOUT, upgrade::wait(stream, bytes));
            Ok(matches!(next.await, Ok(Ok(()))))
        };
        Box::pin(served)
    }

    fn check_serving(&self) -> Result<(), UpgradeRefusal> {
        if self.host.is_serving() {
            return Ok(());
        }
        let wait = Duration::from_secs(fastrand::u64(1..=RETRY_AFTER_MAX_S));
        Err(UpgradeRefusal::Draining(wait))
    }
}

/// The deadlines and the arrival of a handshake.
struct Terms {
    arrival: Arrival,
    /// The proxy that names the clients of this connection in its requests, if there is one. The box keeps the others small.
    proxy: Option<Box<IpAddr>>,
    /// True on the port that serves REST calls alone.
    is_for_calls: bool,
    /// The deadline of the answered request.
    upgraded_by: Instant,
    /// The deadline of `Connect`.
    connected_by: Instant,
}

impl Terms {
    /// The terms of a request that is due from now on.
    fn new(
        config: &config::Listener,
        arrival: Arrival,
        proxy: Option<Box<IpAddr>>,
        is_for_calls: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            arrival,
            proxy,
            is_for_calls,
            upgraded_by: now + config.upgrade_timeout.min(config.connect_timeout),
            connected_by: now + config.connect_timeout,
        }
    }

    /// The terms of the connection's next request.
    fn again(self, config: &config::Listener) -> Self {
        Self::new(config, self.arrival, self.proxy, self.is_for_calls)
    }
}

/// Reads the preface of a proxy that sends one, then continues on the stream.
async fn greet_proxy<H: ClientHost, S: Stream>(
    door: Rc<Door<H>>,
    proxy: IpAddr,
    mut stream: S,
    mut terms: Terms,
) {
    let named = door.entrance.proxies.read_preface(proxy, &mut stream);
    match timeout_at(terms.upgraded_by, named).await {
        Ok(Ok(hop)) => terms.proxy = Some(Box::new(hop)),
        _ => return door.entrance.metrics.refused(RefusalReason::Handshake),
    }
    greet(door, stream, terms).await;
}

/// Does the TLS handshake if the port has TLS, then continues on the stream.
async fn greet<H: ClientHost, S: Stream>(door: Rc<Door<H>>, stream: S, terms: Terms) {
    match &door.entrance.tls {
        None => upgrade(&door, stream, terms).await,
        // This future is four times as large as the other, and without the box both would have its size.
        Some(tls) => Box::pin(greet_by_tls(&door, tls, stream, terms)).await,
    }
}

async fn greet_by_tls<H: ClientHost, S: Stream>(
    door: &Door<H>,
    tls: &Tls,
    stream: S,
    terms: Terms,
) {
    if terms.arrival.is_rushed() {
        // A TLS handshake costs more than everything after it. Clients have a delay of their own after a cut.
        return door.entrance.metrics.refused(RefusalReason::Rate);
    }
    match timeout_at(terms.upgraded_by, tls.accept(stream)).await {
        Ok(Ok(stream)) => upgrade(door, stream, terms).await,
        _ => door.entrance.metrics.refused(RefusalReason::Tls),
    }
}

/// Reads requests and answers them. Admits the connection at the first one that asks for a WebSocket, if all is well. REST
/// calls, and over TLS a page's requests, may come before that.
async fn upgrade<H: ClientHost, S: Stream>(door: &Door<H>, mut stream: S, mut terms: Terms) {
    let metrics = &door.entrance.metrics;
    let mut rest = Vec::new();
    let mut is_first = true;
    let (Upgrade { answer, codec }, permit) = loop {
        let read = timeout_at(terms.upgraded_by, upgrade::read(&mut stream, &mut rest)).await;
        let Ok(Ok(mut request)) = read else {
            // A client whose earlier requests were answered is not refused.
            if is_first {
                metrics.refused(RefusalReason::Handshake);
            }
            return;
        };
        if let (Ok(heard), Some(proxy)) = (&request, &terms.proxy) {
            let client = door.entrance.proxies.client_of(**proxy, heard.headers());
            if let Err(refused) = terms.arrival.come_from(client) {
                request = Err(UpgradeRefusal::Admission(refused));
            }
        }
        let called = match &request {
            Ok(request) => match door.rest(request) {
                Some(calls) => Some(
                    door.serve(calls, request, &mut stream, &mut rest, &terms)
                        .await,
                ),
                None if terms.is_for_calls => Some(Err(UpgradeRefusal::NotFound)),
                None => None,
            },
            Err(_) => None,
        };
        match called {
            Some(Ok(true)) => {
                is_first = false;
                terms = terms.again(&door.entrance.config);
                continue;
            }
            Some(Ok(false)) => return,
            Some(Err(refusal)) => request = Err(refusal),
            None => {}
        }
        // A caller of the page may have ended its own direction after the request, and still wants its answer. A WebSocket
        // needs both directions.
        let is_upgrade = |request: &Request<()>| request.headers().contains_key(UPGRADE);
        if request.as_ref().is_ok_and(is_upgrade) && upgrade::has_gone(&mut stream, &mut rest).await
        {
            return metrics.refused(RefusalReason::Handshake);
        }
        match request.and_then(|request| door.answer(&request, &terms.arrival)) {
            Ok(Grant::Upgrade(upgrade, permit)) => break (upgrade, permit),
            // If one of these writes fails, the client is gone.
            Ok(Grant::Site { bytes, is_last }) => {
                let written = timeout(SITE_TIMEOUT, say(&mut stream, &bytes)).await;
                if is_last || !matches!(written, Ok(Ok(()))) {
                    let _ = timeout_at(terms.upgraded_by, stream.shutdown()).await;
                    return;
                }
            }
            Err(refusal) => {
                metrics.refused(refusal.reason());
                // The box keeps an answer that few clients get out of the size of every handshake.
                let response = refusal.response();
                return Box::pin(say_last(&mut stream, response, terms.upgraded_by)).await;
            }
        }
        is_first = false;
        terms = terms.again(&door.entrance.config);
    };
    // The box keeps this out of the size of every other handshake.
    if codec.asks_first().is_some() && Box::pin(refuse(door, &mut stream, &*codec, &terms)).await {
        return metrics.refused(RefusalReason::Token);
    }
    let written = timeout_at(terms.upgraded_by, say(&mut stream, &answer)).await;
    if !matches!(written, Ok(Ok(()))) {
        return metrics.refused(RefusalReason::Handshake);
    }
    let number = terms.arrival.number();
    let task = door.host.let_in(Admitted {
        stream,
        rest,
        codec,
        arrival: terms.arrival,
        permit,
        connected_by: terms.connected_by,
    });
    door.lobby.attend(number, task);
}

/// Checks the token of a client that has to know before its upgrade. True: the client was refused, or is gone.
async fn refuse<H: ClientHost, S: Stream>(
    door: &Door<H>,
    stream: &mut S,
    codec: &dyn Codec,
    terms: &Terms,
) -> bool {
    let refusal = door.host.refuse(codec, &terms.arrival);
    match timeout_at(terms.upgraded_by, refusal).await {
        Ok(None) => false,
        Ok(Some(body)) => {
            say_last(stream, upgrade::verdict(body), terms.upgraded_by).await;
            true
        }
        Err(_) => true,
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.flush().await
}

/// Ends the connection with this answer. If that fails, the client is gone.
async fn say_last<S: AsyncWrite + Unpin>(stream: &mut S, answer: Response<Bytes>, by: Instant) {
    let bytes = encode(&answer, &Method::GET, true);
    let said = async {
        say(stream, &bytes).await?;
        stream.shutdown().await
    };
    let _ = timeout_at(by, said).await;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt as _, duplex},
        net::TcpStream,
        task::LocalSet,
        time::sleep,
    };

    use super::*;

    struct Nobody;

    impl ClientHost for Nobody {
        fn is_serving(&self) -> bool {
            true
        }

        async fn refuse(&self, _: &dyn Codec, _: &Arrival) -> Option<Bytes> {
            unreachable!("no client comes")
        }

        fn let_in<S: Stream>(&self, _: Admitted<S>) -> AbortHandle {
            unreachable!("no client comes")
        }
    }

    /// After a restart there are thousands of handshakes at once.
    #[test]
    fn a_handshakes_future_stays_below_1344_bytes() {
        fn size<F>(_: impl Fn(Rc<Door<Nobody>>, TcpStream, Terms) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(greet::<Nobody, TcpStream>);
        assert!(size < 1344, "{size}");
    }

    /// The KiB of a file of the page that a browser gets if it takes nothing for this time.
    async fn taken_after(time: Duration) -> usize {
        const PIPE_BYTES: usize = 1024;
        let listener = config::Listener {
            inbox: true,
            ..config::Listener::default()
        };
        let entrance = Entrance::new(&listener, None, Arc::default());
        let port = ClientPort::new(entrance, Nobody);
        let (ours, mut theirs) = duplex(PIPE_BYTES);
        port.receive(ours, Ipv4Addr::LOCALHOST.into());
        let request = b"GET /app.js HTTP/1.1\r\nHost: a\r\n\r\n";
        theirs.write_all(request).await.unwrap();
        sleep(time).await;
        let mut taken = Vec::new();
        theirs.read_to_end(&mut taken).await.unwrap();
        taken.len() / PIPE_BYTES
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_has_its_time_to_take_a_file_and_is_then_cut_off() {
        let test = async {
            let a_second = Duration::from_secs(1);
            assert!(taken_after(SITE_TIMEOUT - a_second).await > 10, "all of it");
            assert_eq!(taken_after(SITE_TIMEOUT + a_second).await, 1);
        };
        LocalSet::new().run_until(test).await;
    }
}
