//! The thread `push` and its runtime. They are its own, so that no vendor and no decision delays a session or the writer.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    PushRoom, PushWork,
    call::VendorCall,
    decider::{Decider, DeciderStep, StepError},
    worker::VendorWorker,
};
use crate::{delivery::Delivery, log::TurnNumber, threads::Pulse};

/// The pause before a step is tried again that the log did not do.
const RETRY: Duration = Duration::from_secs(1);
/// The interval of beats of the thread's pulse.
const BEAT: Duration = Duration::from_secs(1);
/// The time after which the position in the feed is written while nothing else is. What is read again after a crash was decided without
/// a push.
const POSITION_INTERVAL: Duration = Duration::from_secs(5);
/// The longest time for the last rows at the end.
const LAST_ROWS: Duration = Duration::from_secs(1);
/// The interval between two looks at a feed that several gateways write. The others' commits bring no news.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The threads that read the log's disk for the decisions and the workers: each of them reads one thing at a time.
const PUSH_DISK_THREADS: usize = 4;

/// The thread of vendor push.
pub struct PushThread {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl PushThread {
    /// Starts the thread, which holds the pulse. Fails where the operating system gives no thread.
    pub fn start(room: PushRoom, pulse: Pulse) -> Result<Self, std::io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(PUSH_DISK_THREADS)
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let handle = std::thread::Builder::new()
            .name("push".into())
            .spawn(move || runtime.block_on(room.run(pulse, stopped)))?;
        Ok(Self { stop, handle })
    }

    /// Tells the thread to end. Calls under way are given up; their tasks are there after the next start.
    pub fn stop(&self) {
        // The thread may have ended by itself.
        let _ = self.stop.send(true);
    }

    /// Waits for the thread's end. False if it ended in a panic. Blocks.
    pub fn join(self) -> bool {
        self.stop();
        self.handle.join().is_ok()
    }
}

/// The order to end, and the clock, for one task.
struct Driver {
    delivery: Arc<Delivery>,
    stopped: watch::Receiver<bool>,
    /// True while the log does not do the task's steps, so that the operator is told once.
    is_failing: AtomicBool,
}

impl Driver {
    /// The same for another task.
    fn another(&self) -> Self {
        Self {
            delivery: Arc::clone(&self.delivery),
            stopped: self.stopped.clone(),
            is_failing: AtomicBool::new(false),
        }
    }

    fn now_ms(&self) -> u64 {
        self.delivery.now_ms()
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    async fn stopped(&self) {
        // A dropped sender also ends the gateway.
        let mut stopped = self.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Waits until this time, Unix ms; `None`: for ever.
    async fn until(&self, time_ms: Option<u64>) {
        match time_ms {
            Some(time_ms) => {
                let wait_ms = time_ms.saturating_sub(self.now_ms()).max(1);
                sleep(Duration::from_millis(wait_ms)).await;
            }
            None => std::future::pending().await,
        }
    }

    /// All that was to be written is written.
    fn works(&self) {
        if self.is_failing.swap(false, Relaxed) {
            info!("vendor push goes on: the log works again");
        }
    }

    /// Waits before a step is tried again.
    async fn pause(&self, error: &StepError) {
        if !self.is_failing.swap(true, Relaxed) {
            warn!(%error, "vendor push waits for the log");
        }
        tokio::select! {
            biased;
            () = self.stopped() => {}
            () = sleep(RETRY) => {}
        }
    }
}

impl PushRoom {
    /// Makes the decisions and the calls until `stopped` says true, while this gateway has the turn. Panics where one of its tasks
    /// does. Cancel safe: after a drop tasks that were done in the last second may be done again.
    pub async fn run(self, pulse: Pulse, stopped: watch::Receiver<bool>) {
        let driver = Driver {
            delivery: Arc::clone(&self.source.delivery),
            stopped,
            is_failing: AtomicBool::new(false),
        };
        while !driver.is_stopped() {
            if let Some(turn) = self.turn.now() {
                self.run_in(turn, &pulse, &driver).await;
                continue;
            }
            pulse.rest();
            tokio::select! {
                biased;
                () = driver.stopped() => {}
                () = self.turn.other_than(None) => {}
            }
        }
    }

    /// Works until the turn ends, or the gateway.
    async fn run_in(&self, turn: TurnNumber, pulse: &Pulse, driver: &Driver) {
        let (end, ended) = watch::channel(false);
        let in_turn = Driver {
            stopped: ended,
            ..driver.another()
        };
        let mut tasks = JoinSet::new();
        let look = self.turn.is_shared().then_some(LOOK_INTERVAL);
        tasks.spawn(decide_on(
            self.work(turn),
            Arc::clone(&self.news),
            look,
            in_turn,
        ));
        loop {
            pulse.beat();
            tokio::select! {
                biased;
                () = driver.stopped() => break,
                () = self.turn.other_than(Some(turn)) => break,
                () = sleep(BEAT) => {}
                ended = tasks.join_next() => return raise(ended),
            }
        }
        end.send_replace(true);
        while let Some(ended) = tasks.join_next().await {
            raise(Some(ended));
        }
        self.clear();
        if !driver.is_stopped() {
            info!("vendor push ends at this gateway: another one has the turn");
        }
    }
}

/// A panic of a task is one of the thread.
fn raise<T>(ended: Option<Result<T, tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

/// Makes the decisions. The workers begin once the rows of earlier ones are taken up. `look`: the interval between two looks at the feed
/// without news; `None`: all commits bring news.
async fn decide_on(work: PushWork, news: Arc<Notify>, look: Option<Duration>, driver: Driver) {
    let PushWork {
        mut decider,
        workers,
    } = work;
    while let Err(error) = decider.start(driver.now_ms()).await {
        driver.pause(&error).await;
        if driver.is_stopped() {
            return;
        }
    }
    if look.is_some() {
        info!("vendor push runs at this gateway now");
    }
    let mut tasks = JoinSet::new();
    for worker in workers {
        tasks.spawn(work_on(worker, driver.another()));
    }
    while !driver.is_stopped() {
        let step = match decide_step(&mut decider, driver.now_ms()).await {
            Ok(step) => step,
            Err(error) => {
                driver.pause(&error).await;
                continue;
            }
        };
        let DecisionWait::Wait { feed_ms, due_ms } = step else {
            tokio::task::yield_now().await;
            continue;
        };
        let keeps = decider.has_moved();
        if !keeps {
            driver.works();
        }
        tokio::select! {
            biased;
            () = driver.stopped() => {}
            ended = tasks.join_next(), if !tasks.is_empty() => raise(ended),
            () = driver.until(feed_ms), if feed_ms.is_some() => {}
            () = driver.until(due_ms), if due_ms.is_some() => {}
            // While a page waits for its time, news change nothing.
            () = news.notified(), if feed_ms.is_none() => {}
            () = sleep(look.unwrap_or_default()), if look.is_some() && feed_ms.is_none() => {}
            () = sleep(POSITION_INTERVAL), if keeps => {
                if let Err(error) = decider.keep_position().await {
                    driver.pause(&error).await;
                }
            }
        }
    }
    // Without the position, the end of the feed is decided again after the next start.
    let _ = timeout(LAST_ROWS, decider.keep_position()).await;
    while let Some(ended) = tasks.join_next().await {
        raise(Some(ended));
    }
}

enum DecisionWait {
    /// There is more to do.
    Now,
    /// The feed is to be looked at at `feed_ms`, or with the next news; decisions are due at `due_ms`. Unix ms.
    Wait {
        feed_ms: Option<u64>,
        due_ms: Option<u64>,
    },
}

async fn decide_step(decider: &mut Decider, now_ms: u64) -> Result<DecisionWait, StepError> {
    decider.sweep(now_ms).await?;
    let feed = decider.take_feed(now_ms).await?;
    let due = decider.decide_due(now_ms).await?;
    Ok(match (feed, due) {
        (DeciderStep::Until(feed_ms), DeciderStep::Until(due_ms)) => {
            DecisionWait::Wait { feed_ms, due_ms }
        }
        _ => DecisionWait::Now,
    })
}

/// Works through the tasks of one vendor.
async fn work_on(mut worker: VendorWorker, driver: Driver) {
    let vendor = worker.vendor();
    let lane = Arc::clone(worker.lane());
    let mut calls = JoinSet::new();
    while !driver.is_stopped() {
        let now_ms = driver.now_ms();
        if let Err(error) = worker.fill(now_ms).await {
            driver.pause(&error).await;
            continue;
        }
        loop {
            let next = worker.next(now_ms).await;
            if next.is_empty() {
                break;
            }
            for call in next {
                let vendor = Arc::clone(&vendor);
                calls.spawn(async move {
                    let outcomes = call.make(&*vendor).await;
                    (call, outcomes)
                });
            }
        }
        let wakes_ms = worker.wakes_at_ms();
        if !worker.has_ended() {
            driver.works();
        }
        tokio::select! {
            biased;
            () = driver.stopped() => {}
            Some(ended) = calls.join_next(), if !calls.is_empty() => match ended {
                Ok((call, outcomes)) => take(&mut worker, call, outcomes, &driver).await,
                Err(error) => raise::<()>(Some(Err(error))),
            },
            () = lane.changed.notified() => worker.wake(),
            () = driver.until(wakes_ms), if wakes_ms.is_some() => {}
        }
    }
    calls.abort_all();
    // Tasks whose rows stay are tried again after the next start.
    let _ = timeout(LAST_ROWS, worker.flush()).await;
}

async fn take(
    worker: &mut VendorWorker,
    call: VendorCall,
    outcomes: Vec<super::vendor::Outcome>,
    driver: &Driver,
) {
    worker
        .take(call, outcomes, driver.now_ms(), fastrand::f64())
        .await;
}
