//! The decision which offset between boot time and wall time is trusted, from readings of both clocks alone.
//!
//! While the machine runs, the trusted offset follows the wall clock by at most a minute in an hour. So one wrong reading
//! moves the trusted time by a minute at most. The offset takes a larger step in three cases only:
//!
//! - proof: the wall clock has kept its new offset for the whole time of proof
//! - confirmation: an administrator says that the wall clock is right
//! - correction: the wall clock was behind the log's newest record at the start (a board without a battery), and has passed it
//!
//! After a start of the machine and after a correction the trusted time rests on a single reading. It is then *assumed*
//! until it has held for the time of proof. Leaves to others: the clocks, and the work that pauses while the time is not
//! certain.

use std::time::Duration;

use super::{Reading, TOLERANCE_MS};

/// The largest drift of the wall clock from the boot time, within a time of proof, that still counts as advancing alike; in
/// ms. A time server that slews drifts by 500 parts in a million, 1.8 s in an hour.
const ALIKE_MS: i64 = 5000;

/// No gateway ran before 2020: a wall clock with an earlier time has lost its time. Unix ms.
const EARLIEST_MS: u64 = 1_577_836_800_000;

/// A longer pause between two readings restarts a proof, in ms: a machine that slept has set its wall clock meanwhile.
const PAUSE_MS_MAX: u64 = 60_000;

/// The state of trust.
#[derive(Debug)]
pub(super) struct ClockTrust {
    proof_ms: u64,
    /// Trusted time less boot time, ms.
    offset_ms: i64,
    /// The offset from which the followed drift is counted.
    followed_from: Offset,
    /// The offset that the wall clock claims while it is not trusted.
    claimed: Option<Offset>,
    /// True if the wall clock was behind the newest record at the start, and has not become right yet.
    is_behind: bool,
    /// `None` once the trusted time is proved or confirmed.
    assumed: Option<Assumed>,
    /// The boot time of the latest reading, ms.
    read_at_ms: u64,
}

/// The trusted time rests on a single reading of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Assumed {
    /// The offset by which the time was known before. The true time is not earlier, but may be earlier than the trusted
    /// time.
    known_ms: i64,
    /// The boot time at which the trusted time counts as proved, ms. Never 0.
    until_ms: u64,
}

/// An offset, and the boot time since which it has held.
#[derive(Debug, Clone, Copy)]
struct Offset {
    offset_ms: i64,
    since_ms: u64,
}

/// The part of the state that is stored for a later process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    boot_id: u128,
    boot_ms: u64,
    offset_ms: i64,
    is_behind: bool,
    assumed: Option<Assumed>,
}

/// The number of words in a [`Mark`].
pub(crate) const MARK_WORDS: usize = 7;

impl Mark {
    /// The stored form: boot id (high, low), boot time, offset, 1 if the wall clock is behind; the known offset and the boot
    /// time until which the trusted time is only assumed, or twice 0.
    pub(crate) fn words(self) -> [u64; MARK_WORDS] {
        let assumed = self.assumed;
        [
            (self.boot_id >> 64) as u64,
            self.boot_id as u64,
            self.boot_ms,
            self.offset_ms as u64,
            self.is_behind.into(),
            assumed.map_or(0, |assumed| assumed.known_ms as u64),
            assumed.map_or(0, |assumed| assumed.until_ms),
        ]
    }

    /// Reads the stored form.
    pub(crate) fn from_words(words: [u64; MARK_WORDS]) -> Self {
        let [high, low, boot_ms, offset_ms, is_behind, known_ms, until_ms] = words;
        Self {
            boot_id: u128::from(high) << 64 | u128::from(low),
            boot_ms,
            offset_ms: offset_ms as i64,
            is_behind: is_behind != 0,
            assumed: (until_ms != 0).then_some(Assumed {
                known_ms: known_ms as i64,
                until_ms,
            }),
        }
    }

    /// True if this mark's offset differs from the earlier mark's offset by more than a minute, or only one of the two is
    /// assumed.
    pub(crate) fn is_news_after(&self, earlier: &Self) -> bool {
        (self.offset_ms - earlier.offset_ms).abs() > TOLERANCE_MS
            || self.assumed.is_some() != earlier.assumed.is_some()
    }

    /// The latest time that is known to have passed when the mark was written, Unix ms. An assumed time is not known.
    fn known_ms(&self) -> u64 {
        let known_ms = self
            .assumed
            .map_or(self.offset_ms, |assumed| assumed.known_ms);
        self.boot_ms.saturating_add_signed(known_ms)
    }
}

fn offset_of(reading: Reading) -> i64 {
    reading.wall_ms as i64 - reading.boot_ms as i64
}

impl ClockTrust {
    /// The state for a machine without a mark: its wall clock is trusted.
    pub(super) fn new(reading: Reading, proof: Duration) -> Self {
        let offset_ms = offset_of(reading);
        Self {
            proof_ms: proof.as_millis() as u64,
            offset_ms,
            followed_from: Offset {
                offset_ms,
                since_ms: reading.boot_ms,
            },
            claimed: None,
            is_behind: false,
            assumed: None,
            read_at_ms: reading.boot_ms,
        }
    }

    pub(super) fn offset_ms(&self) -> i64 {
        self.offset_ms
    }

    /// True if the wall clock was not trusted at the latest reading.
    pub(super) fn is_doubted(&self) -> bool {
        self.claimed.is_some()
    }

    /// The time by which the trusted time is ahead of the time that was known before, ms; `None` unless the trusted time is
    /// only assumed.
    pub(super) fn assumed_ms(&self) -> Option<i64> {
        let assumed = self.assumed?;
        Some((self.offset_ms - assumed.known_ms).max(0))
    }

    /// See [`super::Clock::resume`].
    pub(super) fn resume(
        &mut self,
        mark: Option<Mark>,
        newest_ms: u64,
        reading: Reading,
        boot_id: u128,
    ) {
        let boot_ms = reading.boot_ms;
        let known_ms = match mark {
            // The machine has run since then, so the boot time tells how long ago the mark was written.
            Some(mark) if mark.boot_id == boot_id && mark.boot_ms <= boot_ms => {
                self.offset_ms = mark.offset_ms;
                self.is_behind = mark.is_behind;
                self.assumed = mark.assumed;
                self.followed_from = Offset {
                    offset_ms: mark.offset_ms,
                    since_ms: boot_ms,
                };
                return self.observe(reading);
            }
            Some(mark) => mark.known_ms(),
            None => newest_ms,
        };
        // The time in which the machine was off is unknown. Its wall clock is trusted, unless it is behind a known time. A
        // data directory without a known time leaves nothing to compare with.
        let floor_ms = known_ms.max(EARLIEST_MS) as i64 - boot_ms as i64;
        let wall_ms = offset_of(reading);
        let is_behind = wall_ms < floor_ms - TOLERANCE_MS;
        self.take(if is_behind { floor_ms } else { wall_ms }, boot_ms);
        self.is_behind = is_behind;
        // A wall clock that is near the known time contradicts nothing, as in a directory that was made just now.
        if known_ms > 0 && wall_ms > floor_ms + TOLERANCE_MS {
            self.assume(floor_ms, boot_ms);
        }
        self.observe(reading);
    }

    /// Takes a reading of both clocks.
    pub(super) fn observe(&mut self, reading: Reading) {
        let (wall_ms, boot_ms) = (offset_of(reading), reading.boot_ms);
        let has_paused = boot_ms.saturating_sub(self.read_at_ms) > PAUSE_MS_MAX;
        self.read_at_ms = boot_ms;
        self.assumed.take_if(|assumed| assumed.until_ms <= boot_ms);
        let is_near = |offset_ms: i64| (wall_ms - offset_ms).abs() <= TOLERANCE_MS;
        if is_near(self.offset_ms) && is_near(self.followed_from.offset_ms) {
            self.follow(wall_ms, boot_ms);
        } else if self.is_behind && wall_ms > self.offset_ms {
            let known_ms = self.offset_ms;
            self.take(wall_ms, boot_ms);
            self.assume(known_ms, boot_ms);
        } else {
            match self.claimed {
                Some(claimed) if !has_paused && (wall_ms - claimed.offset_ms).abs() <= ALIKE_MS => {
                    if boot_ms.saturating_sub(claimed.since_ms) >= self.proof_ms {
                        self.take(wall_ms, boot_ms);
                    }
                }
                _ => {
                    self.claimed = Some(Offset {
                        offset_ms: wall_ms,
                        since_ms: boot_ms,
                    });
                    if let Some(assumed) = self.assumed {
                        // The wall clock contradicts the time that it gave before.
                        self.assume(assumed.known_ms, boot_ms);
                    }
                }
            }
        }
    }

    /// Trusts the wall clock, because an administrator says that it is right.
    pub(super) fn accept(&mut self, reading: Reading) {
        self.take(offset_of(reading), reading.boot_ms);
        self.read_at_ms = reading.boot_ms;
    }

    pub(super) fn mark(&self, boot_ms: u64, boot_id: u128) -> Mark {
        Mark {
            boot_id,
            boot_ms,
            offset_ms: self.offset_ms,
            is_behind: self.is_behind,
            assumed: self.assumed,
        }
    }

    /// The wall clock drifts or was slewed: the offset follows it.
    fn follow(&mut self, offset_ms: i64, boot_ms: u64) {
        self.offset_ms = offset_ms;
        self.claimed = None;
        self.is_behind = false;
        if boot_ms.saturating_sub(self.followed_from.since_ms) >= self.proof_ms {
            self.followed_from = Offset {
                offset_ms,
                since_ms: boot_ms,
            };
        }
    }

    fn take(&mut self, offset_ms: i64, boot_ms: u64) {
        self.offset_ms = offset_ms;
        self.claimed = None;
        self.followed_from = Offset {
            offset_ms,
            since_ms: boot_ms,
        };
        self.is_behind = false;
        self.assumed = None;
    }

    /// The trusted time must hold for the time of proof from now on.
    fn assume(&mut self, known_ms: i64, boot_ms: u64) {
        self.assumed = Some(Assumed {
            known_ms,
            until_ms: boot_ms + self.proof_ms.max(1),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const HOUR_MS: u64 = 3_600_000;
    const DAY_MS: i64 = 86_400_000;
    /// The time at which the tests begin, Unix ms.
    const NOW_MS: u64 = 1_790_000_000_000;
    const BOOT_MS: u64 = 40_000;

    /// True time, and a wall clock that differs by some ms.
    struct Bench {
        trust: ClockTrust,
        boot_id: u128,
        /// True time less boot time.
        true_ms: i64,
        boot_ms: u64,
        wrong_ms: i64,
    }

    impl Bench {
        fn new() -> Self {
            let first = Reading {
                wall_ms: NOW_MS,
                boot_ms: BOOT_MS,
            };
            let mut trust = ClockTrust::new(first, HOUR);
            trust.resume(None, 0, first, 1);
            Self {
                trust,
                boot_id: 1,
                true_ms: offset_of(first),
                boot_ms: BOOT_MS,
                wrong_ms: 0,
            }
        }

        fn reading(&self) -> Reading {
            Reading {
                wall_ms: (self.boot_ms as i64 + self.true_ms + self.wrong_ms) as u64,
                boot_ms: self.boot_ms,
            }
        }

        /// A reading each second for this long.
        fn pass(&mut self, ms: u64) {
            for _ in 0..ms.div_ceil(1000) {
                self.boot_ms += 1000;
                self.trust.observe(self.reading());
            }
        }

        /// The distance of the trusted clock from true time, ms.
        fn error_ms(&self) -> i64 {
            self.trust.offset_ms - self.true_ms
        }

        fn may_expire(&self) -> bool {
            !self.trust.is_doubted() && self.trust.assumed_ms().is_none()
        }

        /// A new process, `off_ms` later. With `with_machine`, the machine was restarted as well.
        fn restart(&mut self, off_ms: u64, with_machine: bool) {
            let words = self.trust.mark(self.boot_ms, self.boot_id).words();
            if with_machine {
                self.true_ms += (self.boot_ms + off_ms - BOOT_MS) as i64;
                self.boot_ms = BOOT_MS;
                self.boot_id += 1;
            } else {
                self.boot_ms += off_ms;
            }
            self.trust = ClockTrust::new(self.reading(), HOUR);
            let mark = Some(Mark::from_words(words));
            self.trust.resume(mark, 0, self.reading(), self.boot_id);
        }
    }

    #[test]
    fn a_wall_clock_that_jumped_is_believed_after_an_hour_and_not_before() {
        for wrong_ms in [100 * DAY_MS, -100 * DAY_MS, 61_000, -61_000] {
            let mut bench = Bench::new();
            bench.wrong_ms = wrong_ms;
            bench.pass(HOUR_MS);
            assert_eq!(bench.error_ms(), 0);
            assert!(bench.trust.is_doubted() && !bench.may_expire());
            bench.pass(1000);
            assert_eq!(bench.error_ms(), wrong_ms);
            assert!(bench.may_expire());
        }
    }

    #[test]
    fn the_hour_begins_anew_when_the_wall_clock_jumps_again_or_nobody_looked() {
        let mut bench = Bench::new();
        bench.wrong_ms = DAY_MS;
        bench.pass(HOUR_MS - 1000);
        bench.wrong_ms += 2 * ALIKE_MS;
        bench.pass(HOUR_MS - 1000);
        assert_eq!(bench.error_ms(), 0);
        // The machine sleeps.
        bench.boot_ms += PAUSE_MS_MAX + 1000;
        bench.pass(HOUR_MS - 1000);
        assert_eq!(bench.error_ms(), 0);
        bench.pass(3000);
        assert_eq!(bench.error_ms(), bench.wrong_ms);
    }

    #[test]
    fn a_slewed_clock_is_followed_and_a_creeping_one_is_not() {
        let mut bench = Bench::new();
        for _ in 0..5 * 3600 {
            bench.wrong_ms += 10;
            bench.pass(1000);
        }
        assert_eq!(bench.error_ms(), bench.wrong_ms);
        let before = bench.error_ms();
        for _ in 0..1800 {
            bench.wrong_ms += 30_000;
            bench.pass(1000);
        }
        assert!(bench.error_ms() - before <= 2 * TOLERANCE_MS);
        assert!(bench.trust.is_doubted());
    }

    #[test]
    fn a_new_process_on_the_same_machine_knows_that_the_wall_clock_jumped() {
        let mut bench = Bench::new();
        bench.pass(10_000);
        bench.wrong_ms = 100 * DAY_MS;
        bench.restart(5 * HOUR_MS, false);
        assert_eq!(bench.error_ms(), 0);
        assert!(bench.trust.is_doubted());
        bench.wrong_ms = 0;
        bench.pass(1000);
        assert!(bench.may_expire());
    }

    #[test]
    fn a_machine_that_was_off_has_its_wall_clock_believed_but_nothing_expires_for_an_hour() {
        let mut bench = Bench::new();
        bench.pass(10_000);
        bench.restart(30 * DAY_MS as u64, true);
        assert_eq!(bench.error_ms(), 0);
        bench.pass(HOUR_MS - 1000);
        assert!(!bench.may_expire());
        // Another process does not shorten the wait.
        bench.restart(0, false);
        assert!(!bench.may_expire());
        bench.pass(1000);
        assert!(bench.may_expire());
    }

    /// A directory that was made just now has a first segment, whose time is the known time.
    #[test]
    fn a_wall_clock_near_the_known_time_needs_no_hour() {
        let mut bench = Bench::new();
        bench.restart(TOLERANCE_MS as u64, true);
        assert!(bench.may_expire());
        let reading = bench.reading();
        let mut trust = ClockTrust::new(reading, HOUR);
        trust.resume(None, reading.wall_ms, reading, 1);
        assert_eq!(trust.assumed_ms(), None);
    }

    #[test]
    fn a_wall_clock_behind_the_newest_record_is_held_up_and_believed_when_it_comes_right() {
        let mut bench = Bench::new();
        bench.pass(10_000);
        let before_ms = bench.boot_ms as i64 + bench.trust.offset_ms;
        // A board without a battery begins at 1970.
        bench.wrong_ms = -(NOW_MS as i64);
        bench.restart(2 * DAY_MS as u64, true);
        assert_eq!(bench.boot_ms as i64 + bench.trust.offset_ms, before_ms);
        bench.pass(10_000);
        assert!(bench.trust.is_doubted());
        bench.wrong_ms = 0;
        bench.pass(1000);
        assert_eq!(bench.error_ms(), 0);
        assert!(!bench.trust.is_doubted() && !bench.may_expire());
    }

    #[test]
    fn the_first_correction_of_a_clock_that_was_behind_is_assumed_for_an_hour() {
        let mut bench = Bench::new();
        bench.pass(10_000);
        bench.wrong_ms = -(NOW_MS as i64);
        bench.restart(2 * DAY_MS as u64, true);
        let known_ms = bench.trust.offset_ms;
        // The first correction goes much too far.
        bench.wrong_ms = 5000 * DAY_MS;
        bench.pass(1000);
        assert_eq!(bench.error_ms(), bench.wrong_ms);
        let ahead_ms = bench.true_ms + bench.wrong_ms - known_ms;
        assert_eq!(bench.trust.assumed_ms(), Some(ahead_ms));
        bench.pass(HOUR_MS / 2);
        // The second correction is right. It is no proof of the first one.
        bench.wrong_ms = 0;
        bench.pass(HOUR_MS - 1000);
        assert!(!bench.may_expire());
        bench.pass(2000);
        assert_eq!(bench.error_ms(), 0);
        assert!(bench.may_expire());
    }

    #[test]
    fn an_assumed_time_is_not_known_after_the_next_start_of_the_machine() {
        let mut bench = Bench::new();
        bench.pass(10_000);
        bench.wrong_ms = 100 * DAY_MS;
        bench.restart(DAY_MS as u64, true);
        bench.pass(HOUR_MS / 2);
        bench.restart(0, false);
        assert_eq!(bench.error_ms(), 100 * DAY_MS);
        assert!(!bench.may_expire());
        bench.wrong_ms = 0;
        bench.restart(DAY_MS as u64, true);
        assert_eq!(bench.error_ms(), 0);
        assert!(!bench.trust.is_doubted() && !bench.may_expire());
        bench.pass(HOUR_MS);
        assert!(bench.may_expire());
    }

    #[test]
    fn an_assumed_time_whose_wall_clock_contradicts_itself_is_proved_anew() {
        let mut bench = Bench::new();
        bench.pass(10_000);
        bench.restart(DAY_MS as u64, true);
        bench.pass(HOUR_MS - 2000);
        bench.wrong_ms = DAY_MS;
        bench.pass(1000);
        bench.wrong_ms = 0;
        bench.pass(HOUR_MS - 1000);
        assert!(!bench.may_expire());
        bench.pass(1000);
        assert!(bench.may_expire());
    }

    #[test]
    fn a_first_start_in_1970_comes_right_at_once() {
        let first = Reading {
            wall_ms: 5000,
            boot_ms: 3000,
        };
        let mut trust = ClockTrust::new(first, HOUR);
        trust.resume(None, 0, first, 1);
        assert!(trust.is_doubted());
        trust.observe(Reading {
            wall_ms: NOW_MS,
            boot_ms: 4000,
        });
        assert_eq!(trust.offset_ms, NOW_MS as i64 - 4000);
    }

    #[test]
    fn a_log_without_a_mark_is_held_up_by_its_newest_record() {
        let reading = Reading {
            wall_ms: NOW_MS,
            boot_ms: BOOT_MS,
        };
        let mut trust = ClockTrust::new(reading, HOUR);
        trust.resume(None, NOW_MS + DAY_MS as u64, reading, 1);
        assert_eq!(trust.offset_ms, offset_of(reading) + DAY_MS);
        assert!(trust.is_doubted());
    }

    /// Random errors of the wall clock, each for less than an hour, over restarts of process and machine: the trusted clock
    /// stays within the drift that it may follow.
    #[test]
    fn no_schedule_of_short_jumps_moves_the_trusted_clock() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bench = Bench::new();
            for _ in 0..40 {
                match random.u8(0..6) {
                    0 => bench.wrong_ms = random.i64(-400 * DAY_MS..400 * DAY_MS),
                    1 => bench.wrong_ms = random.i64(-30_000..30_000),
                    2 => bench.restart(random.u64(0..DAY_MS as u64), false),
                    3 => {
                        // The machine starts with a clock that is right.
                        bench.wrong_ms = 0;
                        bench.pass(1000);
                        bench.restart(random.u64(0..DAY_MS as u64), true);
                    }
                    _ => {}
                }
                bench.pass(random.u64(1000..HOUR_MS / 2));
                if bench.wrong_ms.abs() > TOLERANCE_MS {
                    bench.wrong_ms = 0;
                    bench.pass(1000);
                }
                let error_ms = bench.error_ms().abs();
                assert!(
                    error_ms <= TOLERANCE_MS,
                    "seed {seed}: off by {error_ms} ms"
                );
            }
        }
    }
}
