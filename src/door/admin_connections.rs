//! The connections of the admin port. When there are too many, this module decides which one is cut off.
//!
//! A connection either waits for its caller (for a request, the rest of one, or an answer to be read), or a handler works
//! for it. When one connection too many comes, the connection that has waited longest is cut off. A connection with a
//! handler at work is never cut off. So a caller with a thousand silent connections blocks no other caller, and a caller
//! whose kept connection is gone opens a new one.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{sync::Notify, task::AbortHandle};

use crate::metrics::Metrics;

/// All connections of the port.
pub(super) struct AdminConnections {
    callers: Mutex<Callers>,
    /// Notified when the last connection is gone.
    emptied: Notify,
    origin: Instant,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Callers {
    entered: u64,
    present: BTreeMap<u64, Present>,
}

struct Present {
    activity: Arc<Activity>,
    /// The task of the connection.
    task: Option<AbortHandle>,
}

/// One of the port's connections, counted until dropped. Its task may be aborted at any time.
pub(super) struct AdminConnection {
    connections: Arc<AdminConnections>,
    number: u64,
    activity: Arc<Activity>,
    displaces: bool,
}

/// The present state of a connection.
pub(super) struct Activity {
    is_waiting: AtomicBool,
    /// The time at which the present wait for the caller, or the present request, began, in ns after `origin`. A body that
    /// arrives slowly does not reset it.
    since: AtomicU64,
    origin: Instant,
}

impl Activity {
    fn new(origin: Instant) -> Self {
        let activity = Self {
            is_waiting: AtomicBool::new(true),
            since: AtomicU64::new(0),
            origin,
        };
        activity.rest();
        activity
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        self.mark();
        self.is_waiting.store(false, Relaxed);
    }

    /// The request is answered.
    pub(super) fn rest(&self) {
        self.mark();
        self.is_waiting.store(true, Relaxed);
    }

    fn mark(&self) {
        let now = self.origin.elapsed().as_nanos() as u64;
        self.since.store(now, Relaxed);
    }
}

impl AdminConnections {
    /// No connections.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            callers: Mutex::default(),
            emptied: Notify::new(),
            origin: Instant::now(),
            metrics,
        }
    }

    /// A panic elsewhere does not poison the lock's content: between any two statements it is consistent.
    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if there are `max` connections, and none of them can be cut off.
    pub(super) fn is_full(&self, max: usize) -> bool {
        let callers = self.callers();
        callers.present.len() >= max && callers.longest_waiting().is_none()
    }

    /// Adds a connection. If there are `max` already, cuts off the one that has waited longest, which takes a turn of the
    /// thread: see [`AdminConnection::displaces`].
    pub(super) fn enter(self: &Arc<Self>, max: usize) -> AdminConnection {
        let activity = Arc::new(Activity::new(self.origin));
        let mut callers = self.callers();
        let longest = (callers.present.len() >= max).then(|| callers.longest_waiting());
        let longest = longest.flatten();
        let removed = longest.and_then(|number| callers.present.remove(&number));
        if let Some(removed) = removed {
            self.metrics.admin_connections_cut_off.increment(1);
            removed.task.inspect(AbortHandle::abort);
        }
        self.metrics.admin_connections.increment(1);
        let number = callers.entered;
        callers.entered += 1;
        let present = Present {
            activity: Arc::clone(&activity),
            task: None,
        };
        callers.present.insert(number, present);
        AdminConnection {
            connections: Arc::clone(self),
            number,
            activity,
            displaces: longest.is_some(),
        }
    }

    /// Sets the task that holds the connection. It is aborted when the connection is cut off.
    pub(super) fn attend(&self, number: u64, task: AbortHandle) {
        if let Some(present) = self.callers().present.get_mut(&number) {
            present.task = Some(task);
        }
    }

    /// Waits until no connection is left.
    pub(super) async fn wait_empty(&self) {
        while !self.callers().present.is_empty() {
            self.emptied.notified().await;
        }
    }

    /// Cuts off all connections, and returns their number.
    pub(super) fn cut_off_all(&self) -> usize {
        let present = &self.callers().present;
        let tasks = present.values().filter_map(|present| present.task.as_ref());
        tasks.for_each(AbortHandle::abort);
        present.len()
    }
}

impl Callers {
    fn longest_waiting(&self) -> Option<u64> {
        let waiting = self
            .present
            .iter()
            .filter(|(_, present)| present.activity.is_waiting.load(Relaxed));
        let longest = waiting.min_by_key(|(_, present)| present.activity.since.load(Relaxed));
        longest.map(|(number, _)| *number)
    }
}

impl AdminConnection {
    /// The connection's number, for [`AdminConnections::attend`].
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// True if another connection was cut off for this one. The other's socket stays open until its task has had its turn.
    pub(super) fn displaces(&self) -> bool {
        self.displaces
    }

    /// The connection's state, which its requests change.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for AdminConnection {
    fn drop(&mut self) {
        self.connections.metrics.admin_connections.decrement(1);
        let mut callers = self.connections.callers();
        callers.present.remove(&self.number);
        if callers.present.is_empty() {
            self.connections.emptied.notify_one();
        }
    }
}

/// A request's body that records when it waits for the caller.
pub(super) fn watched<B>(body: B, activity: &Arc<Activity>) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    Body::new(WatchedBody {
        body: body.boxed_unsync(),
        activity: Arc::clone(activity),
    })
}

struct WatchedBody<B> {
    body: B,
    activity: Arc<Activity>,
}

impl<B: HttpBody + Unpin> HttpBody for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.activity.is_waiting.store(polled.is_pending(), Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
