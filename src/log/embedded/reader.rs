//! Reads one user's messages, in order.
//!
//! Each entry of a user holds the position of the user's entry before it. A read begins at the newest entry, or at a
//! *waypoint*: a stored position of an entry at or above the last one that the read wants. It goes back from entry to entry
//! until the first one that it wants, and returns the wanted entries in ascending order. Every byte is checked.

use std::sync::Arc;

use super::{
    Append, AppendError, Inbox, InboxRead, LISTED_MAX, Lookup, Patience, ReadError, ReadLimit,
    Receipt, Stored,
    core::Core,
    record::{MessageRecord, Position, Record},
    scan::{Scan, Scanned},
    segment::Segment,
    spread_row::{SpreadRow, read_piece, read_piece_key},
    state::{KeyRow, UserRow},
    table_id::TableId,
};
use crate::ids::{MessageId, Seq, UserId};

/// The kind of an entry that holds a message, see `EntryFields`.
const MESSAGE: u32 = 0;
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
        let mut stored = self.read_row(user, &row, after, limit, patience);
        if matches!(stored, Err(ReadError::Damaged(_))) {
            let newer = self.state.users.get(user)?;
            // Retention may have removed a segment during the walk. Then the row's `first` has changed.
            if newer.first != row.first {
                row = newer;
                stored = self.read_row(user, &row, after, limit, patience);
            }
        }
        let inbox = row.inbox(self.epoch);
        let read = stored.map(|stored| InboxRead { inbox, stored });
        read.inspect_err(|error| {
            if let ReadError::Damaged(damage) = error {
                self.report(damage);
            }
        })
    }

    fn read_row(
        &self,
        user: &UserId,
        row: &UserRow,
        after: Seq,
        limit: ReadLimit,
        patience: Patience,
    ) -> Result<Vec<Stored>, ReadError> {
        if after >= row.head {
            return Ok(Vec::new());
        }
        let first = after.next().max(row.first);
        let last = Seq(first.0.saturating_add(limit.messages.max(1) as u64 - 1)).min(row.head);
        if first > last {
            return Ok(Vec::new());
        }
        let mut messages = Vec::with_capacity((last.0 - first.0 + 1) as usize);
        let (mut seq, mut at) = self.state.users.landmark(user, row, last)?;
        loop {
            let (previous, message) = self.entry(user, seq, at, patience)?;
            if seq <= last {
                messages.push(message);
            }
            if seq == first {
                break;
            }
            (seq, at) = (seq.previous(), previous);
        }
        let mut stored = Vec::with_capacity(messages.len());
        let mut bytes = 0;
        for (seq, message) in (first.0..).map(Seq).zip(messages.into_iter().rev()) {
            let Some(message) = message else {
                stored.push(Stored { seq, body: None });
                continue;
            };
            if row.has_deleted && self.state.is_deleted(user, seq)? {
                stored.push(Stored { seq, body: None });
                continue;
            }
            let (segment, record) = match self.record(message, patience) {
                // The messages before the damage, or before the bytes that are not in memory, are returned.
                Err(_) if !stored.is_empty() => break,
                read => read?,
            };
            let Record::Message(message) = record else {
                return Err(segment
                    .damage_at(message, "no message stands where an entry points")
                    .into());
            };
            if bytes + message.body.len() > limit.bytes && !stored.is_empty() {
                break;
            }
            bytes += message.body.len();
            stored.push(Stored {
                seq,
                body: Some(message.body),
            });
        }
        Ok(stored)
    }

    /// Reads the entry that must be `seq` of `user`: the position of the entry before it, and the message. `None`: the entry
    /// is of a kind that this version does not know.
    fn entry(
        &self,
        user: &UserId,
        seq: Seq,
        at: Position,
        patience: Patience,
    ) -> Result<(Position, Option<Position>), ReadError> {
        match self.record(at, patience)? {
            (
                _,
                Record::Entry {
                    user: owner,
                    seq: number,
                    previous,
                    message,
                    fields,
                },
            ) if owner == *user && number == seq => {
                Ok((previous, (fields.kind == MESSAGE).then_some(message)))
            }
            (segment, _) => Err(segment
                .damage_at(at, "another record stands where an entry was written")
                .into()),
        }
    }

    fn record(
        &self,
        at: Position,
        patience: Patience,
    ) -> Result<(Arc<Segment>, Record), ReadError> {
        let segment = self.segments.holding(at).ok_or_else(|| super::Damage {
            segment: Segment::name_of(at),
            offset: 0,
            what: "no segment holds this position",
        })?;
        let (_, record) = segment.record_at(at, patience)?;
        Ok((segment, record))
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
            return receipt_at(&segment, row.position)?.ok_or_else(|| {
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
        match self.record(row.message(), Patience::Disk)? {
            (_, Record::Message(message)) => Ok(message),
            (segment, _) => Err(segment
                .damage_at(row.message(), "no message stands where a row points")
                .into()),
        }
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
            self.entries_of_spread(id, row, 0, LISTED_MAX)?
        } else {
            Vec::new()
        };
        Ok(Receipt {
            message_id: id,
            sender: key.sender,
            client_message_id: key.client_message_id,
            send_time_ms: key.send_time_ms,
            receivers: row.highest,
            entries: entries.into(),
        })
    }

    /// Up to `limit` entries of a message to everyone, of the users with a number above `skip`. Entries that retention
    /// removed are left out.
    fn entries_of_spread(
        &self,
        id: MessageId,
        row: &SpreadRow,
        skip: u64,
        limit: usize,
    ) -> Result<Vec<(UserId, Seq)>, ReadError> {
        let mut entries = Vec::new();
        for (key, value) in self.state.rows_of(TableId::Pieces, &id.0)? {
            let begin = read_piece_key(&key)? * row.piece;
            if begin + row.piece <= skip || entries.len() >= limit {
                continue;
            }
            let of_piece = self.entries_at(read_piece(&value)?)?;
            let (skipped, room) = (skip.saturating_sub(begin), limit - entries.len());
            entries.extend(of_piece.into_iter().skip(skipped as usize).take(room));
        }
        Ok(entries)
    }

    /// The entries of one message that stand one behind the other from `at` on; none when retention removed them.
    fn entries_at(&self, at: Position) -> Result<Vec<(UserId, Seq)>, ReadError> {
        let Some(segment) = self.segments.holding(at) else {
            return Ok(Vec::new());
        };
        let mut scan = Scan::from(&segment, at, None);
        let (mut entries, mut of) = (Vec::new(), None);
        while let Some(Scanned {
            record: Record::Entry {
                user, seq, message, ..
            },
            ..
        }) = scan.next()?
            && *of.get_or_insert(message) == message
        {
            entries.push((user, seq));
        }
        Ok(entries)
    }

    /// See [`super::Log::entries`].
    pub(super) fn entries(
        &self,
        id: MessageId,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<(UserId, Seq)>, ReadError> {
        match self.spread(id)? {
            Some(row) => self.entries_of_spread(id, &row, skip as u64, limit),
            None => Ok(Vec::new()),
        }
    }

    /// See [`super::Log::entry_of`].
    pub(super) fn entry_of(&self, id: MessageId, user: &UserId) -> Result<Option<Seq>, ReadError> {
        let number = self.state.users.get(user)?.number;
        let Some(skip) = number.checked_sub(1) else {
            return Ok(None);
        };
        let entries = self.entries(id, skip as usize, 1)?;
        let entry = entries.into_iter().find(|(owner, _)| owner == user);
        Ok(entry.map(|(_, seq)| seq))
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
            // The message may have waited in the queue while the next segment was begun. If the next segment was begun
            // earlier than the message, the clock was set back.
            let is_begun = segment.created_ms <= id.time_ms() + COMMIT_DELAY_MAX_MS;
            let is_over = segments
                .get(number + 1)
                .is_some_and(|next| (segment.created_ms..=id.time_ms()).contains(&next.created_ms));
            if !is_begun || is_over {
                continue;
            }
            let mut scan = Scan::whole(segment);
            while let Some(scanned) = scan.next()? {
                match scanned.record {
                    Record::Message(message) if message.key.message_id == id => {
                        return receipt_at(segment, scanned.position);
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
}

/// The message at `at` with the entries that follow it; `None` when `at` holds something else.
fn receipt_at(segment: &Segment, at: Position) -> Result<Option<Receipt>, ReadError> {
    let mut scan = Scan::from(segment, at, None);
    let Some(Record::Message(message)) = scan.next()?.map(|scanned| scanned.record) else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    while let Some(scanned) = scan.next()? {
        match scanned.record {
            Record::Entry {
                user, seq, message, ..
            } if message == at => entries.push((user, seq)),
            _ => break,
        }
    }
    Ok(Some(Receipt {
        message_id: message.key.message_id,
        sender: message.key.sender,
        client_message_id: message.key.client_message_id,
        send_time_ms: message.key.send_time_ms,
        receivers: entries.len() as u64,
        entries: entries.into(),
    }))
}
