//! Webhooks: another system is told of messages, acks, pushes and presence, and may be asked before each send.
//!
//! Promises: each event of a message or a push is told at least once, under an id that stays the same at each repeat. A user's
//! events of one kind keep their order. A receiver that is slow or away costs bounded memory and delays no message: the log is
//! its queue. Where several gateways share the log, the one that has the turn sends. Events that retention removed before they were
//! told are announced. Leaves to others: the calls themselves (`outbound`), and when a push ends (`push`).
//!
//! - `room.rs`: the room before it runs, and its end; `thread.rs`: the thread that drives it
//! - `worker.rs`: composes, sends, writes down what was told; `courier.rs`: the way to the receiver
//! - `gather.rs`: composes a batch from the log's feed, from rows and from memory
//! - `event.rs`: an event, its id and its JSON. Pure
//! - `dispatch.rs`: one batch on its way, and what an answer means. Pure
//! - `rows.rs`: the rows that the room keeps in the log. Pure
//! - `presence.rs`: sessions that came online and went offline
//! - `push_events.rs`, `backlog.rs`: the ends of pushes, and the bound of those that wait
//! - `dead_letters.rs`: events that the receiver refused
//! - `sweep.rs`: removes rows of forgotten sessions
//! - `forget.rs`: forgets users who were erased
//! - `before_send.rs`: the question before each send

mod backlog;
mod before_send;
mod courier;
mod dead_letters;
mod dispatch;
mod event;
mod forget;
mod gather;
mod presence;
mod push_events;
mod room;
mod rows;
mod sweep;
#[cfg(test)]
mod tests;
mod thread;
mod worker;

use std::sync::{Arc, atomic::AtomicBool};

use axum::http::Uri;
use tokio::sync::Semaphore;
use towncrier_client::Trust;

use self::courier::Courier;
pub use self::{
    before_send::{BeforeSendHook, QUESTIONS_MAX, Ruling, SendQuestion},
    courier::{HookReceiver, HookReply},
    dead_letters::{DeadLetter, DeadLetters, LetterError},
    forget::HookForgetter,
    push_events::{PushEvent, PushEvents},
    room::{HookSources, WebhooksRoom},
    thread::{WebhooksError, WebhooksThread},
};
use crate::{
    clock::Clock,
    config::Config,
    log::{EXPIRIES_WANTED, Log, RowTable, remove_rows},
    metrics::Metrics,
    outbound::{Outbound, Reach, SHORT_IDLE_TIMEOUT, WebhookSecrets},
    registry::Registry,
    threads::Watched,
};

/// The parts of webhooks that the admin API uses. Without webhooks there are none.
#[derive(Clone, Default)]
pub struct Hooks {
    /// The question before each send.
    pub before_send: Option<Arc<BeforeSendHook>>,
    /// Events that the receiver refused.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Forgets users who were erased, where events are sent.
    pub forgetter: Option<HookForgetter>,
}

/// Webhooks as a gateway starts them.
#[derive(Default)]
pub struct Started {
    /// For the admin API.
    pub hooks: Hooks,
    /// For the room `push`.
    pub push_events: PushEvents,
    /// The thread, if events are sent, and its watch.
    pub thread: Option<(WebhooksThread, Watched)>,
}

/// Starts what the configuration asks for. Without an address there is no thread and no cost. Blocks while the log is read.
/// Call it in a runtime.
///
/// # Panics
/// If the section was not checked.
pub fn start(
    config: &Config,
    log: Arc<dyn Log>,
    registry: Arc<Registry>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
) -> Result<Started, WebhooksError> {
    let settings = &config.webhooks;
    let mut started = Started::default();
    if settings.url.is_empty() {
        // Webhooks may have been on before. Nobody would read the rows that retention leaves for them.
        forget_expiries(log.clone());
        if settings.before_send.url.is_empty() {
            return Ok(started);
        }
    }
    let secrets = WebhookSecrets::parse(&settings.secrets).expect("the configuration is checked");
    let uri = |url: &str| url.parse::<Uri>().expect("the configuration is checked");
    // Each runtime has connections of its own.
    let outbound = || Outbound::new(&Trust::default(), Reach::Anywhere, SHORT_IDLE_TIMEOUT);
    let hook = &settings.before_send;
    if !hook.url.is_empty() {
        started.hooks.before_send = Some(Arc::new(BeforeSendHook {
            outbound: outbound(),
            url: uri(&hook.url),
            secrets: secrets.clone(),
            timeout: hook.timeout,
            on_failure: hook.on_failure,
            places: Semaphore::new(QUESTIONS_MAX),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            is_away: AtomicBool::new(false),
        }));
    }
    if settings.url.is_empty() {
        return Ok(started);
    }
    let courier = Courier {
        outbound: outbound(),
        url: uri(&settings.url),
        secrets,
        timeout: settings.timeout,
    };
    let sources = HookSources {
        log,
        registry,
        clock,
        metrics,
    };
    let (thread, opened, watched) = WebhooksThread::start(config, sources, Arc::new(courier))?;
    started.hooks.dead_letters = Some(opened.letters);
    started.hooks.forgetter = Some(opened.forgetter);
    started.push_events = opened.push_events;
    started.thread = Some((thread, watched));
    Ok(started)
}

/// Retention need not tell of expired messages.
fn forget_expiries(log: Arc<dyn Log>) {
    tokio::spawn(async move {
        let orders = (RowTable::Consumers, rows::FORGET_PREFIX);
        let removed = remove_rows::<LetterError>(&*log, orders, 256, |_, _| true).await;
        if let Err(error) = removed {
            tracing::debug!(%error, "orders of earlier webhooks are not removed yet");
        }
        if let Ok(Some(_)) = gather::row(&*log, EXPIRIES_WANTED).await {
            // The next start repairs a failure.
            let _ = log.put_rows(vec![rows::remove(EXPIRIES_WANTED)]);
        }
    });
}
