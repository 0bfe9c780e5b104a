//! The metrics of backups.

use metrics::{Counter, Gauge, Unit, with_local_recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

/// The backups of the log that this process has made.
#[expect(missing_docs, reason = "`new` has the help text of each metric")]
pub struct BackupMetrics {
    time: Gauge,
    seconds: Gauge,
    bytes: Gauge,
    pub failed: Counter,
}

impl BackupMetrics {
    pub(super) fn new(recorder: &PrometheusRecorder) -> Self {
        with_local_recorder(recorder, || {
            metrics::describe_gauge!(
                "towncrier_backup_timestamp_seconds",
                Unit::Seconds,
                "Time of the newest backup that this process made, Unix seconds, 0 before the first"
            );
            metrics::describe_gauge!(
                "towncrier_backup_duration_seconds",
                Unit::Seconds,
                "Duration of the newest backup"
            );
            metrics::describe_gauge!(
                "towncrier_backup_size_bytes",
                Unit::Bytes,
                "Bytes of the newest backup, with those that earlier ones had copied"
            );
            metrics::describe_counter!(
                "towncrier_backups_failed_total",
                Unit::Count,
                "Backups that were refused or failed"
            );
            Self {
                time: metrics::gauge!("towncrier_backup_timestamp_seconds"),
                seconds: metrics::gauge!("towncrier_backup_duration_seconds"),
                bytes: metrics::gauge!("towncrier_backup_size_bytes"),
                failed: metrics::counter!("towncrier_backups_failed_total"),
            }
        })
    }

    /// A backup of so many bytes was made. It holds the log of this Unix ms.
    pub fn made(&self, taken_ms: u64, took_ms: u64, bytes: u64) {
        self.time.set((taken_ms / 1000) as f64);
        self.seconds.set(took_ms as f64 / 1000.0);
        self.bytes.set(bytes as f64);
    }
}
