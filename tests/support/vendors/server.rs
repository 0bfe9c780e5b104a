//! The server behind all stand-ins: HTTP/1 or HTTP/2, with or without TLS, and answers to order.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::authority::Authority;

/// The answer of a vendor to a request, or the rule that the request breaks.
pub(crate) type Checked = Result<Response<Bytes>, String>;

/// The conduct of a stand-in at one request, in place of its own answer.
#[derive(Debug)]
pub(crate) enum Order {
    /// Answers this.
    Answer(Response<Bytes>),
    /// Gives its own answer after this time.
    Delay(Duration),
    /// Ends the connection, or the stream, without an answer.
    Cut,
    /// Never answers.
    Silence,
}

/// A running stand-in. It ends with the test's runtime.
pub(crate) struct StandIn {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
}

/// Looks at a request as the vendor would.
type Check = Box<dyn Fn(&Request<Bytes>) -> Checked + Send + Sync>;

struct Shared {
    check: Check,
    /// Each with a part of the path for which it is meant.
    orders: Mutex<Vec<(String, Order)>>,
    calls: Mutex<Vec<Request<Bytes>>>,
    faults: Mutex<Vec<String>>,
}

/// Ends a connection.
#[derive(Debug)]
struct CutOff;

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut off")
    }
}

impl std::error::Error for CutOff {}

impl StandIn {
    /// Starts a stand-in on a free port. With an authority it speaks TLS with the authority's certificate.
    pub(crate) async fn start(
        tls: Option<&Authority>,
        check: impl Fn(&Request<Bytes>) -> Checked + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tls.map(acceptor);
        let is_tls = acceptor.is_some();
        let shared = Arc::new(Shared {
            check: Box::new(check),
            orders: Mutex::default(),
            calls: Mutex::default(),
            faults: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&serving)));
            }
        });
        Self {
            address,
            is_tls,
            shared,
        }
    }

    /// Its URL, without a path.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The next request with this part in its path gets this. Several orders for one part come in turn.
    pub(crate) fn order(&self, part: &str, order: Order) {
        self.shared
            .orders
            .lock()
            .unwrap()
            .push((part.into(), order));
    }

    /// All requests so far.
    pub(crate) fn calls(&self) -> Vec<Request<Bytes>> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Fails if a request broke a rule.
    pub(crate) fn assert_no_faults(&self) {
        let faults = self.shared.faults.lock().unwrap();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(authority.certificate()).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.key()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let service = service_fn(|request| reply(Arc::clone(&shared), request));
    let http_1 = hyper::server::conn::http1::Builder::new();
    // A client that goes away in the middle is none of the stand-in's failures.
    let Some(acceptor) = acceptor else {
        let _ = http_1.serve_connection(TokioIo::new(stream), service).await;
        return;
    };
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    if is_http_2 {
        let http_2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http_2.serve_connection(stream, service).await;
    } else {
        let _ = http_1.serve_connection(stream, service).await;
    }
}

async fn reply(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, CutOff> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| CutOff)?.to_bytes();
    let request = Request::from_parts(head, body);
    let checked = (shared.check)(&request);
    let order = {
        let mut orders = shared.orders.lock().unwrap();
        let path = request.uri().path();
        let at = orders.iter().position(|(part, _)| path.contains(&**part));
        at.map(|at| orders.remove(at).1)
    };
    shared.calls.lock().unwrap().push(request);
    let own = checked.unwrap_or_else(|fault| {
        shared.faults.lock().unwrap().push(fault.clone());
        answer(400, fault)
    });
    match order {
        None => Ok(own.map(Full::new)),
        Some(Order::Answer(answer)) => Ok(answer.map(Full::new)),
        Some(Order::Delay(time)) => {
            tokio::time::sleep(time).await;
            Ok(own.map(Full::new))
        }
        Some(Order::Cut) => Err(CutOff),
        Some(Order::Silence) => std::future::pending().await,
    }
}

/// An answer with this status and body.
pub(crate) fn answer(status: u16, body: impl ToString) -> Response<Bytes> {
    let body = Bytes::from(body.to_string());
    Response::builder().status(status).body(body).unwrap()
}

/// The JSON of a request's body.
pub(crate) fn body_of(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).expect("the body is JSON")
}

/// The value of a header; empty if it is not there.
pub(super) fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    let value = request.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

/// The present time, Unix seconds.
pub(super) fn now_s() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// Ok if it is so, or else the rule.
pub(super) fn rule(is_kept: bool, rule: impl Into<String>) -> Result<(), String> {
    if is_kept { Ok(()) } else { Err(rule.into()) }
}
