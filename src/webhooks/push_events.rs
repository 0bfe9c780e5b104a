//! The ends of pushes, for the room `push`: it writes an event's row together with the end of its task, so the event is told
//! at least once.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;

use super::{
    event::shortened,
    rows::{self, PushNote},
};
use crate::{
    clock::Clock,
    config::{EventKind, Webhooks},
    ids::{MessageId, UserId},
    log::RowChange,
};

/// Makes the rows that tell of pushes. Without webhooks it makes none.
#[derive(Clone, Default)]
pub struct PushEvents(Option<Arc<Maker>>);

struct Maker {
    clock: Arc<Clock>,
    wants_sent: bool,
    wants_failed: bool,
    /// Begins at a random number, so that no row of an earlier start has the same key.
    count: AtomicU64,
    /// The number of rows that were made.
    made: Arc<AtomicU64>,
    news: Arc<Notify>,
}

impl PushEvents {
    /// The maker of a gateway with this section of the configuration.
    pub(crate) fn new(
        webhooks: &Webhooks,
        clock: Arc<Clock>,
        made: Arc<AtomicU64>,
        news: Arc<Notify>,
    ) -> Self {
        let wants_sent = webhooks.wants(EventKind::PushSent);
        let wants_failed = webhooks.wants(EventKind::PushFailed);
        Self((wants_sent || wants_failed).then(|| {
            Arc::new(Maker {
                clock,
                wants_sent,
                wants_failed,
                count: AtomicU64::new(fastrand::u64(..u64::MAX / 2)),
                made,
                news,
            })
        }))
    }

    /// The row that tells that a vendor took a push. `id` is the vendor's id for it. Write it together with the end of the
    /// task.
    pub fn sent(
        &self,
        message: MessageId,
        user: &UserId,
        provider: &str,
        id: &str,
    ) -> Option<RowChange> {
        let maker = self.0.as_ref().filter(|maker| maker.wants_sent)?;
        Some(maker.row(message, user, provider, (Some(id), None)))
    }

    /// The row that tells that a push failed for good, or expired. Write it together with the end of the task.
    pub fn failed(
        &self,
        message: MessageId,
        user: &UserId,
        provider: &str,
        reason: &str,
    ) -> Option<RowChange> {
        let maker = self.0.as_ref().filter(|maker| maker.wants_failed)?;
        Some(maker.row(message, user, provider, (None, Some(reason))))
    }
}

impl Maker {
    fn row(
        &self,
        message: MessageId,
        user: &UserId,
        provider: &str,
        (id, reason): (Option<&str>, Option<&str>),
    ) -> RowChange {
        let note = PushNote {
            server_msg_id: message.to_string(),
            user_id: user.as_str().into(),
            provider: provider.into(),
            id: id.map(|id| shortened(id).into()),
            reason: reason.map(|reason| shortened(reason).into()),
        };
        let key = rows::push_key(self.clock.now_ms(), self.count.fetch_add(1, Relaxed));
        let value = serde_json::to_vec(&note).expect("texts are JSON");
        self.made.fetch_add(1, Relaxed);
        // The row is durable a moment later. The thread waits a moment before it looks.
        self.news.notify_one();
        rows::put(key, value)
    }
}
