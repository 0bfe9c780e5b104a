//! The admin port before the log is open. During a long replay a liveness probe must not take it for dead, and a load
//! balancer must not take it for ready.
//!
//! Until [`Opening::open`] it answers `/healthz` and `/metrics` as always, `/readyz` with 503, and every call with 503 and
//! a time to return. After that it gives the normal answers, also on connections that were open before.

use std::sync::{Arc, OnceLock};

use axum::{Router, http::StatusCode, response::Response, routing::get};
use hyper_util::service::TowerToHyperService;

use super::{
    call::{App, Rooms, SetupError},
    error::Refusal,
    health, openapi, routes,
};
use crate::{config::Config, metrics::Metrics, watch::Watch};

/// Connections at once while the log is read: probes, and callers that are told to return later. The number of descriptors
/// left for more is known when the log has opened its own.
const CONNECTIONS_MAX: usize = 64;

/// Opens the API of a [`Server`](super::Server) that serves already.
pub struct Opening(Arc<OnceLock<Open>>);

struct Open {
    router: TowerToHyperService<Router>,
    connections_max: usize,
}

/// The service that answers now.
#[derive(Clone)]
pub(super) struct Api {
    open: Arc<OnceLock<Open>>,
    starting: TowerToHyperService<Router>,
}

/// An API that is not open yet, and the handle that opens it.
pub(super) fn new(metrics: Arc<Metrics>, watch: Arc<Watch>) -> (Api, Opening) {
    let starting = Router::new()
        .route("/healthz", get(async move || health::of(&watch)))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async move || health::rendered(&metrics)))
        .fallback(async || Refusal::Starting);
    let open = Arc::new(OnceLock::new());
    let api = Api {
        open: Arc::clone(&open),
        starting: TowerToHyperService::new(starting),
    };
    (api, Opening(open))
}

async fn readyz() -> Response {
    health::text(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting: the log is being read\n".into(),
    )
}

impl Opening {
    /// From now on all calls are answered.
    pub fn open(self, config: &Config, rooms: Rooms) -> Result<(), SetupError> {
        let app = App::new(config, rooms, openapi::document())?;
        let open = Open {
            router: TowerToHyperService::new(routes::router(Arc::new(app))),
            connections_max: config.admin.connections_max,
        };
        // `open` consumes the only `Opening`, so the cell is still empty.
        let _ = self.0.set(open);
        Ok(())
    }
}

impl Api {
    pub(super) fn router(&self) -> &TowerToHyperService<Router> {
        self.open.get().map_or(&self.starting, |open| &open.router)
    }

    pub(super) fn connections_max(&self) -> usize {
        let open = self.open.get();
        open.map_or(CONNECTIONS_MAX, |open| open.connections_max)
    }
}
