//! The places of each user's sessions. The map has one entry for each user, and every decision about a user is made under
//! the lock of that entry.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use metrics::Gauge;

use super::dashmap::{DashMap, Entry};
use crate::{
    config::{self, DeviceClass},
    ids::{ConnectionId, Epoch, Fence, Platform, Seq, SessionKey, UserId},
    message::{Live, Message, Numbers},
    metrics::Metrics,
    registry::{
        Departures, Item, Mailbox, PlaceWatch, Policy, Presence, PresenceWatch, TooManySessions,
    },
};

/// A session's place. A user has at most `per_user_max` of them.
struct Place {
    platform: Platform,
    device: Arc<str>,
    connection: ConnectionId,
    since_ms: u64,
    is_background: bool,
    address: Option<IpAddr>,
    fence: Fence,
    mailbox: Arc<dyn Mailbox>,
}

// Every idle session has one.
const _: () = assert!(size_of::<Place>() <= 80);

impl Place {
    fn presence(&self) -> Presence {
        Presence {
            platform: self.platform,
            device: Arc::clone(&self.device),
            connection: self.connection,
            since_ms: self.since_ms,
            is_background: self.is_background,
            fence: self.fence,
            address: self.address,
        }
    }
}

/// Finds the sessions of a user. Every method locks one user's entry for a moment; no method waits.
pub struct Registry {
    policy: Policy,
    per_user_max: usize,
    users: DashMap<UserId, Vec<Place>>,
    sessions: AtomicUsize,
    /// The number of changes so far. It rises after each change.
    changes: AtomicU64,
    gauges: HashMap<Platform, Gauge>,
    /// `None`: nobody asks who left.
    departures: Option<Departures>,
    /// Is told of each change, if somebody wants to know.
    watch: OnceLock<Arc<dyn PresenceWatch>>,
    /// Follows the places in a fleet.
    fleet: OnceLock<Arc<dyn PlaceWatch>>,
}

impl Registry {
    /// An empty registry.
    ///
    /// # Panics
    /// If the policy is not one of 0–5. The config refuses all others.
    pub fn new(config: &config::Sessions, metrics: Arc<Metrics>) -> Self {
        let gauges = Platform::ALL.map(|platform| (platform, metrics.sessions(platform)));
        Self {
            policy: Policy::from_number(config.policy).expect("the config checks the policy"),
            per_user_max: config.per_user_max,
            users: DashMap::new(),
            sessions: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            gauges: gauges.into(),
            departures: None,
            watch: OnceLock::new(),
            fleet: OnceLock::new(),
        }
    }

    /// The same, which remembers who left.
    #[must_use]
    pub fn noting(self, departures: Departures) -> Self {
        Self {
            departures: Some(departures),
            ..self
        }
    }

    /// Tells this watch of each change from now on. The first one stays.
    pub fn watch(&self, watch: Arc<dyn PresenceWatch>) {
        // A gateway sets one watch, when it starts.
        let _ = self.watch.set(watch);
    }

    /// Tells this watch of each place from now on. The first one stays.
    pub fn share(&self, watch: Arc<dyn PlaceWatch>) {
        // A gateway of a fleet sets one, when it starts.
        let _ = self.fleet.set(watch);
    }

    /// The login policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Gives the session its place and tells the sessions that it replaces. An older connection of the same session is
    /// replaced, too.
    ///
    /// # Errors
    /// If the user would have more than `per_user_max` sessions; then no session was replaced.
    pub fn register(
        &self,
        key: &SessionKey,
        connection: ConnectionId,
        mailbox: &Arc<dyn Mailbox>,
        now_ms: u64,
    ) -> Result<(), TooManySessions> {
        let newer = Place {
            platform: key.platform,
            device: Arc::clone(&key.device),
            connection,
            since_ms: now_ms,
            is_background: false,
            address: None,
            fence: Fence::NONE,
            mailbox: Arc::clone(mailbox),
        };
        let is_replaced =
            |older: &Place| self.policy.replaces(key, (older.platform, &older.device));
        let mut places = match self.users.entry(key.user.clone()) {
            Entry::Occupied(entry) => entry.into_ref(),
            // Nearly every user has one session. `Vec::push` would make room for four, which wastes 168 bytes.
            Entry::Vacant(entry) => entry.insert(Vec::with_capacity(1)),
        };
        let staying = places.iter().filter(|older| !is_replaced(older)).count();
        if staying >= self.per_user_max {
            return Err(TooManySessions(staying));
        }
        let mut is_new = true;
        for older in places.extract_if(.., |older| is_replaced(older)) {
            self.count_out(&key.user, &older);
            if let Some(fleet) = self.fleet.get() {
                fleet.left(&key.user, &older.presence());
            }
            if older.platform == key.platform && older.device == key.device {
                // The same session goes on, on another connection.
                is_new = false;
            } else {
                self.tell(&key.user, &older, false);
            }
            older.mailbox.post(older.connection, Item::Replaced);
        }
        if is_new {
            self.tell(&key.user, &newer, true);
        }
        places.reserve_exact(1);
        places.push(newer);
        self.sessions.fetch_add(1, Relaxed);
        self.gauges[&key.platform].increment(1);
        self.changes.fetch_add(1, Release);
        Ok(())
    }

    /// Says if this connection still holds the session's place. A newer connection may have taken the place before this one
    /// was told.
    pub fn holds(&self, key: &SessionKey, connection: ConnectionId) -> bool {
        self.held(&key.user, connection).is_some()
    }

    /// The fence of the place that this connection holds; `None` if it holds none any more.
    pub fn fence(&self, key: &SessionKey, connection: ConnectionId) -> Option<Fence> {
        self.with(&key.user, connection, |place| place.fence)
    }

    /// The session that this connection holds, if it still holds one.
    pub fn held(&self, user: &UserId, connection: ConnectionId) -> Option<Presence> {
        self.with(user, connection, Place::presence)
    }

    fn with<T>(
        &self,
        user: &UserId,
        connection: ConnectionId,
        look: impl FnOnce(&Place) -> T,
    ) -> Option<T> {
        let places = self.users.get(user.as_str())?;
        let mut held = places.iter();
        held.find(|place| place.connection == connection).map(look)
    }

    /// The place that this connection holds has this fence.
    pub fn set_fence(&self, user: &UserId, connection: ConnectionId, fence: Fence) {
        self.change(user, connection, |place| place.fence = fence);
    }

    /// A session with this fence has the place at another gateway. Removes the connection's session and tells it, unless its fence is
    /// not lower.
    pub fn replace(&self, user: &UserId, connection: ConnectionId, fence: Fence) {
        let removed = self.remove(user, |place| {
            place.connection == connection && place.fence < fence
        });
        for place in &removed {
            place.mailbox.post(place.connection, Item::Replaced);
        }
    }

    /// The app of the session that this connection holds went to the background, or came back.
    pub fn set_background(&self, key: &SessionKey, connection: ConnectionId, is_background: bool) {
        let fleet = self.fleet.get();
        self.change(&key.user, connection, |place| {
            place.is_background = is_background;
            if let Some(fleet) = fleet {
                fleet.turned(&key.user, &place.presence());
            }
        });
    }

    /// The client of the session that this connection holds has this address.
    pub fn set_address(&self, key: &SessionKey, connection: ConnectionId, address: IpAddr) {
        self.change(&key.user, connection, |place| place.address = Some(address));
    }

    fn change(&self, user: &UserId, connection: ConnectionId, change: impl FnOnce(&mut Place)) {
        if let Some(mut places) = self.users.get_mut(user.as_str()) {
            let mut held = places.iter_mut();
            if let Some(place) = held.find(|place| place.connection == connection) {
                change(place);
            }
        }
    }

    /// True if a session of the user's class left a short while ago. `false` also where nobody notes it. Ask after
    /// [`presence`](Self::presence): a class that was not connected then has left before, or a long while ago.
    pub fn has_left(&self, user: &UserId, class: DeviceClass, now_ms: u64) -> bool {
        let departures = self.departures.as_ref();
        departures.is_some_and(|departures| departures.has_left(user, class, now_ms))
    }

    /// Gives the place back, if this connection still holds it.
    pub fn deregister(&self, key: &SessionKey, connection: ConnectionId) {
        self.remove(&key.user, |place| place.connection == connection);
    }

    /// Hands a message to all sessions of its receiver and returns their number. Nothing is encoded here; the sessions that
    /// push the message encode it.
    pub fn deliver(&self, user: &str, numbers: Numbers, message: &Arc<Message>) -> usize {
        let Some(places) = self.users.get(user) else {
            return 0;
        };
        for place in places.iter() {
            let message = Arc::clone(message);
            let item = Item::Live(Live { numbers, message });
            place.mailbox.post(place.connection, item);
        }
        places.len()
    }

    /// Tells all sessions of a user where the head of the inbox is.
    pub fn tell_head(&self, user: &str, epoch: Epoch, head: Seq) {
        if let Some(places) = self.users.get(user) {
            for place in places.iter() {
                place
                    .mailbox
                    .post(place.connection, Item::Head(epoch, head));
            }
        }
    }

    /// Removes a user's sessions on a platform, tells them, and returns their number.
    pub fn log_out(&self, user: &UserId, platform: Platform) -> usize {
        let removed = self.remove(user, |place| place.platform == platform);
        for place in &removed {
            place.mailbox.post(place.connection, Item::LoggedOut);
        }
        removed.len()
    }

    /// The user's sessions that are connected now.
    pub fn presence(&self, user: &str) -> Vec<Presence> {
        let Some(places) = self.users.get(user) else {
            return Vec::new();
        };
        places.iter().map(Place::presence).collect()
    }

    /// A number that rises with every session that comes or goes. While it is the same, everybody's presence is the same as
    /// after it was read.
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Up to `limit` users that are connected now, each with all its sessions, in no order. With `platform`, only users
    /// that have a session there. If few users are on that platform, it looks at every user, one after the other.
    pub fn online(&self, platform: Option<Platform>, limit: usize) -> Vec<(UserId, Vec<Presence>)> {
        let is_on = |place: &Place| platform.is_none_or(|platform| place.platform == platform);
        let users = self.users.iter();
        users
            .filter(|user| user.iter().any(is_on))
            .map(|user| {
                (
                    user.key().clone(),
                    user.iter().map(Place::presence).collect(),
                )
            })
            .take(limit)
            .collect()
    }

    /// The users that are connected now, each with the connections of its sessions.
    pub fn connections(&self) -> Vec<(UserId, ConnectionId)> {
        let mut connections = Vec::with_capacity(self.sessions());
        for user in self.users.iter() {
            let of_user = user
                .iter()
                .map(|place| (user.key().clone(), place.connection));
            connections.extend(of_user);
        }
        connections
    }

    /// All sessions that are connected now.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    fn remove(&self, user: &UserId, is_removed: impl Fn(&Place) -> bool) -> Vec<Place> {
        let Entry::Occupied(mut entry) = self.users.entry(user.clone()) else {
            return Vec::new();
        };
        let removed: Vec<Place> = entry.get_mut().extract_if(.., |p| is_removed(p)).collect();
        // Under the lock of the entry: a class that is not there has left, or left long ago.
        for place in &removed {
            self.count_out(user, place);
            self.tell(user, place, false);
            if let Some(fleet) = self.fleet.get() {
                fleet.left(user, &place.presence());
            }
        }
        if entry.get().is_empty() {
            entry.remove();
        }
        if !removed.is_empty() {
            self.changes.fetch_add(1, Release);
        }
        removed
    }

    fn tell(&self, user: &UserId, place: &Place, is_online: bool) {
        if let Some(watch) = self.watch.get() {
            watch.changed(user, place.platform, &place.device, is_online);
        }
    }

    fn count_out(&self, user: &UserId, place: &Place) {
        if let Some(departures) = &self.departures {
            departures.note(user, place.platform);
        }
        self.sessions.fetch_sub(1, Relaxed);
        self.gauges[&place.platform].decrement(1);
    }
}
