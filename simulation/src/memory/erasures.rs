//! Users who were erased.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{inbox::UserInbox, rows::Rows};
use crate::{
    ids::{Platform, Seq, SessionKey, UserId},
    log::{AppendError, Cause, Erasure, FeedCommit, LogError, SessionRow},
    message::Numbers,
};

/// The last erasure of each user.
#[derive(Default)]
pub(super) struct Erasures {
    of: BTreeMap<UserId, Erasure>,
    /// The users without an entry since.
    unknown: BTreeSet<UserId>,
}

impl Erasures {
    /// The user has an entry again.
    pub(super) fn know(&mut self, user: &UserId) {
        self.unknown.remove(user);
    }

    pub(super) fn is_unknown(&self, user: &UserId) -> bool {
        self.unknown.contains(user)
    }

    fn cover(&self, user: &UserId, seq: Seq) -> bool {
        let erasure = self.of.get(user);
        erasure.is_some_and(|erasure| erasure.covers(seq))
    }

    pub(super) fn cover_session(&self, session: &SessionKey, row: &SessionRow) -> bool {
        let erasure = self.of.get(&session.user);
        erasure.is_some_and(|erasure| erasure.covers_session(row))
    }

    /// A commit without the entries that are erased.
    pub(super) fn without_erased(&self, commit: &FeedCommit) -> FeedCommit {
        FeedCommit {
            entries: self.others(&commit.entries),
            ..commit.clone()
        }
    }

    fn others(&self, entries: &[(UserId, Numbers)]) -> Arc<[(UserId, Numbers)]> {
        let others = entries
            .iter()
            .filter(|(user, numbers)| !self.cover(user, numbers.seq));
        others.cloned().collect()
    }
}

impl Rows {
    /// See [`Log::erase`](crate::log::Log::erase). The log has no clock: the tokens' time is that of the erasure.
    pub(super) fn erase(&mut self, user: UserId, before_ms: u64) -> Result<Erasure, AppendError> {
        if self.lacks_conversations {
            let failure = LogError::new(Cause::LookupFailed, "the format has no erasures");
            return Err(AppendError::Refusing(failure));
        }
        let sessions = self.sessions.iter().filter(|(key, _)| key.user == user);
        let acked_ms = sessions.map(|(_, row)| row.acked_at_ms).max();
        if let Some(before) = self.erasures.of.get(&user)
            && self.erasures.is_unknown(&user)
            && acked_ms.is_none()
            && !self.profiles.contains_key(&user)
            && !self.has_newer_token(&user, before.revoked_before_ms)
        {
            return Ok(*before);
        }
        let inbox = self.inboxes.entry(user.clone()).or_default();
        inbox.erase();
        let epoch = crate::ids::Epoch(0);
        let time_ms = before_ms.max(acked_ms.map_or(0, |acked_ms| acked_ms + 1));
        let erasure = Erasure {
            head: UserInbox::bounds(inbox, epoch).head,
            time_ms,
            revoked_before_ms: before_ms,
            until_ms: time_ms,
        };
        self.erasures.of.insert(user.clone(), erasure);
        self.erasures.unknown.insert(user.clone());
        self.profiles.remove(&user);
        self.sessions.retain(|key, _| key.user != user);
        for platform in Platform::ALL {
            let times = self.tokens.entry((user.clone(), platform)).or_default();
            times.revoked_before_ms = times.revoked_before_ms.max(before_ms);
            if times.newest_ms < before_ms {
                times.newest_ms = 0;
            }
        }
        for remembered in &mut self.remembered {
            let receipt = &mut remembered.receipt;
            let entries = self.erasures.others(&receipt.entries);
            if entries.len() < receipt.entries.len() {
                remembered.is_expired = entries.is_empty();
                receipt.receivers = entries.len() as u64;
                receipt.entries = entries;
            }
        }
        self.name_erased(&user);
        Ok(erasure)
    }

    fn has_newer_token(&self, user: &UserId, revoked_before_ms: u64) -> bool {
        let times = Platform::ALL.map(|platform| self.token_times(user, platform));
        times
            .iter()
            .any(|times| times.newest_ms >= revoked_before_ms)
    }

    /// These entries without those that are erased.
    pub(super) fn without_erased(&self, entries: &[(UserId, Numbers)]) -> Arc<[(UserId, Numbers)]> {
        self.erasures.others(entries)
    }

    pub(super) fn erasure(&self, user: &UserId) -> Option<Erasure> {
        self.erasures.of.get(user).copied()
    }
}
