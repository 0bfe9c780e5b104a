//! Sessions' cursors: the end of an ack's path. Cursors are written behind the acks, so a crash loses the acks since the
//! last writing into the segments, usually some seconds. The session then begins at its older cursor, and its client
//! gets messages again. A session without an older stored cursor begins as `delivery.new_session` says: with "head", a
//! client that does not send a cursor of its own misses the messages before the head. `Log::begin_session` writes the first
//! cursor at once.

use super::{
    StateError,
    keys::{self, u64_at},
    table::{ChangedRows, Row, Table},
};
use crate::{
    ids::{Seq, SessionKey, UserId},
    log::{SessionRow, embedded::record::Record},
};

impl Row for SessionRow {
    fn to_bytes(&self) -> Vec<u8> {
        [self.cursor.0, self.acked_at_ms]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            cursor: Seq(u64_at(bytes, 0)?),
            acked_at_ms: u64_at(bytes, 8)?,
        })
    }
}

/// True for an OpenIM session that has neither begun nor acked since this Unix ms.
pub(in crate::log::embedded) fn is_forgotten(
    key: &SessionKey,
    row: &SessionRow,
    since_ms: u64,
) -> bool {
    key.is_openim() && row.acked_at_ms < since_ms
}

/// The cursors of all sessions ever seen, but for OpenIM sessions that retention forgot.
pub(in crate::log::embedded) struct Cursors {
    pub(in crate::log::embedded) rows: Table<SessionRow>,
}

impl Cursors {
    /// The row of a session, if there is one.
    pub(in crate::log::embedded) fn get(
        &self,
        key: &SessionKey,
    ) -> Result<Option<SessionRow>, StateError> {
        self.rows.get(&keys::session(key))
    }

    /// The row of a session, if it is in memory.
    pub(in crate::log::embedded) fn recent(&self, key: &SessionKey) -> Option<SessionRow> {
        self.rows.recent(&keys::session(key))
    }

    /// Moves a session's cursor.
    pub(in crate::log::embedded) fn put(&self, key: &SessionKey, row: SessionRow) {
        self.rows.put(keys::session(key), row);
    }

    /// Forgets an OpenIM session that has neither begun nor acked since this Unix ms.
    pub(in crate::log::embedded) fn forget_silent(
        &self,
        key: &SessionKey,
        since_ms: u64,
    ) -> Result<(), StateError> {
        self.rows.update(keys::session(key), |row| {
            row.take_if(|row| is_forgotten(key, row, since_ms));
        })
    }

    /// All sessions of a user.
    pub(in crate::log::embedded) fn of(
        &self,
        user: &UserId,
    ) -> Result<Vec<(SessionKey, SessionRow)>, StateError> {
        // Vendor push asks for each message. A look at all sessions of the last minute would cost more than all else.
        self.rows.sort_keys();
        let mut sessions = Vec::new();
        let mut is_readable = true;
        self.rows.visit(&keys::prefix(user), |key, row| {
            match keys::read_session(key) {
                Some(key) => sessions.push((key, *row)),
                None => is_readable = false,
            }
        })?;
        is_readable
            .then_some(sessions)
            .ok_or(StateError::Undecodable)
    }

    /// The records that write the taken rows into the segments.
    pub(in crate::log::embedded) fn records(changed: &ChangedRows<SessionRow>) -> Vec<Record> {
        let record = |(key, row): &(Box<[u8]>, Option<SessionRow>)| {
            let (session, row) = keys::read_session(key).zip(*row)?;
            Some(Record::Cursor {
                session,
                cursor: row.cursor,
                acked_at_ms: row.acked_at_ms,
            })
        };
        changed.iter().filter_map(record).collect()
    }
}
