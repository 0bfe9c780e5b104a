//! The thread `webhooks` and its runtime. They are their own, so that no receiver delays a session, the writer or a send.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    backlog::{PUSH_EVENTS_MAX, PushBacklog},
    dead_letters::DeadLetters,
    dispatch::Dispatch,
    gather::{self, Gatherer},
    presence::PresenceNotes,
    rows,
    sweep::Sweep,
    worker::{Courier, HookWorker},
};
use crate::{
    clock::Clock,
    config::Config,
    log::{Commit, Consumer, EXPIRIES_WANTED, Log, LogError},
    metrics::Metrics,
    registry::Registry,
    threads::{Pulse, Watched, watched},
};

/// The time for the request under way at the end, so that it is not repeated at the next start. The time runs beside the drain of the
/// clients.
const WEBHOOK_REQUEST_GRACE: Duration = Duration::from_secs(1);
/// The threads that read the log for this one, and look names up. One read is under way at a time, and a slow look-up must not
/// hold it up.
const READ_THREADS: usize = 2;
/// The time in which the log answers at the start. The log was just read.
const WEBHOOKS_OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the thread does not start.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// The operating system gives no thread, or no runtime.
    #[error("webhooks get no thread: {0}")]
    Thread(#[from] io::Error),
    /// The log does not say how far the receiver was told.
    #[error("webhooks cannot read the log: {0}")]
    Log(#[from] LogError),
    /// The log did not answer in time.
    #[error("webhooks cannot read the log: it does not answer")]
    Late,
}

/// The rooms that the thread reads.
pub(super) struct HookSources {
    pub(super) log: Arc<dyn Log>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) news: Arc<Notify>,
    pub(super) pushes_made: Arc<std::sync::atomic::AtomicU64>,
}

/// The running thread.
pub struct WebhooksThread {
    halt: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

/// Tells the thread of commits. The log's thread only leaves a mark.
struct HookNews(Arc<Notify>);

impl Consumer for HookNews {
    fn take(&self, _: &[Commit]) {
        self.0.notify_one();
    }
}

impl WebhooksThread {
    /// Starts the thread. When it returns, each message that is accepted from now on is told. Blocks while the log is read.
    pub(super) fn start(
        config: &Config,
        sources: HookSources,
        courier: Courier,
    ) -> Result<(Self, Arc<DeadLetters>, Watched), WebhooksError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(READ_THREADS)
            .build()?;
        let (halt, halted) = watch::channel(false);
        let (pulse, watched) = watched("webhooks");
        let (opened, is_open) = mpsc::sync_channel(1);
        let config = config.clone();
        let work = move || {
            let work = async move {
                let opening = open(&config, sources, courier).await;
                let worker = match opening {
                    Ok(worker) => {
                        // The gateway waits for it.
                        let _ = opened.send(Ok(Arc::clone(&worker.letters)));
                        worker
                    }
                    Err(error) => {
                        let _ = opened.send(Err(error));
                        return;
                    }
                };
                run(worker, &pulse, halted).await;
            };
            runtime.block_on(work);
        };
        let handle = std::thread::Builder::new()
            .name("webhooks".into())
            .spawn(work)?;
        let letters = match is_open.recv_timeout(WEBHOOKS_OPEN_TIMEOUT) {
            Ok(opened) => opened?,
            Err(_) => return Err(WebhooksError::Late),
        };
        Ok((Self { halt, handle }, letters, watched))
    }

    /// Says that the thread has to end.
    pub fn halt(&self) {
        // A thread that ended by itself takes no orders.
        let _ = self.halt.send(true);
    }

    /// Waits until the thread has ended, for little more than a second after [`halt`](Self::halt). Returns false if it panicked.
    pub fn join(self) -> bool {
        self.halt();
        self.handle.join().is_ok()
    }
}

/// Works until the order to end, and a little longer if a request is under way.
async fn run(mut worker: HookWorker, pulse: &Pulse, halted: watch::Receiver<bool>) {
    let mut order = halted.clone();
    let work = worker.run(pulse, halted);
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => return,
        // A dropped sender also ends the gateway.
        _ = order.wait_for(|is_over| *is_over) => {}
    }
    // A request that takes longer is repeated at the next start.
    let _ = timeout(WEBHOOK_REQUEST_GRACE, work).await;
}

async fn open(
    config: &Config,
    sources: HookSources,
    courier: Courier,
) -> Result<HookWorker, LogError> {
    let HookSources {
        log,
        registry,
        clock,
        metrics,
        news,
        pushes_made,
    } = sources;
    log.commits(Arc::new(HookNews(Arc::clone(&news))));
    let presence = Arc::new(PresenceNotes::new(Arc::clone(&clock), Arc::clone(&news)));
    registry.watch(presence.clone());
    let (commits, is_kept) = gather::place(&*log, rows::COMMITS_KEY).await?;
    let (cursors, _) = gather::place(&*log, rows::CURSORS_KEY).await?;
    let wants_expiries = config
        .webhooks
        .wants(crate::config::EventKind::MessageExpired);
    let has_expiries = gather::row(&*log, EXPIRIES_WANTED).await?.is_some();
    let mut changes = Vec::new();
    if !is_kept {
        changes.push(commits.row(rows::COMMITS_KEY));
        changes.push(cursors.row(rows::CURSORS_KEY));
    }
    match (wants_expiries, has_expiries) {
        (true, false) => changes.push(rows::put(EXPIRIES_WANTED, "1")),
        (false, true) => changes.push(rows::remove(EXPIRIES_WANTED)),
        _ => {}
    }
    if !changes.is_empty() {
        let written = match log.put_rows(changes) {
            Ok(pending) => matches!(pending.await, Ok(Ok(()))),
            Err(_) => false,
        };
        if !written {
            tracing::warn!(
                "webhooks cannot write into the log now: a crash would lose where they begin"
            );
        }
    }
    let letters = DeadLetters::open(Arc::clone(&log), Arc::clone(&metrics)).await?;
    let pushes = PushBacklog::open(&*log, pushes_made, PUSH_EVENTS_MAX).await?;
    let gatherer = Gatherer::new(
        Arc::clone(&log),
        registry,
        config.webhooks.clone(),
        presence,
        (commits, cursors),
        pushes,
        clock.now_ms(),
    );
    Ok(HookWorker {
        log,
        clock,
        metrics,
        gatherer,
        letters: Arc::new(letters),
        courier,
        sweep: Sweep::new(config.log.retention),
        news,
        dispatch: Dispatch::default(),
        is_away: false,
    })
}
