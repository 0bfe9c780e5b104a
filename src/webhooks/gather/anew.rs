//! The begin of a turn or of an epoch; a batch that is dropped and composed anew, because a user in it was erased; and what is passed
//! over for that reason.

use super::{Draft, END_ONLY, Gatherer, place};
use crate::{
    config::EventKind,
    ids::{Seq, UserId},
    log::{Expiry, FeedPosition, LogError, TurnNumber},
    webhooks::{
        event::HookEvent,
        rows::{self, FeedPlace, PushNote},
    },
};

impl Gatherer {
    /// Forgets the presence of a user, and so many events of push that were removed from the rows.
    pub(in crate::webhooks) fn forget(&mut self, user: &UserId, pushes: usize) {
        self.presence.forget(user);
        self.pushes.removed(pushes);
    }

    /// A turn began: what other gateways told is in the rows. No gateway of several knows the sessions of all, so none tells of presence.
    pub(in crate::webhooks) fn begin(&mut self, turn: TurnNumber) {
        self.turn = turn;
        self.tells_presence = false;
        self.must_begin_anew = true;
    }

    /// The present batch was dropped, and is composed anew.
    pub(in crate::webhooks) fn drop_batch(&mut self) {
        self.must_begin_anew = true;
    }

    /// Goes back to what the rows say, as after a start, if a batch was dropped.
    pub(super) async fn begin_anew_if_dropped(&mut self, now_ms: u64) -> Result<(), LogError> {
        if !self.must_begin_anew {
            return Ok(());
        }
        (self.commits, _) = place(&*self.log, rows::COMMITS_KEY).await?;
        (self.cursors, _) = place(&*self.log, rows::CURSORS_KEY).await?;
        self.pushes.recount(&*self.log).await?;
        self.saved = (self.commits.position, self.cursors.position, now_ms);
        (self.start_ms, self.presence_count) = (now_ms, 0);
        (self.is_state_told, self.must_begin_anew) = (false, false);
        Ok(())
    }

    /// True if this end of a push is of before its user's erasure.
    pub(super) async fn is_late(&self, note: &PushNote, time_ms: u64) -> Result<bool, LogError> {
        let Ok(user) = UserId::new(&note.user_id) else {
            return Ok(false);
        };
        let erasure = self.log.erasure(&user).wait().await?;
        Ok(erasure.is_some_and(|erased| time_ms <= erased.time_ms))
    }

    /// True if the user of these messages was erased since they came.
    pub(super) async fn is_erased(&self, expiry: &Expiry) -> Result<bool, LogError> {
        let Some(user) = &expiry.user else {
            return Ok(false);
        };
        let erasure = self.log.erasure(user).wait().await?;
        Ok(erasure.is_some_and(|erased| erased.covers(Seq(expiry.range.1))))
    }

    /// A new epoch began: positions of the old one mean nothing. The messages between the last one told and now are announced as
    /// lost.
    pub(super) async fn begin_epoch(
        &mut self,
        draft: &mut Draft,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let page = self.log.feed(FeedPosition::NEWEST, END_ONLY).wait().await?;
        let old = self.commits;
        self.commits = FeedPlace {
            position: page.next,
            epoch: page.epoch,
            time_ms: now_ms,
        };
        if self.settings.wants(EventKind::MessageAccepted) {
            let times_ms = (old.time_ms, now_ms);
            draft.push(HookEvent::lost_commits(page.epoch, old.position, times_ms));
        }
        Ok(())
    }
}
