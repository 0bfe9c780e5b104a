//! Time: the trusted clock that every room asks, and the machine's two clocks behind a trait.
//!
//! The trusted clock is the boot time plus an offset. The offset follows the wall clock by at most a minute in an hour, and
//! takes a larger step only on proof, on confirmation or as a correction (`trust.rs`). So a wall clock that is wrong for a
//! moment moves the trusted time by a minute at most: no message expires early, and no good token is refused. After a start
//! of the machine there is only the wall clock to ask. A time more than a minute after the known one is then assumed for an
//! hour. Leaves to others: waiting (`tokio::time`), and the behaviour of the rooms while the time is in doubt.
//!
//! - `trust.rs`: which offset is trusted, decided from readings alone
//! - `machine.rs`: the machine's clocks

mod machine;
mod trust;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

pub use self::machine::{Machine, Reading};
pub(crate) use self::trust::{MARK_WORDS, Mark};
use self::{machine::SystemMachine, trust::ClockTrust};

/// The largest distance between the wall clock and the trusted clock, in ms, without a doubt. Tokens have the same leeway.
pub(crate) const TOLERANCE_MS: i64 = 60_000;

/// The wall clock and the boot time must advance alike for this long before a new offset is trusted. A time server that is
/// wrong for a moment is corrected within minutes. An operator who cannot wait confirms the wall clock by hand.
const PROOF: Duration = Duration::from_secs(3600);

/// The trusted clock. Shared by all rooms.
pub struct Clock {
    machine: Box<dyn Machine>,
    /// The offset: trusted time less boot time, ms. A copy of `trust`'s offset, for readers.
    offset_ms: AtomicI64,
    /// The latest answer. After a small correction backwards the clock stands still until time has caught up.
    latest_ms: AtomicU64,
    trust: Mutex<ClockTrust>,
}

/// The reason for which the trusted time may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The wall clock and the trusted clock are more than a minute apart.
    Disagree {
        /// Wall time less trusted time, in ms.
        ahead_ms: i64,
    },
    /// The machine was started again or its wall clock was set right, and the time that the wall clock gave then has not
    /// held for an hour yet.
    Assumed {
        /// Trusted time less the time that was known before, in ms. The true time is not before the known time.
        ahead_ms: i64,
    },
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::new(Box::new(SystemMachine::default()), PROOF)
    }

    /// The clock of any machine. A new offset must hold for `proof` before it is trusted.
    pub fn new(machine: Box<dyn Machine>, proof: Duration) -> Self {
        let trust = ClockTrust::new(machine.read(), proof);
        Self {
            offset_ms: trust.offset_ms().into(),
            latest_ms: AtomicU64::new(0),
            trust: Mutex::new(trust),
            machine,
        }
    }

    /// Unix time in ms. Never less than an earlier answer, except after a trusted correction of more than a minute.
    pub fn now_ms(&self) -> u64 {
        let boot_ms = self.machine.boot_ms();
        let now_ms = boot_ms.saturating_add_signed(self.offset_ms.load(Relaxed));
        let latest_ms = self.latest_ms.fetch_max(now_ms, Relaxed);
        if latest_ms.saturating_sub(now_ms) > TOLERANCE_MS as u64 {
            // A new offset is trusted, and it lies further back.
            self.latest_ms.store(now_ms, Relaxed);
            return now_ms;
        }
        latest_ms.max(now_ms)
    }

    /// Continues from the mark of an earlier process. `newest_ms` is the time of the newest record in the log, for a log
    /// without a mark. Call it before any room acts on the time.
    pub(crate) fn resume(&self, mark: Option<Mark>, newest_ms: u64) {
        let reading = self.machine.read();
        self.change(|trust| trust.resume(mark, newest_ms, reading, self.machine.boot_id()));
    }

    /// Reads the wall clock. Call it about once a second.
    pub(crate) fn observe(&self) {
        let reading = self.machine.read();
        self.change(|trust| trust.observe(reading));
    }

    /// Trusts the wall clock's time at once, because an administrator says that it is right.
    pub fn accept(&self) {
        let reading = self.machine.read();
        self.change(|trust| trust.accept(reading));
    }

    /// The state to store, so that a later process can continue from it.
    pub(crate) fn mark(&self) -> Mark {
        let boot_ms = self.machine.boot_ms();
        self.trust().mark(boot_ms, self.machine.boot_id())
    }

    /// The wall clock's time less the trusted time, in ms; 0 within a minute.
    pub(crate) fn wall_ahead_ms(&self) -> i64 {
        let Reading { wall_ms, boot_ms } = self.machine.read();
        let now_ms = boot_ms.saturating_add_signed(self.offset_ms.load(Relaxed));
        let ahead_ms = wall_ms as i64 - now_ms as i64;
        if ahead_ms.abs() > TOLERANCE_MS {
            ahead_ms
        } else {
            0
        }
    }

    /// The reason for which the time may be wrong now; `None` while it is certain.
    pub fn doubt(&self) -> Option<Doubt> {
        match self.wall_ahead_ms() {
            0 => {
                let ahead_ms = self.trust().assumed_ms()?;
                Some(Doubt::Assumed { ahead_ms })
            }
            ahead_ms => Some(Doubt::Disagree { ahead_ms }),
        }
    }

    /// True if messages older than a limit may be removed now. It is false while the time is in doubt.
    pub fn may_expire(&self) -> bool {
        self.doubt().is_none() && !self.trust().is_doubted()
    }

    /// Changes the trusted offset, and logs changes that matter to an operator.
    fn change(&self, change: impl FnOnce(&mut ClockTrust)) {
        let mut trust = self.trust();
        let (was_doubted, was_assumed) = (trust.is_doubted(), trust.assumed_ms().is_some());
        let before_ms = trust.offset_ms();
        change(&mut trust);
        let (is_doubted, assumed_ms) = (trust.is_doubted(), trust.assumed_ms());
        let offset_ms = trust.offset_ms();
        self.offset_ms.store(offset_ms, Relaxed);
        drop(trust);
        if (offset_ms - before_ms).abs() > TOLERANCE_MS {
            let moved_s = (offset_ms - before_ms) / 1000;
            tracing::warn!(
                moved_s,
                "the gateway's clock has taken the wall clock's time"
            );
        } else if is_doubted && !was_doubted {
            let ahead_s = self.wall_ahead_ms() / 1000;
            tracing::error!(
                ahead_s,
                "the wall clock jumped and is not believed: correct it, or confirm it with POST /clock/accept; nothing expires by age meanwhile"
            );
        } else if was_doubted && !is_doubted {
            tracing::info!("the wall clock agrees with the gateway's clock again");
        }
        match assumed_ms {
            Some(ahead_ms) if !was_assumed => tracing::warn!("{}", Doubt::Assumed { ahead_ms }),
            None if was_assumed => tracing::info!("the gateway's time is no longer only assumed"),
            _ => {}
        }
    }

    fn trust(&self) -> MutexGuard<'_, ClockTrust> {
        // The lock guards plain values, which no panic leaves half changed.
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Disagree { ahead_ms } => {
                let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
                write!(
                    f,
                    "the wall clock is {} s {side} the gateway's clock: correct it, or confirm it with POST /clock/accept",
                    ahead_ms.unsigned_abs() / 1000
                )
            }
            Self::Assumed { ahead_ms } => write!(
                f,
                "the time is assumed, {} s after the last known time, until the wall clock has held it for an hour: correct the wall clock if it is wrong, or confirm it with POST /clock/accept",
                ahead_ms / 1000
            ),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) mod manual;

    use std::sync::Arc;

    use self::manual::{Manual, NOW_MS};
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_moves_nothing_and_is_told() {
        let machine = Manual::new();
        let clock = machine.clock();
        prove(&machine, &clock);
        machine.jump(100 * 86_400_000);
        clock.observe();
        assert_eq!(clock.now_ms(), NOW_MS + machine.passed_ms());
        let doubt = clock.doubt().expect("a jump is doubted");
        assert!(doubt.to_string().contains("8640000 s ahead of"), "{doubt}");
        assert!(!clock.may_expire());
        machine.jump(-100 * 86_400_000);
        clock.observe();
        assert!(clock.doubt().is_none() && clock.may_expire());
    }

    #[test]
    fn time_stands_still_rather_than_going_back_a_little() {
        let machine = Manual::new();
        let clock = machine.clock();
        let before = clock.now_ms();
        machine.jump(-5000);
        clock.observe();
        assert_eq!(clock.now_ms(), before);
        machine.advance(4000);
        assert_eq!(clock.now_ms(), before);
        machine.advance(2000);
        assert_eq!(clock.now_ms(), before + 1000);
    }

    #[test]
    fn an_administrators_word_moves_the_clock_either_way_at_once() {
        let machine = Manual::new();
        let clock = machine.clock();
        prove(&machine, &clock);
        for jump in [86_400_000, -3 * 86_400_000] {
            let before = clock.now_ms();
            machine.jump(jump);
            clock.observe();
            assert_eq!(clock.now_ms(), before);
            clock.accept();
            assert_eq!(clock.now_ms(), before.saturating_add_signed(jump));
            assert!(clock.doubt().is_none() && clock.may_expire());
        }
    }

    /// An hour in which both clocks advance alike.
    fn prove(machine: &Arc<Manual>, clock: &Clock) {
        for _ in 0..=3600 {
            machine.advance(1000);
            clock.observe();
        }
    }
}
