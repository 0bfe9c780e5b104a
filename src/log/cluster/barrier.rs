//! The barrier: what a read saw goes out only once it is confirmed.
//!
//! A primary shows a transaction before its standby has it, for example when the wait for the standby was cut off. If such a
//! message was pushed and the standby then took over, its seq would go to another message. So a read that saw a young
//! transaction waits for a barrier that begins after the read. One barrier serves all reads that wait.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{
    ClusterPace,
    engine::{Engine, EngineError, Horizon, LaneId, Observed},
    known::KnownMarks,
    lock,
};

/// The way to tell a read that it is confirmed.
type Confirmed = oneshot::Sender<Result<(), EngineError>>;

/// The reads that wait for a barrier. Pure.
#[derive(Debug)]
struct YoungReads<T> {
    /// They wait for the next barrier. One that is running may have begun before they read.
    waiting: Vec<T>,
    is_running: bool,
}

impl<T> Default for YoungReads<T> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            is_running: false,
        }
    }
}

impl<T> YoungReads<T> {
    /// Adds a read. True if the caller has to run barriers now.
    fn add(&mut self, read: T) -> bool {
        self.waiting.push(read);
        !std::mem::replace(&mut self.is_running, true)
    }

    /// Begins a barrier for all who wait; none: there is nothing to do any more.
    fn begin(&mut self) -> Vec<T> {
        let reads = std::mem::take(&mut self.waiting);
        self.is_running = !reads.is_empty();
        reads
    }
}

/// The barriers of one gateway.
pub(super) struct Barrier {
    engine: Arc<dyn Engine>,
    pub(super) lane: LaneId,
    pub(super) known: Arc<KnownMarks>,
    pace: ClusterPace,
    horizon: AtomicU64,
    reads: Mutex<YoungReads<Confirmed>>,
    runtime: tokio::runtime::Handle,
}

impl Barrier {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        lane: LaneId,
        known: Arc<KnownMarks>,
        pace: ClusterPace,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            lane,
            known,
            pace,
            horizon: AtomicU64::new(0),
            reads: Mutex::default(),
            runtime,
        })
    }

    /// The horizon of the newest barrier.
    pub(super) fn horizon(&self) -> Horizon {
        Horizon(self.horizon.load(Relaxed))
    }

    /// The value of a read, once everything in it is confirmed. Cancel safe.
    pub(super) async fn confirmed<T>(
        self: &Arc<Self>,
        seen: Observed<T>,
    ) -> Result<T, EngineError> {
        if seen.is_young {
            self.pass().await?;
        }
        Ok(seen.value)
    }

    /// Waits for a barrier that begins after this call. Cancel safe.
    pub(super) async fn pass(self: &Arc<Self>) -> Result<(), EngineError> {
        let (confirmed, answer) = oneshot::channel();
        if lock(&self.reads).add(confirmed) {
            self.runtime.spawn(Arc::clone(self).run());
        }
        let ended = || Err(EngineError::Away("the barrier ended".into()));
        answer.await.unwrap_or_else(|_| ended())
    }

    /// Runs barriers while reads wait.
    async fn run(self: Arc<Self>) {
        loop {
            let next_at = Instant::now() + self.pace.barrier_spacing;
            let reads = lock(&self.reads).begin();
            if reads.is_empty() {
                return;
            }
            let late = || Err(EngineError::Unknown("the barrier has no answer".into()));
            let barrier = timeout(self.pace.answer_within, self.engine.barrier(self.lane));
            let outcome = barrier.await.unwrap_or_else(|_| late());
            if let Ok(passed) = &outcome {
                self.horizon.store(passed.horizon.0, Relaxed);
                self.known.know_barrier(self.lane, passed.number);
            }
            let outcome = outcome.map(|_| ());
            for read in reads {
                drop(read.send(outcome.clone()));
            }
            sleep_until(next_at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_comes_during_a_barrier_waits_for_the_next_one() {
        let mut reads = YoungReads::default();
        assert!(reads.add("first"));
        assert!(!reads.add("second"));
        assert_eq!(reads.begin(), ["first", "second"]);
        assert!(!reads.add("during"), "a barrier runs");
        assert_eq!(reads.begin(), ["during"]);
        assert!(reads.begin().is_empty());
        assert!(reads.add("later"), "nothing runs any more");
    }
}
