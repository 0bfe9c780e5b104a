//! The answers of one route of the admin API.

use std::sync::Arc;

use metrics::{Counter, Histogram, with_local_recorder};

use super::Metrics;

/// Counts the answers of one admin route; the usual statuses need no lookup.
pub struct AdminRoute {
    pub(super) metrics: Arc<Metrics>,
    pub(super) path: &'static str,
    pub(super) answered_ok: Counter,
    pub(super) seconds: Histogram,
}

impl AdminRoute {
    /// Counts a request that was answered with this HTTP status, after this many seconds.
    pub fn answered(&self, status: u16, seconds: f64) {
        self.seconds.record(seconds);
        if status == 200 {
            return self.answered_ok.increment(1);
        }
        with_local_recorder(&self.metrics.recorder, || {
            let status = status.to_string();
            metrics::counter!("towncrier_admin_requests_total", "path" => self.path, "status" => status).increment(1);
        });
    }
}
