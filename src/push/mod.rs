//! Vendor push: devices whose apps did not get a message are told by their makers' services.
//!
//! Promises: no push for a message that a session of the device's class had acked durably when the decision fell. At least one attempt
//! for every device of a class that was not served, unless its task expired. Both hold over a crash, which can cause a push too many and
//! never one too few. Where several gateways share the log, the one that has the turn decides and pushes. A vendor that is down delays
//! no other vendor and no message. A gateway without a vendor has none of this: no thread, no row, no memory. Leaves to others: the
//! devices (`delivery`), and how a vendor is called (`vendor/`).
//!
//! - `decide.rs`: which classes of a receiver's devices get a push, and when. Pure
//! - `facts.rs`: the facts behind a decision; `begun.rs`: the rows of sessions that began behind messages
//! - `decider.rs`: from the feed of commits to decisions that are due and to tasks
//! - `rows.rs`: both as rows of the log
//! - `book.rs`: the devices of users, remembered
//! - `lane.rs`: the numbers of the tasks that wait for one vendor
//! - `line.rs`: which of them is sent next; `breaker.rs`: when the vendor is left alone. Pure
//! - `worker.rs`: asks one vendor, and ends its tasks; `call.rs`: one call; `ended.rs`: the rows of those, until they are removed
//! - `underway.rs`: the calls to vendors that are under way; `forget.rs`: forgets users who were erased
//! - `text.rs`: the words of a push. Pure
//! - `seen.rs`: what became of the latest pushes, for `/msg/trace`
//! - `thread.rs`: the thread, which drives all of them
//! - `vendor/`: the vendors

mod begun;
mod book;
mod breaker;
mod call;
mod decide;
mod decider;
mod ended;
mod facts;
mod forget;
mod lane;
mod line;
mod rows;
mod seen;
#[cfg(test)]
mod tests;
mod text;
mod thread;
mod underway;
pub mod vendor;
mod worker;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::Notify;

use self::{
    decide::PushRules,
    decider::Decider,
    facts::FactSource,
    lane::VendorLane,
    text::Wording,
    underway::CallsUnderway,
    vendor::Vendor,
    worker::{VendorWorker, WorkerParts},
};
pub use self::{
    forget::PushForgetter,
    seen::{Seen, SeenDevice, SeenFact, SeenState},
    thread::PushThread,
};
use crate::{
    config,
    delivery::Delivery,
    log::{Commit, Consumer, Log, TurnNumber, WorkTurn},
    metrics::Metrics,
    registry::Registry,
    webhooks::PushEvents,
};

/// Vendor push of one gateway, before it runs. Where several gateways share a log, it runs while the gateway has the turn.
pub struct PushRoom {
    config: config::Push,
    vendors: Vec<(Arc<dyn Vendor>, Arc<VendorLane>)>,
    source: FactSource,
    metrics: Arc<Metrics>,
    events: PushEvents,
    underway: Arc<CallsUnderway>,
    /// The rows of erased users that were removed and are still counted.
    forgotten: Arc<AtomicUsize>,
    turn: WorkTurn,
    /// Tells that the feed has something new.
    news: Arc<Notify>,
    seen: Arc<Seen>,
}

/// The work of one turn.
struct PushWork {
    decider: Decider,
    workers: Vec<VendorWorker>,
}

/// Tells of commits. The feed has them.
struct News(Arc<Notify>);

impl Consumer for News {
    fn take(&self, _: &[Commit]) {
        self.0.notify_one();
    }
}

impl PushRoom {
    /// Vendor push by these vendors, each once. It makes no decision before it runs.
    pub fn new(
        config: &config::Push,
        vendors: Vec<Arc<dyn Vendor>>,
        log: Arc<dyn Log>,
        registry: Arc<Registry>,
        delivery: Arc<Delivery>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let news = Arc::new(Notify::new());
        log.commits(Arc::new(News(Arc::clone(&news))));
        delivery.keep_begins_for_push();
        let vendors = vendors.into_iter().map(|vendor| {
            let lane = VendorLane::new(vendor.provider(), metrics);
            (vendor, lane)
        });
        let turn = log.turn();
        Self {
            config: config.clone(),
            vendors: vendors.collect(),
            source: FactSource {
                log,
                registry,
                delivery,
                is_shared: turn.is_shared(),
            },
            metrics: Arc::clone(metrics),
            events: PushEvents::default(),
            underway: Arc::default(),
            forgotten: Arc::default(),
            turn,
            news,
            seen: Arc::default(),
        }
    }

    /// The work of a turn that begins now. Nothing of an earlier turn is known to it.
    fn work(&self, turn: TurnNumber) -> PushWork {
        self.clear();
        let now_ms = self.source.delivery.now_ms();
        let rules = PushRules::new(&self.config, now_ms);
        let parts = WorkerParts {
            source: self.source.clone(),
            rules: rules.clone(),
            wording: Arc::new(Wording::new(&self.config)),
            seen: Arc::clone(&self.seen),
            metrics: Arc::clone(&self.metrics),
            expire_after: self.config.expire_after,
            events: self.events.clone(),
            underway: Arc::clone(&self.underway),
            turn,
        };
        let workers = self.vendors.iter().map(|(vendor, lane)| {
            VendorWorker::new(parts.clone(), Arc::clone(vendor), Arc::clone(lane))
        });
        let mut decider = Decider::new(
            &self.config,
            self.source.clone(),
            (self.lanes(), Arc::clone(&self.forgotten)),
            rules,
            Arc::clone(&self.seen),
            Arc::clone(&self.metrics),
            (turn, now_ms),
        );
        decider.tell_events(self.events.clone());
        PushWork {
            decider,
            workers: workers.collect(),
        }
    }

    /// Forgets what waits. The rows have it.
    fn clear(&self) {
        self.vendors.iter().for_each(|(_, lane)| lane.clear());
        self.forgotten.store(0, Relaxed);
        self.metrics.push.due.set(0.0);
        self.metrics.push.lag.set(0.0);
    }

    fn lanes(&self) -> Vec<Arc<VendorLane>> {
        let lanes = self.vendors.iter().map(|(_, lane)| Arc::clone(lane));
        lanes.collect()
    }

    /// The same, which tells webhooks of the ends of pushes.
    #[must_use]
    pub fn telling(mut self, events: &PushEvents) -> Self {
        self.events = events.clone();
        self
    }

    /// Forgets users who were erased.
    pub fn forgetter(&self) -> PushForgetter {
        PushForgetter::new(
            Arc::clone(&self.source.log),
            self.lanes(),
            Arc::clone(&self.underway),
            Arc::clone(&self.forgotten),
        )
    }

    /// The fate of the latest pushes.
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }
}
