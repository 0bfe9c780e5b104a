//! A batch is dropped and composed anew, because a user in it was erased; and what is passed over for that reason.

use super::{Gatherer, place};
use crate::{
    ids::{Seq, UserId},
    log::{Expiry, LogError},
    webhooks::rows::{self, PushNote},
};

impl Gatherer {
    /// Forgets the presence of a user, and so many events of push that were removed from the rows.
    pub(in crate::webhooks) fn forget(&mut self, user: &UserId, pushes: usize) {
        self.presence.forget(user);
        self.pushes.removed(pushes);
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
}
