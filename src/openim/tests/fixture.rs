//! The calls on a log in memory, and a caller with a token.

use std::{ops::Deref, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{
    clock::tests::manual::Manual,
    config::Config,
    delivery::{Receivers, Send},
    gateway::Base,
    ids::{Platform, UserId},
    log::tests::memory::MemoryLog,
    message::StoredMessage,
    openim::routes::router,
};

/// The calls, and the rooms that they use.
pub(super) struct World {
    router: Router,
    base: Base<MemoryLog>,
    pub(super) machine: Arc<Manual>,
}

impl Deref for World {
    type Target = Base<MemoryLog>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

pub(super) fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

/// A message to one user.
pub(super) fn message(from: &str, session_type: i32) -> StoredMessage {
    StoredMessage {
        send_id: from.into(),
        session_type,
        sender_nickname: format!("Name of {from}"),
        sender_face_url: format!("http://face/{from}"),
        ..StoredMessage::default()
    }
}

impl World {
    pub(super) fn new() -> Self {
        let machine = Manual::new();
        let config = Config::default();
        let base = Base::build(
            &config,
            Arc::default(),
            machine.clock(),
            MemoryLog::default(),
        );
        Self {
            router: router(Arc::clone(&base.delivery)),
            base,
            machine,
        }
    }

    pub(super) async fn send(&self, to: &str, message: StoredMessage) {
        self.machine.advance(1);
        let send = Send {
            message,
            fingerprint: [0; 16],
            receivers: Receivers::List(vec![user(to)]),
            is_online_only: false,
        };
        self.delivery.send(send).await.unwrap();
    }

    /// Sends this number of notices of each of these senders to u1, in turn.
    pub(super) async fn notices(&self, senders: &[&str], each: usize) {
        for sender in senders.repeat(each) {
            self.send("u1", message(sender, 4)).await;
        }
    }

    pub(super) fn token(&self, of: &str) -> String {
        let now_ms = self.delivery.now_ms();
        self.tokens.issue(&user(of), Platform::Web, now_ms).token
    }

    /// The answer to a call with these headers and this body, which is always HTTP 200 and JSON.
    pub(super) async fn ask(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (Value, HeaderMap) {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], "application/json");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (serde_json::from_slice(&bytes).unwrap(), headers)
    }

    /// The answer to a call of u1 with this text as its body.
    pub(super) async fn text(&self, path: &str, body: &str) -> Value {
        let token = self.token("u1");
        let headers = [("operationID", "op"), ("token", &*token)];
        self.ask(path, &headers, body.to_owned()).await.0
    }

    /// The data of the answer to a call of u1, which must be a success.
    pub(super) async fn data(&self, path: &str, body: Value) -> Value {
        let mut answer = self.text(path, &body.to_string()).await;
        assert_eq!(answer["errCode"], 0, "{answer}");
        assert_eq!(
            (&answer["errMsg"], &answer["errDlt"]),
            (&"".into(), &"".into())
        );
        answer["data"].take()
    }

    /// The errCode and the detail of the answer to a call of u1.
    pub(super) async fn refused(&self, path: &str, body: &str) -> (u64, String) {
        let answer = self.text(path, body).await;
        let code = answer["errCode"].as_u64().unwrap();
        assert_ne!((code, &answer["errMsg"]), (0, &"".into()), "{answer}");
        (code, answer["errDlt"].as_str().unwrap().to_owned())
    }
}
