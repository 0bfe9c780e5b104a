//! The admin API against a log in memory: requests in, answers out, and what reached the log.
//!
//! - `log.rs`: the log in memory
//! - `send.rs`, `idempotency.rs`, `limits.rs`, `faults.rs`: sending and its refusals
//! - `content.rs`: every content type and its fields
//! - `batch.rs`, `auth.rs`, `inbox.rs`, `trace.rs`, `operation.rs`: the other calls
//! - `server.rs`: over a real socket

mod auth;
mod batch;
mod content;
mod faults;
mod idempotency;
mod inbox;
mod limits;
mod log;
mod operation;
mod send;
mod server;
mod trace;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use self::log::MemoryLog;
use super::{
    call::{App, Rooms},
    routes,
};
use crate::{
    clock::Clock,
    config,
    delivery::Delivery,
    ids::{Platform, UserId},
    metrics::Metrics,
    registry::Registry,
    token::Tokens,
};

const ADMIN: &str = "openIM123456";
const SECRET: &str = "tuoyun";
const NOW_MS: u64 = 1_645_697_804_432;
/// The seed document's sample request, word for word.
const SEED: &str = include_str!("seed_send.json");

/// A clock that stands until it is moved.
struct StillClock(AtomicU64);

impl Clock for StillClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The rooms below the API, and the API.
struct Gateway {
    router: Router,
    log: Arc<MemoryLog>,
    clock: Arc<StillClock>,
    delivery: Arc<Delivery>,
    registry: Arc<Registry>,
    tokens: Arc<Tokens>,
    metrics: Arc<Metrics>,
}

/// One answer.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

fn admin_config() -> config::Admin {
    config::Admin {
        listen: ([127, 0, 0, 1], 0).into(),
        body_bytes_max: 128 * 1024,
        batch_max: 10,
        request_timeout: Duration::from_secs(30),
        ..config::Admin::default()
    }
}

fn auth_config() -> config::Auth {
    config::Auth {
        secret: SECRET.into(),
        token_key: "open_im_server".into(),
        ..config::Auth::default()
    }
}

impl Gateway {
    fn new() -> Self {
        Self::with(&admin_config())
    }

    fn with(config: &config::Admin) -> Self {
        let log = Arc::new(MemoryLog::default());
        let clock = Arc::new(StillClock(NOW_MS.into()));
        let metrics = Arc::new(Metrics::new());
        let registry = Arc::new(Registry::new(
            &config::Sessions::default(),
            Arc::clone(&metrics),
        ));
        let tokens = Arc::new(Tokens::new(&auth_config()));
        let delivery = Arc::new(Delivery::new(
            Arc::clone(&log) as _,
            Arc::clone(&registry),
            Arc::clone(&tokens),
            Arc::clone(&clock) as _,
        ));
        let mut gateway = Self {
            router: Router::new(),
            log,
            clock,
            delivery,
            registry,
            tokens,
            metrics,
        };
        let app = App::new(
            config,
            &auth_config(),
            &config::Delivery::default(),
            gateway.rooms(),
        );
        gateway.router = routes::router(Arc::new(app.unwrap()));
        gateway
    }

    fn rooms(&self) -> Rooms {
        Rooms {
            delivery: Arc::clone(&self.delivery),
            registry: Arc::clone(&self.registry),
            tokens: Arc::clone(&self.tokens),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn token(&self, user: &str) -> String {
        let user = UserId::new(user).unwrap();
        let now_ms = self.clock.now_ms();
        self.tokens.issue(&user, Platform::Web, now_ms).token
    }

    async fn ask(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    }

    /// As `user`, with whatever text.
    async fn post_text(&self, path: &str, user: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post(path).header("token", self.token(user));
        self.ask(request.body(body.into()).unwrap()).await
    }

    async fn post_as(&self, user: &str, path: &str, body: &Value) -> Reply {
        self.post_text(path, user, body.to_string()).await
    }

    /// As an administrator.
    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_as(ADMIN, path, body).await
    }

    /// Without a token.
    async fn post_open(&self, path: &str, body: &Value) -> Reply {
        let request = Request::post(path).body(body.to_string().into());
        self.ask(request.unwrap()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    async fn send(&self, body: &Value) -> Reply {
        self.post("/manager/send_msg", body).await
    }

    /// How many messages the log took.
    fn appended(&self) -> usize {
        self.log.rows().appends.len()
    }
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The answer's data, which must be a success.
    #[track_caller]
    fn data(&self) -> Value {
        assert_eq!(self.verdict(), (200, 0), "{}", self.body);
        assert_eq!(self.json()["errMsg"], "");
        self.json()["data"].clone()
    }

    /// HTTP status and errCode.
    fn verdict(&self) -> (u16, u64) {
        let code = self.json()["errCode"].as_u64();
        (
            self.status.as_u16(),
            code.expect("every answer has an errCode"),
        )
    }

    #[track_caller]
    fn assert_refused(&self, status: u16, code: u64, sentence: &str) {
        assert_eq!(self.verdict(), (status, code), "{}", self.body);
        assert_eq!(self.json()["errMsg"], sentence);
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A text for one user.
fn text_send() -> Value {
    json!({
        "operationID": "op",
        "sendID": "openIM123456",
        "recvID": "u1",
        "content": { "text": "hello" },
        "contentType": 101,
        "sessionType": 1,
    })
}

/// `value` with one field replaced; `null` where it should be absent.
fn with(mut value: Value, field: &str, to: Value) -> Value {
    value[field] = to;
    value
}

/// `value` without a field.
fn without(mut value: Value, field: &str) -> Value {
    value.as_object_mut().unwrap().remove(field);
    value
}
