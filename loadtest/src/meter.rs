//! Latencies, and the course of latencies and throughput over time: in one process of the rig, and combined from all of
//! them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer latencies count as this long: 10 minutes.
const LATENCY_MAX_US: u64 = 600_000_000;

/// One second of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Second {
    pub(crate) accepted: u64,
    pub(crate) landed: u64,
    pub(crate) landed_p50_us: u64,
    pub(crate) landed_p99_us: u64,
    /// Connected sessions at its end.
    pub(crate) connected: u32,
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

/// The state of a session when a message for it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stood {
    /// Connected, and reading.
    Ready,
    /// Away, or ordered not to read. The latency until it lands is its own fault.
    Hindered,
}

/// The latencies while messages flow. Each counts from the moment a message was due, and not from the moment the rig sent
/// it.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// From due to the answer that it is on disk.
    pub(crate) answered: Histogram<u64>,
    /// From due to landed, at each session that was ready for it.
    pub(crate) landed: Histogram<u64>,
    /// From due to landed, at each session that was not ready for it.
    pub(crate) hindered: Histogram<u64>,
    /// From the end of a session's connection (or its very first attempt) until it is connected again and has caught up
    /// with its inbox.
    pub(crate) returned: Histogram<u64>,
    /// The same from `Connected` on.
    pub(crate) replayed: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            answered: histogram(),
            landed: histogram(),
            hindered: histogram(),
            returned: histogram(),
            replayed: histogram(),
        }
    }
}

/// [`Latencies`] on their way between processes: each recorded value with its count.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recorded {
    answered: Vec<(u64, u64)>,
    landed: Vec<(u64, u64)>,
    hindered: Vec<(u64, u64)>,
    returned: Vec<(u64, u64)>,
    replayed: Vec<(u64, u64)>,
}

/// A second of one process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordedSecond {
    accepted: u64,
    landed: Vec<(u64, u64)>,
    connected: u32,
}

impl Latencies {
    /// Adds the measurements of another process.
    pub(crate) fn add(&mut self, other: &Recorded) {
        add(&mut self.answered, &other.answered);
        add(&mut self.landed, &other.landed);
        add(&mut self.hindered, &other.hindered);
        add(&mut self.returned, &other.returned);
        add(&mut self.replayed, &other.replayed);
    }

    /// From due to landed, at all sessions.
    pub(crate) fn all_landed(&self) -> Histogram<u64> {
        let mut all = self.landed.clone();
        all += &self.hindered;
        all
    }

    fn recorded(&self) -> Recorded {
        Recorded {
            answered: recorded(&self.answered),
            landed: recorded(&self.landed),
            hindered: recorded(&self.hindered),
            returned: recorded(&self.returned),
            replayed: recorded(&self.replayed),
        }
    }
}

/// The meter of one process.
#[derive(Debug)]
pub(crate) struct Meter {
    latencies: Latencies,
    accepted_this_second: u64,
    landed_this_second: Histogram<u64>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            latencies: Latencies::default(),
            accepted_this_second: 0,
            landed_this_second: histogram(),
        }
    }

    /// Forgets everything except the present second.
    pub(crate) fn reset(&mut self) {
        self.latencies = Latencies::default();
    }

    pub(crate) fn answered(&mut self, latency_us: u64) {
        record(&mut self.latencies.answered, latency_us);
        self.accepted_this_second += 1;
    }

    pub(crate) fn landed(&mut self, latency_us: u64, stood: Stood) {
        let of = match stood {
            Stood::Ready => &mut self.latencies.landed,
            Stood::Hindered => &mut self.latencies.hindered,
        };
        record(of, latency_us);
        record(&mut self.landed_this_second, latency_us);
    }

    /// A session has caught up with its inbox after its return.
    pub(crate) fn returned(&mut self, away: Duration, replay: Duration) {
        record(&mut self.latencies.returned, away.as_micros() as u64);
        record(&mut self.latencies.replayed, replay.as_micros() as u64);
    }

    pub(crate) fn latencies(&self) -> Recorded {
        self.latencies.recorded()
    }

    /// Ends the present second.
    pub(crate) fn tick(&mut self, connected: u32) -> RecordedSecond {
        let landed = recorded(&self.landed_this_second);
        self.landed_this_second.reset();
        RecordedSecond {
            accepted: std::mem::take(&mut self.accepted_this_second),
            landed,
            connected,
        }
    }
}

impl Second {
    /// The same second of all processes.
    pub(crate) fn of(parts: &[RecordedSecond]) -> Self {
        let mut landed = histogram();
        for part in parts {
            add(&mut landed, &part.landed);
        }
        Self {
            accepted: parts.iter().map(|part| part.accepted).sum(),
            landed: landed.len(),
            landed_p50_us: landed.value_at_quantile(0.5),
            landed_p99_us: landed.value_at_quantile(0.99),
            connected: parts.iter().map(|part| part.connected).sum(),
        }
    }
}

/// The quantiles of durations that were measured one by one.
pub(crate) fn quantiles_of(durations: &[Duration]) -> Quantiles {
    let mut histogram = histogram();
    for duration in durations {
        record(&mut histogram, duration.as_micros() as u64);
    }
    quantiles(&histogram)
}

pub(crate) fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        count: histogram.len(),
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        max_us: histogram.max(),
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("bounds that fit")
}

fn record(histogram: &mut Histogram<u64>, us: u64) {
    histogram.saturating_record(us.max(1));
}

fn recorded(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect()
}

fn add(histogram: &mut Histogram<u64>, recorded: &[(u64, u64)]) {
    for (us, times) in recorded {
        histogram.saturating_record_n(*us, *times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_processes_measured_is_what_one_would_have() {
        let (mut one, mut together) = (Meter::new(), Latencies::default());
        for process in 0..3 {
            let mut meter = Meter::new();
            for at in 0..1000 {
                let us = (at * 3 + process) * 77;
                for meter in [&mut meter, &mut one] {
                    meter.landed(us, Stood::Ready);
                    meter.answered(us / 2);
                }
            }
            let text = serde_json::to_string(&meter.latencies()).unwrap();
            together.add(&serde_json::from_str(&text).unwrap());
        }
        assert_eq!(together.landed, one.latencies.landed);
        assert_eq!(together.answered, one.latencies.answered);
        assert_eq!(together.landed.len(), 3000);
    }
}
