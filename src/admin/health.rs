//! `GET /healthz`, `/readyz`, `/metrics`, `/openapi.json`: for operators and their tools, without a token.

use std::{fmt::Display, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use super::{bodies, call::App};
use crate::{ids::GatewayId, metrics::Metrics, threads::Watch};

/// 200 if the process answers and all its threads run; else 503 with the thread and its fault.
pub(super) async fn healthz(State(app): State<Arc<App>>) -> Response {
    of(&app.watch)
}

/// The answer of `/healthz`.
pub(super) fn of(watch: &Watch) -> Response {
    match watch.check() {
        Ok(()) => text(StatusCode::OK, "ok\n".into()),
        Err(unwell) => unavailable(&unwell),
    }
}

/// The line about links that are missing. Messages come without them, some seconds later.
fn links_note(missing: &[GatewayId]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let named: Vec<_> = missing.iter().map(GatewayId::to_string).collect();
    let named = named.join(", ");
    format!(
        "no link to or from gateway {named}: messages between the two come late; see mesh.listen and mesh.advertise\n"
    )
}

/// 200 if sends are accepted and all threads run; else 503 with the reason. A doubt about the time or a link is told, but stops no
/// send.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    match (app.watch.check(), app.delivery.check_ready()) {
        (Err(unwell), _) => unavailable(&unwell),
        (_, Err(reason)) => unavailable(&reason),
        _ => {
            let doubt = app.delivery.clock_doubt();
            let doubt = doubt.map_or_else(String::new, |doubt| format!("{doubt}\n"));
            let missing = links_note(&app.delivery.missing_links());
            text(StatusCode::OK, format!("ready\n{doubt}{missing}"))
        }
    }
}

fn unavailable(reason: &dyn Display) -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
}

/// Every metric in Prometheus' text format.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    rendered(&app.metrics)
}

/// The answer of `/metrics`.
pub(super) fn rendered(metrics: &Metrics) -> Response {
    let mut response = text(StatusCode::OK, metrics.render());
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    response
}

/// The description of this API.
pub(super) async fn openapi(State(app): State<Arc<App>>) -> Response {
    bodies::json_bytes(app.openapi.clone().into())
}

/// A plain text answer.
pub(super) fn text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let format = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    response
}
