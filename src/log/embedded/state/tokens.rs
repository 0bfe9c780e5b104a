//! The remembered times of tokens: the time up to which they are revoked, and the time of the newest token seen. No token
//! is stored.
//!
//! A revocation is in the log before it is here. The newest token's time is written behind, as cursors are: the keeper
//! writes it into the segments first, later to the store.

use super::{
    StateError,
    keys::{self, u64_at},
    table::{ChangedRows, Row, Table},
};
use crate::{
    ids::{Platform, UserId},
    log::{TokenTimes, embedded::record::Record},
};

impl Row for TokenTimes {
    fn to_bytes(&self) -> Vec<u8> {
        [self.revoked_before_ms, self.newest_ms]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            revoked_before_ms: u64_at(bytes, 0)?,
            newest_ms: u64_at(bytes, 8).unwrap_or_default(),
        })
    }
}

impl TokenTimes {
    /// The record that writes the newest token's time into the segments; `None` when no token was seen.
    fn newest(self, user: UserId, platform: Platform) -> Option<Record> {
        (self.newest_ms > 0).then_some(Record::Token {
            user,
            platform,
            issued_at_ms: self.newest_ms,
        })
    }

    /// The records that write both times into the segments.
    pub(in crate::log::embedded) fn records(
        self,
        user: &UserId,
        platform: Platform,
    ) -> Vec<Record> {
        let revoke = (self.revoked_before_ms > 0).then(|| Record::Revoke {
            user: user.clone(),
            platform,
            before_ms: self.revoked_before_ms,
        });
        let newest = self.newest(user.clone(), platform);
        revoke.into_iter().chain(newest).collect()
    }
}

/// The times of every (user, platform) with a token that was seen or revoked.
pub(in crate::log::embedded) struct TokenTable {
    pub(in crate::log::embedded) rows: Table<TokenTimes>,
}

impl TokenTable {
    /// The remembered times; zeros when nothing is remembered.
    pub(in crate::log::embedded) fn get(
        &self,
        user: &UserId,
        platform: Platform,
    ) -> Result<TokenTimes, StateError> {
        let row = self.rows.get(&keys::user_and_platform(user, platform))?;
        Ok(row.unwrap_or_default())
    }

    /// Remembers that a token was issued or accepted.
    pub(in crate::log::embedded) fn note(
        &self,
        user: &UserId,
        platform: Platform,
        issued_at_ms: u64,
    ) -> Result<(), StateError> {
        self.raise(
            user,
            platform,
            TokenTimes {
                revoked_before_ms: 0,
                newest_ms: issued_at_ms,
            },
        )
    }

    /// Revokes the tokens issued before this Unix ms.
    pub(super) fn revoke(
        &self,
        user: &UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<(), StateError> {
        self.raise(
            user,
            platform,
            TokenTimes {
                revoked_before_ms: before_ms,
                newest_ms: 0,
            },
        )
    }

    /// Revokes the tokens issued before this Unix ms, and forgets when one of them was seen.
    pub(super) fn erase(
        &self,
        user: &UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<(), StateError> {
        self.rows
            .update(keys::user_and_platform(user, platform), |row| {
                let row = row.get_or_insert_default();
                row.revoked_before_ms = row.revoked_before_ms.max(before_ms);
                if row.newest_ms < before_ms {
                    row.newest_ms = 0;
                }
            })
    }

    /// Changes the times. Neither of them ever goes back.
    fn raise(
        &self,
        user: &UserId,
        platform: Platform,
        times: TokenTimes,
    ) -> Result<(), StateError> {
        self.rows
            .update(keys::user_and_platform(user, platform), |row| {
                let before = row.unwrap_or_default();
                *row = Some(TokenTimes {
                    revoked_before_ms: before.revoked_before_ms.max(times.revoked_before_ms),
                    newest_ms: before.newest_ms.max(times.newest_ms),
                });
            })
    }

    /// The records that write the taken rows into the segments. Revocations are left out, because the segments have them.
    pub(in crate::log::embedded) fn records(changed: &ChangedRows<TokenTimes>) -> Vec<Record> {
        let record = |(key, row): &(Box<[u8]>, Option<TokenTimes>)| {
            let ((user, platform), times) = keys::read_user_and_platform(key).zip(*row)?;
            times.newest(user, platform)
        };
        changed.iter().filter_map(record).collect()
    }
}
