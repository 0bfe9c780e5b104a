//! The shortest schedule that still breaks the same promise, found by leaving parts of it out.

use super::{
    schedule::Schedule,
    world::{self, Verdict},
};

/// The most runs: a run takes about 50 ms, and the answer should come within a minute.
const RUNS_MAX: usize = 1_000;

/// Leaves operations out while the same promise is broken.
pub fn shrink(mut schedule: Schedule, verdict: &Verdict) -> Schedule {
    let mut part = schedule.operations.len().div_ceil(2);
    let mut runs = 0;
    while part > 0 {
        let mut start = 0;
        let before = schedule.operations.len();
        while start < schedule.operations.len() {
            let mut shorter = schedule.clone();
            let end = (start + part).min(shorter.operations.len());
            shorter.operations.drain(start..end);
            runs += 1;
            if runs > RUNS_MAX {
                return schedule;
            }
            if promise(&world::run(&shorter, false)) == promise(verdict) {
                schedule = shorter;
            } else {
                start = end;
            }
        }
        // A part that was needed before may be removable now that others are gone.
        if part > 1 || schedule.operations.len() == before {
            part /= 2;
        }
    }
    schedule
}

/// The promise that a run broke.
fn promise(verdict: &Verdict) -> Option<&str> {
    let violation = verdict.violation.as_ref()?;
    violation.split(':').next()
}
