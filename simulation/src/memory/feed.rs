//! The commits so far, in their order, and the rows beside the messages.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::rows::Rows;
use crate::ids::{SessionKey, UserId};
use crate::log::{
    Append, AppendError, Cause, CursorMove, CursorPage, FeedCommit, FeedLimit, FeedLoss, FeedPage,
    FeedPosition, LogError, Receipt, RowChange, RowTable, SessionRow, erasing_key,
};

/// The commits that are retained, and the rows.
#[derive(Default)]
pub(super) struct FeedRows {
    commits: Vec<FeedCommit>,
    /// The number of commits that are not retained.
    expired: u64,
    /// The time of the last of them.
    expired_ms: u64,
    rows: BTreeMap<(RowTable, Bytes), Bytes>,
    /// The moves of cursors since the last loss of everything.
    cursors: Vec<CursorMove>,
}

impl FeedRows {
    /// Adds the commit of an append.
    pub(super) fn add(&mut self, append: &Append, receipt: &Receipt) {
        if receipt.entries.is_empty() {
            return;
        }
        self.commits.push(FeedCommit {
            position: self.end(),
            message_id: append.message_id,
            send_time_ms: append.send_time_ms,
            sender: append.sender.clone(),
            client_message_id: append.client_message_id.clone(),
            body: append.body.clone(),
            is_marks: append.is_marks,
            entries: receipt.entries.clone(),
        });
    }

    /// Removes all commits.
    pub(super) fn expire(&mut self) {
        if let Some(last) = self.commits.last() {
            self.expired_ms = last.send_time_ms;
        }
        self.expired += self.commits.len() as u64;
        self.commits.clear();
    }

    /// Forgets the moves of cursors.
    pub(super) fn forget_cursors(&mut self) {
        self.cursors.clear();
    }

    /// The position of the next commit.
    fn end(&self) -> FeedPosition {
        FeedPosition(self.expired + self.commits.len() as u64 + 1)
    }
}

impl Rows {
    /// The number of rows of devices.
    pub fn device_rows(&self) -> usize {
        let tables = self.feed.rows.keys().map(|(table, _)| *table);
        tables.filter(|table| *table == RowTable::Devices).count()
    }

    /// Writes a row that names an erased user to the rooms above.
    pub(super) fn name_erased(&mut self, user: &UserId) {
        let key = (RowTable::Consumers, erasing_key(user));
        self.feed.rows.insert(key, Bytes::new());
    }

    /// See [`Log::put_rows`](crate::log::Log::put_rows).
    pub(super) fn put_rows(&mut self, changes: Vec<RowChange>) -> Result<(), AppendError> {
        let refuse = |text| {
            Err(AppendError::Refusing(LogError::new(
                Cause::LookupFailed,
                text,
            )))
        };
        if self.lacks_conversations {
            return refuse("the format has no rows");
        }
        if !changes.iter().all(RowChange::fits) {
            return refuse("a row has no key, or is too long");
        }
        for RowChange { table, key, value } in changes {
            match value {
                Some(value) => self.feed.rows.insert((table, key), value),
                None => self.feed.rows.remove(&(table, key)),
            };
        }
        Ok(())
    }

    /// See [`Log::rows`](crate::log::Log::rows).
    pub(super) fn page(
        &self,
        table: RowTable,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, LogError> {
        self.check_readable()?;
        let rows = self.feed.rows.range((table, Bytes::new())..);
        let rows = rows.take_while(|((of, _), _)| *of == table);
        let rows = rows.filter(|((_, key), _)| key.starts_with(prefix) && &**key > after);
        let rows = rows.map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(rows.take(limit).collect())
    }

    /// Moves a session's cursor.
    pub(super) fn move_cursor(&mut self, session: &SessionKey, row: SessionRow) {
        if self.erasures.cover_session(session, &row) {
            return;
        }
        self.sessions.insert(session.clone(), row);
        let position = FeedPosition(self.feed.cursors.len() as u64 + 1);
        self.feed.cursors.push(CursorMove {
            position,
            session: session.clone(),
            row,
        });
    }

    /// See [`Log::cursor_feed`](crate::log::Log::cursor_feed).
    pub(super) fn cursor_feed(
        &self,
        from: FeedPosition,
        limit: usize,
    ) -> Result<CursorPage, LogError> {
        self.check_readable()?;
        let all = &self.feed.cursors;
        let waiting = all.iter().filter(|cursor| {
            let is_erased = self.erasures.cover_session(&cursor.session, &cursor.row);
            cursor.position >= from && !is_erased
        });
        let cursors: Vec<_> = waiting.take(limit).cloned().collect();
        let end = FeedPosition(all.len() as u64 + 1);
        let last = cursors.last().map(|last| FeedPosition(last.position.0 + 1));
        let next = last.unwrap_or(end);
        Ok(CursorPage {
            epoch: self.epoch(),
            cursors,
            next,
            is_end: next == end,
        })
    }

    /// See [`Log::feed`](crate::log::Log::feed).
    pub(super) fn feed(&self, from: FeedPosition, limit: FeedLimit) -> Result<FeedPage, LogError> {
        self.check_readable()?;
        let (feed, end) = (&self.feed, self.feed.end());
        let mut page = FeedPage {
            epoch: self.epoch(),
            commits: Vec::new(),
            next: end,
            is_end: true,
            lost: None,
        };
        if from == FeedPosition::NEWEST {
            return Ok(page);
        }
        let is_before = from > FeedPosition::OLDEST && from.0 <= feed.expired;
        if is_before || from > end {
            page.lost = Some(FeedLoss {
                from_time_ms: 0,
                to_time_ms: feed
                    .commits
                    .first()
                    .map_or(feed.expired_ms, |first| first.send_time_ms),
            });
        }
        let mut bytes = 0;
        for commit in feed.commits.iter().filter(|commit| commit.position >= from) {
            let commit = self.erasures.without_erased(commit);
            if commit.entries.is_empty() {
                continue;
            }
            let is_full = page.commits.len() >= limit.commits || bytes >= limit.bytes;
            if is_full && !page.commits.is_empty() {
                (page.next, page.is_end) = (commit.position, false);
                break;
            }
            bytes += commit.bytes();
            page.commits.push(commit);
        }
        Ok(page)
    }
}
