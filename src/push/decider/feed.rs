//! Decides what the feed brings, page by page, and tells how far the decisions are behind.
//!
//! Nearly all messages go to users who are online and ack. Their decisions take no look at the disk and none at the message.

use std::mem::take;

use tokio::task::yield_now;
use tracing::warn;

use super::{Addressed, Decided, Decider, DeciderStep, ROWS_TOGETHER, StepError, classes_of};
use crate::{
    ids::{MessageId, UserId},
    log::{FeedCommit, FeedLimit, FeedPage},
    message::{Device, Numbers, Origin, StoredMessage},
    push::{
        decide::{ClassStanding, Classes, PushCase},
        seen::SeenState,
    },
};

/// A page of the feed is decided when its newest commit is this old, in ms: most acks have come by then, so most messages need no row.
const ACKS_COME_MS: u64 = 500;
/// The bounds of a page: a quarter of a second's messages at 9,000 a second. The log reads so many bytes at once anyway.
pub(super) const PAGE: FeedLimit = FeedLimit {
    commits: 2048,
    bytes: 1 << 20,
};
/// The receivers that are decided before other tasks of the thread have their turn.
const DECIDED_IN_A_ROW: usize = 64;

/// The content type of a message that takes another one back. OpenIM pushes none of these.
const REVOKE: i32 = 111;

/// The parts of a message that a decision needs.
struct Told {
    no_push: bool,
    origin: Origin,
}

impl Told {
    fn of(commit: &FeedCommit) -> Self {
        let message = StoredMessage::from_bytes(&commit.body);
        Self {
            no_push: message.no_push || message.content_type == REVOKE,
            origin: Origin::of(&commit.body),
        }
    }
}

impl Decider {
    /// Decides the next page of the feed, once it is old enough. Not cancel safe: after a drop the page may be decided once more.
    pub(in crate::push) async fn take_feed(
        &mut self,
        now_ms: u64,
    ) -> Result<DeciderStep, StepError> {
        // While the log fails, the decisions fall behind.
        self.tell_lag(now_ms);
        let page = match self.held.take() {
            Some(page) => page,
            None => self.source.log.feed(self.position, PAGE).wait().await?,
        };
        if let Some(lost) = page.lost {
            warn!(
                ?lost,
                "vendor push missed messages that the log no longer has"
            );
        }
        let times = page.commits.iter().map(|commit| commit.send_time_ms);
        let Some(newest_ms) = times.clone().max() else {
            self.write(Decided::default(), Some(page.next), now_ms)
                .await?;
            if page.is_end {
                self.undecided_ms = None;
                self.tell_lag(now_ms);
            }
            return Ok(if page.is_end {
                DeciderStep::Until(None)
            } else {
                DeciderStep::Done
            });
        };
        self.undecided_ms = times.min();
        self.tell_lag(now_ms);
        // After a step back of the clock nothing waits for the old time.
        let ready_ms = newest_ms.saturating_add(ACKS_COME_MS);
        if now_ms < ready_ms && newest_ms <= now_ms {
            self.held = Some(page);
            return Ok(DeciderStep::Until(Some(ready_ms)));
        }
        let decided = self.decide_page(&page, now_ms).await?;
        self.write(decided, Some(page.next), now_ms).await?;
        // Further commits are no older.
        self.undecided_ms = (!page.is_end).then_some(newest_ms);
        Ok(DeciderStep::Done)
    }

    fn tell_lag(&self, now_ms: u64) {
        let lag_ms = self
            .undecided_ms
            .map_or(0, |undecided_ms| now_ms.saturating_sub(undecided_ms));
        self.metrics.push.lag.set(lag_ms as f64 / 1000.0);
    }

    /// Decides each commit of a page at each of its receivers. Writes what becomes too much at once.
    async fn decide_page(&mut self, page: &FeedPage, now_ms: u64) -> Result<Decided, StepError> {
        self.forget_devices();
        let mut decided = Decided::default();
        let mut looked = 0_usize;
        for commit in page.commits.iter().filter(|commit| !commit.is_marks) {
            let mut told = None;
            for (user, numbers) in &*commit.entries {
                looked += 1;
                if looked.is_multiple_of(DECIDED_IN_A_ROW) {
                    yield_now().await;
                }
                let devices = self.book.devices(user).await?;
                if devices.is_empty()
                    || self.is_served_at_hand(commit, user, numbers, &devices, now_ms, &mut decided)
                {
                    continue;
                }
                // The message is looked at once a receiver may get a push.
                let told = told.get_or_insert_with(|| Told::of(commit));
                if told.no_push {
                    break;
                }
                let classes = classes_of(&devices);
                if self.is_over(commit.send_time_ms, now_ms) {
                    self.expire(commit.message_id, user, classes, now_ms, &mut decided);
                    continue;
                }
                let receipt = Addressed {
                    message_id: commit.message_id,
                    user,
                    seq: numbers.seq,
                    accepted_ms: commit.send_time_ms,
                    conversation_id: &told.origin.conversation_id(user.as_str()),
                    conversation_seq: numbers.conversation_seq,
                };
                self.decide(&receipt, classes, &devices, now_ms, &mut decided)
                    .await?;
                if decided.rows.len() >= ROWS_TOGETHER {
                    // Without the position: after a crash the page is decided again from its begin.
                    self.write(take(&mut decided), None, now_ms).await?;
                }
            }
        }
        Ok(decided)
    }

    /// Decides a message at a receiver if acks that are in memory serve all classes of the receiver's devices.
    fn is_served_at_hand(
        &self,
        commit: &FeedCommit,
        user: &UserId,
        numbers: &Numbers,
        devices: &[Device],
        now_ms: u64,
        decided: &mut Decided,
    ) -> bool {
        let sessions = self.source.sessions_at_hand(user);
        if sessions.is_empty() {
            return false;
        }
        let case = PushCase {
            seq: numbers.seq,
            conversation_seq: numbers.conversation_seq,
            accepted_ms: commit.send_time_ms,
        };
        // Further sessions could only serve more.
        let (classes, absent) = (classes_of(devices), Classes::default());
        let standings = self.rules.decide(case, classes, &sessions, absent, now_ms);
        let is_served = |(_, standing): &_| matches!(standing, ClassStanding::Served(..));
        if !standings.iter().all(is_served) {
            return false;
        }
        for (class, standing) in standings {
            if let ClassStanding::Served(index, proof) = standing {
                self.metrics.push.decided_served.increment(1);
                decided.serve(commit.message_id, user, class, &sessions[index], proof);
            }
        }
        true
    }

    /// Ends decisions about messages that are older than `push.expire_after`.
    pub(super) fn expire(
        &self,
        message_id: MessageId,
        user: &UserId,
        classes: Classes,
        now_ms: u64,
        decided: &mut Decided,
    ) {
        for class in classes.iter() {
            self.metrics.push.decided_expired.increment(1);
            decided.tell(message_id, user, class, SeenState::Expired, now_ms);
        }
    }
}
