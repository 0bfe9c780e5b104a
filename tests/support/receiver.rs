//! A receiver of webhooks on this machine. It verifies each signature with code of its own, remembers what it took, and answers
//! as a test says.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Response, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::within;

/// The first secret of the tests.
pub(crate) const SECRET_1: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The second one.
pub(crate) const SECRET_2: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An answer: HTTP status and body, and the seconds in `Retry-After`.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<u32>,
}

impl From<u16> for Word {
    fn from(status: u16) -> Self {
        Self {
            status,
            body: Value::Null,
            retry_after: None,
        }
    }
}

type Answer = dyn FnMut(&Value) -> Option<Word> + Send;

/// A request whose signature was good.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) id: String,
    pub(crate) body: Value,
    pub(crate) status: u16,
}

struct Shared {
    secret: &'static str,
    taken: watch::Sender<Vec<Taken>>,
    answer: Mutex<Box<Answer>>,
    forged: Mutex<Vec<String>>,
}

/// The receiver. Dropping it closes its port and its connections.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinSet<()>,
}

impl Receiver {
    /// A receiver that knows the first secret and takes everything.
    pub(crate) async fn start() -> Self {
        Self::knowing(SECRET_1).await
    }

    /// A receiver that knows another secret.
    pub(crate) async fn knowing(secret: &'static str) -> Self {
        let shared = Shared {
            secret,
            taken: watch::Sender::new(Vec::new()),
            answer: Mutex::new(Box::new(|_| Some(200.into()))),
            forged: Mutex::default(),
        };
        let mut receiver = Self {
            address: ([127, 0, 0, 1], 0).into(),
            shared: Arc::new(shared),
            serving: JoinSet::new(),
        };
        receiver.open().await;
        receiver
    }

    /// Listens, again at the same address if it did before.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let shared = Arc::clone(&self.shared);
        self.serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| serve(Arc::clone(&shared), request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move { drop(connection.await) });
            }
        });
    }

    /// Closes the port and all connections. What was taken stays.
    pub(crate) async fn close(&mut self) {
        self.serving.shutdown().await;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Answers each request from now on as this function says; `None`: never.
    pub(crate) fn answer(&self, answer: impl FnMut(&Value) -> Option<Word> + Send + 'static) {
        *self.shared.answer.lock().unwrap() = Box::new(answer);
    }

    /// All requests so far, with their answers. No request had a wrong signature, and those with the same id are the same.
    pub(crate) fn requests(&self) -> Vec<Taken> {
        let forged = self.shared.forged.lock().unwrap();
        assert!(forged.is_empty(), "{forged:?}");
        let taken = self.shared.taken.borrow().clone();
        let mut bodies = HashMap::new();
        for request in &taken {
            let first = bodies.entry(&request.id).or_insert(&request.body);
            assert_eq!(*first, &request.body, "{}", request.id);
        }
        taken
    }

    /// The events of requests that were answered 2xx, with their repeats.
    pub(crate) fn events(&self) -> Vec<Value> {
        let requests = self.requests().into_iter();
        requests
            .filter(|taken| (200..300).contains(&taken.status))
            .flat_map(|taken| events_of(&taken.body))
            .collect()
    }

    /// The events of one kind, each id once. Repeats are the same, bit for bit.
    pub(crate) fn once(&self, kind: &str) -> Vec<Value> {
        let mut seen = HashMap::new();
        let mut events = self.events();
        events.retain(|event| event["type"] == kind);
        events.retain(|event| {
            let id = event["id"].as_str().expect("an id").to_owned();
            match seen.insert(id, event.clone()) {
                None => true,
                Some(before) => {
                    assert_eq!(before, *event);
                    false
                }
            }
        });
        events
    }

    /// Waits until what was taken satisfies a condition.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let mut taken = self.shared.taken.subscribe();
        within(what, async {
            while !is_so(self) {
                taken.changed().await.unwrap();
            }
        })
        .await;
    }
}

/// The events in a request.
fn events_of(body: &Value) -> Vec<Value> {
    match body["type"].as_str() {
        Some("batch") => body["data"].as_array().expect("a list").clone(),
        _ => vec![body.clone()],
    }
}

async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let Some(id) = verified(shared.secret, &head.headers, &body) else {
        shared
            .forged
            .lock()
            .unwrap()
            .push(format!("{:?}", head.headers));
        shared.taken.send_modify(|_| ());
        return Ok(answered(&401.into()));
    };
    let body: Value = serde_json::from_slice(&body).expect("a body is JSON");
    let word = (*shared.answer.lock().unwrap())(&body);
    let status = word.as_ref().map_or(0, |word| word.status);
    shared
        .taken
        .send_modify(|taken| taken.push(Taken { id, body, status }));
    match word {
        Some(word) => Ok(answered(&word)),
        None => std::future::pending().await,
    }
}

fn answered(word: &Word) -> Response<Full<Bytes>> {
    let body = Full::from(word.body.to_string());
    let response = Response::builder().status(word.status);
    let response = match word.retry_after {
        Some(seconds) => response.header("retry-after", seconds),
        None => response,
    };
    response.body(body).unwrap()
}

/// The id of a request whose signature is good. Source: the Standard Webhooks specification.
fn verified(secret: &str, headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
    let key = BASE64_STANDARD
        .decode(secret.strip_prefix("whsec_")?)
        .ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let signatures = header("webhook-signature")?.split(' ');
    let mut good = signatures.filter(|given| given.strip_prefix("v1,") == Some(&signature));
    good.next().map(|_| id.to_owned())
}
