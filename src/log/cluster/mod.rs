//! The log of a fleet: many gateways without state of their own, on one store that keeps what is confirmed.
//!
//! The promises are those of the trait. An append is answered once its transaction is confirmed by as many copies as the store
//! keeps. Nothing that is not confirmed reaches a client (`barrier.rs`). An append whose answer was lost is neither lost nor placed
//! twice (`resolver.rs`). Two gateways may append to one user, or use one key, at the same time: the store decides.
//!
//! - this file: [`ClusterLog`], its start and its tasks
//! - `engine.rs`: [`Engine`], the narrow trait between this log and its store; `fleet_store.rs`: the one between a gateway of the fleet
//!   and the store
//! - `log.rs`: the log as the rooms above see it
//! - `lane.rs`: one way of appends to the store; `group.rs`: what one transaction takes, and its answers
//! - `resolver.rs`: how a lane finds out the outcome of a group without an answer
//! - `barrier.rs`: what a read saw goes out only once it is confirmed
//! - `loss.rs`: another primary that lacks what was confirmed is noticed, and a new epoch begins;
//!   `known.rs`: what this gateway knows to be confirmed
//! - `rows.rs`: all other writes; `cursors.rs`: those that are written behind
//! - `everyone.rs`: messages to everyone, in pieces; `erase.rs`: the erasure of a user
//! - `secrets.rs`: the secrets that all gateways of a store share
//! - `host.rs`: the thread of all these parts
//! - `core.rs`: what these parts share; `body.rs`: the stored form of a message
//! - `postgres/`: PostgreSQL as such a store
//!
//! Why so: rows of users stay locked until a standby has answered, so groups are bounded and lanes are few; more lanes of one
//! gateway gain nothing. A group is one statement, so that no lock waits for a gateway. The store tells nobody that a transaction
//! failed, only that it has no answer, so each lane is numbered and fenced in the rows of the transaction itself.
//!
//! The feed is in the order of the store's transactions, so one position stands for all lanes and all gateways. A page has only what
//! is confirmed, and waits for older transactions that are open.
//!
//! Leaves to others: the statements, and who is online.

mod barrier;
mod body;
mod core;
mod cursors;
pub mod engine;
mod erase;
mod everyone;
pub mod fleet_store;
mod group;
mod host;
mod known;
mod lane;
mod log;
mod loss;
pub mod postgres;
mod resolver;
mod rows;
pub mod secrets;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

pub use self::host::{ClusterError, ClusterHost};
use self::{
    barrier::Barrier,
    core::ClusterCore,
    engine::{Engine, EngineError},
    everyone::ToEveryone,
    known::KnownMarks,
    lane::{AppendLane, LaneSender},
    rows::RowWork,
};
use crate::log::Turns;

/// The way to back up a log that is in PostgreSQL.
pub const OWN_BACKUP: &str = "the log is in PostgreSQL: back the database up with PostgreSQL's own tools (pg_basebackup, pg_dump), and after a \
                              restore of it run `towncrier store new-epoch`";

/// The lanes of a gateway. One would wait for a standby most of the time; more than two gain nothing, as each group is larger the
/// longer it waits.
const LANES: usize = 2;
/// The most questions that wait for the store. Each has a task and its answer in memory.
const STORE_QUESTIONS_MAX: usize = 4096;
/// See [`ClusterPace::barrier_spacing`].
const BARRIER_SPACING: Duration = Duration::from_millis(100);

/// The log.
pub struct ClusterLog {
    core: Arc<ClusterCore>,
    /// `None` after the log was closed.
    senders: RwLock<Option<LogSenders>>,
    questions: Arc<Semaphore>,
    runtime: Handle,
    turns: Turns,
}

/// The callers' ends of the log's tasks.
struct LogSenders {
    lanes: Vec<LaneSender>,
    rows: mpsc::Sender<RowWork>,
    everyone: mpsc::Sender<ToEveryone>,
}

/// The times of a log.
#[derive(Debug, Clone, Copy)]
pub struct ClusterPace {
    /// The longest time to the answer of a caller.
    pub answer_within: Duration,
    /// The least time between the beginnings of two barriers. Reads meet transactions that are not confirmed all the time, and each
    /// barrier is a commit.
    pub barrier_spacing: Duration,
}

impl ClusterPace {
    /// The usual times, with this one to the answer of a caller.
    pub fn new(answer_within: Duration) -> Self {
        Self {
            answer_within,
            barrier_spacing: BARRIER_SPACING,
        }
    }
}

/// The tasks of a log. They end after the log was closed or dropped, and all that it took has an outcome.
#[derive(Debug)]
pub struct ClusterTasks {
    work: JoinSet<()>,
    /// Tasks that never end by themselves. The others need them to the end.
    always: JoinSet<()>,
}

impl ClusterTasks {
    /// Waits until all tasks have ended, or one of them has panicked: then it is false. Cancel safe.
    pub async fn ended(&mut self) -> bool {
        loop {
            let ended = tokio::select! {
                biased;
                ended = self.work.join_next() => ended,
                Some(_) = self.always.join_next() => return false,
            };
            match ended {
                Some(Ok(())) => {}
                Some(Err(_)) => return false,
                None => return true,
            }
        }
    }
}

impl ClusterLog {
    /// Begins to work on a store. The tasks run on this runtime. Not cancel safe: a drop leaves lanes that nobody uses.
    pub async fn open(
        engine: Arc<dyn Engine>,
        pace: ClusterPace,
        runtime: Handle,
    ) -> Result<(Self, ClusterTasks), EngineError> {
        let known = Arc::new(KnownMarks::default());
        loss::meet(&engine, &known).await?;
        let ids = engine.lanes(LANES).await?;
        ids.iter().for_each(|lane| known.know(*lane, 0));
        let barrier = Barrier::new(Arc::clone(&engine), ids[0], known, pace, runtime.clone());
        // Nothing is shown again that an earlier primary showed and lost.
        barrier.pass().await?;
        let core = ClusterCore::new(engine, barrier, pace.answer_within);
        let mut tasks = JoinSet::new();
        let mut lanes = Vec::new();
        for id in ids {
            let (lane, sender) = AppendLane::new(id, Arc::clone(&core));
            tasks.spawn_on(lane.run(), &runtime);
            lanes.push(sender);
        }
        let mut always = JoinSet::new();
        always.spawn_on(loss::run(Arc::clone(&core)), &runtime);
        let (rows, waiting) = rows::queue();
        tasks.spawn_on(rows::run(Arc::clone(&core), waiting), &runtime);
        let (everyone, waiting) = everyone::queue();
        tasks.spawn_on(everyone::run(Arc::clone(&core), waiting), &runtime);
        let log = Self {
            core,
            senders: RwLock::new(Some(LogSenders {
                lanes,
                rows,
                everyone,
            })),
            questions: Arc::new(Semaphore::new(STORE_QUESTIONS_MAX)),
            runtime,
            turns: Turns::default(),
        };
        let tasks = ClusterTasks {
            work: tasks,
            always,
        };
        Ok((log, tasks))
    }

    /// Tells the work on this log when the gateway has the turn. Without a fleet it never has.
    pub fn turns(&self) -> Turns {
        Arc::clone(&self.turns)
    }

    /// The store does not answer, or keeps fewer copies than it was told, for this reason; `None`: all is well.
    pub(crate) fn set_store_fault(&self, fault: Option<String>) {
        self.core.set_store_fault(fault);
    }

    /// Refuses appends from now on. The tasks end once all that was accepted has an outcome.
    pub fn close(&self) {
        let mut senders = self.senders.write().unwrap_or_else(PoisonError::into_inner);
        *senders = None;
    }
}

/// Takes the lock, also after a panic of its holder. Use it for values that no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
