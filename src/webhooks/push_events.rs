//! The ends of pushes, for the room `push`: it writes an event's row together with the end of its task, so the event is told
//! at least once. The key of the row is made when the row is written. So no event becomes durable in front of one that was told, although
//! several workers write.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
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

/// Makes the events that tell of pushes. Without webhooks it makes none.
#[derive(Clone, Default)]
pub struct PushEvents(Option<Arc<Maker>>);

struct Maker {
    clock: Arc<Clock>,
    wants_sent: bool,
    wants_failed: bool,
    /// Begins at a random number, so that no row of an earlier start has the same key.
    count: AtomicU64,
    /// The time in the last key, Unix ms: keys ascend also when the clock goes back.
    last_ms: AtomicU64,
    /// The number of events that were made.
    made: Arc<AtomicU64>,
    news: Arc<Notify>,
}

/// The end of a push that is not written yet.
pub struct PushEvent {
    maker: Arc<Maker>,
    value: Bytes,
}

impl PushEvents {
    /// The maker of a gateway with this section of the configuration. `last_ms`: the time in the last key of earlier starts, Unix ms.
    pub(crate) fn new(
        webhooks: &Webhooks,
        clock: Arc<Clock>,
        last_ms: u64,
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
                last_ms: AtomicU64::new(last_ms.saturating_add(1)),
                made,
                news,
            })
        }))
    }

    /// Rows of other gateways have keys up to this time, Unix ms. Further rows come behind them.
    pub(super) fn come_after(&self, last_ms: u64) {
        if let Some(maker) = &self.0 {
            maker.last_ms.fetch_max(last_ms.saturating_add(1), Relaxed);
        }
    }

    /// The event of a vendor that took a push. `id` is the vendor's id for it. Write its row together with the end of the task.
    pub fn sent(
        &self,
        message: MessageId,
        user: &UserId,
        provider: &str,
        id: &str,
    ) -> Option<PushEvent> {
        let maker = self.0.as_ref().filter(|maker| maker.wants_sent)?;
        Some(Maker::event(
            maker,
            message,
            user,
            provider,
            (Some(id), None),
        ))
    }

    /// The event of a push that failed for good, or expired. Write its row together with the end of the task.
    pub fn failed(
        &self,
        message: MessageId,
        user: &UserId,
        provider: &str,
        reason: &str,
    ) -> Option<PushEvent> {
        let maker = self.0.as_ref().filter(|maker| maker.wants_failed)?;
        Some(Maker::event(
            maker,
            message,
            user,
            provider,
            (None, Some(reason)),
        ))
    }
}

impl Maker {
    fn event(
        maker: &Arc<Self>,
        message: MessageId,
        user: &UserId,
        provider: &str,
        (id, reason): (Option<&str>, Option<&str>),
    ) -> PushEvent {
        let note = PushNote {
            server_msg_id: message.to_string(),
            user_id: user.as_str().into(),
            provider: provider.into(),
            id: id.map(|id| shortened(id).into()),
            reason: reason.map(|reason| shortened(reason).into()),
        };
        let value = serde_json::to_vec(&note).expect("texts are JSON");
        maker.made.fetch_add(1, Relaxed);
        PushEvent {
            maker: Arc::clone(maker),
            value: value.into(),
        }
    }
}

impl PushEvent {
    /// The row that tells of the event, behind all rows before. Give it to the log at once. A row that the log refused may be made anew, and
    /// one that may be written may not.
    pub fn row(&self) -> RowChange {
        let Maker {
            clock,
            count,
            last_ms,
            news,
            ..
        } = &*self.maker;
        let now_ms = clock.now_ms();
        let time_ms = last_ms.fetch_max(now_ms, Relaxed).max(now_ms);
        let key = rows::push_key(time_ms, count.fetch_add(1, Relaxed));
        // The row is durable a moment later. The thread waits a moment before it looks.
        news.notify_one();
        rows::put(key, self.value.clone())
    }
}
