//! The admin API against a log in memory: requests in, answers out, and the appends that reached the log.
//!
//! - `send.rs`, `idempotency.rs`, `limits.rs`, `faults.rs`: sends and their refusals
//! - `clock.rs`: a clock that is doubted
//! - `content.rs`: every content type and its fields
//! - `batch.rs`, `auth.rs`, `inbox.rs`, `conversation.rs`, `device.rs`, `erase.rs`, `trace.rs`, `operation.rs`: the other calls
//! - `console.rs`: the console and its calls
//! - `roles.rs`: each call with each role; `audit.rs`: the audit log, and how fast an administrator may send
//! - `server.rs`: the port over a real socket
//! - `fixture.rs`: a gateway without sockets

mod audit;
mod auth;
mod batch;
mod clock;
mod console;
mod content;
mod conversation;
mod device;
mod erase;
mod faults;
mod fixture;
mod idempotency;
mod inbox;
mod limits;
mod operation;
mod roles;
mod send;
mod server;
mod trace;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::log::tests::memory::Fault;

pub(super) use self::fixture::{
    ADMIN, Gateway, NOW_MS, SECRET, UNKNOWN, admin_config, auth_config, whole_config,
};
/// The seed document's sample request, word for word.
const SEED: &str = include_str!("seed_send.json");

/// One answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Gateway {
    pub(super) async fn ask(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    }

    /// Posts any text as `user`.
    pub(super) async fn post_text(&self, path: &str, user: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post(path).header("token", self.token(user));
        self.ask(request.body(body.into()).unwrap()).await
    }

    pub(super) async fn post_as(&self, user: &str, path: &str, body: &Value) -> Reply {
        self.post_text(path, user, body.to_string()).await
    }

    /// Posts as an administrator.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_as(ADMIN, path, body).await
    }

    /// Posts without a token.
    pub(super) async fn post_open(&self, path: &str, body: &Value) -> Reply {
        let request = Request::post(path).body(body.to_string().into());
        self.ask(request.unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.ask(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(super) async fn send(&self, body: &Value) -> Reply {
        self.post("/manager/send_msg", body).await
    }

    /// The number of messages that the log took.
    pub(super) fn appended(&self) -> usize {
        self.log.rows().appends.len()
    }
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The data of the answer, which must be a success.
    #[track_caller]
    pub(super) fn data(&self) -> Value {
        assert_eq!(self.verdict(), (200, 0), "{}", self.body);
        assert_eq!(self.json()["errMsg"], "");
        self.json()["data"].clone()
    }

    /// HTTP status and errCode.
    pub(super) fn verdict(&self) -> (u16, u64) {
        let code = self.json()["errCode"].as_u64();
        (
            self.status.as_u16(),
            code.expect("every answer has an errCode"),
        )
    }

    #[track_caller]
    pub(super) fn assert_refused(&self, status: u16, code: u64, sentence: &str) {
        assert_eq!(self.verdict(), (status, code), "{}", self.body);
        assert_eq!(self.json()["errMsg"], sentence);
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A text for one user.
pub(super) fn text_send() -> Value {
    json!({
        "operationID": "op",
        "sendID": "openIM123456",
        "recvID": "u1",
        "content": { "text": "hello" },
        "contentType": 101,
        "sessionType": 1,
    })
}

/// `value` with one field replaced; `null` removes it.
pub(super) fn with(mut value: Value, field: &str, to: Value) -> Value {
    value[field] = to;
    value
}

/// `value` without a field.
pub(super) fn without(mut value: Value, field: &str) -> Value {
    value.as_object_mut().unwrap().remove(field);
    value
}
