//! The metrics of vendor push. A gateway without a vendor has none of those by vendor.

use metrics::{Counter, Gauge, Unit, with_local_recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::Metrics;

/// The decisions of vendor push.
#[expect(missing_docs, reason = "`new` has the help text of each metric")]
pub struct PushMetrics {
    pub due: Gauge,
    pub lag: Gauge,
    pub decided_served: Counter,
    pub decided_pushed: Counter,
    pub decided_silent: Counter,
    pub decided_expired: Counter,
}

/// The outcomes of the tasks of one vendor. The label `outcome` has these values.
#[derive(Clone)]
pub struct PushOutcomes {
    /// `sent`: the vendor took the push.
    pub sent: Counter,
    /// `retried`: a try failed, and another one follows.
    pub retried: Counter,
    /// `served`: a session acked the message while the push waited.
    pub served: Counter,
    /// `refused`: the vendor never takes this push.
    pub refused: Counter,
    /// `gone`: the device or the message is no longer there.
    pub gone: Counter,
    /// `expired`: it was too old, or too many waited.
    pub expired: Counter,
    /// 1 while the vendor is tried only now and then, because it fails.
    pub paused: Gauge,
    /// 1 while the vendor refuses our credentials.
    pub stopped: Gauge,
}

impl PushMetrics {
    pub(super) fn new(recorder: &PrometheusRecorder) -> Self {
        with_local_recorder(recorder, || {
            metrics::describe_gauge!(
                "towncrier_push_decisions_waiting",
                Unit::Count,
                "Decisions about vendor push that are due later"
            );
            metrics::describe_gauge!(
                "towncrier_push_lag_seconds",
                Unit::Seconds,
                "Age of the oldest message that vendor push has not looked at, 0 when there is none"
            );
            metrics::describe_counter!(
                "towncrier_push_decisions_total",
                Unit::Count,
                "Decisions about vendor push, one per receiver and class of devices"
            );
            metrics::describe_gauge!(
                "towncrier_push_tasks",
                Unit::Count,
                "Pushes that wait for their vendor"
            );
            metrics::describe_counter!(
                "towncrier_push_outcomes_total",
                Unit::Count,
                "Pushes to single devices, by vendor and outcome: sent, retried, served, refused, gone, expired"
            );
            metrics::describe_gauge!(
                "towncrier_push_vendor_paused",
                Unit::Count,
                "1 while the vendor fails and is tried only now and then, else 0"
            );
            metrics::describe_gauge!(
                "towncrier_push_vendor_stopped",
                Unit::Count,
                "1 while the vendor refuses our credentials, else 0"
            );
            let decided =
                |outcome| metrics::counter!("towncrier_push_decisions_total", "outcome" => outcome);
            Self {
                due: metrics::gauge!("towncrier_push_decisions_waiting"),
                lag: metrics::gauge!("towncrier_push_lag_seconds"),
                decided_served: decided("served"),
                decided_pushed: decided("pushed"),
                decided_silent: decided("do-not-disturb"),
                decided_expired: decided("expired"),
            }
        })
    }
}

impl Metrics {
    /// Pushes that wait for this vendor.
    pub fn push_tasks(&self, provider: &'static str) -> Gauge {
        with_local_recorder(
            &self.recorder,
            || metrics::gauge!("towncrier_push_tasks", "provider" => provider),
        )
    }

    /// The outcomes of pushes by this vendor.
    pub fn push_outcomes(&self, provider: &'static str) -> PushOutcomes {
        with_local_recorder(&self.recorder, || {
            let outcome = |outcome: &'static str| {
                metrics::counter!(
                    "towncrier_push_outcomes_total",
                    "provider" => provider,
                    "outcome" => outcome
                )
            };
            PushOutcomes {
                sent: outcome("sent"),
                retried: outcome("retried"),
                served: outcome("served"),
                refused: outcome("refused"),
                gone: outcome("gone"),
                expired: outcome("expired"),
                paused: metrics::gauge!("towncrier_push_vendor_paused", "provider" => provider),
                stopped: metrics::gauge!("towncrier_push_vendor_stopped", "provider" => provider),
            }
        })
    }
}
