//! Reads one user's messages, in order.
//!
//! Each entry of a user holds the position of the user's entry before it. A read begins at the newest entry, or at a
//! *waypoint*: a stored position of an entry at or above the last one that the read wants. It goes back from entry to entry
//! until the first one that it wants, and returns the wanted entries in ascending order. Every byte is checked.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Append, AppendError, Inbox, InboxRead, LISTED_MAX, Lookup, Patience, ReadError, ReadLimit,
    Receipt,
    core::Core,
    entry_fields::MARKS,
    record::{MessageRecord, Position, Record},
    scan::{Scan, Scanned},
    segment::Segment,
    spread_row::{SpreadRow, piece_key, read_piece, read_piece_key},
    state::{KeyRow, UserRow},
    table_id::TableId,
};
use crate::{
    ids::{MessageId, Seq, UserId},
    message::{Entry, Numbers},
};

/// The longest time from a message's id to the commit of its group: the time that an append may wait.
const COMMIT_DELAY_MAX_MS: u64 = 60_000;

impl Core {
    pub(super) fn inbox(&self, user: &UserId) -> Result<Inbox, ReadError> {
        Ok(self.state.users.get(user)?.inbox(self.epoch))
    }

    /// See [`super::Log::read`].
    pub(super) fn read(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
        patience: Patience,
    ) -> Result<InboxRead, ReadError> {
        let mut row = self.state.users.get(user)?;
        let mut entries = self.read_row(user, &row, after, limit, patience);
        if matches!(entries, Err(ReadError::Damaged(_))) {
            let newer = self.state.users.get(user)?;
            // Retention may have removed a segment during the walk. Then the row's `first` has changed.
            if newer.first != row.first {
                row = newer;
                entries = self.read_row(user, &row, after, limit, patience);
            }
        }
        let inbox = row.inbox(self.epoch);
        let read = entries.map(|entries| InboxRead { inbox, entries });
        read.inspect_err(|error| self.report_damage(error))
    }

    /// Reports the damage that a read met.
    pub(super) fn report_damage(&self, error: &ReadError) {
        if let ReadError::Damaged(damage) = error {
            self.report(damage);
        }
    }

    fn read_row(
        &self,
        user: &UserId,
        row: &UserRow,
        after: Seq,
        limit: ReadLimit,
        patience: Patience,
    ) -> Result<Vec<Entry>, ReadError> {
        if after >= row.head {
            return Ok(Vec::new());
        }
        let first = after.next().max(row.first);
        let last = Seq(first.0.saturating_add(limit.messages.max(1) as u64 - 1)).min(row.head);
        if first > last {
            return Ok(Vec::new());
        }
        let mut links = Vec::with_capacity((last.0 - first.0 + 1) as usize);
        let mut at = self.state.users.landmark(user, row, last)?;
        loop {
            let link = self.link_of(user, at, patience)?;
            at = (link.seq.previous(), link.previous);
            let is_first = link.seq == first;
            if link.seq <= last {
                links.push(link);
            }
            if is_first {
                break;
            }
        }
        let mut entries = Vec::with_capacity(links.len());
        let mut bytes = 0;
        for link in links.into_iter().rev() {
            let entry = match self.resolve(user, row.has_deleted, &link, patience) {
                // The messages before the damage, or before the bytes that are not in memory, are returned.
                Err(_) if !entries.is_empty() => break,
                read => read?,
            };
            let length = entry.content.body().map_or(0, Bytes::len);
            if bytes + length > limit.bytes && !entries.is_empty() {
                break;
            }
            bytes += length;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// See [`super::Log::find`].
    pub(super) fn find(&self, lookup: &Lookup) -> Result<Option<Receipt>, ReadError> {
        match lookup {
            Lookup::Id(id) => self.find_by_id(*id),
            Lookup::Key {
                sender,
                client_message_id,
            } => match self.state.keys.get(sender, client_message_id)? {
                Some(row) => self
                    .receipt_of_key(sender, client_message_id, &row)
                    .map(Some),
                // A message whose sender chose no id has the server's id as its key.
                None => {
                    let Ok(id) = client_message_id.parse() else {
                        return Ok(None);
                    };
                    Ok(self.find_by_id(id)?.filter(|receipt| {
                        receipt.sender == *sender && receipt.client_message_id == *client_message_id
                    }))
                }
            },
        }
    }

    /// The result that belongs to a known key. It names no entries when retention removed the message.
    pub(super) fn receipt_of_key(
        &self,
        sender: &str,
        client_message_id: &str,
        row: &KeyRow,
    ) -> Result<Receipt, ReadError> {
        if let Some(spread) = self.spread(row.message_id)? {
            return self.receipt_of_spread(row.message_id, &spread);
        }
        if let Some(segment) = self.segments.holding(row.position) {
            let found = self.receipt_at(&segment, row.position)?;
            return found.map(|(receipt, _)| receipt).ok_or_else(|| {
                segment
                    .damage_at(row.position, "no message stands where a key points")
                    .into()
            });
        }
        Ok(Receipt {
            message_id: row.message_id,
            sender: sender.into(),
            client_message_id: client_message_id.into(),
            send_time_ms: row.send_time_ms,
            receivers: 0,
            entries: Arc::new([]),
        })
    }

    /// The receipt of an earlier append with the same key.
    pub(super) fn earlier(&self, append: &Append) -> Result<Option<Receipt>, AppendError> {
        if !append.is_keyed {
            return Ok(None);
        }
        let keys = &self.state.keys;
        let row = keys.get(&append.sender, &append.client_message_id);
        let Some(row) = row.map_err(ReadError::from)? else {
            return Ok(None);
        };
        if row.fingerprint != append.fingerprint {
            return Err(AppendError::KeyReused);
        }
        if let Some(spread) = self.spread(row.message_id)?
            && !spread.is_done()
        {
            return Err(AppendError::OutcomeUnknown);
        }
        let receipt = self.receipt_of_key(&append.sender, &append.client_message_id, &row);
        Ok(Some(receipt?))
    }

    /// The row of a message to everyone; `None` for any other message, and when retention removed the message.
    pub(super) fn spread(&self, id: MessageId) -> Result<Option<SpreadRow>, ReadError> {
        let Some(value) = self.state.row(TableId::Spreads, &id.0)? else {
            return Ok(None);
        };
        let row = SpreadRow::read(value)?;
        let is_retained = self.segments.holding(row.message()).is_some();
        Ok(is_retained.then_some(row))
    }

    /// True while a message to everyone is not spread to its end.
    pub(super) fn is_spreading(&self) -> Result<bool, ReadError> {
        for (_, value) in self.state.rows_of(TableId::Spreads, &[])? {
            if !SpreadRow::read(value)?.is_done() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The message of a row.
    pub(super) fn message_of(&self, row: &SpreadRow) -> Result<MessageRecord, ReadError> {
        self.message_at(row.message())
    }

    /// The receipt of a message to everyone.
    pub(super) fn receipt_of_spread(
        &self,
        id: MessageId,
        row: &SpreadRow,
    ) -> Result<Receipt, ReadError> {
        let key = self.message_of(row)?.key;
        let is_listed = row.highest <= LISTED_MAX as u64;
        let entries = if is_listed {
            self.entries_of_spread(id, row, key.send_time_ms, (0, LISTED_MAX))?
        } else {
            Vec::new()
        };
        Ok(Receipt {
            message_id: id,
            sender: key.sender,
            client_message_id: key.client_message_id,
            send_time_ms: key.send_time_ms,
            receivers: row.receivers(),
            entries: entries.into(),
        })
    }

    /// Up to `limit` entries of a message to everyone that was accepted at this time, of the users with a number above `skip`. Entries
    /// that retention removed are left out.
    fn entries_of_spread(
        &self,
        id: MessageId,
        row: &SpreadRow,
        send_time_ms: u64,
        (skip, limit): (u64, usize),
    ) -> Result<Vec<(UserId, Numbers)>, ReadError> {
        let mut entries = Vec::new();
        for (key, value) in self.state.rows_of(TableId::Pieces, &id.0)? {
            let begin = read_piece_key(&key)? * row.piece;
            if begin + row.piece <= skip || entries.len() >= limit {
                continue;
            }
            let of_piece = self.entries_at(read_piece(&value)?, send_time_ms)?;
            let (skipped, room) = (skip.saturating_sub(begin), limit - entries.len());
            entries.extend(of_piece.into_iter().skip(skipped as usize).take(room));
        }
        Ok(entries)
    }

    /// The entries of one message, accepted at this time, that stand one behind the other from `at` on; none when retention removed
    /// them.
    fn entries_at(
        &self,
        at: Position,
        send_time_ms: u64,
    ) -> Result<Vec<(UserId, Numbers)>, ReadError> {
        let Some(segment) = self.segments.holding(at) else {
            return Ok(Vec::new());
        };
        let mut scan = Scan::from(&segment, at, None);
        let (mut entries, mut of) = (Vec::new(), None);
        while let Some(Scanned {
            record:
                Record::Entry {
                    user,
                    seq,
                    message,
                    fields,
                    ..
                },
            ..
        }) = scan.next()?
            && *of.get_or_insert(message) == message
        {
            if !self.is_erased(&user, seq)? {
                entries.push((user, fields.numbers(seq, send_time_ms)));
            }
        }
        Ok(entries)
    }

    /// See [`super::Log::entries`].
    pub(super) fn entries(
        &self,
        id: MessageId,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<(UserId, Numbers)>, ReadError> {
        match self.spread(id)? {
            Some(row) => {
                let send_time_ms = self.message_of(&row)?.key.send_time_ms;
                self.entries_of_spread(id, &row, send_time_ms, (skip as u64, limit))
            }
            None => Ok(Vec::new()),
        }
    }

    /// See [`super::Log::entry_of`].
    pub(super) fn entry_of(
        &self,
        id: MessageId,
        user: &UserId,
    ) -> Result<Option<Numbers>, ReadError> {
        let number = self.state.users.get(user)?.number;
        let (Some(index), Some(row)) = (number.checked_sub(1), self.spread(id)?) else {
            return Ok(None);
        };
        let piece = piece_key(id, index / row.piece);
        let Some(piece) = self.state.row(TableId::Pieces, &piece)? else {
            return Ok(None);
        };
        let send_time_ms = self.message_of(&row)?.key.send_time_ms;
        // Users who were erased have no entry in the piece, so the number does not say the place in it.
        let entries = self.entries_at(read_piece(&piece)?, send_time_ms)?;
        let entry = entries.into_iter().find(|(owner, _)| owner == user);
        Ok(entry.map(|(_, numbers)| numbers))
    }

    fn find_by_id(&self, id: MessageId) -> Result<Option<Receipt>, ReadError> {
        match self.spread(id)? {
            Some(row) => self.receipt_of_spread(id, &row).map(Some),
            None => self.find_by_time(id),
        }
    }

    /// Finds a message by its id. Ids and groups both carry a time, so only the segments of the id's time are searched.
    fn find_by_time(&self, id: MessageId) -> Result<Option<Receipt>, ReadError> {
        let segments = self.segments.all();
        for (number, segment) in segments.iter().enumerate() {
            // The message may have waited in the queue while the next segment was begun, or have been written in the millisecond
            // in which that segment was begun. If the next segment was begun earlier than this one, the clock was set back.
            let is_begun = segment.created_ms <= id.time_ms() + COMMIT_DELAY_MAX_MS;
            let is_over = segments
                .get(number + 1)
                .is_some_and(|next| (segment.created_ms..id.time_ms()).contains(&next.created_ms));
            if !is_begun || is_over {
                continue;
            }
            let mut scan = Scan::whole(segment);
            while let Some(scanned) = scan.next()? {
                match scanned.record {
                    Record::Message(message) if message.key.message_id == id => {
                        let found = self.receipt_at(segment, scanned.position)?;
                        return Ok(found
                            .filter(|(_, is_nobodys)| !is_nobodys)
                            .map(|(receipt, _)| receipt));
                    }
                    Record::GroupEnd { time_ms, .. }
                        if time_ms > id.time_ms() + COMMIT_DELAY_MAX_MS =>
                    {
                        break;
                    }
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// The message at `at` with the entries that follow it, but for those of erased users, and true if these were all. `None` when `at`
    /// holds something else.
    fn receipt_at(
        &self,
        segment: &Segment,
        at: Position,
    ) -> Result<Option<(Receipt, bool)>, ReadError> {
        let mut scan = Scan::from(segment, at, None);
        let Some(Record::Message(message)) = scan.next()?.map(|scanned| scanned.record) else {
            return Ok(None);
        };
        let key = message.key;
        let (mut entries, mut has_erased) = (Vec::new(), false);
        while let Some(scanned) = scan.next()? {
            match scanned.record {
                Record::Entry {
                    user,
                    seq,
                    message,
                    fields,
                    ..
                } if message == at => {
                    // Read marks are no message that anybody looks for.
                    if fields.kind == MARKS {
                        return Ok(None);
                    }
                    if self.is_erased(&user, seq)? {
                        has_erased = true;
                        continue;
                    }
                    entries.push((user, fields.numbers(seq, key.send_time_ms)));
                }
                _ => break,
            }
        }
        let is_nobodys = has_erased && entries.is_empty();
        let receipt = Receipt {
            message_id: key.message_id,
            sender: key.sender,
            client_message_id: key.client_message_id,
            send_time_ms: key.send_time_ms,
            receivers: entries.len() as u64,
            entries: entries.into(),
        };
        Ok(Some((receipt, is_nobodys)))
    }
}
