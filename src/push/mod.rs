//! Vendor push: devices whose apps did not get a message are told by their makers' services.
//!
//! Promises: no push for a message that a session of the device's class had acked durably when the decision fell. At least one attempt
//! for every device of a class that was not served, unless its task expired. Both hold over a crash, which can cause a push too many and
//! never one too few. A vendor that is down delays no other vendor and no message. A gateway without a vendor has none of this: no
//! thread, no row, no memory. Leaves to others: the devices (`delivery`), and how a vendor is called (`vendor/`).
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

use std::sync::Arc;

use tokio::sync::Notify;

use self::{
    decide::PushRules,
    decider::Decider,
    facts::FactSource,
    lane::VendorLane,
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
    log::{Commit, Consumer, Log},
    metrics::Metrics,
    registry::Registry,
    webhooks::PushEvents,
};

/// Vendor push of one gateway, before it runs.
pub struct PushRoom {
    decider: Decider,
    workers: Vec<VendorWorker>,
    delivery: Arc<Delivery>,
    /// Tells that the feed has something new.
    news: Arc<Notify>,
    seen: Arc<Seen>,
    forgetter: PushForgetter,
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
        let seen = Arc::new(Seen::default());
        let now_ms = delivery.now_ms();
        let rules = PushRules::new(config, now_ms);
        let source = FactSource {
            log,
            registry,
            delivery: Arc::clone(&delivery),
        };
        let parts = WorkerParts::new(
            config,
            source.clone(),
            rules.clone(),
            Arc::clone(&seen),
            Arc::clone(metrics),
        );
        let workers = vendors.into_iter().map(|vendor| {
            let lane = VendorLane::new(vendor.provider(), metrics);
            VendorWorker::new(parts.clone(), vendor, lane)
        });
        let workers: Vec<_> = workers.collect();
        let lanes = workers.iter().map(|worker| Arc::clone(worker.lane()));
        let lanes: Vec<_> = lanes.collect();
        let undue = Arc::default();
        let forgetter = PushForgetter::new(
            Arc::clone(&source.log),
            lanes.clone(),
            parts.underway,
            Arc::clone(&undue),
        );
        let decider = Decider::new(
            config,
            source,
            (lanes, undue),
            rules,
            Arc::clone(&seen),
            Arc::clone(metrics),
            now_ms,
        );
        Self {
            decider,
            workers,
            delivery,
            news,
            seen,
            forgetter,
        }
    }

    /// The same, which tells webhooks of the ends of pushes.
    #[must_use]
    pub fn telling(mut self, events: &PushEvents) -> Self {
        self.decider.tell_events(events.clone());
        for worker in &mut self.workers {
            worker.tell_events(events.clone());
        }
        self
    }

    /// Forgets users who were erased.
    pub fn forgetter(&self) -> PushForgetter {
        self.forgetter.clone()
    }

    /// The fate of the latest pushes.
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }
}
