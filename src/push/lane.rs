//! The numbers of the tasks that wait for one vendor: what the decisions add, its worker ends, and the bound drops.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::Gauge;
use tokio::sync::Notify;

use crate::{message::Provider, metrics::Metrics};

/// The tasks of one vendor, by their numbers. At most `push.tasks_max` over all vendors, some 12 bytes each.
pub(super) struct VendorLane {
    pub(super) provider: Provider,
    waiting: Mutex<LaneNumbers>,
    /// Tells the worker that there are more or fewer.
    pub(super) changed: Notify,
    gauge: Gauge,
}

#[derive(Default)]
struct LaneNumbers {
    numbers: BTreeSet<u64>,
    /// The tasks below this number have been dropped.
    floor: u64,
}

impl VendorLane {
    pub(super) fn new(provider: Provider, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            provider,
            waiting: Mutex::default(),
            changed: Notify::new(),
            gauge: metrics.push_tasks(provider.name()),
        })
    }

    /// New tasks wait. Call it before their rows are written: the worker may read and end them as soon as they are. Call
    /// `changed.notify_one` once they are.
    pub(super) fn add(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut waiting = self.lock();
        waiting.numbers.extend(numbers);
        self.gauge.set(waiting.numbers.len() as f64);
    }

    /// A task has ended, or its row was not written.
    pub(super) fn end(&self, number: u64) {
        let mut waiting = self.lock();
        waiting.numbers.remove(&number);
        self.gauge.set(waiting.numbers.len() as f64);
    }

    /// The number of tasks that wait.
    pub(super) fn len(&self) -> usize {
        self.lock().numbers.len()
    }

    /// The number of the oldest task.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.lock().numbers.first().copied()
    }

    /// The tasks below this number have been dropped.
    pub(super) fn floor(&self) -> u64 {
        self.lock().floor
    }

    /// Drops the oldest tasks, so many at most, and returns their numbers.
    pub(super) fn drop_oldest(&self, count: usize) -> Vec<u64> {
        let mut waiting = self.lock();
        let mut dropped = Vec::new();
        while dropped.len() < count
            && let Some(number) = waiting.numbers.pop_first()
        {
            dropped.push(number);
        }
        if let Some(last) = dropped.last() {
            waiting.floor = last + 1;
        }
        self.gauge.set(waiting.numbers.len() as f64);
        self.changed.notify_one();
        dropped
    }

    /// Forgets all tasks. Their rows stay.
    pub(super) fn clear(&self) {
        *self.lock() = LaneNumbers::default();
        self.gauge.set(0.0);
    }

    fn lock(&self) -> MutexGuard<'_, LaneNumbers> {
        // A panic of the lock's holder leaves the set of plain values whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
