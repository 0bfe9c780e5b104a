//! The connections of the admin port. When there are too many, this module decides which one is cut off.
//!
//! A connection either waits for its caller (for a request, the rest of one, or an answer to be read), or a handler works
//! for it. When one connection too many comes, the connection that has waited longest is cut off. A connection with a
//! handler at work is never cut off. So a caller with a thousand silent connections blocks no other caller, and a caller
//! whose kept connection is gone opens a new one.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::{AbortHandle, Id, JoinSet, yield_now};

/// All connections. At most `max`, and one more while another one ends.
pub(super) struct Crowd {
    max: usize,
    tasks: JoinSet<()>,
    members: HashMap<Id, (AbortHandle, Arc<Activity>)>,
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

impl Crowd {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            tasks: JoinSet::new(),
            members: HashMap::new(),
        }
    }

    /// Sets the most connections from now on. Present connections stay.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// True if another connection may come: there is room, or a waiting connection can be cut off.
    pub(super) fn has_room(&self) -> bool {
        self.members.len() < self.max || self.longest_waiting().is_some()
    }

    /// Adds a connection. If there are too many, cuts off the one that has waited longest and closes its socket.
    pub(super) async fn add<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        origin: Instant,
        converse: impl FnOnce(Arc<Activity>) -> F,
    ) {
        if self.members.len() >= self.max
            && let Some(id) = self.longest_waiting()
            && let Some((task, _)) = self.members.remove(&id)
        {
            task.abort();
            // The yield lets the aborted task close its socket first. Otherwise a flood would use up the descriptors.
            yield_now().await;
        }
        let activity = Arc::new(Activity::new(origin));
        let task = self.tasks.spawn(converse(Arc::clone(&activity)));
        self.members.insert(task.id(), (task, activity));
    }

    fn longest_waiting(&self) -> Option<Id> {
        let waiting = self
            .members
            .iter()
            .filter(|(_, (_, activity))| activity.is_waiting.load(Relaxed));
        let longest = waiting.min_by_key(|(_, (_, activity))| activity.since.load(Relaxed));
        longest.map(|(id, _)| *id)
    }

    /// Waits for the end of a connection; `None` when there is none. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<()> {
        let id = match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.members.remove(&id);
        Some(())
    }
}

/// A request's body that records when it waits for the caller.
pub(super) fn watched<B>(body: B, activity: &Arc<Activity>) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    Body::new(Watched {
        body: body.boxed_unsync(),
        activity: Arc::clone(activity),
    })
}

struct Watched<B> {
    body: B,
    activity: Arc<Activity>,
}

impl<B: HttpBody + Unpin> HttpBody for Watched<B> {
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
