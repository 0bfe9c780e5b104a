//! Admission: which connections may come in, by their number, rate, address and memory.
//!
//! An *arrival* is a TCP connection without a session. Each arrival is in the [`Lobby`] of its reactor. A full lobby cuts off
//! its oldest arrival for the next one, so a flood of silent connections keeps no client out for long. An arrival is judged
//! twice. At its HTTP request it is admitted, or told when to return. At its `Connect` a new session is told when to return
//! while the gateway is under pressure, so that sessions which resume go first. The number of arrivals and the memory of each
//! limit are bounded.
//!
//! - `lobby.rs`: the arrivals of one reactor
//! - `address.rs`: the address that limits count by
//! - `bad_tokens.rs`: the limit on bad tokens
//! - `debt.rs`: a rate with a burst, in eight bytes
//! - `memory.rs`: the limit and the use of memory; `groups.rs`: the limits of control groups
//! - `descriptors.rs`: the share of file descriptors of each port

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

pub(crate) use self::debt::Debt;
use self::{address::Address, bad_tokens::BadTokens, memory::Memory};
pub use self::{
    descriptors::{Shares, TooFew, raise_limit},
    lobby::{Arrival, Lobby},
    memory::{SOCKET_BYTES, memory_bytes_max_for, new_sessions_bytes_max},
};
use crate::{
    config,
    metrics::{Metrics, RefusalReason},
};

/// Handshakes may be ahead of their rate by the number that a second allows.
const BURST: Duration = Duration::from_secs(1);
/// A refused client that may return soon gets a delay from 1 s to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// A refused new session gets a delay from this to three times this. By then the sessions that resume have been admitted.
const NEW_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Why an arrival is refused at its request, and the delay before it may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The number of connections is at its limit.
    Connections(Duration),
    /// Handshakes come faster than allowed.
    Rate(Duration),
    /// The memory of the process is at its limit.
    Memory(Duration),
    /// The address sent too many bad tokens.
    BadTokens(Duration),
    /// The address has too many arrivals, each within a call.
    Address(Duration),
}

impl Refused {
    /// The delay before the client may return.
    pub fn wait(self) -> Duration {
        match self {
            Self::Connections(wait)
            | Self::Rate(wait)
            | Self::Memory(wait)
            | Self::BadTokens(wait)
            | Self::Address(wait) => wait,
        }
    }

    /// The label of this reason in the metric.
    pub fn reason(self) -> RefusalReason {
        match self {
            Self::Connections(_) => RefusalReason::Overload,
            Self::Rate(_) => RefusalReason::Rate,
            Self::Memory(_) => RefusalReason::Memory,
            Self::BadTokens(_) => RefusalReason::BadTokens,
            Self::Address(_) => RefusalReason::Address,
        }
    }
}

/// The admission of the whole process, shared by all reactors.
pub struct Admission {
    started: Instant,
    metrics: Arc<Metrics>,
    /// TCP connections: the admitted ones and the arrivals.
    sockets: AtomicUsize,
    open: AtomicUsize,
    open_max: usize,
    handshakes: Debt,
    /// The cost of one handshake, as a part of [`BURST`]; zero: no limit.
    handshake_cost: Duration,
    bad_tokens: BadTokens,
    memory: Memory,
}

/// One admitted connection with its socket; given back when dropped.
pub struct Permit(Arc<Admission>);

impl Admission {
    /// An admission without connections.
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

    /// Says why nobody of this address is served now. `None`: an address that no proxy has named.
    fn check(&self, address: Option<Address>) -> Result<(), Refused> {
        let now = self.started.elapsed();
        if let Some(wait) = address.and_then(|address| self.bad_tokens.wait(address, now)) {
            return Err(Refused::BadTokens(wait + soon()));
        }
        if self.memory.is_full(now, self.open.load(Relaxed)) {
            return Err(Refused::Memory(soon()));
        }
        Ok(())
    }

    /// Admits one more connection, if the limits allow it.
    fn admit(self: &Arc<Self>, address: Option<Address>) -> Result<Permit, Refused> {
        self.check(address)?;
        let now = self.started.elapsed();
        let permit = self.take().ok_or_else(|| Refused::Connections(soon()))?;
        self.handshakes
            .charge(now, self.handshake_cost, BURST)
            .map_err(|_| Refused::Rate(soon()))?;
        Ok(permit)
    }

    /// True if the rate would refuse the next handshake.
    fn is_rushed(&self) -> bool {
        let owed = self.handshakes.owed(self.started.elapsed());
        owed + self.handshake_cost > BURST
    }

    /// Counts one more socket. Returns false if there are now too many, arrivals included.
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

    /// True if half of the burst, or nearly all of the memory, is used. The rest is for sessions that resume.
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

/// A random short delay, so that clients that are refused together do not return together.
fn soon() -> Duration {
    let least = Duration::from_secs(1);
    least + (RETRY_AFTER_MAX - least).mul_f64(fastrand::f64())
}

/// The delay for a new session that was refused.
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
        let Ok(held) = admission.admit(Some(somebody())) else {
            panic!("the first is let in")
        };
        assert!(matches!(
            admission.admit(Some(somebody())),
            Err(Refused::Connections(_))
        ));
        drop(held);
        assert!(admission.admit(Some(somebody())).is_ok());
    }

    #[test]
    fn handshakes_above_the_rate_are_refused_and_give_their_permit_back() {
        // The rate is so slow that no test run is long enough for a second handshake.
        let admission = admission(|config| config.handshakes_per_second_max = 1);
        admission
            .handshakes
            .charge(BURST * 3600, BURST, BURST)
            .unwrap();
        assert!(matches!(
            admission.admit(Some(somebody())),
            Err(Refused::Rate(_))
        ));
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
            assert!(admission.admit(Some(somebody())).is_ok());
        }
        assert!(!admission.is_rushed() && !admission.is_pressed());
    }

    #[test]
    fn more_memory_than_there_may_be_lets_nobody_in() {
        let admission = admission(|config| config.memory_bytes_max = 1);
        assert!(matches!(
            admission.admit(Some(somebody())),
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
