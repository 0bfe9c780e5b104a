//! A lane: one way of a gateway's appends to the store. It takes all that waits, appends it as one group, and begins the next
//! group when the outcome is known.
//!
//! No deadline ends a commit. A caller who waits too long is told that the outcome is not known. The lane goes on with the group
//! until it knows.

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep},
};

use super::{
    core::ClusterCore,
    engine::{LaneId, answer_of},
    group::{GroupBuilder, GroupOutcomes, LaneCaller, LaneGroup, LaneRequest, of_repeat},
    resolver::{Attempt, LaneStep},
};
use crate::log::{Append, AppendError, CommitGroup};

/// The most appends that wait for one lane: as many as the embedded log's queue holds by default.
const LANE_REQUESTS_MAX: usize = 8192;
/// The most bytes of bodies that wait for one lane: 64 full groups.
const LANE_WAITING_BYTES_MAX: u64 = 64 << 20;
/// The time to the next attempt after the store was away, or after a fence without an answer.
const PAUSE: Duration = Duration::from_millis(100);
/// A lane that waits for the store looks this often for callers whose time is over.
const LOOK: Duration = Duration::from_millis(250);
/// A fence waits in the store for the transaction that holds the lane. After this time its connection counts as lost. Each further
/// fence takes a connection of the server while the first one waits there.
const FENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// The callers' end of a lane.
pub(super) struct LaneSender {
    sender: mpsc::Sender<LaneRequest>,
    bytes: Arc<AtomicU64>,
}

impl LaneSender {
    /// Puts an append into the lane's queue, or refuses it.
    pub(super) fn put(&self, append: Append, caller: LaneCaller) -> Result<(), AppendError> {
        let bytes = append.body.len() as u64;
        if self.bytes.load(Relaxed) >= LANE_WAITING_BYTES_MAX {
            return Err(AppendError::QueueFull);
        }
        let since = Instant::now();
        let request = LaneRequest {
            append,
            caller,
            since,
        };
        self.bytes.fetch_add(bytes, Relaxed);
        self.sender.try_send(request).map_err(|error| {
            self.bytes.fetch_sub(bytes, Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => AppendError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => ClusterCore::closed(),
            }
        })
    }
}

/// A lane.
pub(super) struct AppendLane {
    id: LaneId,
    /// The number of its newest group.
    newest: u64,
    core: Arc<ClusterCore>,
    receiver: mpsc::Receiver<LaneRequest>,
    bytes: Arc<AtomicU64>,
    /// Appends that were taken from the queue and are in no group yet.
    waiting: VecDeque<LaneRequest>,
}

impl AppendLane {
    /// A new lane, and the callers' end of it.
    pub(super) fn new(id: LaneId, core: Arc<ClusterCore>) -> (Self, LaneSender) {
        let (sender, receiver) = mpsc::channel(LANE_REQUESTS_MAX);
        let bytes = Arc::new(AtomicU64::new(0));
        let lane = Self {
            id,
            newest: 0,
            core,
            receiver,
            bytes: bytes.clone(),
            waiting: VecDeque::new(),
        };
        (lane, LaneSender { sender, bytes })
    }

    /// Runs until the callers' end is gone and every group has an outcome. Not cancel safe: a drop leaves callers without an answer.
    pub(super) async fn run(mut self) {
        while let Some(group) = self.next_group().await {
            self.commit(group).await;
        }
    }

    /// All that waits, up to a full group.
    async fn next_group(&mut self) -> Option<LaneGroup> {
        if self.waiting.is_empty() {
            let first = self.receiver.recv().await?;
            self.waiting.push_back(first);
        }
        let mut builder = GroupBuilder::default();
        while let Some(request) = self.take() {
            let bytes = request.append.body.len() as u64;
            if let Some(request) = builder.put(request) {
                self.waiting.push_front(request);
                break;
            }
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        Some(builder.close())
    }

    fn take(&mut self) -> Option<LaneRequest> {
        let first = self.waiting.pop_front();
        first.or_else(|| self.receiver.try_recv().ok())
    }

    /// Brings a group to its outcome.
    async fn commit(&mut self, group: LaneGroup) {
        let mut groups = VecDeque::from([group]);
        while let Some(mut group) = groups.pop_front() {
            if self.settle(&mut group).await == LaneOutcome::Split {
                groups.extend(group.split());
            }
        }
    }

    async fn settle(&mut self, group: &mut LaneGroup) -> LaneOutcome {
        let appends = Arc::clone(&group.appends);
        let deadline = Instant::now() + self.core.answer_within;
        let (mut attempt, mut step) = Attempt::new(self.newest, appends.len() == 1);
        let engine = Arc::clone(&self.core.engine);
        let id = self.id;
        let settled = loop {
            // Only a store that was away has certainly done nothing.
            let is_nowhere = matches!(step, LaneStep::AppendLater(_));
            if is_nowhere && Instant::now() >= deadline {
                self.core.set_away(true);
                group.answer_all(&Err(ClusterCore::away()));
                self.wait_for_store().await;
                break LaneOutcome::Done;
            }
            step = match step {
                LaneStep::Append(number) | LaneStep::AppendLater(number) => {
                    if is_nowhere {
                        sleep(PAUSE).await;
                    }
                    let append = engine.append(id, number, appends.clone());
                    let append = answer_of(append, self.core.answer_within);
                    match append.await {
                        Ok(placements) => {
                            self.core.barrier.known.know(id, number);
                            let outcomes = GroupOutcomes::placed(&appends, placements);
                            self.finish(group, number, outcomes, deadline).await;
                            attempt.appended(Ok(()))
                        }
                        Err(error) => {
                            tracing::debug!(lane = id.0, number, %error, "a group has no outcome yet");
                            attempt.appended(Err(&error))
                        }
                    }
                }
                LaneStep::Fence(number) => {
                    let fence = answer_of(engine.fence(id, number), FENCE_TIMEOUT);
                    let fenced = self.patiently(group, deadline, fence).await;
                    if let Err(error) = &fenced {
                        tracing::debug!(lane = id.0, number, %error, "a fence has no answer yet");
                        sleep(PAUSE).await;
                    }
                    attempt.fenced(fenced.as_ref().copied())
                }
                LaneStep::LookUp => {
                    let indexes: Vec<_> = (0..appends.len()).collect();
                    let firsts = self.firsts(group, &indexes, deadline).await;
                    self.core.barrier.known.know(id, attempt.number());
                    let outcomes = GroupOutcomes::looked_up(&appends, firsts);
                    self.finish(group, attempt.number(), outcomes, deadline)
                        .await;
                    LaneStep::Answered
                }
                LaneStep::Split => break LaneOutcome::Split,
                LaneStep::Refuse => {
                    group.answer_all(&Err(ClusterCore::refused()));
                    break LaneOutcome::Done;
                }
                LaneStep::Answered => break LaneOutcome::Done,
            };
        };
        self.newest = attempt.number();
        self.core.set_away(false);
        settled
    }

    /// Answers the callers, then hands the commits on.
    async fn finish(
        &mut self,
        group: &mut LaneGroup,
        number: u64,
        outcomes: GroupOutcomes,
        deadline: Instant,
    ) {
        for (index, answer) in &outcomes.answers {
            group.answer(*index, answer);
        }
        let lane = self.id.0;
        let of_group = outcomes.commits_of(CommitGroup { lane, number });
        self.core.hand_on(&of_group);
        if outcomes.repeats.is_empty() {
            return;
        }
        let firsts = self.firsts(group, &outcomes.repeats, deadline).await;
        for (index, first) in outcomes.repeats.into_iter().zip(firsts) {
            let append = &group.appends[index];
            let unknown = Err(AppendError::OutcomeUnknown);
            let answer = first.map_or(unknown, |first| of_repeat(append, first));
            group.answer(index, &answer);
        }
    }

    /// The stored part of these appends, once it is confirmed: another gateway's commit may be visible before it is.
    async fn firsts(
        &mut self,
        group: &mut LaneGroup,
        indexes: &[usize],
        deadline: Instant,
    ) -> Vec<Option<super::engine::First>> {
        let appends = indexes.iter().map(|index| group.appends[*index].clone());
        let appends: Arc<[Append]> = appends.collect();
        loop {
            let core = Arc::clone(&self.core);
            let look_up = async {
                let firsts = core.engine.firsts(appends.clone()).await?;
                core.barrier.pass().await?;
                Ok(firsts)
            };
            let look_up = answer_of(look_up, self.core.answer_within);
            match self.patiently(group, deadline, look_up).await {
                Ok(firsts) => return firsts,
                Err(error) => {
                    tracing::debug!(lane = self.id.0, %error, "a group is not looked up yet");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for the store. Callers whose time is over are answered meanwhile: those of the group, and those who wait for a group.
    async fn patiently<T>(
        &mut self,
        group: &mut LaneGroup,
        deadline: Instant,
        answer: impl Future<Output = T>,
    ) -> T {
        let mut answer = pin!(answer);
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                _ = look.tick() => {}
            }
            if Instant::now() >= deadline {
                self.core.set_away(true);
                group.answer_all(&Err(AppendError::OutcomeUnknown));
            }
            self.refuse_late();
        }
    }

    /// Waits until the store answers again. Nothing of this lane is in flight.
    async fn wait_for_store(&mut self) {
        loop {
            sleep(PAUSE).await;
            self.refuse_late();
            let barrier = self.core.engine.barrier(self.id);
            let barrier = answer_of(barrier, self.core.answer_within);
            if barrier.await.is_ok() {
                return;
            }
        }
    }

    /// Refuses the appends that have waited for too long. They are in no group, so they are stored nowhere.
    fn refuse_late(&mut self) {
        while let Ok(request) = self.receiver.try_recv() {
            self.waiting.push_back(request);
        }
        let patience = self.core.answer_within;
        while let Some(first) = self.waiting.front()
            && first.since.elapsed() >= patience
            && let Some(request) = self.waiting.pop_front()
        {
            let bytes = request.append.body.len() as u64;
            self.bytes.fetch_sub(bytes, Relaxed);
            drop(request.caller.send(Err(ClusterCore::away())));
        }
    }
}

/// The end of the work on a group.
#[derive(Debug, PartialEq, Eq)]
enum LaneOutcome {
    Done,
    /// Its messages have to go one by one.
    Split,
}
