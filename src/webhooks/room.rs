//! The room before and while it runs: what it reads at its start, its work, its end.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};

use super::{
    backlog::{PUSH_EVENTS_MAX, PushBacklog},
    courier::HookReceiver,
    dead_letters::DeadLetters,
    dispatch::Dispatch,
    forget::{FORGET_ORDERS_MAX, HookForgetter},
    gather::{self, Gatherer},
    presence::PresenceNotes,
    push_events::PushEvents,
    rows,
    sweep::Sweep,
    worker::HookWorker,
};
use crate::{
    clock::Clock,
    config::{Config, EventKind},
    log::{Commit, Consumer, EXPIRIES_WANTED, Log, LogError},
    metrics::Metrics,
    registry::Registry,
    threads::Pulse,
};

/// The time for the request under way at the end, so that it is not repeated at the next start. The time runs beside the drain of the
/// clients.
const WEBHOOK_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// The rooms that webhooks read.
#[derive(Clone)]
pub struct HookSources {
    /// The log, which also keeps the room's rows.
    pub log: Arc<dyn Log>,
    /// The sessions that are online.
    pub registry: Arc<Registry>,
    /// The trusted clock.
    pub clock: Arc<Clock>,
    /// The metrics of all rooms.
    pub metrics: Arc<Metrics>,
}

/// The events of one gateway, before they are sent.
pub struct WebhooksRoom {
    worker: HookWorker,
    opened: OpenedHooks,
}

/// The parts of the room that other rooms use.
#[derive(Clone)]
pub(super) struct OpenedHooks {
    pub(super) letters: Arc<DeadLetters>,
    pub(super) push_events: PushEvents,
    pub(super) forgetter: HookForgetter,
}

/// Tells of commits. The log's thread only leaves a mark.
struct HookNews(Arc<Notify>);

impl Consumer for HookNews {
    fn take(&self, _: &[Commit]) {
        self.0.notify_one();
    }
}

impl WebhooksRoom {
    /// Reads how far the receiver was told. Each message that is accepted after it returns is told. Not cancel safe: after a drop the
    /// log may hold the place at which the events begin.
    pub async fn open(
        config: &Config,
        sources: HookSources,
        receiver: Arc<dyn HookReceiver>,
    ) -> Result<Self, LogError> {
        let HookSources {
            log,
            registry,
            clock,
            metrics,
        } = sources;
        let settings = &config.webhooks;
        let news = Arc::new(Notify::new());
        log.commits(Arc::new(HookNews(Arc::clone(&news))));
        let presence = Arc::new(PresenceNotes::new(Arc::clone(&clock), Arc::clone(&news)));
        let turn = log.turn();
        let is_shared = turn.is_shared();
        if !is_shared {
            registry.watch(presence.clone());
        }
        let (commits, is_kept) = gather::place(&*log, rows::COMMITS_KEY).await?;
        let (cursors, _) = gather::place(&*log, rows::CURSORS_KEY).await?;
        let wants_expiries = settings.wants(EventKind::MessageExpired);
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
        let letters = Arc::new(letters);
        let (orders, forgets) = mpsc::channel(FORGET_ORDERS_MAX);
        let pushes_made = Arc::new(AtomicU64::new(0));
        let pushes = PushBacklog::open(&*log, Arc::clone(&pushes_made), PUSH_EVENTS_MAX).await?;
        let (of_pushes, last_ms) = (Arc::clone(&clock), pushes.newest_ms);
        let push_events =
            PushEvents::new(settings, of_pushes, last_ms, pushes_made, Arc::clone(&news));
        let gatherer = Gatherer::new(
            Arc::clone(&log),
            registry,
            settings.clone(),
            presence,
            (commits, cursors),
            pushes,
            clock.now_ms(),
        );
        let opened = OpenedHooks {
            letters: Arc::clone(&letters),
            push_events,
            forgetter: HookForgetter::new(Arc::clone(&log), Arc::clone(&letters), orders),
        };
        let worker = HookWorker {
            log,
            clock,
            metrics,
            gatherer,
            letters,
            receiver,
            sweep: Sweep::new(config.log.retention),
            news,
            dispatch: Dispatch::default(),
            forgets,
            is_away: false,
            push_events: opened.push_events.clone(),
            // The only gateway has read everything above.
            present: turn.now().filter(|_| !is_shared),
            turn,
        };
        Ok(Self { worker, opened })
    }

    /// Events that the receiver refused.
    pub fn letters(&self) -> Arc<DeadLetters> {
        Arc::clone(&self.opened.letters)
    }

    /// For the room `push`.
    pub fn push_events(&self) -> PushEvents {
        self.opened.push_events.clone()
    }

    pub(super) fn opened(&self) -> OpenedHooks {
        self.opened.clone()
    }

    /// Forgets users who were erased.
    pub fn forgetter(&self) -> HookForgetter {
        self.opened.forgetter.clone()
    }

    /// Sends events until `halted` says true, and a little longer if a request is under way. Cancel safe: after a drop events that
    /// were told may be told again.
    pub async fn run(self, pulse: &Pulse, halted: watch::Receiver<bool>) {
        let mut worker = self.worker;
        let mut order = halted.clone();
        let work = worker.run(pulse, halted);
        tokio::pin!(work);
        tokio::select! {
            biased;
            () = &mut work => return,
            // A dropped sender also ends the gateway.
            _ = order.wait_for(|is_over| *is_over) => {}
        }
        // A request that takes longer is repeated at the next start.
        let _ = timeout(WEBHOOK_REQUEST_GRACE, work).await;
    }
}
