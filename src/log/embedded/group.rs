//! A group: the records that the writer collects for one write and one sync, and the rows as they will be after it.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::quality::RandomState;
use tokio::sync::oneshot;

use super::{
    Append, AppendError, Commit, Erasure, Receipt,
    entry_fields::{EntryFields, MARKS},
    message_facts::MessageFacts,
    record::{self, Position, Record},
    state::{State, StateError},
    table_id::TableId,
};
use crate::{
    ids::{ConversationSeq, Seq, UserId},
    message::Numbers,
    metrics::ByKind,
};

/// The sender, and its id for the message.
type IdempotencyKey = (Box<str>, Box<str>);

/// The records and callers that are collected for one sync.
pub(super) struct Group {
    /// The position of the first record.
    begin: Position,
    /// The CRC of the last record.
    crc: u32,
    /// The base of the epoch.
    base: u32,
    pub(super) buffer: Vec<u8>,
    /// Heads and newest positions of the group's users, as they will be after the sync.
    heads: HashMap<UserId, (Seq, Position), RandomState>,
    /// The ends of the conversations, as they will be after the sync.
    conversations: Vec<ConversationEnd>,
    /// Where a conversation is in `conversations`, by the key of its row.
    conversation_at: HashMap<Box<[u8]>, usize, RandomState>,
    /// The facts of the messages whose entries are in this group, by the message's position.
    facts: HashMap<Position, MessageFacts, RandomState>,
    /// Keys of this group, with the answers that they will get.
    keys: HashMap<IdempotencyKey, ([u8; 16], Receipt)>,
    /// Rows of this group that the state does not have yet.
    rows: HashMap<(TableId, Bytes), Option<Bytes>>,
    /// The same for profiles.
    profiles: HashMap<UserId, Bytes>,
    pub(super) records: Vec<(Record, Position)>,
    pub(super) commits: Vec<Commit>,
    /// The number of messages that this group accepts.
    pub(super) messages: u64,
    /// The number of entries, one for each receiver.
    pub(super) entries: ByKind<u64>,
    pub(super) callers: Vec<Caller>,
}

/// The newest entry of a conversation.
#[derive(Clone, Copy)]
struct ConversationEnd {
    head: ConversationSeq,
    newest: Position,
    time_ms: u64,
    /// The base of its next entry.
    base: u32,
}

/// A waiting caller, and the answer for it.
pub(super) enum Caller {
    /// The answer depends on this group. If the group fails, the caller gets the failure instead.
    Append(
        oneshot::Sender<Result<Receipt, AppendError>>,
        Result<Receipt, AppendError>,
    ),
    Records(oneshot::Sender<Result<(), AppendError>>),
    /// The same, with another answer.
    Erase(oneshot::Sender<Result<Erasure, AppendError>>, Erasure),
    /// The answer does not depend on the group's outcome.
    Decided(
        oneshot::Sender<Result<Receipt, AppendError>>,
        Result<Receipt, AppendError>,
    ),
}

impl Group {
    /// An empty group behind the record with this CRC, in an epoch with this base. `buffer` is empty.
    pub(super) fn new(begin: Position, crc: u32, base: u32, buffer: Vec<u8>) -> Self {
        Self {
            begin,
            crc,
            base,
            buffer,
            heads: HashMap::default(),
            conversations: Vec::new(),
            conversation_at: HashMap::default(),
            facts: HashMap::default(),
            keys: HashMap::new(),
            rows: HashMap::new(),
            profiles: HashMap::new(),
            records: Vec::new(),
            commits: Vec::new(),
            messages: 0,
            entries: ByKind::default(),
            callers: Vec::new(),
        }
    }

    /// The CRC of the last record.
    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// The position of the next record.
    pub(super) fn end(&self) -> Position {
        Position(self.begin.0 + self.buffer.len() as u64)
    }

    /// Puts a record into the group. Returns its future position.
    pub(super) fn put(&mut self, record: Record) -> Position {
        let at = self.end();
        self.crc = record::encode(&record, self.crc, &mut self.buffer);
        match &record {
            Record::Row { table, key, value } => {
                self.rows.insert((*table, key.clone()), value.clone());
            }
            Record::Register { user, profile } => {
                self.profiles.insert(user.clone(), profile.clone());
            }
            _ => {}
        }
        self.records.push((record, at));
        at
    }

    /// Puts the record that closes the group.
    pub(super) fn close(&mut self, time_ms: u64) {
        self.put(Record::GroupEnd {
            position: self.end(),
            start: self.begin,
            time_ms,
        });
    }

    /// The answer to an earlier append with the same key, which is still being written.
    pub(super) fn earlier(&self, append: &Append) -> Option<Result<Receipt, AppendError>> {
        if !append.is_keyed {
            return None;
        }
        let key = (append.sender.clone(), append.client_message_id.clone());
        let (fingerprint, receipt) = self.keys.get(&key)?;
        Some(if *fingerprint == append.fingerprint {
            Ok(receipt.clone())
        } else {
            Err(AppendError::KeyReused)
        })
    }

    /// Remembers the receipt of an append with a key.
    pub(super) fn remember(&mut self, fingerprint: [u8; 16], receipt: &Receipt) {
        let key = (receipt.sender.clone(), receipt.client_message_id.clone());
        self.keys.insert(key, (fingerprint, receipt.clone()));
    }

    /// Looks up the ends of a user's inbox and of the conversation, before an entry is put there. Returns the conversation's index
    /// in this group; `None` without `message`: the entry is in no conversation.
    pub(super) fn look_up(
        &mut self,
        state: &State,
        user: &UserId,
        message: Option<&MessageFacts>,
    ) -> Result<Option<usize>, StateError> {
        if !self.heads.contains_key(user) {
            let row = state.users.get(user)?;
            self.heads.insert(user.clone(), (row.head, row.newest));
        }
        let Some(message) = message else {
            return Ok(None);
        };
        let key = message.conversation_key(user);
        if let Some(at) = self.conversation_at.get(&*key) {
            return Ok(Some(*at));
        }
        let row = state.conversations.get(&key)?.unwrap_or_default();
        let at = self.conversations.len();
        self.conversations.push(ConversationEnd {
            head: row.head,
            newest: row.newest,
            time_ms: row.last_time_ms,
            // A log whose epoch was lost goes on with the base that it had.
            base: self.base.max(row.bases.newest()),
        });
        self.conversation_at.insert(key.into_boxed_slice(), at);
        Ok(Some(at))
    }

    /// Keeps the facts of the message at `position` for its entries.
    pub(super) fn add_facts(&mut self, position: Position, facts: MessageFacts) {
        self.facts.insert(position, facts);
    }

    /// The facts of a message that has entries in this group.
    pub(super) fn facts(&self, position: Position) -> Option<&MessageFacts> {
        self.facts.get(&position)
    }

    /// Puts an entry into the inbox of a user, and into the conversation with this index, which were looked up. Returns its
    /// places.
    pub(super) fn add_entry(
        &mut self,
        user: &UserId,
        conversation: Option<usize>,
        message: Position,
        kind: u32,
    ) -> Numbers {
        let at = self.end();
        let (head, newest) = self.heads.get_mut(user).expect("the user was looked up");
        let seq = head.next();
        let mut fields = EntryFields {
            kind,
            ..EntryFields::default()
        };
        let end = conversation.map(|at| &mut self.conversations[at]);
        if let Some((end, facts)) = end.zip(self.facts.get(&message)) {
            let time_ms = facts.send_time_ms.max(end.time_ms + 1);
            fields.conversation_seq = end.head.0 + 1;
            fields.conversation_previous = end.newest.0;
            fields.base = end.base;
            if time_ms != facts.send_time_ms {
                fields.conversation_time_ms = time_ms;
            }
            *end = ConversationEnd {
                head: end.head.next(),
                newest: at,
                time_ms,
                base: end.base,
            };
        }
        match kind {
            MARKS => self.entries.marks += 1,
            _ => self.entries.messages += 1,
        }
        let send_time_ms = self
            .facts
            .get(&message)
            .map_or(0, |facts| facts.send_time_ms);
        let numbers = fields.numbers(seq, send_time_ms);
        let record = Record::Entry {
            user: user.clone(),
            seq,
            previous: *newest,
            message,
            fields,
        };
        self.crc = record::encode(&record, self.crc, &mut self.buffer);
        (*head, *newest) = (seq, at);
        self.records.push((record, at));
        numbers
    }

    /// True if this group has an entry or a registration of the user.
    pub(super) fn has_news_of(&self, user: &UserId) -> bool {
        self.heads.contains_key(user) || self.profiles.contains_key(user)
    }

    /// The value of a row after this group.
    pub(super) fn row(
        &self,
        state: &State,
        row: &(TableId, Bytes),
    ) -> Result<Option<Bytes>, StateError> {
        match self.rows.get(row) {
            Some(value) => Ok(value.clone()),
            None => state.row(row.0, &row.1),
        }
    }

    /// The profile of a user after this group.
    pub(super) fn profile(
        &self,
        state: &State,
        user: &UserId,
    ) -> Result<Option<Bytes>, StateError> {
        match self.profiles.get(user) {
            Some(profile) => Ok(Some(profile.clone())),
            None => state.profile(user),
        }
    }
}

/// Answers all callers of a group with this outcome.
pub(super) fn answer(callers: Vec<Caller>, outcome: &Result<(), AppendError>) {
    for caller in callers {
        // The receiver may have been dropped. Then the answer is discarded.
        match caller {
            Caller::Append(sender, answer) => drop(sender.send(outcome.clone().and(answer))),
            Caller::Records(sender) => drop(sender.send(outcome.clone())),
            Caller::Erase(sender, erasure) => {
                drop(sender.send(outcome.clone().map(|()| erasure)));
            }
            Caller::Decided(sender, decided) => drop(sender.send(decided)),
        }
    }
}
