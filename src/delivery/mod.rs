//! The operations between the log and the registry: send, replay, ack, read marks, and the trace of a message.
//!
//! A send is appended first and fanned out when it is durable. A session that misses the fan-out reads the log. Leaves to
//! others: HTTP, sockets, the protocol's rules.
//!
//! - `send.rs`: append, and from the log's commits to the sessions online; `elsewhere.rs`: online-only messages at other gateways
//! - `cursor.rs`: a session resumes, reads the log and acks; `begins.rs`: where new sessions began
//! - `newest.rs`: the newest message of a conversation
//! - `read_state.rs`: conversations, and the marks of what a user has read
//! - `settings.rs`: a user's settings of conversations
//! - `ask.rs`: what OpenIM's v3 clients ask about their conversations
//! - `authenticate.rs`: tokens are issued and checked
//! - `proofs.rs`: what OpenIM's v3 clients have for certain
//! - `devices.rs`: the devices for push
//! - `presence.rs`: the sessions that are connected, at all gateways
//! - `erase.rs`: the erasure of a user
//! - `trail.rs`, `trace.rs`: the way of a message

mod ask;
mod authenticate;
mod begins;
mod cursor;
mod devices;
mod elsewhere;
mod erase;
mod newest;
mod presence;
mod proofs;
mod read_state;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod trace;
mod trail;

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use self::send::FanOut;
pub use self::{
    ask::{AskError, Passage, PassageRead},
    authenticate::AuthError,
    devices::{DeviceError, Registration},
    newest::NewestRead,
    presence::{SeenSession, SeenUsers},
    send::{Receivers, Send, SendError},
    trace::{Trace, TracePage, TraceReceiver, TraceSession, TraceState},
};
/// The log's types, for the rooms that read the log through this one.
pub use crate::log::{
    AppendError, BackupError, BackupState, Cause, ConversationPage, ConversationRead, Inbox,
    InboxRead, LogAnswer, LogError, Lookup, ReadLimit, Receipt, ResumePoint,
};
use crate::{
    clock::{Clock, Doubt},
    config,
    fleet::Fleet,
    ids::GatewayId,
    log::{Consumer, Log},
    metrics::Metrics,
    registry::Registry,
    token::Tokens,
};

/// The room's one object, shared by the admin API and every connection.
pub struct Delivery {
    log: Arc<dyn Log>,
    registry: Arc<Registry>,
    tokens: Arc<Tokens>,
    clock: Arc<Clock>,
    pushed: trail::Trail,
    acked: trail::Trail,
    /// `None`: nobody asks for them.
    proofs: Option<proofs::Proofs>,
    devices: Arc<devices::Devices>,
    is_draining: AtomicBool,
    begins: begins::Begins,
    /// The other gateways, if the log has several.
    fleet: OnceLock<Arc<Fleet>>,
}

/// The reason for which the gateway should get no traffic now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The gateway is going down.
    #[error("draining")]
    Draining,
    /// The log refuses appends. Reads and delivery go on.
    #[error("sends are refused: {0}")]
    Refusing(#[from] LogError),
    /// The log's servers do not answer, or keep fewer copies of a message than the configuration says. With too few copies sends are
    /// taken all the same.
    #[error("{0}")]
    StoreUnfit(String),
}

impl Delivery {
    /// Puts the collaborators together. From now on each durable message goes to the sessions in `registry`. `push`: how
    /// many devices a user has, and which hosts a browser's subscription may name.
    pub fn new(
        log: Arc<dyn Log>,
        registry: Arc<Registry>,
        tokens: Arc<Tokens>,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
        push: &config::Push,
    ) -> Self {
        log.commits(Arc::new(FanOut {
            registry: Arc::clone(&registry),
        }));
        let (most, hosts) = (push.devices_per_user_max, push.webpush.hosts.clone());
        let devices = devices::Devices::new(log.clone(), metrics, most, hosts);
        Self {
            log,
            registry,
            tokens,
            clock,
            pushed: trail::Trail::default(),
            acked: trail::Trail::default(),
            proofs: None,
            devices,
            is_draining: AtomicBool::new(false),
            begins: begins::Begins::default(),
            fleet: OnceLock::new(),
        }
    }

    /// The same, which remembers what OpenIM's v3 clients have for certain.
    #[must_use]
    pub fn with_proofs(self) -> Self {
        Self {
            proofs: Some(proofs::Proofs::default()),
            ..self
        }
    }

    /// Shares the sessions with the other gateways of the log from now on. The first one stays.
    pub fn join(&self, fleet: Arc<Fleet>) {
        // A gateway joins once, when it starts.
        let _ = self.fleet.set(fleet);
    }

    /// Hands commits of other gateways to the sessions of this one, as it does those of the log.
    pub fn fan_out(&self) -> Arc<dyn Consumer> {
        Arc::new(FanOut {
            registry: Arc::clone(&self.registry),
        })
    }

    /// The other gateways of the log without a link in one of the two directions.
    pub fn missing_links(&self) -> Vec<GatewayId> {
        let fleet = self.fleet.get();
        fleet.map_or_else(Vec::new, |fleet| fleet.missing_links())
    }

    /// The gateway's clock, Unix ms.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The reason for which the gateway's time may be wrong; `None` while it is certain.
    pub fn clock_doubt(&self) -> Option<Doubt> {
        self.clock.doubt()
    }

    /// Takes the wall clock's time at once, because an administrator says that it is right.
    pub fn accept_clock(&self) {
        self.clock.accept();
    }

    /// Begins a backup of the log, or returns the state of the one with this id. See [`Log::back_up`].
    pub fn back_up(
        &self,
        id: &str,
        destination: &Path,
    ) -> Result<watch::Receiver<BackupState>, BackupError> {
        self.log.back_up(id, destination)
    }

    /// True if damage in the log hides the heads of inboxes.
    pub fn is_damaged(&self) -> bool {
        matches!(
            self.log.check_writable(),
            Err(LogError {
                cause: Cause::Damaged,
                ..
            })
        )
    }

    /// Refuses sends from now on.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Relaxed);
    }

    /// `Err` with the reason while the gateway should get no traffic.
    pub fn check_ready(&self) -> Result<(), NotReady> {
        if self.is_draining.load(Relaxed) {
            return Err(NotReady::Draining);
        }
        self.log.check_writable()?;
        self.log.check_store().map_err(NotReady::StoreUnfit)
    }
}
