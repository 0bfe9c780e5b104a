//! Composes the next batch from what waits: in the log's feed, in rows, and in memory. Nothing is queued here but the batch
//! itself: the log is the queue of a receiver that is slow or away.
//!
//! Each source gives its events in their order, and a batch is told before the next one is composed. A user's events of one
//! kind therefore keep their order.
//!
//! A read of the log may fail in the middle of a composition. The events before it are then the batch, and the places in its
//! rows cover exactly these events: a source moves its place only with the events that it adds. A composition that failed
//! without an event returns the error. Such a composition passed only what is not told, and the next one goes on from there.
//!
//! - `anew.rs`: the begin of a turn or of an epoch, and a batch that is composed anew because a user in it was erased

mod anew;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{
    backlog::PushBacklog,
    dead_letters,
    dispatch::EventBatch,
    event::HookEvent,
    presence::PresenceNotes,
    rows::{self, FeedPlace, PushNote, ToldUpTo},
};
use crate::{
    config::{EventKind, Webhooks},
    ids::{Seq, SessionKey},
    log::{
        CursorMove, EXPIRY_PREFIX, Expiry, FeedLimit, FeedPosition, Log, LogError, RowChange,
        RowTable, SessionBegin, TurnNumber,
    },
    registry::Registry,
};

/// A batch ends with the event that reaches this many bytes. A receiver has to hold the body.
pub(super) const EVENT_BATCH_BYTES_MAX: usize = 1 << 20;
/// The commits of one page of the feed have about so many bytes. Their bodies are read and not sent.
const FEED_BYTES: usize = 2 << 20;
/// Pages without events that one composition passes. The thread then looks at its orders.
const PAGES_IN_A_ROW: usize = 16;
/// The sessions in one `user.state`. The state is told before clients can return, so it is nearly always empty.
const STATE_SESSIONS_MAX: usize = 10_000;
/// Places are written down without a batch when the log moved on by so many bytes, so that a start need not read them again.
const UNSAVED_BYTES_MAX: u64 = 4 << 20;
/// The same after so long, so that retention never passes a place where nothing waits.
const SAVE_INTERVAL_MS: u64 = 3_600_000;

/// The bounds of a page that only tells where the log ends.
const END_ONLY: FeedLimit = FeedLimit {
    commits: 1,
    bytes: 1,
};

/// Composes batches.
pub(super) struct Gatherer {
    log: Arc<dyn Log>,
    registry: Arc<Registry>,
    settings: Webhooks,
    presence: Arc<PresenceNotes>,
    pub(super) pushes: PushBacklog,
    commits: FeedPlace,
    cursors: FeedPlace,
    /// The positions in the rows, and the time at which they were written, Unix ms.
    saved: (FeedPosition, FeedPosition, u64),
    /// The time of this start, Unix ms. The time names the events of presence.
    start_ms: u64,
    presence_count: u64,
    is_state_told: bool,
    tells_presence: bool,
    /// True if a batch was dropped that was not told: all that was taken for it is taken again.
    must_begin_anew: bool,
    round: u64,
    turn: TurnNumber,
}

/// A batch that is being composed.
struct Draft {
    events: Vec<HookEvent>,
    bytes: usize,
    done: Vec<RowChange>,
    /// The most events.
    max: usize,
    told: HashMap<SessionKey, Seq>,
}

impl Draft {
    fn new(max: usize) -> Self {
        Self {
            events: Vec::new(),
            bytes: 0,
            done: Vec::new(),
            max,
            told: HashMap::new(),
        }
    }

    fn room(&self) -> usize {
        if self.bytes >= EVENT_BATCH_BYTES_MAX {
            return 0;
        }
        self.max.saturating_sub(self.events.len())
    }

    fn push(&mut self, event: HookEvent) {
        self.bytes += event.json.get().len();
        self.events.push(event);
    }
}

/// The row with exactly this key.
pub(super) async fn row(log: &dyn Log, key: &[u8]) -> Result<Option<Bytes>, LogError> {
    let rows = log.rows(RowTable::Consumers, key, &[], 1).wait().await?;
    let row = rows.into_iter().find(|(found, _)| &found[..] == key);
    Ok(row.map(|(_, value)| value))
}

/// The place that a row keeps; at first the end of the log.
pub(super) async fn place(
    log: &dyn Log,
    key: &'static [u8],
) -> Result<(FeedPlace, bool), LogError> {
    let kept = row(log, key).await?.and_then(|row| FeedPlace::read(&row));
    if let Some(kept) = kept {
        return Ok((kept, true));
    }
    let (epoch, next) = if key == rows::CURSORS_KEY {
        let page = log.cursor_feed(FeedPosition::NEWEST, 1).wait().await?;
        (page.epoch, page.next)
    } else {
        let page = log.feed(FeedPosition::NEWEST, END_ONLY).wait().await?;
        (page.epoch, page.next)
    };
    let end = FeedPlace {
        position: next,
        epoch,
        time_ms: 0,
    };
    Ok((end, false))
}

impl Gatherer {
    pub(super) fn new(
        log: Arc<dyn Log>,
        registry: Arc<Registry>,
        settings: Webhooks,
        presence: Arc<PresenceNotes>,
        (commits, cursors): (FeedPlace, FeedPlace),
        pushes: PushBacklog,
        now_ms: u64,
    ) -> Self {
        Self {
            log,
            registry,
            settings,
            presence,
            pushes,
            saved: (commits.position, cursors.position, now_ms),
            commits,
            cursors,
            start_ms: now_ms,
            presence_count: 0,
            is_state_told: false,
            tells_presence: true,
            must_begin_anew: false,
            round: 0,
            turn: TurnNumber::ALWAYS,
        }
    }

    /// The next batch; `None` if nothing waits. The second value is true if the log may have more at once. An error comes only
    /// without a batch: the events that were found before it are sent first.
    pub(super) async fn gather(
        &mut self,
        now_ms: u64,
    ) -> Result<(Option<EventBatch>, bool), LogError> {
        self.begin_anew_if_dropped(now_ms).await?;
        if let Some(batch) = self.again().await? {
            return Ok((Some(batch), true));
        }
        let mut draft = Draft::new(self.settings.batch_max);
        let filled = self.fill(&mut draft, now_ms).await;
        let is_batch = !draft.events.is_empty();
        if is_batch || self.is_save_due(now_ms) {
            draft.done.push(self.commits.row(rows::COMMITS_KEY));
            draft.done.push(self.cursors.row(rows::CURSORS_KEY));
            self.saved = (self.commits.position, self.cursors.position, now_ms);
        }
        if !is_batch {
            // Nobody waits for these rows. A failure to write them is repaired by the next ones.
            if !draft.done.is_empty() {
                let _ = self.log.put_rows_in(self.turn, draft.done);
            }
            return filled.map(|has_more| (None, has_more));
        }
        if let Err(error) = filled {
            tracing::warn!(%error, "webhooks cannot read a part of the log, and send what they have");
        }
        let batch = EventBatch::new(draft.events, draft.done);
        Ok((Some(batch), true))
    }

    /// Adds what each source has. Returns true if the log may have more. What was added before an error stays whole.
    async fn fill(&mut self, draft: &mut Draft, now_ms: u64) -> Result<bool, LogError> {
        self.tell_state(draft, now_ms);
        self.round += 1;
        // Each source has its share, so that a flood of one kind does not hold up the others. In a small batch they take turns.
        let share = (draft.max / 8).max(1);
        let acks = (draft.max / 4).max(1);
        let (before, after) = match self.round % 2 {
            0 => (draft.max.div_ceil(2), usize::MAX),
            _ => (0, usize::MAX),
        };
        let mut has_more = self.gather_commits(draft, before, now_ms).await?;
        for source in 0..4 {
            match (self.round + source) % 4 {
                0 => self.gather_presence(draft, share),
                1 => self.gather_pushes(draft, share).await?,
                2 => self.gather_expiries(draft, share).await?,
                _ => has_more |= self.gather_cursors(draft, acks).await?,
            }
        }
        has_more |= self.gather_commits(draft, after, now_ms).await?;
        Ok(has_more)
    }

    fn is_save_due(&self, now_ms: u64) -> bool {
        let (commits, cursors, saved_ms) = self.saved;
        let moved = |now: FeedPosition, saved: FeedPosition| now.0.saturating_sub(saved.0);
        let moved =
            moved(self.commits.position, commits).max(moved(self.cursors.position, cursors));
        moved > UNSAVED_BYTES_MAX || moved > 0 && now_ms.saturating_sub(saved_ms) > SAVE_INTERVAL_MS
    }

    /// Letters that an administrator sends again, in a batch of their own.
    async fn again(&self) -> Result<Option<EventBatch>, LogError> {
        let letters =
            dead_letters::read(&*self.log, rows::AGAIN_PREFIX, &[], self.settings.batch_max);
        let mut draft = Draft::new(self.settings.batch_max);
        for letter in letters.await? {
            if draft.room() == 0 {
                break;
            }
            draft.done.extend(letter.removal(rows::AGAIN_PREFIX));
            draft.push(letter.into_event());
        }
        let is_batch = !draft.events.is_empty();
        Ok(is_batch.then(|| EventBatch::new(draft.events, draft.done)))
    }

    fn tell_state(&mut self, draft: &mut Draft, now_ms: u64) {
        if std::mem::replace(&mut self.is_state_told, true) || !self.tells_presence {
            return;
        }
        // A change between the two is in both.
        self.presence.clear();
        let online = self.registry.online(None, STATE_SESSIONS_MAX);
        let sessions = online.into_iter().flat_map(|(user, presences)| {
            presences.into_iter().map(move |presence| SessionKey {
                user: user.clone(),
                platform: presence.platform,
                device: presence.device,
            })
        });
        let sessions: Vec<_> = sessions.collect();
        draft.push(HookEvent::state(
            self.commits.epoch,
            self.start_ms,
            now_ms,
            &sessions,
        ));
    }

    fn gather_presence(&mut self, draft: &mut Draft, share: usize) {
        let (notes, lost) = self.presence.take(share.min(draft.room()));
        let epoch = self.commits.epoch;
        for note in notes {
            self.presence_count += 1;
            let kind = match note.is_online {
                true => EventKind::UserOnline,
                false => EventKind::UserOffline,
            };
            if self.settings.wants(kind) {
                let count = self.presence_count;
                draft.push(HookEvent::presence(epoch, self.start_ms, count, &note));
            }
        }
        if let Some(times_ms) = lost {
            let position = [self.start_ms.to_be_bytes(), times_ms.0.to_be_bytes()];
            let position = [&position[0][..], &position[1][..]];
            for kind in [EventKind::UserOnline, EventKind::UserOffline] {
                if self.settings.wants(kind) {
                    draft.push(HookEvent::lost(epoch, kind, &position, times_ms));
                }
            }
        }
    }

    async fn gather_pushes(&mut self, draft: &mut Draft, share: usize) -> Result<(), LogError> {
        let limit = share.min(draft.room());
        if limit == 0 {
            return Ok(());
        }
        let epoch = self.commits.epoch;
        for lost in self.pushes.losses(&*self.log).await? {
            for kind in [EventKind::PushSent, EventKind::PushFailed] {
                if self.settings.wants(kind) {
                    let times_ms = lost.times_ms;
                    draft.push(HookEvent::lost(epoch, kind, &[&lost.key], times_ms));
                }
            }
            draft.done.push(rows::remove(lost.key));
        }
        let waiting = self
            .log
            .rows(RowTable::Consumers, rows::PUSH_PREFIX, &[], limit);
        for (key, value) in waiting.wait().await? {
            let time_ms = rows::push_time_ms(&key).unwrap_or_default();
            if let Ok(note) = serde_json::from_slice::<PushNote>(&value)
                && !self.is_late(&note, time_ms).await?
            {
                let kind = match note.id {
                    Some(_) => EventKind::PushSent,
                    None => EventKind::PushFailed,
                };
                draft.push(HookEvent::new(epoch, kind, &[&key], time_ms, note));
            }
            draft.done.push(rows::remove(key));
            self.pushes.took_one();
        }
        Ok(())
    }

    async fn gather_expiries(&mut self, draft: &mut Draft, share: usize) -> Result<(), LogError> {
        let limit = share.min(draft.room());
        if limit == 0 {
            return Ok(());
        }
        let waiting = self
            .log
            .rows(RowTable::Consumers, EXPIRY_PREFIX, &[], limit);
        for (key, value) in waiting.wait().await? {
            if let Some(expiry) = Expiry::read(&key, &value)
                && self.settings.wants(EventKind::MessageExpired)
                && !self.is_erased(&expiry).await?
            {
                draft.push(HookEvent::expired(self.commits.epoch, &expiry));
            }
            draft.done.push(rows::remove(key));
        }
        Ok(())
    }

    /// Takes moves of cursors. Returns true if the log has more of them.
    async fn gather_cursors(&mut self, draft: &mut Draft, share: usize) -> Result<bool, LogError> {
        if !self.settings.wants(EventKind::MessageAcked) {
            return Ok(false);
        }
        let limit = share.min(draft.room());
        if limit == 0 {
            return Ok(true);
        }
        for _ in 0..PAGES_IN_A_ROW {
            let page = self.log.cursor_feed(self.cursors.position, limit);
            let page = page.wait().await?;
            if page.epoch != self.cursors.epoch {
                // The cursors of the new epoch are in the log once more.
                self.cursors = FeedPlace {
                    position: FeedPosition::OLDEST,
                    epoch: page.epoch,
                    time_ms: self.cursors.time_ms,
                };
                continue;
            }
            for moved in &page.cursors {
                self.tell_ack(draft, moved).await?;
            }
            self.cursors.position = page.next;
            if page.is_end {
                return Ok(false);
            }
            if !page.cursors.is_empty() {
                break;
            }
        }
        Ok(true)
    }

    async fn tell_ack(&mut self, draft: &mut Draft, moved: &CursorMove) -> Result<(), LogError> {
        let CursorMove { session, row, .. } = moved;
        let epoch = self.cursors.epoch;
        let told = match draft.told.get(session) {
            Some(told) => *told,
            None => self.told(session, &mut draft.done).await?,
        };
        if let Some(event) = HookEvent::acked(epoch, moved, told) {
            draft.push(event);
            draft.told.insert(session.clone(), row.cursor);
            let told = ToldUpTo {
                epoch,
                up_to: row.cursor,
                acked_at_ms: row.acked_at_ms,
            };
            draft.done.push(told.row(session));
        }
        self.cursors.time_ms = row.acked_at_ms;
        Ok(())
    }

    /// The seq up to which the receiver was told of a session. At first that is where the session began.
    async fn told(&self, session: &SessionKey, done: &mut Vec<RowChange>) -> Result<Seq, LogError> {
        let epoch = self.cursors.epoch;
        let kept = row(&*self.log, &rows::told_key(session)).await?;
        let kept = kept.and_then(|value| ToldUpTo::read(&value));
        if let Some(kept) = kept.filter(|kept| kept.epoch == epoch) {
            return Ok(kept.up_to);
        }
        let key = SessionBegin::key(session);
        let begun = row(&*self.log, &key).await?;
        let Some(begun) = begun.and_then(|value| SessionBegin::read(&value)) else {
            return Ok(Seq::ZERO);
        };
        let told = ToldUpTo {
            epoch,
            up_to: match begun.epoch == epoch {
                true => begun.cursor,
                false => Seq::ZERO,
            },
            acked_at_ms: begun.time_ms,
        };
        done.push(rows::remove(key));
        done.push(told.row(session));
        Ok(told.up_to)
    }

    /// Takes up to `limit` commits. Returns true if the feed has more of them.
    async fn gather_commits(
        &mut self,
        draft: &mut Draft,
        limit: usize,
        now_ms: u64,
    ) -> Result<bool, LogError> {
        let until = draft.events.len().saturating_add(limit);
        for _ in 0..PAGES_IN_A_ROW {
            let room = draft.room().min(until.saturating_sub(draft.events.len()));
            if room == 0 {
                return Ok(true);
            }
            let limit = FeedLimit {
                commits: room,
                bytes: FEED_BYTES,
            };
            let page = self.log.feed(self.commits.position, limit).wait().await?;
            if page.epoch != self.commits.epoch {
                self.begin_epoch(draft, now_ms).await?;
                return Ok(true);
            }
            let is_wanted = self.settings.wants(EventKind::MessageAccepted);
            if let Some(lost) = page.lost.filter(|_| is_wanted) {
                let from_ms = match lost.from_time_ms {
                    0 => self.commits.time_ms,
                    from_ms => from_ms,
                };
                let times_ms = (from_ms, lost.to_time_ms);
                let behind = self.commits.position;
                draft.push(HookEvent::lost_commits(page.epoch, behind, times_ms));
            }
            for commit in &page.commits {
                if is_wanted && !commit.is_marks {
                    if draft.room() == 0 {
                        self.commits.position = commit.position;
                        return Ok(true);
                    }
                    draft.push(HookEvent::accepted(page.epoch, commit));
                }
                self.commits.time_ms = commit.send_time_ms;
            }
            self.commits.position = page.next;
            if page.is_end {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
