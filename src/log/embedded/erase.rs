//! Erasures: the writer's part, and what the rooms above and an operator learn of them.
//!
//! An erasure is one record in a group of its own, so that each other request came before it or comes after it. Segments never change:
//! every read of an entry compares its seq with the user's erasure. The record outlives all bytes of before, because those stand in
//! its segment or an earlier one.

use super::{
    AppendError, Cause, Erasure, LogError, ReadError,
    core::Core,
    erasing_key,
    group::Group,
    record::{ERASURES_SINCE, Record},
    state::ErasureRow,
    table_id::TableId,
};
use crate::ids::{Platform, Seq, UserId};

/// The begin of the keys of the rows, one for each user who was ever erased. The list is made of them.
pub(super) const LISTED_PREFIX: &[u8] = b"erased/";
/// The longest time from the moment at which a segment may be removed to its end, in ms: some rounds of the keeper, each with the
/// facts of a segment.
const REMOVAL_MS: u64 = 600_000;

impl Core {
    /// Puts the records of an erasure into an empty group. A user who got nothing since the last one needs none.
    pub(super) fn erase(
        &self,
        group: &mut Group,
        user: &UserId,
        before_ms: u64,
    ) -> Result<Erasure, ReadError> {
        let state = &self.state;
        let row = state.users.get(user)?;
        if row.is_erased
            && let Some(before) = self.erasure(user)?
            && !self.has_newer_token(user, before.revoked_before_ms)?
        {
            return Ok(before);
        }
        let acked_ms = state.cursors.of(user)?.into_iter();
        let acked_ms = acked_ms.map(|(_, session)| session.acked_at_ms).max();
        let after_acks_ms = acked_ms.map_or(0, |acked_ms| acked_ms.saturating_add(1));
        let erased = ErasureRow {
            head: row.head,
            time_ms: self.clock.now_ms().max(after_acks_ms),
            before_ms,
        };
        group.put(record_of(user, &erased));
        group.put(listed(user, &erased));
        group.put(Record::Row {
            table: TableId::Consumers,
            key: erasing_key(user),
            value: Some(bytes::Bytes::new()),
        });
        Ok(erased.erasure(self.until_ms(&erased)))
    }

    fn has_newer_token(&self, user: &UserId, revoked_before_ms: u64) -> Result<bool, ReadError> {
        for platform in Platform::ALL {
            let times = self.state.tokens.get(user, platform)?;
            if times.newest_ms >= revoked_before_ms {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last erasure of a user.
    pub(super) fn erasure(&self, user: &UserId) -> Result<Option<Erasure>, ReadError> {
        let erased = self.state.erasures.get(user)?;
        Ok(erased.map(|row| row.erasure(self.until_ms(&row))))
    }

    /// The time by which the segment with the record is gone, Unix ms.
    fn until_ms(&self, erased: &ErasureRow) -> u64 {
        let kept_ms = self.lifetimes.retention_ms + self.lifetimes.segment_age_ms;
        erased.time_ms.saturating_add(kept_ms + REMOVAL_MS)
    }

    /// True if this entry of the user is erased.
    pub(super) fn is_erased(&self, user: &UserId, seq: Seq) -> Result<bool, ReadError> {
        Ok(self.state.erasures.has_erased(user, seq)?)
    }

    /// True if this record must not follow an erasure: it tells of a session of before.
    pub(super) fn is_of_erased_session(&self, record: &Record) -> Result<bool, ReadError> {
        let Record::Cursor {
            session,
            cursor,
            acked_at_ms,
        } = record
        else {
            return Ok(false);
        };
        let row = super::SessionRow {
            cursor: *cursor,
            acked_at_ms: *acked_at_ms,
        };
        Ok(self
            .state
            .erasures
            .has_erased_session(&session.user, &row)?)
    }

    /// The record that carries a user's erasure over: only while nothing of the user came since. Otherwise what came says it.
    pub(super) fn carried_erasure(
        &self,
        group: &Group,
        user: &UserId,
    ) -> Result<Option<Record>, ReadError> {
        let is_unknown = self.state.users.get(user)?.is_erased && !group.has_news_of(user);
        let erased = self.state.erasures.get(user)?;
        let erased = erased.filter(|_| is_unknown);
        Ok(erased.map(|erased| record_of(user, &erased)))
    }
}

fn record_of(user: &UserId, erased: &ErasureRow) -> Record {
    Record::Erase {
        user: user.clone(),
        head: erased.head,
        time_ms: erased.time_ms,
        before_ms: erased.before_ms,
    }
}

/// Refuses erasures in a format without them.
pub(super) fn check(format: u8) -> Result<(), AppendError> {
    if format >= ERASURES_SINCE {
        return Ok(());
    }
    let text = "log.format is held back to one without erasures";
    Err(AppendError::Refusing(LogError::new(
        Cause::LookupFailed,
        text,
    )))
}

/// The record that keeps an erasure in the list for ever.
fn listed(user: &UserId, erased: &ErasureRow) -> Record {
    let value = [erased.time_ms, erased.before_ms].map(u64::to_le_bytes);
    Record::Row {
        table: TableId::Consumers,
        key: [LISTED_PREFIX, user.as_str().as_bytes()].concat().into(),
        value: Some(bytes::Bytes::copy_from_slice(&value.concat())),
    }
}
