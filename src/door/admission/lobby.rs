//! The arrivals of one reactor: TCP connections without a session, the oldest first.
//!
//! Each arrival has a task that may be aborted at any time. When the lobby is full, the oldest arrival is cut off for a new
//! one; so is the oldest arrival of an address that has too many. An honest client needs a few round trips to leave the
//! lobby. A silent client is cut off when another arrival needs room. In a lobby full of new arrivals, as after a
//! restart, each stays for at least [`STAY_MIN`], and the next clients wait in the kernel's queue. A lobby may use
//! the sockets that sessions leave, and always [`ARRIVALS_MIN`], so that every refused client gets an answer.
//!
//! A client that makes calls stays an arrival. Each call that was answered makes it the newest one, and none is cut off
//! within its call. If all that could give way are within calls, which end in bounded time, the newcomer is cut off.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use super::{Address, Admission, Permit, Refused, later, soon};
use crate::{config, metrics::RefusalReason};

/// The arrivals that a lobby has room for when all connections are taken. It is enough to answer 503 to about 1,000 clients
/// a second that are 30 ms away.
pub(super) const ARRIVALS_MIN: usize = 32;

/// The time for which arrivals stay in a full lobby: four round trips of an eighth of a second.
const STAY_MIN: Duration = Duration::from_millis(500);

/// The arrivals of one reactor.
pub struct Lobby {
    admission: Arc<Admission>,
    max: usize,
    /// The most arrivals of one address; `usize::MAX`: no limit.
    of_address_max: usize,
    entered: Cell<u64>,
    arrivals: RefCell<Arrivals>,
}

#[derive(Default)]
struct Arrivals {
    /// All arrivals, in the order in which they came.
    all: BTreeMap<u64, ListedArrival>,
    of_address: HashMap<Address, BTreeSet<u64>>,
}

struct ListedArrival {
    /// `None` while its proxy has not named it.
    address: Option<Address>,
    entered: Instant,
    /// The task of the arrival.
    task: Option<AbortHandle>,
    /// True while a call of its client is answered. Then it is not cut off.
    is_engaged: bool,
}

/// A connection in the lobby, which it leaves when dropped. Its task may be aborted at any time.
pub struct Arrival {
    lobby: Rc<Lobby>,
    number: Cell<u64>,
    /// The client's address; `None` while its proxy has not named it.
    address: Cell<Option<Address>>,
    displaces: bool,
    /// True once its socket is counted by its permit.
    is_admitted: Cell<bool>,
    /// True once its handshake is charged for requests that are answered here.
    is_charged: Cell<bool>,
}

/// An arrival within a call, which ends when dropped.
pub struct Engaged<'a>(&'a Arrival);

impl Arrivals {
    fn add(&mut self, number: u64, listed: ListedArrival) {
        if let Some(address) = listed.address {
            self.of_address.entry(address).or_default().insert(number);
        }
        self.all.insert(number, listed);
    }

    fn remove(&mut self, number: u64) -> Option<ListedArrival> {
        let listed = self.all.remove(&number)?;
        if let Some(address) = listed.address {
            let of_address = self.of_address.get_mut(&address);
            let of_address = of_address.expect("every arrival is listed by its address");
            of_address.remove(&number);
            if of_address.is_empty() {
                self.of_address.remove(&address);
            }
        }
        Some(listed)
    }

    fn cut_off(&mut self, number: u64) {
        if let Some(task) = self.remove(number).and_then(|listed| listed.task) {
            task.abort();
        }
    }

    /// The first of these arrivals that may be cut off.
    fn idle<'a>(&self, mut numbers: impl Iterator<Item = &'a u64>) -> Option<u64> {
        let is_idle = |number: &&u64| self.all.get(number).is_some_and(|one| !one.is_engaged);
        numbers.find(is_idle).copied()
    }
}

impl Lobby {
    /// An empty lobby.
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

    /// Adds an arrival. If there is no room, another arrival is cut off, which takes a turn of the thread: see
    /// [`Arrival::displaces`]. `None`: nobody may be cut off for it. An arrival behind a proxy has no address yet: see
    /// [`Arrival::come_from`].
    pub fn enter(self: &Rc<Self>, ip: Option<IpAddr>) -> Option<Arrival> {
        let address = ip.map(Address::of);
        let arrivals = &mut *self.arrivals.borrow_mut();
        let alike = address.and_then(|address| self.too_many(arrivals, address));
        let has_room = self.admission.add_socket() || arrivals.all.len() < ARRIVALS_MIN;
        let is_full = !has_room || arrivals.all.len() >= self.max;
        let (reason, oldest) = match alike {
            Some(alike) => (Some(RefusalReason::Address), arrivals.idle(alike.iter())),
            None if is_full => {
                let oldest = arrivals.idle(arrivals.all.keys());
                (Some(RefusalReason::Crowded), oldest)
            }
            None => (None, None),
        };
        if let Some(reason) = reason {
            self.admission.metrics.refused(reason);
            let Some(oldest) = oldest else {
                self.admission.sockets.fetch_sub(1, Relaxed);
                return None;
            };
            arrivals.cut_off(oldest);
        }
        self.admission.metrics.arrivals.increment(1);
        let number = self.next_number();
        let listed = ListedArrival {
            address,
            entered: Instant::now(),
            task: None,
            is_engaged: false,
        };
        arrivals.add(number, listed);
        Some(Arrival {
            lobby: Rc::clone(self),
            number: Cell::new(number),
            address: Cell::new(address),
            displaces: oldest.is_some(),
            is_admitted: Cell::new(false),
            is_charged: Cell::new(false),
        })
    }

    /// The arrivals of this address, if there may be no further one.
    fn too_many<'a>(&self, arrivals: &'a Arrivals, address: Address) -> Option<&'a BTreeSet<u64>> {
        let alike = arrivals.of_address.get(&address);
        alike.filter(|alike| alike.len() >= self.of_address_max)
    }

    fn next_number(&self) -> u64 {
        let number = self.entered.get();
        self.entered.set(number + 1);
        number
    }

    /// Sets the task that holds the arrival from now on. It is aborted when the arrival is cut off.
    pub fn attend(&self, number: u64, task: AbortHandle) {
        if let Some(listed) = self.arrivals.borrow_mut().all.get_mut(&number) {
            listed.task = Some(task);
        }
    }

    /// True if the lobby is full of arrivals that have just come or are within a call. The next client can wait, because one
    /// of them would have to go.
    pub fn is_crowded(&self) -> bool {
        let arrivals = self.arrivals.borrow();
        let is_young = |oldest: u64| arrivals.all[&oldest].entered.elapsed() < STAY_MIN;
        let oldest = || arrivals.idle(arrivals.all.keys());
        arrivals.all.len() >= self.max && oldest().is_none_or(is_young)
    }
}

impl Arrival {
    /// The arrival's number, for [`Lobby::attend`].
    pub fn number(&self) -> u64 {
        self.number.get()
    }

    /// Counts the arrival under the address of its client from now on. A proxy named it, and may name another one for its next
    /// request. If the address has too many arrivals, its oldest is cut off.
    ///
    /// # Errors
    /// `Refused::Address` if none of them may be cut off.
    pub fn come_from(&self, ip: IpAddr) -> Result<(), Refused> {
        let address = Address::of(ip);
        if self.address.replace(Some(address)) == Some(address) {
            return Ok(());
        }
        let arrivals = &mut *self.lobby.arrivals.borrow_mut();
        let Some(mut listed) = arrivals.remove(self.number.get()) else {
            // The arrival has been cut off, and its task ends at its next turn.
            return Ok(());
        };
        let alike = self.lobby.too_many(arrivals, address);
        let oldest = alike.map(|alike| arrivals.idle(alike.iter()));
        listed.address = Some(address);
        arrivals.add(self.number.get(), listed);
        match oldest {
            None => Ok(()),
            Some(Some(oldest)) => {
                let metrics = &self.lobby.admission.metrics;
                metrics.refused(RefusalReason::Address);
                arrivals.cut_off(oldest);
                Ok(())
            }
            Some(None) => Err(Refused::Address(soon())),
        }
    }

    /// Keeps the arrival from being cut off until the guard is dropped. The caller bounds the time.
    pub fn engage(&self) -> Engaged<'_> {
        self.set_engaged(true);
        Engaged(self)
    }

    fn set_engaged(&self, is_engaged: bool) {
        let all = &mut self.lobby.arrivals.borrow_mut().all;
        if let Some(listed) = all.get_mut(&self.number.get()) {
            listed.is_engaged = is_engaged;
        }
    }

    /// Makes this the newest arrival, because a call of a known user was answered. The time for which arrivals stay in a full
    /// lobby does not begin anew: calls must not keep clients in the kernel's queue.
    pub fn renew(&self) {
        let arrivals = &mut *self.lobby.arrivals.borrow_mut();
        if let Some(listed) = arrivals.remove(self.number.get()) {
            self.number.set(self.lobby.next_number());
            arrivals.add(self.number.get(), listed);
        }
    }

    /// True if another arrival was cut off for this one. The other's socket stays open until its task has had its turn.
    pub fn displaces(&self) -> bool {
        self.displaces
    }

    /// True if handshakes come faster than allowed. A TLS handshake would then only lead to a 503.
    pub fn is_rushed(&self) -> bool {
        self.lobby.admission.is_rushed()
    }

    /// For a good request: gives a connection's permit, or says why there is none.
    pub fn admit(&self) -> Result<Permit, Refused> {
        let admission = &self.lobby.admission;
        let permit = admission.admit(self.address.get())?;
        if !self.is_admitted.replace(true) {
            admission.sockets.fetch_sub(1, Relaxed);
        }
        Ok(permit)
    }

    /// For a good request that is answered here: says why a connection would be refused, but gives no permit. It stays an
    /// arrival, which bounds it. Further requests of the same arrival cost no handshake.
    pub fn check(&self) -> Result<(), Refused> {
        let admission = &self.lobby.admission;
        if self.is_charged.get() {
            return admission.check(self.address.get());
        }
        admission.admit(self.address.get())?;
        self.is_charged.set(true);
        Ok(())
    }

    /// Counts a token that no key of ours has signed.
    pub fn note_bad_token(&self, token: &str) {
        let admission = &self.lobby.admission;
        let now = admission.started.elapsed();
        if let Some(address) = self.address.get() {
            admission.bad_tokens.note(address, token, now);
        }
    }

    /// The delay for a new session, if only sessions that resume are admitted now.
    pub fn wait_if_new(&self) -> Option<Duration> {
        self.lobby.admission.is_pressed().then(later)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.lobby.admission.metrics.arrivals.decrement(1);
        if !self.is_admitted.get() {
            self.lobby.admission.sockets.fetch_sub(1, Relaxed);
        }
        let mut arrivals = self.lobby.arrivals.borrow_mut();
        arrivals.remove(self.number.get());
    }
}

impl Drop for Engaged<'_> {
    fn drop(&mut self) {
        self.0.set_engaged(false);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{JoinHandle, LocalSet, spawn_local};

    use super::*;
    use crate::metrics::Metrics;

    fn lobby(max: usize, per_address_max: usize) -> Rc<Lobby> {
        lobby_for(config::Listener {
            handshakes_max: max,
            handshakes_per_address_max: per_address_max,
            ..config::Listener::default()
        })
    }

    fn lobby_for(config: config::Listener) -> Rc<Lobby> {
        let admission = Admission::new(&config, Arc::new(Metrics::new()));
        Lobby::new(&config, Arc::new(admission))
    }

    /// Enters an arrival for which there is room, or somebody to cut off.
    fn come(lobby: &Rc<Lobby>, ip: [u8; 4]) -> Arrival {
        let arrival = lobby.enter(Some(ip.into()));
        arrival.expect("somebody gives way")
    }

    /// Enters an arrival that waits for ever.
    fn enter(lobby: &Rc<Lobby>, ip: [u8; 4]) -> JoinHandle<()> {
        let arrival = come(lobby, ip);
        let number = arrival.number();
        let task = spawn_local(async move {
            let _arrival = arrival;
            std::future::pending().await
        });
        lobby.attend(number, task.abort_handle());
        task
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    /// For each task: true if it was cut off.
    async fn cut_off(tasks: Vec<JoinHandle<()>>) -> Vec<bool> {
        tokio::task::yield_now().await;
        tasks.iter().map(JoinHandle::is_finished).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_stay_for_a_moment() {
        let lobby = lobby(2, 0);
        let first = come(&lobby, [1; 4]);
        assert!(!lobby.is_crowded(), "there is room");
        tokio::time::advance(STAY_MIN / 2).await;
        let _second = come(&lobby, [2; 4]);
        assert!(lobby.is_crowded());
        tokio::time::advance(STAY_MIN / 2).await;
        assert!(!lobby.is_crowded(), "the first has had its time");
        drop(first);
        let _third = come(&lobby, [3; 4]);
        assert!(lobby.is_crowded(), "the second has not");
    }

    #[test]
    fn the_oldest_gives_way_and_whoever_leaves_makes_room() {
        run(async {
            let lobby = lobby(2, 0);
            let first = enter(&lobby, [1; 4]);
            let second = enter(&lobby, [2; 4]);
            let third = enter(&lobby, [3; 4]);
            second.abort();
            tokio::task::yield_now().await;
            assert!(!come(&lobby, [4; 4]).displaces());
            let tasks = vec![first, second, third];
            assert_eq!(cut_off(tasks).await, [true, true, false]);
        });
    }

    #[test]
    fn an_address_that_has_too_many_loses_its_own() {
        run(async {
            let lobby = lobby(100, 2);
            let tasks = [[1; 4], [2; 4], [2; 4], [2; 4], [2; 4]].map(|ip| enter(&lobby, ip));
            let cut_off = cut_off(tasks.into()).await;
            assert_eq!(cut_off, [false, true, true, false, false]);
            assert_eq!(lobby.arrivals.borrow().all.len(), 3);
        });
    }

    #[test]
    fn clients_behind_a_proxy_count_by_the_address_that_it_names() {
        run(async {
            let lobby = lobby(100, 2);
            let behind = || {
                let arrival = lobby.enter(None).expect("there is room");
                let number = arrival.number();
                let listed = spawn_local(std::future::pending::<()>());
                lobby.attend(number, listed.abort_handle());
                (arrival, listed)
            };
            let clients: Vec<_> = (0..10).map(|_| behind()).collect();
            let come_from = |index: usize, ip: [u8; 4]| {
                let (arrival, _): &(Arrival, _) = &clients[index];
                arrival.come_from(ip.into())
            };
            for (index, ip) in [(5, 1), (4, 1), (3, 2), (3, 1), (6, 2), (3, 2)] {
                assert_eq!(come_from(index, [ip; 4]), Ok(()));
            }
            tokio::task::yield_now().await;
            let is_cut_off = |(_, task): &(Arrival, JoinHandle<()>)| task.is_finished();
            let cut_off: Vec<_> = clients.iter().map(is_cut_off).collect();
            // The fourth of the clients was the third one of the first address, and its oldest had to go.
            assert_eq!(cut_off.iter().filter(|&&cut| cut).count(), 1, "{cut_off:?}");
            assert!(cut_off[4], "{cut_off:?}");
            // The client went back to its other address, which has room.
            let calls: Vec<_> = [3, 6].map(|index| clients[index].0.engage()).into();
            let refused = come_from(7, [2; 4]);
            assert!(matches!(refused, Err(Refused::Address(_))), "{refused:?}");
            drop(calls);
            drop(clients);
            assert!(lobby.arrivals.borrow().all.is_empty());
            assert!(lobby.arrivals.borrow().of_address.is_empty());
        });
    }

    #[test]
    fn an_answered_call_makes_its_client_the_newest() {
        run(async {
            let lobby = lobby(100, 2);
            let kept = come(&lobby, [1; 4]);
            let silent = enter(&lobby, [1; 4]);
            kept.renew();
            let next = enter(&lobby, [1; 4]);
            assert_eq!(cut_off(vec![silent, next]).await, [true, false]);
            let number = kept.number();
            assert!(lobby.arrivals.borrow().all.contains_key(&number));
            drop(kept);
            assert_eq!(lobby.arrivals.borrow().all.len(), 1);
        });
    }

    #[test]
    fn nobody_is_cut_off_within_a_call() {
        run(async {
            let lobby = lobby(3, 2);
            let sockets = || lobby.admission.sockets.load(Relaxed);
            let calling = come(&lobby, [1; 4]);
            let call = calling.engage();
            let silent = enter(&lobby, [1; 4]);
            let also_calling = come(&lobby, [1; 4]);
            let also_call = also_calling.engage();
            assert!(cut_off(vec![silent]).await[0], "the silent one gave way");
            let is_refused = lobby.enter(Some([1; 4].into())).is_none();
            assert!(is_refused, "no other client of the address may go");
            assert_eq!(sockets(), 2);
            let other = come(&lobby, [2; 4]);
            let other_call = other.engage();
            assert!(lobby.is_crowded(), "the next client waits");
            assert!(lobby.enter(Some([3; 4].into())).is_none());
            drop((call, also_call, other_call));
            assert!(come(&lobby, [3; 4]).displaces());
        });
    }

    #[tokio::test(start_paused = true)]
    async fn calls_keep_no_client_waiting_outside() {
        let lobby = lobby(1, 0);
        let kept = come(&lobby, [1; 4]);
        tokio::time::advance(STAY_MIN).await;
        kept.renew();
        assert!(!lobby.is_crowded());
    }

    #[test]
    fn sockets_stay_within_what_there_may_be_and_nobody_is_kept_from_being_told() {
        const CONNECTIONS: usize = 100;
        run(async {
            let lobby = lobby_for(config::Listener {
                connections_max: CONNECTIONS,
                handshakes_max: 1000,
                handshakes_per_address_max: 0,
                ..config::Listener::default()
            });
            let sockets = || lobby.admission.sockets.load(Relaxed);
            // Silent arrivals fill the lobby, and further ones replace the oldest.
            for n in 0..=255 {
                enter(&lobby, [n; 4]);
                tokio::task::yield_now().await;
                assert!(sockets() <= CONNECTIONS);
            }
            assert_eq!(sockets(), CONNECTIONS);
            // An admitted arrival keeps its socket. The last ones are refused with an answer.
            let mut permits = Vec::new();
            for n in 0..=255 {
                let arrival = come(&lobby, [n; 4]);
                tokio::task::yield_now().await;
                permits.extend(arrival.admit().ok());
            }
            assert_eq!(permits.len(), CONNECTIONS);
            let mut waiting = Vec::new();
            for n in 0..=255 {
                waiting.push(enter(&lobby, [n; 4]));
                tokio::task::yield_now().await;
            }
            let cut_off = cut_off(waiting).await;
            let told = cut_off.iter().filter(|&&is_cut_off| !is_cut_off).count();
            assert_eq!(told, ARRIVALS_MIN);
            assert_eq!(sockets(), CONNECTIONS + ARRIVALS_MIN);
        });
    }

    #[test]
    fn whoever_is_answered_without_a_connection_stays_an_arrival() {
        let lobby = lobby(100, 0);
        let sockets = || lobby.admission.sockets.load(Relaxed);
        let arrival = come(&lobby, [1; 4]);
        assert!(arrival.check().is_ok());
        assert_eq!(sockets(), 1);
        drop(arrival);
        assert_eq!(sockets(), 0);
    }

    #[test]
    fn further_requests_of_an_arrival_cost_no_handshake() {
        let lobby = lobby(100, 0);
        let owed = || {
            let admission = &lobby.admission;
            admission.handshakes.owed(admission.started.elapsed())
        };
        let arrival = come(&lobby, [1; 4]);
        assert!(arrival.check().is_ok());
        let first = owed();
        assert!(first > Duration::ZERO);
        assert!(arrival.check().is_ok());
        assert!(owed() <= first);
    }

    #[test]
    fn an_empty_lobby_remembers_nobody() {
        let lobby = lobby(100, 2);
        let arrivals: Vec<_> = (0..50).map(|n| come(&lobby, [n; 4])).collect();
        drop(arrivals);
        let arrivals = lobby.arrivals.borrow();
        assert!(arrivals.all.is_empty() && arrivals.of_address.is_empty());
    }
}
