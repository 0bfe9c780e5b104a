//! Fuzzing of the calls of the admin API with any body.

use std::cell::OnceCell;

use axum::body::{Body, to_bytes};
use hyper::{Method, Request, service::Service as _};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::{
    fixture::{ADMIN, Gateway},
    routes::routes,
};
use crate::{
    fuzzing::Input,
    log::memory::Rows,
    message::{ADDRESS_BYTES_MAX, TOGETHER_BYTES_MAX},
};

thread_local! {
    /// Made once. Each run gets a new log.
    static GATEWAY: OnceCell<(Gateway, tokio::runtime::Runtime)> = const { OnceCell::new() };
}

/// The first byte picks the call; the rest is its body. The caller has an administrator's token. For every input: the
/// answer is JSON with an `errCode`, it is never HTTP 500 (a fault of ours), and every stored message fits a frame.
pub fn admin(data: &[u8]) {
    GATEWAY.with(|gateway| {
        let (gateway, runtime) = gateway.get_or_init(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            (
                Gateway::new(),
                runtime.enable_time().build().expect("builds"),
            )
        });
        *gateway.log.rows() = Rows::default();
        runtime.block_on(ask(gateway, data));
    });
}

async fn ask(gateway: &Gateway, data: &[u8]) {
    let mut input = Input(data);
    let which = usize::from(input.byte());
    let calls: Vec<_> = routes()
        .iter()
        .filter(|route| route.request.is_some())
        .map(|route| route.paths[0])
        .collect();
    let request = Request::builder()
        .method(Method::POST)
        .uri(calls[which % calls.len()])
        .header("token", gateway.token(ADMIN))
        .body(Body::from(input.0.to_vec()))
        .expect("a request");
    let response = TowerToHyperService::new(gateway.router.clone())
        .call(request)
        .await;
    let (parts, body) = response.expect("infallible").into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("in memory");
    let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
    let code = answer["errCode"]
        .as_u64()
        .expect("every answer has an errCode");
    assert!(!parts.status.is_server_error(), "{} {code}", parts.status);
    assert_eq!(
        parts.status == 200 && code == 0,
        parts.status == 200,
        "{code}"
    );
    for append in &gateway.log.rows().appends {
        assert!(append.is_keyed || !append.receivers.is_empty());
        assert!(append.body.len() + ADDRESS_BYTES_MAX <= TOGETHER_BYTES_MAX);
    }
}
