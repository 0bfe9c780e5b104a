//! The simulation's tests: fresh seeds, every seed that ever failed, the proof that one seed is one run, and parts
//! that lie, which must be found. `simulation/bugs/` has the bugs that must be found in the program.

use std::time::{Duration, Instant};

use super::{
    gateway::Lie,
    schedule::Schedule,
    shrink::shrink,
    world::{self, Verdict},
};

/// The time for which `cargo test` looks for a seed that breaks a promise.
const SECONDS: u64 = 60;
/// The time for which `cargo simulate` does.
const MINUTES: u64 = 30;
/// Each planted bug is found within this many seeds.
const SEEDS_PER_BUG: u64 = 500;

/// The sums over many runs.
#[derive(Default)]
struct Total {
    runs: u64,
    simulated: Duration,
    accepted: u64,
    landings: u64,
    marks: u64,
}

impl Total {
    fn add(&mut self, verdict: &Verdict) {
        self.runs += 1;
        self.simulated += verdict.lasted;
        self.accepted += verdict.accepted;
        self.landings += verdict.landings;
        self.marks += verdict.marks;
    }

    fn print(&self, took: Duration) {
        let (simulated, real) = (self.simulated.as_secs_f64(), took.as_secs_f64());
        println!(
            "{} runs, {:.0} simulated minutes in {real:.1} s ({:.0} times as fast), {} sends accepted, {} messages and {} entries of read marks landed",
            self.runs,
            simulated / 60.0,
            simulated / real,
            self.accepted,
            self.landings,
            self.marks
        );
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// Runs a seed. A broken promise fails the test, with everything that is needed to repeat the run.
fn expect_kept(seed: u64) -> Verdict {
    let schedule = Schedule::new(seed);
    let verdict = world::run(&schedule, false);
    if let Some(violation) = &verdict.violation {
        let shortest = shrink(schedule, &verdict);
        panic!(
            "seed {seed} breaks {violation}\nthe shortest schedule that does:\n{:#?}\nto see it:\nTOWNCRIER_SEED={seed} cargo test -p towncrier-simulation --lib -- --ignored --exact tests::replay --nocapture",
            shortest.operations
        );
    }
    verdict
}

/// Runs fresh seeds for some time.
fn explore(time: Duration, mut seed: u64) -> Total {
    println!("from seed {seed}");
    let begun = Instant::now();
    let mut total = Total::default();
    while begun.elapsed() < time {
        total.add(&expect_kept(seed));
        seed += 1;
    }
    total.print(begun.elapsed());
    total
}

#[test]
fn fresh_seeds_break_no_promise() {
    explore(
        Duration::from_secs(variable("TOWNCRIER_SECONDS").unwrap_or(SECONDS)),
        variable("TOWNCRIER_START").unwrap_or_else(|| fastrand::u64(..1 << 40)),
    );
}

#[test]
fn seeds_that_once_broke_a_promise_break_none() {
    let seeds = include_str!("seeds.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    for line in seeds {
        let seed = line.split_whitespace().next().expect("no line is empty");
        expect_kept(seed.parse().expect("a seed is a number"));
    }
}

#[test]
fn one_seed_is_one_run_bit_for_bit() {
    let start = fastrand::u64(..1 << 40);
    for seed in start..start + 20 {
        let schedule = Schedule::new(seed);
        assert_eq!(schedule.operations, Schedule::new(seed).operations);
        assert_eq!(
            world::run(&schedule, false),
            world::run(&schedule, false),
            "seed {seed}"
        );
    }
}

/// The first of the schedules that breaks a promise, with the number of runs before it.
fn find(lie: Option<Lie>) -> Option<(u64, Schedule, Verdict)> {
    (0..SEEDS_PER_BUG).find_map(|seed| {
        let mut schedule = Schedule::new(seed);
        schedule.setup.lie = lie;
        let verdict = world::run(&schedule, false);
        let is_broken = verdict.violation.is_some();
        is_broken.then_some((seed, schedule, verdict))
    })
}

#[test]
fn a_part_that_lies_is_found() {
    for lie in [Lie::Disk, Lie::Store] {
        let (seed, _, verdict) = find(Some(lie)).expect("it is found");
        println!("{lie:?}: {} seeds: {:?}", seed + 1, verdict.violation);
    }
}

#[test]
#[ignore = "simulation/bugs/prove runs it on sources with a bug"]
fn the_first_seeds_break_no_promise() {
    if let Some((seed, _, verdict)) = find(None) {
        let violation = verdict.violation.unwrap_or_default();
        panic!("after {} seeds: {violation}", seed + 1);
    }
}

#[test]
fn a_failing_schedule_shrinks_to_what_matters() {
    let (_, schedule, verdict) = find(Some(Lie::Disk)).expect("it is found");
    let before = schedule.operations.len();
    let after = shrink(schedule, &verdict).operations;
    assert!(after.len() <= 3, "{before} operations became {after:#?}");
}

#[test]
#[ignore = "prints one seed: TOWNCRIER_SEED=n"]
fn replay() {
    let seed = variable("TOWNCRIER_SEED").expect("TOWNCRIER_SEED names a seed");
    let schedule = Schedule::new(seed);
    println!("{schedule:#?}");
    let verdict = world::run(&schedule, true);
    println!("{verdict:#?}");
    if verdict.violation.is_some() {
        println!("\nthe shortest schedule that does the same:");
        world::run(&shrink(schedule, &verdict), true);
    }
    assert_eq!(verdict.violation, None);
}

#[test]
#[ignore = "runs for TOWNCRIER_MINUTES=30 on every core: cargo simulate"]
fn night() {
    let time = Duration::from_secs(60 * variable("TOWNCRIER_MINUTES").unwrap_or(MINUTES));
    let start = variable("TOWNCRIER_START").unwrap_or_else(|| fastrand::u64(..1 << 40));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || explore(time, start + (thread << 40)));
        }
    });
}
