//! The other systems: vendors of push, and a receiver of webhooks. They outlive the gateway's process, and fail as such systems do.
//!
//! - `service.rs`: how a system is for some time; `schedule.rs`: the operations of a seed that change it
//! - `sends.rs`: vendor push and webhooks of one life of the process
//! - `vendor.rs`, `receiver.rs`: the systems
//! - `pushes.rs`, `decisions.rs`, `duties.rs`: the promise of vendor push; `events.rs`: that of webhooks
//! - `proofs.rs`, `wishes.rs`, `known.rs`: what a decision follows from: who is served, who wants no push, and facts of the model
//! - `watch.rs`, `look.rs`: look at the gateway between its steps, so that the promises can be judged; `owed.rs`: the end of a run

mod decisions;
mod duties;
mod events;
mod known;
mod look;
mod owed;
mod proofs;
mod pushes;
mod receiver;
mod schedule;
mod sends;
mod service;
mod vendor;
mod watch;
mod wishes;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use self::{events::Events, pushes::Pushes, service::Weather};
pub(super) use self::{
    receiver::SimReceiver, schedule::add_outside, sends::Sends, service::Service, vendor::SimVendor,
};
use super::process::Life;
use towncrier::{config::Config, message::Provider, push::vendor::Vendor};

/// The vendors of a run, with which devices register by turns.
const PROVIDERS: [Provider; 2] = [Provider::Http, Provider::Fcm];

/// The systems of a run, and all that is known about what they were told.
pub(super) struct Outside {
    pub(super) has_push: bool,
    pub(super) has_webhooks: bool,
    vendors: [Weather; PROVIDERS.len()],
    receiver: Weather,
    pushes: Arc<Mutex<Pushes>>,
    events: Arc<Mutex<Events>>,
    /// The number of the present life of the process.
    life: Cell<u64>,
    /// The time of the next look.
    looks_at: Cell<Option<Instant>>,
    /// The time since which the gateway could do all its work.
    well_since: Cell<Option<Instant>>,
    /// True once the gateway was well in this log, so that both rooms have begun.
    has_begun: Cell<bool>,
    /// Nothing is promised for messages up to this time, Unix ms.
    excused_ms: Cell<u64>,
    /// The devices whose registration is under way.
    registering: RefCell<BTreeSet<usize>>,
    /// The time at which devices without a registration are registered again.
    registers_at: Cell<Option<Instant>>,
}

impl Outside {
    pub(super) fn new(config: &Config) -> Self {
        let (has_push, has_webhooks) = (config.push.is_on(), !config.webhooks.url.is_empty());
        let is_there = has_push || has_webhooks;
        Self {
            has_push,
            has_webhooks,
            vendors: Default::default(),
            receiver: Weather::default(),
            pushes: Arc::new(Mutex::new(Pushes::new(&config.push))),
            events: Arc::new(Mutex::new(Events::new(config.log.retention))),
            life: Cell::default(),
            looks_at: Cell::new(is_there.then(Instant::now)),
            well_since: Cell::default(),
            has_begun: Cell::default(),
            excused_ms: Cell::default(),
            registering: RefCell::default(),
            registers_at: Cell::default(),
        }
    }

    /// The vendors as a process sees them.
    pub(super) fn vendors(&self, life: &Arc<Life>) -> Vec<Arc<dyn Vendor>> {
        let vendors = PROVIDERS.into_iter().zip(&self.vendors);
        vendors
            .map(|(provider, weather)| {
                let (pushes, life) = (self.pushes.clone(), life.clone());
                let vendor = SimVendor::new(provider, weather.clone(), pushes, life);
                Arc::new(vendor) as Arc<dyn Vendor>
            })
            .collect()
    }

    /// The receiver as a process sees it.
    pub(super) fn receiver(&self, life: &Arc<Life>) -> Arc<SimReceiver> {
        let (weather, events) = (self.receiver.clone(), self.events.clone());
        Arc::new(SimReceiver::new(weather, events, life.clone()))
    }

    /// The time of the next look at the gateway; `None`: there are no other systems.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.looks_at.get()
    }

    fn pushes(&self) -> MutexGuard<'_, Pushes> {
        lock(&self.pushes)
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        lock(&self.events)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of its holder is a violation already.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
