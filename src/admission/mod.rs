//! Who may come in: how many at once, how fast, from where, into how much memory.
//!
//! An *arrival* is a TCP connection that is no session yet. Arrivals stand in their reactor's [`Lobby`], where each may be
//! made to give way to a later one: so whoever fills it with silence has to go on filling it, and locks nobody out.
//! At its request an arrival is admitted or told when to come back; at its `Connect` it is told so once more if it is new
//! and the gateway is pressed, since sessions that resume go before new ones. All of it is bounded, whoever knocks.
//!
//! - `lobby.rs`: the arrivals of one reactor
//! - `address.rs`: where one comes from
//! - `bad_tokens.rs`: who guesses
//! - `debt.rs`: a rate with a burst, in eight bytes
//! - `memory.rs`: how much there is and how much is used; `groups.rs`: what control groups leave of it
//! - `descriptors.rs`: what each port may have of them

mod address;
mod bad_tokens;
mod debt;
mod descriptors;
mod groups;
mod lobby;
mod memory;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::{address::Address, bad_tokens::BadTokens, debt::Debt, memory::Memory};
pub use self::{
    descriptors::{Shares, TooFew, raise_limit},
    lobby::{Arrival, Lobby},
    memory::{SOCKET_BYTES, memory_bytes_max_for, new_sessions_bytes_max},
};
use crate::{
    config,
    metrics::{Metrics, RefusalReason},
};

/// Handshakes may run ahead of their rate by as many as a second allows.
const BURST: Duration = Duration::from_secs(1);
/// Those that may come back soon do so after 1 s to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// New sessions that gave way come back after this to three times this: when those that resume are through.
const NEW_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Why an arrival is turned away at its request, and when it may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There are as many connections as there may be.
    Connections(Duration),
    /// Handshakes come faster than they may.
    Rate(Duration),
    /// The process holds as much memory as it may.
    Memory(Duration),
    /// Too many bad tokens came from its address.
    BadTokens(Duration),
}

impl Refused {
    /// The same for the metric.
    pub fn reason(self) -> RefusalReason {
        match self {
            Self::Connections(_) => RefusalReason::Overload,
            Self::Rate(_) => RefusalReason::Rate,
            Self::Memory(_) => RefusalReason::Memory,
            Self::BadTokens(_) => RefusalReason::BadTokens,
        }
    }
}

/// What the whole process lets in. Shared by all reactors.
pub struct Admission {
    started: Instant,
    metrics: Arc<Metrics>,
    /// TCP connections: those that are admitted, and arrivals that are not yet.
    sockets: AtomicUsize,
    open: AtomicUsize,
    open_max: usize,
    handshakes: Debt,
    /// What one handshake costs of [`BURST`]; zero: no limit.
    handshake_cost: Duration,
    bad_tokens: BadTokens,
    memory: Memory,
}

/// One connection's share of the admission, its socket's included; given back when dropped.
pub struct Permit(Arc<Admission>);

impl Admission {
    /// With nobody in.
    pub fn new(config: &config::Listener, metrics: Arc<Metrics>) -> Self {
        Self {
            started: Instant::now(),
            metrics,
            sockets: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            open_max: config.connections_max,
            handshakes: Debt::default(),
            handshake_cost: BURST
                .checked_div(config.handshakes_per_second_max)
                .unwrap_or_default(),
            bad_tokens: BadTokens::new(config.bad_tokens_per_minute_max),
            memory: Memory::new(config.memory_bytes_max),
        }
    }

    /// One more connection, if there may be one.
    fn admit(self: &Arc<Self>, address: Address) -> Result<Permit, Refused> {
        let now = self.started.elapsed();
        if let Some(wait) = self.bad_tokens.wait(address, now) {
            return Err(Refused::BadTokens(wait + soon()));
        }
        if self.memory.is_full(now, self.open.load(Relaxed)) {
            return Err(Refused::Memory(soon()));
        }
        let permit = self.take().ok_or_else(|| Refused::Connections(soon()))?;
        self.handshakes
            .charge(now, self.handshake_cost, BURST)
            .map_err(|_| Refused::Rate(soon()))?;
        Ok(permit)
    }

    /// The next handshake would be refused for the rate.
    fn is_rushed(&self) -> bool {
        let owed = self.handshakes.owed(self.started.elapsed());
        owed + self.handshake_cost > BURST
    }

    /// Counts one more. Whether that is no more than there may be, arrivals included.
    fn add_socket(&self) -> bool {
        self.sockets.fetch_add(1, Relaxed) < self.open_max
    }

    fn take(self: &Arc<Self>) -> Option<Permit> {
        let more = |open: usize| (open < self.open_max).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, more).ok()?;
        self.sockets.fetch_add(1, Relaxed);
        self.metrics.connections.increment(1);
        Some(Permit(Arc::clone(self)))
    }

    /// Half of the burst, or nearly all of the memory, is used: what is left is for those that resume.
    fn is_pressed(&self) -> bool {
        let now = self.started.elapsed();
        self.handshakes.owed(now) > BURST / 2 || self.memory.is_tight(now, self.open.load(Relaxed))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
        self.0.open.fetch_sub(1, Relaxed);
        self.0.metrics.connections.decrement(1);
    }
}

/// So that those who are turned away together do not come back together.
fn soon() -> Duration {
    let least = Duration::from_secs(1);
    least + (RETRY_AFTER_MAX - least).mul_f64(fastrand::f64())
}

/// When a new session that gave way may come back.
fn later() -> Duration {
    NEW_RETRY_AFTER + NEW_RETRY_AFTER.mul_f64(2.0 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(change: impl FnOnce(&mut config::Listener)) -> Arc<Admission> {
        let mut config = config::Listener::default();
        change(&mut config);
        Arc::new(Admission::new(&config, Arc::new(Metrics::new())))
    }

    fn somebody() -> Address {
        Address::of([127, 0, 0, 1].into())
    }

    #[test]
    fn a_permit_that_is_given_back_is_somebody_elses() {
        let admission = admission(|config| config.connections_max = 1);
        let Ok(held) = admission.admit(somebody()) else {
            panic!("the first is let in")
        };
        assert!(matches!(
            admission.admit(somebody()),
            Err(Refused::Connections(_))
        ));
        drop(held);
        assert!(admission.admit(somebody()).is_ok());
    }

    #[test]
    fn handshakes_above_the_rate_are_refused_and_give_their_permit_back() {
        // So slow that no test run is long enough for another one.
        let admission = admission(|config| config.handshakes_per_second_max = 1);
        admission
            .handshakes
            .charge(BURST * 3600, BURST, BURST)
            .unwrap();
        assert!(matches!(admission.admit(somebody()), Err(Refused::Rate(_))));
        assert_eq!(admission.open.load(Relaxed), 0);
        assert!(admission.is_rushed() && admission.is_pressed());
    }

    #[test]
    fn a_zero_is_no_limit() {
        let admission = admission(|config| {
            config.handshakes_per_second_max = 0;
            config.bad_tokens_per_minute_max = 0;
        });
        for _ in 0..100_000 {
            admission
                .bad_tokens
                .note(somebody(), "none", Duration::ZERO);
            assert!(admission.admit(somebody()).is_ok());
        }
        assert!(!admission.is_rushed() && !admission.is_pressed());
    }

    #[test]
    fn more_memory_than_there_may_be_lets_nobody_in() {
        let admission = admission(|config| config.memory_bytes_max = 1);
        assert!(matches!(
            admission.admit(somebody()),
            Err(Refused::Memory(_))
        ));
        assert!(admission.is_pressed());
    }

    #[test]
    fn nobody_is_told_to_come_back_at_once_and_new_sessions_come_after_the_others() {
        for _ in 0..1000 {
            assert!((Duration::from_secs(1)..=RETRY_AFTER_MAX).contains(&soon()));
            assert!((NEW_RETRY_AFTER..=3 * NEW_RETRY_AFTER).contains(&later()));
        }
    }
}
