//! Every point at which a short life of the log can end, and every state that a disk may then hold, recovered and checked.
//!
//! A workload is up to three operations on a log. For each disk operation in it, the process ends just before that
//! operation. The end is a kill, or a power cut with every combination of unsynced writes, torn at any sector. The state
//! store keeps any prefix of its unflushed changes, or is lost. In every state the recovered log must hold all answered
//! messages and marks, nothing that was not tried, every number in its place, and take one more message, which survives the
//! next power cut. For every single flipped bit of the files, the log detects it or is unchanged.

use std::{sync::Arc, thread};

use tokio::runtime::{Builder, Runtime};

use super::{
    disk::SimDisk,
    process::Life,
    recovered::recovers,
    short_life::{Step, live},
    store::Fate,
};
use towncrier::{log::embedded::inspect::inspect_segments, metrics::Metrics};

/// The longest workload.
const STEPS_MAX: usize = 3;

const STEPS: [Step; 9] = [
    Step::Message,
    Step::Batch,
    Step::Repeat,
    Step::Checkpoint,
    Step::Delete,
    Step::Roll,
    Step::Retention,
    Step::Everyone,
    Step::Marks,
];

/// True for a workload that is worth its time. A message to everyone has many crash points, so the longest workloads have at
/// most one, at their end. In an empty inbox there is nothing to mark.
fn is_worthwhile(steps: &[Step]) -> bool {
    let begin = &steps[..steps.len().saturating_sub(1)];
    let is_short = steps.len() < STEPS_MAX || !begin.contains(&Step::Everyone);
    is_short && steps.first() != Some(&Step::Marks)
}

/// All workloads of up to `most` operations.
fn workloads(most: usize) -> Vec<Vec<Step>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..most {
        let longer = last
            .iter()
            .flat_map(|begin: &Vec<Step>| STEPS.iter().map(|step| [&begin[..], &[*step]].concat()));
        last = longer.collect();
        all.extend(last.iter().filter(|steps| is_worthwhile(steps)).cloned());
    }
    all
}

/// Iterates over every combination of choices.
#[derive(Default)]
struct Odometer {
    digits: Vec<(usize, usize)>,
    at: usize,
}

impl Odometer {
    fn choose(&mut self, ways: usize) -> usize {
        if self.at == self.digits.len() {
            self.digits.push((0, ways));
        }
        let (digit, of) = self.digits[self.at];
        assert_eq!(of, ways, "the same choices come in the same order");
        self.at += 1;
        digit
    }

    /// The next combination; false after the last one.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((digit, ways)) = self.digits.last_mut() {
            *digit += 1;
            if *digit < *ways {
                return true;
            }
            self.digits.pop();
        }
        false
    }
}

/// The number of checks.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    workloads: u64,
    crash_points: u64,
    recoveries: u64,
    bits: u64,
    harmless_bits: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.workloads += other.workloads;
        self.crash_points += other.crash_points;
        self.recoveries += other.recoveries;
        self.bits += other.bits;
        self.harmless_bits += other.harmless_bits;
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O always starts")
}

/// Every crash point of a workload, and every state that may be found after it.
async fn crash_everywhere(steps: &[Step], metrics: &Arc<Metrics>, has_torn_bytes: bool) -> Count {
    let mut count = Count {
        workloads: 1,
        ..Count::default()
    };
    // A shorter workload already covers the crash points in earlier operations.
    let (_, _, changes, before_last) = live(steps, 0, metrics.clone()).await;
    for end_after in before_last + 1..=changes + 1 {
        let (left, known, ..) = live(steps, end_after, metrics.clone()).await;
        count.crash_points += 1;
        for (has_power, fate) in [
            (true, Fate::Kept),
            (true, Fate::Lost),
            (false, Fate::Kept),
            (false, Fate::Lost),
        ] {
            let mut odometer = Odometer::default();
            loop {
                let ground = left.copy();
                let choose = &mut |ways| odometer.choose(ways);
                if has_power {
                    ground.state.crash(fate, choose);
                } else {
                    ground.root.cut_power(choose, has_torn_bytes);
                    ground.segments.cut_power(choose, has_torn_bytes);
                    ground.state.crash(fate, choose);
                }
                count.recoveries += 1;
                if let Err(what) = recovers(&ground, &known).await {
                    panic!(
                        "{steps:?}, before change {end_after}, power: {has_power}, state: {fate:?}, choices {:?}: {what}",
                        odometer.digits
                    );
                }
                if !odometer.advance() {
                    break;
                }
            }
        }
    }
    count
}

/// Flips every bit of the files that a workload leaves. `log verify` finds it, or nothing has changed; and no read returns
/// anything else than was written.
async fn flip_everywhere(steps: &[Step], metrics: &Arc<Metrics>, opens_each: bool) -> Count {
    let mut count = Count::default();
    let (whole, known, ..) = live(steps, 0, metrics.clone()).await;
    let files = |disk: &SimDisk| {
        disk.names()
            .into_iter()
            .map(|name| (disk.file_bytes(&name), name))
            .collect::<Vec<_>>()
    };
    for (is_root, (bytes, name)) in files(&whole.segments)
        .into_iter()
        .map(|file| (false, file))
        .chain(files(&whole.root).into_iter().map(|file| (true, file)))
    {
        // The bytes between the two slots of these files are never written or read.
        let slot_bytes = match name.as_str() {
            "synced" => 28,
            "clock" => 68,
            _ => usize::MAX,
        };
        let is_slot = |byte: &usize| byte % 4096 < slot_bytes;
        for bit in (0..bytes)
            .filter(is_slot)
            .flat_map(|byte| byte * 8..byte * 8 + 8)
        {
            count.bits += 1;
            let ground = whole.copy();
            let disk = if is_root {
                &ground.root
            } else {
                &ground.segments
            };
            disk.flip(&name, bit);
            let report = inspect_segments(&ground.segments, &mut None);
            let is_found = report.is_ok_and(|report| !report.damages.is_empty());
            if is_found && !opens_each {
                continue;
            }
            let outcome = match ground.open(&Arc::new(Life::exact())) {
                Err(_) => continue,
                Ok((log, _)) => (known.check(&log), log),
            };
            match outcome {
                (Ok(_), _) if !is_found => count.harmless_bits += 1,
                (Ok(_), _) => {}
                (Err(what), _) => {
                    // The log may refuse to open or to read. Everything that it does read must be what was written.
                    let is_said = is_found || what.starts_with("it refuses");
                    let is_wrong =
                        what.contains("was never sent") || what.contains(" is Some(Some");
                    assert!(
                        is_said && !is_wrong,
                        "{steps:?}, bit {bit} of {name}: {what}"
                    );
                }
            }
        }
    }
    count
}

/// Gives every core its share of the workloads.
fn share(
    workloads: &[Vec<Step>],
    look: impl AsyncFn(&[Step], &Arc<Metrics>) -> Count + Sync,
) -> Count {
    let threads = thread::available_parallelism().map_or(1, Into::into);
    let look = &look;
    thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|number| {
                scope.spawn(move || {
                    let metrics = Arc::new(Metrics::new());
                    let mut count = Count::default();
                    let mine = workloads.iter().skip(number).step_by(threads);
                    mine.for_each(|steps| count += runtime().block_on(look(steps, &metrics)));
                    count
                })
            })
            .collect();
        let mut total = Count::default();
        shares
            .into_iter()
            .for_each(|share| total += share.join().expect("no share fails"));
        total
    })
}

#[test]
fn every_crash_point_of_every_short_workload_recovers() {
    let count = share(&workloads(STEPS_MAX), async |steps, metrics| {
        crash_everywhere(steps, metrics, steps.len() == 1).await
    });
    println!("{count:?}");
    assert!(count.recoveries > count.crash_points * 4);
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let count = share(&workloads(STEPS_MAX - 1), async |steps, metrics| {
        flip_everywhere(steps, metrics, steps.len() == 1).await
    });
    println!("{count:?}");
}
