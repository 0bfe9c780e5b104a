//! The questions to another system before a send.

use metrics::{Unit, with_local_recorder};

use super::Metrics;

/// The outcome of a question before a send. The label `outcome` has exactly these values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskOutcome {
    /// `allowed`: the send goes on unchanged.
    Allowed,
    /// `changed`: it goes on with another content.
    Changed,
    /// `refused`: it is refused.
    Refused,
    /// `failed`: there was no usable answer in time.
    Failed,
}

impl Metrics {
    /// Counts a question before a send that was answered after this many seconds.
    pub fn asked(&self, outcome: AskOutcome, seconds: f64) {
        let outcome = match outcome {
            AskOutcome::Allowed => "allowed",
            AskOutcome::Changed => "changed",
            AskOutcome::Refused => "refused",
            AskOutcome::Failed => "failed",
        };
        with_local_recorder(&self.recorder, || {
            metrics::counter!("towncrier_before_send_total", "outcome" => outcome).increment(1);
            metrics::histogram!("towncrier_before_send_seconds").record(seconds);
        });
    }
}

/// Describes the metrics that are made with their first value.
pub(super) fn describe() {
    metrics::describe_counter!(
        "towncrier_before_send_total",
        Unit::Count,
        "Questions before a send, by outcome: allowed, changed, refused, failed"
    );
    metrics::describe_histogram!(
        "towncrier_before_send_seconds",
        Unit::Seconds,
        "Time to the answer to a question before a send"
    );
}
