//! The thread of a gateway's cluster log: its runtime, its start, and what it does from time to time.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, Weak},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    ClusterLog, ClusterPace, ClusterTasks,
    engine::EngineError,
    fleet_store::FleetStore,
    lock,
    postgres::{PostgresEngine, StoreRetention},
};
use crate::{
    clock::Clock,
    config::Config,
    threads::{self, Pulse, Watched},
};

/// The interval between two looks whether the store answers, and at the settings on which the number of copies depends.
const STORE_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between two looks at the days and partitions of the store. Partitions are made a week ahead.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);
const MS_OF_DAY: u64 = 86_400_000;

/// Why there is no log on a store.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The store cannot be used.
    #[error("the store of log.store cannot be used: {0}")]
    Engine(#[from] EngineError),
    /// The thread could not be started.
    #[error("the operating system gives no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The thread of a cluster log.
pub struct ClusterHost {
    log: Arc<ClusterLog>,
    thread: Mutex<Option<JoinHandle<bool>>>,
    watched: Mutex<Vec<Watched>>,
    store: Arc<PostgresEngine>,
    runtime: Handle,
}

impl ClusterHost {
    /// Opens the log on the servers of this URL. Blocks while they are asked.
    pub fn start(url: &str, config: &Config, clock: Arc<Clock>) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (opened, opening) = oneshot::channel();
        let (pulse, watched) = threads::watched("log-cluster");
        let pace = ClusterPace::new(config.store.answer_within);
        let retention = StoreRetention::of(config.log.retention, config.log.idempotency_retention);
        let (url, copies) = (url.to_owned(), config.store.copies);
        let work = async move {
            match open(&url, pace).await {
                Ok((engine, log, tasks)) => {
                    let log = Arc::new(log);
                    look_at_store(&engine, &log, (copies, pace)).await;
                    let weak = Arc::downgrade(&log);
                    drop(opened.send(Ok((Arc::clone(&engine), log))));
                    let looking = follow_store(&engine, &weak, (copies, pace));
                    let running = run(&engine, tasks, &clock, retention, pulse);
                    tokio::select! {
                        is_whole = running => is_whole,
                        never = looking => match never {},
                    }
                }
                Err(error) => {
                    drop(opened.send(Err(error)));
                    true
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("log-cluster".into())
            .spawn(move || runtime.block_on(work))?;
        let ended = || Err(EngineError::Away("its thread ended".into()));
        // The caller may be in a runtime, where a thread must not wait for a channel of tokio's.
        let opened = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| opening.blocking_recv());
            waiting.join().ok().and_then(Result::ok)
        });
        let (store, log) = opened.unwrap_or_else(ended)?;
        Ok(Self {
            log,
            thread: Mutex::new(Some(thread)),
            watched: Mutex::new(vec![watched]),
            store,
            runtime: handle,
        })
    }

    /// The log.
    pub fn log(&self) -> Arc<ClusterLog> {
        Arc::clone(&self.log)
    }

    /// The gateways and their sessions in the store.
    pub fn fleet_store(&self) -> Arc<dyn FleetStore> {
        self.store.clone()
    }

    /// The runtime with the connections to the store. It ends when the log is closed.
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// Returns the thread without which the log cannot go on. A second call returns nothing.
    pub fn take_watched(&self) -> Vec<Watched> {
        std::mem::take(&mut lock(&self.watched))
    }

    /// Refuses appends from now on, waits for the outcome of the accepted ones, stores cursors, and ends the thread. Blocks. Returns
    /// false if something had panicked.
    pub fn close(&self) -> bool {
        self.log.close();
        let thread = lock(&self.thread).take();
        thread.is_none_or(|thread| thread.join().unwrap_or(false))
    }
}

/// Looks whether the servers answer, and whether they keep as many copies as they should.
async fn look_at_store(
    engine: &PostgresEngine,
    log: &ClusterLog,
    (copies, pace): (u8, ClusterPace),
) {
    let looking = timeout(pace.answer_within, engine.copies_fault(copies));
    let fault = match looking.await {
        Ok(Ok(fault)) => fault,
        Ok(Err(error)) => Some(format!("the store of log.store does not answer: {error}")),
        Err(_) => Some("the store of log.store does not answer in time".into()),
    };
    log.set_store_fault(fault);
}

/// Looks at the store for ever. A log that is gone is not kept.
async fn follow_store(
    engine: &PostgresEngine,
    log: &Weak<ClusterLog>,
    wanted: (u8, ClusterPace),
) -> Infallible {
    let mut look = interval(STORE_LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Some(log) = log.upgrade() {
            look_at_store(engine, &log, wanted).await;
        }
    }
}

async fn open(
    url: &str,
    pace: ClusterPace,
) -> Result<(Arc<PostgresEngine>, ClusterLog, ClusterTasks), EngineError> {
    let engine = PostgresEngine::connect(url).await?;
    let (log, tasks) = ClusterLog::open(engine.clone(), pace, Handle::current()).await?;
    Ok((engine, log, tasks))
}

/// Runs until the log is closed. False if a task panicked.
async fn run(
    engine: &PostgresEngine,
    mut tasks: ClusterTasks,
    clock: &Clock,
    retention: StoreRetention,
    pulse: Pulse,
) -> bool {
    pulse.rest();
    let mut look = interval(KEEP_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            is_whole = tasks.ended() => return is_whole,
            _ = look.tick() => {}
        }
        // While the clock is doubted, nothing expires.
        let today = (clock.now_ms() / MS_OF_DAY) as u32;
        let today = clock.may_expire().then_some(today);
        if let Err(error) = engine.keep(today, retention).await {
            tracing::warn!(%error, "the partitions of the store are not looked after");
        }
    }
}
