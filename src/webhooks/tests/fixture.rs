//! A log, and the gatherer on it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;

use super::super::{
    backlog::PushBacklog,
    dispatch::EventBatch,
    gather::{self, Gatherer},
    presence::PresenceNotes,
    push_events::PushEvents,
    rows,
};
use crate::{
    clock::{Clock, tests::manual::Manual},
    config::{self, Webhooks},
    ids::{Fence, MessageId, Platform, Seq, SessionKey, UserId},
    log::{Append, Log as _, RowChange, SessionRow, tests::memory::MemoryLog},
    message::StoredMessage,
    registry::Registry,
};

/// The log outlives the gatherer, as a data directory outlives a process.
pub(super) struct Bench {
    pub(super) log: Arc<MemoryLog>,
    pub(super) machine: Arc<Manual>,
    pub(super) clock: Arc<Clock>,
    pub(super) settings: Webhooks,
    pub(super) pushes_max: u64,
}

/// A gatherer from one start on.
pub(super) struct Run {
    pub(super) gatherer: Gatherer,
    pub(super) presence: Arc<PresenceNotes>,
    pub(super) pushes: PushEvents,
    clock: Arc<Clock>,
    log: Arc<MemoryLog>,
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn session(name: &str, device: &str) -> SessionKey {
    SessionKey {
        user: user(name),
        platform: Platform::Web,
        device: device.into(),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let machine = Manual::new();
        Self {
            log: Arc::default(),
            clock: machine.clock(),
            machine,
            settings: Webhooks {
                batch_max: 8,
                ..Webhooks::default()
            },
            pushes_max: 1000,
        }
    }

    /// Accepts a message.
    pub(super) fn send(&self, receivers: &[&str]) {
        self.append(receivers, false);
    }

    /// Appends an entry of read marks.
    pub(super) fn send_marks(&self, name: &str) {
        self.append(&[name], true);
    }

    fn append(&self, receivers: &[&str], is_marks: bool) {
        let now_ms = self.clock.now_ms();
        let message_id = MessageId::new(now_ms);
        let message = StoredMessage {
            send_id: "office".into(),
            session_type: 1,
            content_type: 101,
            ..StoredMessage::default()
        };
        let append = Append {
            message_id,
            send_time_ms: now_ms,
            sender: "office".into(),
            client_message_id: message_id.to_string().into(),
            is_keyed: false,
            fingerprint: [0; 16],
            body: message.to_bytes(),
            is_marks,
            receivers: receivers.iter().map(|name| user(name)).collect(),
        };
        self.log.append(append).unwrap();
    }

    pub(super) fn ack(&self, session: &SessionKey, seq: u64) {
        let row = SessionRow {
            cursor: Seq(seq),
            acked_at_ms: self.clock.now_ms(),
        };
        let epoch = self.log.rows().epoch();
        self.log
            .store_cursor(session, epoch, Fence::NONE, row)
            .unwrap();
    }

    pub(super) fn put(&self, rows: Vec<RowChange>) {
        self.log.put_rows(rows).unwrap();
    }

    /// The rows with this prefix.
    pub(super) async fn kept(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let table = crate::log::RowTable::Consumers;
        let rows = crate::log::Log::rows(&*self.log, table, prefix, &[], 100_000);
        rows.wait().await.unwrap()
    }

    /// A start.
    pub(super) async fn start(&self) -> Run {
        let log: Arc<MemoryLog> = Arc::clone(&self.log);
        let (commits, is_kept) = gather::place(&*log, rows::COMMITS_KEY).await.unwrap();
        let (cursors, _) = gather::place(&*log, rows::CURSORS_KEY).await.unwrap();
        if !is_kept {
            self.put(vec![
                commits.row(rows::COMMITS_KEY),
                cursors.row(rows::CURSORS_KEY),
            ]);
        }
        let made = Arc::new(AtomicU64::new(0));
        let news = Arc::new(Notify::new());
        let presence = Arc::new(PresenceNotes::new(self.clock.clone(), news.clone()));
        let backlog = PushBacklog::open(&*log, made.clone(), self.pushes_max).await;
        let backlog = backlog.unwrap();
        let (clock, last_ms) = (self.clock.clone(), backlog.newest_ms);
        let pushes = PushEvents::new(&self.settings, clock, last_ms, made.clone(), news);
        assert_eq!(made.load(Relaxed), 0);
        let registry = Registry::new(&config::Sessions::default(), Arc::default());
        let gatherer = Gatherer::new(
            log.clone(),
            Arc::new(registry),
            self.settings.clone(),
            presence.clone(),
            (commits, cursors),
            backlog,
            self.clock.now_ms(),
        );
        Run {
            gatherer,
            presence,
            pushes,
            clock: self.clock.clone(),
            log,
        }
    }
}

impl Run {
    /// The next batch, on its way.
    pub(super) async fn next(&mut self) -> Option<EventBatch> {
        loop {
            let now_ms = self.clock.now_ms();
            match self.gatherer.gather(now_ms).await.unwrap() {
                (Some(batch), _) => return Some(batch),
                (None, true) => {}
                (None, false) => return None,
            }
        }
    }

    /// The receiver took a batch.
    pub(super) fn told(&self, batch: EventBatch) -> Vec<Value> {
        self.log.put_rows(batch.done).unwrap();
        let parse = |event: &super::super::event::HookEvent| -> Value {
            serde_json::from_str(event.json.get()).unwrap()
        };
        batch.events.iter().map(parse).collect()
    }

    /// All events that wait, each told.
    pub(super) async fn all(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(batch) = self.next().await {
            events.extend(self.told(batch));
        }
        events
    }

    /// All that wait, of one kind.
    pub(super) async fn of_kind(&mut self, kind: &str) -> Vec<Value> {
        let mut events = self.all().await;
        events.retain(|event| event["type"] == kind);
        events
    }
}
