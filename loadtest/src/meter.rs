//! Latencies, and how they and the throughput went over time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer ones count as this long: 10 minutes.
const LATENCY_MAX_US: u64 = 600_000_000;

/// One second of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Second {
    pub(crate) accepted: u64,
    pub(crate) landed: u64,
    pub(crate) landed_p50_us: u64,
    pub(crate) landed_p99_us: u64,
}

/// A distribution in µs.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

/// What is measured while messages flow. All latencies count from the moment a message was due, not from when the rig came
/// to send it.
#[derive(Debug)]
pub(crate) struct Meter {
    answered: Histogram<u64>,
    landed: Histogram<u64>,
    this_second: Histogram<u64>,
    accepted_before: u64,
    pub(crate) course: Vec<Second>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_max(LATENCY_MAX_US, 3).expect("bounds that fit");
        Self {
            answered: histogram(),
            landed: histogram(),
            this_second: histogram(),
            accepted_before: 0,
            course: Vec::new(),
        }
    }

    /// Forgets all but the course.
    pub(crate) fn begin(&mut self) {
        self.answered.reset();
        self.landed.reset();
        self.accepted_before = 0;
    }

    pub(crate) fn answered(&mut self, latency_us: u64) {
        self.answered.saturating_record(latency_us.max(1));
    }

    pub(crate) fn landed(&mut self, latency_us: u64) {
        self.landed.saturating_record(latency_us.max(1));
        self.this_second.saturating_record(latency_us.max(1));
    }

    /// Ends a second of the course.
    pub(crate) fn tick(&mut self) {
        self.course.push(Second {
            accepted: self.answered.len().saturating_sub(self.accepted_before),
            landed: self.this_second.len(),
            landed_p50_us: self.this_second.value_at_quantile(0.5),
            landed_p99_us: self.this_second.value_at_quantile(0.99),
        });
        self.accepted_before = self.answered.len();
        self.this_second.reset();
    }

    /// From due to the answer that it is on disk.
    pub(crate) fn send_to_answer(&self) -> Quantiles {
        quantiles(&self.answered)
    }

    /// From due to landed, at each session.
    pub(crate) fn send_to_landed(&self) -> Quantiles {
        quantiles(&self.landed)
    }
}

/// Of durations that were measured one by one.
pub(crate) fn quantiles_of(durations: &[Duration]) -> Quantiles {
    let mut histogram = Histogram::new_with_max(LATENCY_MAX_US, 3).expect("bounds that fit");
    for duration in durations {
        histogram.saturating_record(duration.as_micros() as u64);
    }
    quantiles(&histogram)
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        count: histogram.len(),
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        max_us: histogram.max(),
    }
}
