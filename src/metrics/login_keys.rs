//! The metrics of the keys of a company's own login.

use metrics::{Counter, Gauge, Unit, with_local_recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

/// The keys of a company's own login, and the looks at their place.
#[expect(missing_docs, reason = "`new` has the help text of each metric")]
pub struct LoginKeysMetrics {
    pub usable: Gauge,
    /// `read`: other keys than before were read.
    pub read: Counter,
    /// `failed`: the keys could not be read.
    pub failed: Counter,
}

impl LoginKeysMetrics {
    pub(super) fn new(recorder: &PrometheusRecorder) -> Self {
        with_local_recorder(recorder, || {
            metrics::describe_gauge!(
                "towncrier_login_keys",
                Unit::Count,
                "Usable keys of the company's own login"
            );
            metrics::describe_counter!(
                "towncrier_login_key_reads_total",
                Unit::Count,
                "Looks at the keys of the company's own login, by outcome: read (they changed), failed"
            );
            let looked = |outcome| metrics::counter!("towncrier_login_key_reads_total", "outcome" => outcome);
            Self {
                usable: metrics::gauge!("towncrier_login_keys"),
                read: looked("read"),
                failed: looked("failed"),
            }
        })
    }
}
