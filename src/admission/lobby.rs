//! The arrivals of one reactor: TCP connections that are no sessions yet, oldest first.
//!
//! Each is waited for by a task and does not have to be: when the lobby is full the oldest is cut off for the one that
//! comes, and so is the oldest of an address that has too many. A client that means it is through in a few round trips;
//! one that holds its place in silence loses it as soon as somebody wants it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::task::AbortHandle;

use super::{Address, Admission, Permit, Refused, later};
use crate::config;

/// Of one reactor.
pub struct Lobby {
    admission: Arc<Admission>,
    max: usize,
    /// `usize::MAX`: no limit.
    of_address_max: usize,
    entered: Cell<u64>,
    arrivals: RefCell<Arrivals>,
}

#[derive(Default)]
struct Arrivals {
    /// Each with its address and the task that waits for it, by the order in which they came.
    all: BTreeMap<u64, (Address, Option<AbortHandle>)>,
    of_address: HashMap<Address, BTreeSet<u64>>,
}

/// A place in the lobby; given back when dropped. Whoever holds it may be aborted at any time.
pub struct Arrival {
    lobby: Rc<Lobby>,
    number: u64,
    address: Address,
}

impl Arrivals {
    fn remove(&mut self, number: u64) -> Option<AbortHandle> {
        let (address, task) = self.all.remove(&number)?;
        let of_address = self.of_address.get_mut(&address);
        let of_address = of_address.expect("every arrival is listed by its address");
        of_address.remove(&number);
        if of_address.is_empty() {
            self.of_address.remove(&address);
        }
        task
    }
}

impl Lobby {
    /// An empty one.
    pub fn new(config: &config::Listener, admission: Arc<Admission>) -> Rc<Self> {
        Rc::new(Self {
            admission,
            max: config.handshakes_max,
            of_address_max: match config.handshakes_per_address_max {
                0 => usize::MAX,
                max => max,
            },
            entered: Cell::new(0),
            arrivals: RefCell::default(),
        })
    }

    /// Somebody comes; where there is no room, somebody else goes.
    pub fn enter(self: &Rc<Self>, ip: IpAddr) -> Arrival {
        let address = Address::of(ip);
        let arrivals = &mut *self.arrivals.borrow_mut();
        let alike = arrivals.of_address.get(&address);
        let alike = alike.filter(|alike| alike.len() >= self.of_address_max);
        if let Some(oldest) = alike.and_then(|alike| alike.first().copied()) {
            self.cut_off(arrivals, oldest, "address");
        } else if arrivals.all.len() >= self.max
            && let Some((&oldest, _)) = arrivals.all.first_key_value()
        {
            self.cut_off(arrivals, oldest, "crowded");
        }
        let number = self.entered.get();
        self.entered.set(number + 1);
        arrivals.all.insert(number, (address, None));
        arrivals
            .of_address
            .entry(address)
            .or_default()
            .insert(number);
        Arrival {
            lobby: Rc::clone(self),
            number,
            address,
        }
    }

    fn cut_off(&self, arrivals: &mut Arrivals, number: u64, reason: &'static str) {
        self.admission.metrics.refused(reason);
        if let Some(task) = arrivals.remove(number) {
            task.abort();
        }
    }
}

impl Arrival {
    /// For [`Self::attend`].
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The request is good: takes a connection's place, or says why there is none.
    pub fn admit(&self) -> Result<Permit, Refused> {
        self.lobby.admission.admit(self.address)
    }

    /// Its token was not good.
    pub fn note_bad_token(&self) {
        let admission = &self.lobby.admission;
        let now = admission.started.elapsed();
        admission.bad_tokens.note(self.address, now);
    }

    /// When to come back, if only sessions that resume are let in now.
    pub fn wait_if_new(&self) -> Option<Duration> {
        self.lobby.admission.is_pressed().then(later)
    }
}

impl Lobby {
    /// The task that holds the arrival from now on, to be aborted when it has to give way.
    pub fn attend(&self, number: u64, task: AbortHandle) {
        if let Some((_, attended)) = self.arrivals.borrow_mut().all.get_mut(&number) {
            *attended = Some(task);
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.lobby.arrivals.borrow_mut().remove(self.number);
    }
}
