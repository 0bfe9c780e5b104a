//! Fuzzing of the calls of the admin API with any body.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request},
};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use towncrier::{
    admin::{Rooms, api},
    config::Config,
    gateway::Base,
    ids::{Platform, UserId},
    message::{ADDRESS_BYTES_MAX, TOGETHER_BYTES_MAX},
};

use super::Input;
use crate::{
    clock::SimClock,
    memory::{MemoryLog, Rows},
};

/// One of the configuration's administrators.
const ADMIN: &str = "openIM123456";

thread_local! {
    /// Made once. Each run gets a new log.
    static GATEWAY: Gateway = Gateway::new();
}

struct Gateway {
    runtime: Runtime,
    router: Router,
    log: Arc<MemoryLog>,
    token: String,
    /// The calls that take a body: OpenIM v2's in the order of their paths, then v3's, which are `true` and have a header.
    calls: Vec<(bool, String)>,
}

impl Gateway {
    fn new() -> Self {
        let runtime = super::runtime();
        let _entered = runtime.enter();
        let mut config = Config::default();
        config.auth.secret = "tuoyun".into();
        config.auth.token_key = "open_im_server".into();
        config.admin.batch_max = 10;
        let clock = SimClock::new().for_process();
        let base = Base::build(&config, Arc::default(), clock.clone(), MemoryLog::default());
        let eraser = base.eraser(None, None);
        let rooms = Rooms {
            delivery: base.delivery,
            metrics: base.metrics,
            watch: Arc::default(),
            seen: None,
            hooks: towncrier::webhooks::Hooks::default(),
            eraser,
        };
        let router = api(&config, rooms).expect("a good configuration");
        let admin = UserId::new(ADMIN).expect("an id");
        let token = base.tokens.issue(&admin, Platform::Admin, clock.now_ms());
        let calls = runtime.block_on(calls(&router));
        Self {
            router,
            log: base.log,
            token: token.token,
            calls,
            runtime,
        }
    }
}

async fn calls(router: &Router) -> Vec<(bool, String)> {
    let request = Request::get("/openapi.json").body(Body::empty());
    let request = request.expect("a request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let document = to_bytes(response.into_body(), usize::MAX).await;
    let document: Value = serde_json::from_slice(&document.expect("in memory")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths by name");
    let with_body = paths.iter().filter(|(_, calls)| calls["post"].is_object());
    let mut calls = Vec::new();
    for (path, call) in with_body {
        // A header that may be left out tells a call that both versions have.
        match call["post"]["parameters"][0]["required"].as_bool() {
            None => calls.push((false, path.clone())),
            Some(is_required) => {
                calls.push((true, path.clone()));
                if !is_required {
                    calls.push((false, path.clone()));
                }
            }
        }
    }
    calls.sort_unstable();
    calls
}

/// The first byte picks the call; the rest is its body. The caller has an administrator's token. For every input: the
/// answer is JSON with an `errCode`, it is never a fault of ours (HTTP 500, v3's code 500), v3's has HTTP 200, and every stored
/// message fits a frame.
pub fn admin(data: &[u8]) {
    GATEWAY.with(|gateway| {
        *gateway.log.rows() = Rows::default();
        gateway.runtime.block_on(ask(gateway, data));
    });
}

async fn ask(gateway: &Gateway, data: &[u8]) {
    let mut input = Input(data);
    let which = usize::from(input.byte());
    let (is_v3, path) = &gateway.calls[which % gateway.calls.len()];
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("token", &gateway.token);
    if *is_v3 {
        request = request.header("operationID", "op");
    }
    let request = request
        .body(Body::from(input.0.to_vec()))
        .expect("a request");
    let response = gateway.router.clone().oneshot(request).await;
    let (parts, body) = response.expect("infallible").into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("in memory");
    let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
    let code = answer["errCode"]
        .as_u64()
        .expect("every answer has an errCode");
    assert!(!parts.status.is_server_error(), "{} {code}", parts.status);
    if *is_v3 {
        assert_eq!(parts.status, 200);
        assert_ne!(code, 500, "{answer}");
    } else {
        assert_eq!(parts.status == 200, code == 0, "{code}");
    }
    for append in &gateway.log.rows().appends {
        assert!(append.is_keyed || !append.receivers.is_empty());
        assert!(append.body.len() + ADDRESS_BYTES_MAX <= TOGETHER_BYTES_MAX);
    }
}
