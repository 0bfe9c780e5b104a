//! What stands around every handler: a panic becomes an answer, every answer gets its CORS header and is counted.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;

use super::error::Refusal;
use crate::metrics::{AdminRoute, Metrics};

/// Counts the answers of one route, its handles looked up once.
pub(super) struct Watch(AdminRoute);

impl Watch {
    /// For the route that metrics call `path`.
    pub(super) fn new(metrics: &Arc<Metrics>, path: &'static str) -> Self {
        Self(Metrics::admin_route(metrics, path))
    }
}

/// Runs the handler.
pub(super) async fn guard(
    State(watch): State<Arc<Watch>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    // Safe to go on after: handlers keep nothing of their own, and locks taken by them recover from poison.
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| Refusal::Panic.into_response());
    // Any origin may call, as in OpenIM: the token is a header that a page must already know, never a cookie that the
    // browser would add for it, so a foreign page gains nothing by being allowed to ask.
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    watch
        .0
        .answered(response.status().as_u16(), started.elapsed().as_secs_f64());
    response
}

const ANY: HeaderValue = HeaderValue::from_static("*");

/// Answers a browser's `OPTIONS`, whatever it intends to send.
pub(super) async fn preflight() -> HeaderMap {
    HeaderMap::from_iter([
        (header::ACCESS_CONTROL_ALLOW_METHODS, ANY),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ANY),
        // Two days, OpenIM's number.
        (
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("172800"),
        ),
    ])
}
