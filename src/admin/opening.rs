//! The admin port before the log is open. During a long replay a liveness probe must not take it for dead, and a load
//! balancer must not take it for ready.
//!
//! Until [`Opening::open`] it answers `/healthz` and `/metrics` as always, `/readyz` with 503, and every call with 503 and
//! a time to return. After that it gives the normal answers, also on connections that were open before.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};

use super::{
    administrators::SetupError,
    call::{App, Rooms},
    error::Refusal,
    health, openapi, routes, v3,
};
use crate::{
    config::{self, Config},
    door::{Api, BindError, Server, tls::Tls},
    metrics::Metrics,
    threads::Watch,
};

/// Opens the API of a [`Server`] that serves already.
pub struct Opening(Api);

/// Binds the admin port. Callers are told to return later until the [`Opening`] is used.
///
/// # Errors
/// [`BindError`], if the port cannot be listened on.
pub fn bind(
    config: &config::Admin,
    tls: Option<Tls>,
    metrics: Arc<Metrics>,
    watch: Arc<Watch>,
) -> Result<(Server, Opening), BindError> {
    let (api, opening) = new(Arc::clone(&metrics), watch);
    Ok((Server::bind(config, tls, metrics, api)?, opening))
}

/// An API that is not open yet, and the handle that opens it.
fn new(metrics: Arc<Metrics>, watch: Arc<Watch>) -> (Api, Opening) {
    let starting = Router::new()
        .route("/healthz", get(async move || health::of(&watch)))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async move || health::rendered(&metrics)))
        .fallback(async |headers: HeaderMap| v3::in_words_of(&headers, Refusal::Starting));
    let api = Api::new(starting);
    (api.clone(), Opening(api))
}

async fn readyz() -> Response {
    health::text(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting: the log is being read\n".into(),
    )
}

/// The API as a service, without its port.
///
/// # Errors
/// A configuration that cannot be used.
pub fn api(config: &Config, rooms: Rooms) -> Result<Router, SetupError> {
    let app = App::new(config, rooms, openapi::document())?;
    Ok(routes::router(Arc::new(app)))
}

impl Opening {
    /// From now on all calls are answered.
    pub fn open(self, config: &Config, rooms: Rooms) -> Result<(), SetupError> {
        self.0
            .open(api(config, rooms)?, config.admin.connections_max);
        Ok(())
    }
}
