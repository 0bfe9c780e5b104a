//! The layer around every handler. It turns a panic into an answer, adds the CORS header to every answer, and counts it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use futures_util::FutureExt as _;

use super::{access::Access, audit::AuditLine, error::Refusal};
use crate::metrics::AdminRoute;

/// The parts of a guard that differ between routes.
pub(super) struct Guarded {
    pub(super) counted: AdminRoute,
    /// The proof that the route needs. The handler's first step asks for it.
    pub(super) access: Access,
    /// True if its calls have lines in the audit log.
    pub(super) is_audited: bool,
    /// Answers in the words of the route's version of OpenIM.
    pub(super) refuse: fn(Refusal) -> Response,
}

/// The HTTP status that an answer is counted with, where it is sent with another one.
#[derive(Clone, Copy)]
pub(super) struct CountedStatus(pub(super) StatusCode);

/// Runs the handler, and counts its answer for its route.
pub(super) async fn guard(
    State(route): State<Arc<Guarded>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    request.extensions_mut().insert(route.access);
    let line = route
        .is_audited
        .then(|| AuditLine::begin(&mut request))
        .flatten();
    // It is safe to continue after a panic: handlers keep no state, and their locks recover from poison.
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| (route.refuse)(Refusal::Panic));
    if let Some(line) = line {
        line.end(&response);
    }
    // Any origin may call, as in OpenIM. The token is a header that a page must already know, and never a cookie that the
    // browser would add. So a foreign page gains nothing from the permission.
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    let counted = response.extensions_mut().remove::<CountedStatus>();
    let status = counted.map_or(response.status(), |counted| counted.0);
    let took = started.elapsed();
    route.counted.answered(status.as_u16(), took.as_secs_f64());
    response
}

const ANY: HeaderValue = HeaderValue::from_static("*");

/// Answers a browser's `OPTIONS` for every request that it may send.
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
