//! One user's messages, in order. Each user's entries form a chain that begins at the newest one and leads back. A read
//! enters the chain at a waypoint, walks back to its own beginning, and returns the entries that it passed, with every byte
//! checked.

use std::sync::Arc;

use super::{
    Inbox, InboxRead, Lookup, Patience, ReadError, ReadLimit, Receipt, Stored,
    core::Core,
    record::{Position, Record},
    scan::Scan,
    segment::Segment,
    state::{KeyRow, UserRow},
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
            let (previous, message) = self.place(user, seq, at, patience)?;
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
                    .damage_at(message, "no message stands where a place points")
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
    fn place(
        &self,
        user: &UserId,
        seq: Seq,
        at: Position,
        patience: Patience,
    ) -> Result<(Position, Option<Position>), ReadError> {
        match self.record(at, patience)? {
            (
                _,
                Record::Place {
                    user: owner,
                    seq: place,
                    previous,
                    message,
                    fields,
                },
            ) if owner == *user && place == seq => {
                Ok((previous, (fields.kind == MESSAGE).then_some(message)))
            }
            (segment, _) => Err(segment
                .damage_at(at, "another record stands where a place was written")
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
            Lookup::Id(id) => self.find_by_time(*id),
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
                    Ok(self.find_by_time(id)?.filter(|receipt| {
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
            placed: Arc::new([]),
        })
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
                    Record::Commit { time_ms, .. }
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
    let mut placed = Vec::new();
    while let Some(scanned) = scan.next()? {
        match scanned.record {
            Record::Place {
                user, seq, message, ..
            } if message == at => placed.push((user, seq)),
            _ => break,
        }
    }
    Ok(Some(Receipt {
        message_id: message.key.message_id,
        sender: message.key.sender,
        client_message_id: message.key.client_message_id,
        send_time_ms: message.key.send_time_ms,
        placed: placed.into(),
    }))
}
