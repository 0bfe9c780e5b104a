//! The state that the sessions of one process of the rig share: the ledger, the meter, the clock, and their orders.
//!
//! Everything lives on one thread, so it is shared without locks. No borrow is held over an await.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use crate::{
    ledger::{LandedMessage, Ledger, LedgerTally, SessionStanding},
    meter::{Meter, Stood},
    sources::SourceAddresses,
};

/// Platforms 1 to 9. By the default login policy a user holds one place on each of them.
pub(crate) const SESSIONS_EACH_MAX: u32 = 9;
/// The interval of checks while waiting for a condition.
const LOOK: Duration = Duration::from_millis(10);
/// The pause of a slow reader between two reads.
pub(crate) const SLOW_PAUSE: Duration = Duration::from_secs(1);
/// The wait after everything has landed. A surplus message would come within it.
const SETTLE: Duration = Duration::from_millis(300);

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) user: u32,
    /// The number among that user's sessions.
    pub(crate) session: u32,
}

/// The orders for all sessions. A change reaches each at once.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// A new number means: leave the connection and reconnect. Each process counts for itself.
    #[serde(skip)]
    pub(crate) generation: u32,
    /// These users read nothing.
    pub(crate) deaf: Share,
    /// These users read once in [`SLOW_PAUSE`].
    pub(crate) slow: Share,
    /// All sessions leave, and stay away.
    pub(crate) away: bool,
    /// The mean life of a connection, at random; `None`: it never ends.
    pub(crate) lifetime: Option<Duration>,
}

/// A range of all users: from one share to another, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Share {
    pub(crate) const ALL: Self = Self { from: 0.0, to: 1.0 };

    /// True if this user, of this many users, is in the range.
    pub(crate) fn holds(self, user: u32, of: u32) -> bool {
        let at = f64::from(user) / f64::from(of);
        self.from <= at && at < self.to
    }
}

/// The state of one session.
#[derive(Debug, Clone, Copy, Default)]
struct SessionState {
    is_connected: bool,
    /// The generation in which it had caught up with its inbox.
    caught_up_in: Option<u32>,
}

/// The size of a crowd.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) users: u32,
    pub(crate) sessions_each: u32,
    pub(crate) content_bytes: (usize, usize),
    /// True if sessions only hold their place, in one cheap loop.
    pub(crate) is_lean: bool,
    /// The longest wait for events that should come at once.
    pub(crate) patience: Duration,
}

/// The present state of a crowd, or of several together.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Connected sessions.
    pub(crate) connected: u32,
    /// Sessions that have caught up with their inboxes since the last order to reconnect.
    pub(crate) caught_up: u32,
    /// Sends without an answer.
    pub(crate) open: u64,
    /// Deliveries of accepted messages that are still missing.
    pub(crate) missing: u64,
    /// Deliveries of accepted messages that have landed.
    pub(crate) landed: u64,
}

impl Counts {
    /// True if every send was answered and every accepted message has landed.
    pub(crate) fn is_settled(&self) -> bool {
        self.open == 0 && self.missing == 0
    }
}

/// The state that the sessions of a process share.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) size: Size,
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) meter: RefCell<Meter>,
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) sources: SourceAddresses,
    /// Faults of connections and sends, counted by their text.
    pub(crate) incidents: RefCell<BTreeMap<String, u64>>,
    pub(crate) connected: Cell<u32>,
    caught_up: Cell<u32>,
    states: RefCell<Vec<SessionState>>,
    began: Instant,
}

impl Crowd {
    /// A crowd without sessions yet.
    pub(crate) fn new(size: Size, ordinal: u8) -> anyhow::Result<Rc<Self>> {
        if !(1..=SESSIONS_EACH_MAX).contains(&size.sessions_each) || size.users == 0 {
            bail!("a user has 1 to {SESSIONS_EACH_MAX} platforms, and there is at least one user");
        }
        let Size {
            users,
            sessions_each,
            content_bytes,
            ..
        } = size;
        let crowd = Self {
            size,
            ledger: Ledger::new(users, sessions_each, content_bytes).into(),
            meter: Meter::new().into(),
            orders: watch::Sender::new(Orders::default()),
            sources: SourceAddresses::of(ordinal),
            incidents: RefCell::default(),
            connected: Cell::new(0),
            caught_up: Cell::new(0),
            states: vec![SessionState::default(); (users * sessions_each) as usize].into(),
            began: Instant::now(),
        };
        Ok(Rc::new(crowd))
    }

    pub(crate) fn sessions(&self) -> u32 {
        self.size.users * self.size.sessions_each
    }

    /// The session of this number, below [`Self::sessions`].
    pub(crate) fn who(&self, at: u32) -> Who {
        Who {
            user: at / self.size.sessions_each,
            session: at % self.size.sessions_each,
        }
    }

    /// µs since the run began, the ledger's clock.
    pub(crate) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(crate) fn incident(&self, what: String) {
        *self.incidents.borrow_mut().entry(what).or_default() += 1;
    }

    /// Notes that a session connected or left.
    pub(crate) fn set_connected(&self, who: Who, is_connected: bool) {
        let state = &mut self.states.borrow_mut()[self.at(who)];
        let before = std::mem::replace(&mut state.is_connected, is_connected);
        let connected = self.connected.get() + u32::from(is_connected) - u32::from(before);
        self.connected.set(connected);
    }

    /// Notes that a session has caught up with its inbox on a connection of this generation.
    pub(crate) fn set_caught_up(&self, who: Who, generation: u32) {
        let state = &mut self.states.borrow_mut()[self.at(who)];
        let before = state.caught_up_in.replace(generation);
        if before != Some(generation) && generation == self.orders.borrow().generation {
            self.caught_up.set(self.caught_up.get() + 1);
        }
    }

    /// A message came to a session that has been reading since this time. Enters it, and its latency.
    pub(crate) fn land(&self, who: Who, message: &LandedMessage<'_>, reading_since_us: u64) {
        let landed = self
            .ledger
            .borrow_mut()
            .landed(who.user, who.session, message);
        if let Some(key) = landed {
            let orders = *self.orders.borrow();
            let is_ready =
                key.due_us >= reading_since_us && !orders.slow.holds(who.user, self.size.users);
            let stood = if is_ready {
                Stood::Ready
            } else {
                Stood::Hindered
            };
            let latency_us = self.now_us().saturating_sub(key.due_us);
            self.meter.borrow_mut().landed(latency_us, stood);
        }
    }

    /// Sessions follow these orders from now on.
    pub(crate) fn obey(&self, orders: Orders) {
        self.orders.send_modify(|before| {
            *before = Orders {
                generation: before.generation,
                ..orders
            }
        });
    }

    /// Every session leaves its connection and reconnects, as after a loss.
    pub(crate) fn come_back(&self) {
        self.caught_up.set(0);
        self.orders.send_modify(|orders| orders.generation += 1);
    }

    fn at(&self, who: Who) -> usize {
        (who.user * self.size.sessions_each + who.session) as usize
    }

    /// Waits until the condition holds. `false`: not within this time.
    async fn until(&self, longest: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let began = Instant::now();
        while !is_so(self) {
            if began.elapsed() > longest {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    /// The present state of the crowd.
    pub(crate) fn counts(&self) -> Counts {
        let ledger = self.ledger.borrow();
        let missing = ledger.missing_everywhere();
        Counts {
            connected: self.connected.get(),
            caught_up: self.caught_up.get(),
            open: ledger.open(),
            missing,
            landed: ledger.accepted_everywhere() - missing,
        }
    }

    /// Waits for sends under way, checks every inbox with missing messages once more, and closes the books.
    pub(crate) async fn close(&self) -> LedgerTally {
        let longest = self.size.patience;
        if self
            .until(longest, |crowd| crowd.counts().is_settled())
            .await
        {
            sleep(SETTLE).await;
        } else {
            self.come_back();
            self.until(longest, |crowd| crowd.caught_up.get() == crowd.sessions())
                .await;
        }
        let generation = self.orders.borrow().generation;
        let states = self.states.borrow();
        self.ledger.borrow().tally(|user, session| {
            match states[self.at(Who { user, session })].caught_up_in == Some(generation) {
                true => SessionStanding::CaughtUp,
                false => SessionStanding::Behind,
            }
        })
    }
}

/// The end of a connection's life: exponentially distributed, so that connections end at an even rate.
pub(crate) fn end_of_life(orders: &Orders) -> Option<tokio::time::Instant> {
    let lifetime = orders.lifetime?;
    Some(tokio::time::Instant::now() + lifetime.mul_f64(-(1.0 - fastrand::f64()).ln()))
}

pub(crate) async fn until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
