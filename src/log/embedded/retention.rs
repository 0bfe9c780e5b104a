//! Removes whole segments, oldest first, by age and by total size. The facts that must outlive a segment are first written
//! into the log again: heads of inboxes and conversations, read marks, cursors, registrations, revocations, idempotency keys that are still valid, rows of
//! tables. OpenIM sessions are forgotten with the segments: a client has a new one with each token.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    ReadError,
    core::Core,
    entry::MessageLookup,
    entry_fields::{MARKS, MESSAGE},
    expiry_rows::expiry_records,
    message_facts::conversation_key,
    queue::Carried,
    record::{Key, Position, Record},
    scan::Scan,
    segment::Segment,
    spread_row::{SpreadRow, read_piece},
    state::{ErasureRow, is_forgotten},
    table_id::TableId,
};
use crate::{
    ids::{ConversationSeq, Platform, Seq, SessionKey, UserId},
    metrics::ByKind,
    threads::Pulse,
};

/// The bounds of age and size.
#[derive(Debug)]
pub(super) struct RetentionLimits {
    pub(super) age: Duration,
    pub(super) size: SizeBound,
    pub(super) keys: Duration,
}

/// The bound of the log's size. Facts that are carried over can be larger than the bound. Then the removal of segments goes once
/// round the log and frees nothing, and from there on the bound counts without these facts.
#[derive(Debug)]
pub(super) struct SizeBound {
    /// 0: no bound.
    bytes: u64,
    /// The facts that could not be removed, in bytes.
    facts: u64,
    /// The removed segments without entries, one after another: the log's end before the first of them, and their bytes.
    round: Option<(Position, u64)>,
}

impl SizeBound {
    /// A bound of so many bytes; 0: no bound.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            facts: 0,
            round: None,
        }
    }

    /// True if a log of so many bytes is too large.
    pub(super) fn is_passed(&self, bytes: u64) -> bool {
        self.bytes > 0 && bytes > self.bytes.saturating_add(self.facts)
    }

    /// A segment was removed for its size, and with entries or with carried facts alone. `end` is the end of the log before
    /// anything was carried over.
    pub(super) fn removed(&mut self, segment: &Segment, has_entries: bool, end: Position) {
        if has_entries {
            self.round = None;
            return;
        }
        let (begun_at, bytes) = self.round.get_or_insert((end, 0));
        *bytes += segment.length();
        if segment.end() < *begun_at {
            return;
        }
        if self.facts == 0 {
            tracing::warn!(
                facts_bytes = *bytes,
                retention_bytes = self.bytes,
                "what outlives the messages is larger than log.retention_bytes: the log stays larger"
            );
        }
        self.facts = *bytes;
        self.round = None;
    }
}

/// The oldest segment, if it must be removed: all its records are older than the limit, or the log is larger than its
/// bound. Never the last segment.
pub(super) fn next_to_remove(core: &Core, limits: &RetentionLimits) -> Option<Arc<Segment>> {
    let segments = core.segments.all();
    let [oldest, later @ ..] = &segments[..] else {
        return None;
    };
    // All records of the oldest segment were written before each later segment began. The earliest beginning counts: a
    // clock that was ahead for a while gave some segments a time in the future.
    let began_ms = later.iter().map(|segment| segment.created_ms).min()?;
    let is_old = began_ms < core.kept_since_ms(limits.age);
    let is_too_much = limits.size.is_passed(core.segments.bytes());
    (is_old || is_too_much).then(|| oldest.clone())
}

/// The facts in a removed segment that must not be forgotten. Sorted, so that the same segment is always carried over the
/// same way.
#[derive(Default)]
pub(super) struct Leaving {
    /// The highest seq of each user with an entry in the segment.
    entries: BTreeMap<UserId, Seq>,
    heads: BTreeSet<UserId>,
    sessions: BTreeSet<SessionKey>,
    registered: BTreeSet<UserId>,
    /// The users and platforms with remembered tokens.
    tokens: BTreeSet<(UserId, Platform)>,
    deleted: Vec<(UserId, Seq)>,
    keys: Vec<Key>,
    /// The rows of tables that the segment wrote.
    rows: BTreeSet<(TableId, Bytes)>,
    /// The lowest and the highest conversation seq of each conversation with an entry in the segment, by its key.
    conversations: BTreeMap<Box<[u8]>, RangeInclusive<ConversationSeq>>,
    /// The users whose erasures the segment holds.
    erased: Vec<(UserId, ErasureRow)>,
    /// The conversations that the segment marks, by their keys.
    marked: BTreeSet<Box<[u8]>>,
    /// The entries without a conversation seq.
    unnumbered: Vec<(UserId, Seq)>,
}

impl Leaving {
    /// Reads the whole segment. A damaged segment is an error: the facts that must not be forgotten are then not known.
    pub(super) fn read(core: &Core, segment: &Segment, pulse: &Pulse) -> Result<Self, ReadError> {
        let mut leaving = Self::default();
        let mut scan = Scan::whole(segment);
        let mut messages = MessageLookup::default();
        while let Some(scanned) = scan.next().inspect_err(|error| {
            if let ReadError::Damaged(damage) = error {
                core.report(damage);
            }
        })? {
            if core.has_conversations() {
                messages.note(&scanned.record, scanned.position);
                leaving.note_conversation(core, &scanned.record, &mut messages)?;
            }
            leaving.note(scanned.record);
            pulse.beat();
        }
        Ok(leaving)
    }

    /// Notes the conversation of an entry, and the conversations that it marks.
    fn note_conversation(
        &mut self,
        core: &Core,
        record: &Record,
        messages: &mut MessageLookup,
    ) -> Result<(), ReadError> {
        let Record::Entry {
            user,
            seq,
            message,
            fields,
            ..
        } = record
        else {
            return Ok(());
        };
        let Some(message) = messages.get(core, *message) else {
            return Ok(());
        };
        if fields.kind == MARKS {
            let marks = message.origin.marks.iter();
            let keys = marks.map(|mark| conversation_key(user, &mark.conversation_id).into());
            self.marked.extend(keys);
        } else if fields.kind == MESSAGE {
            let key = message.conversation_key(user);
            let mut number = ConversationSeq(fields.conversation_seq);
            if number == ConversationSeq::ZERO {
                self.unnumbered.push((user.clone(), *seq));
                let conversations = &core.state.conversations;
                let place =
                    conversations.place_of(user, *seq, || Ok::<_, ReadError>(key.clone()))?;
                number = place.map_or(number, |(number, _)| number);
            }
            let range = self.conversations.entry(key.into());
            let range = range.or_insert(number..=number);
            *range = number.min(*range.start())..=number.max(*range.end());
        }
        Ok(())
    }

    fn note(&mut self, record: Record) {
        match record {
            Record::GroupEnd { .. } => {}
            Record::Message(message) if message.is_keyed => self.keys.push(message.key),
            Record::Message(_) => {}
            Record::Entry { user, seq, .. } => {
                let highest = self.entries.entry(user).or_default();
                *highest = seq.max(*highest);
            }
            Record::Cursor { session, .. } => {
                self.sessions.insert(session);
            }
            Record::Register { user, .. } => {
                self.registered.insert(user);
            }
            Record::Revoke { user, platform, .. } | Record::Token { user, platform, .. } => {
                self.tokens.insert((user, platform));
            }
            Record::Delete { user, seq, .. } => self.deleted.push((user, seq)),
            Record::Head { user, .. } => {
                self.heads.insert(user);
            }
            Record::Erase {
                user,
                head,
                time_ms,
                before_ms,
            } => {
                // The record itself says the head and the revocations.
                self.heads.insert(user.clone());
                let platforms = Platform::ALL.into_iter();
                self.tokens
                    .extend(platforms.map(|platform| (user.clone(), platform)));
                let erased = ErasureRow {
                    head,
                    time_ms,
                    before_ms,
                };
                self.erased.push((user, erased));
            }
            Record::Key(key) => self.keys.push(key),
            Record::Row { table, key, .. } => {
                // The key of a record is a part of a larger read. A copy keeps its own bytes only.
                self.rows.insert((table, Bytes::copy_from_slice(&key)));
            }
        }
    }

    /// The records that carry over the facts that outlive the segment, with their present values.
    pub(super) fn carried(
        &self,
        core: &Core,
        segment: &Segment,
        limits: &RetentionLimits,
        pulse: &Pulse,
    ) -> Result<Vec<Record>, ReadError> {
        let state = &core.state;
        let mut carried = Vec::new();
        for user in self.entries.keys().chain(&self.heads) {
            pulse.beat();
            let row = state.users.get(user)?;
            if row.newest < segment.end() {
                carried.push(Record::Head {
                    user: user.clone(),
                    head: row.head,
                    first: row.head.next(),
                });
            }
        }
        let kept_since_ms = core.kept_since_ms(limits.age);
        let mut left = BTreeSet::new();
        for session in &self.sessions {
            pulse.beat();
            let Some(row) = state.cursors.get(session)? else {
                continue;
            };
            if is_forgotten(session, &row, kept_since_ms) {
                left.insert(&session.user);
                continue;
            }
            carried.push(Record::Cursor {
                session: session.clone(),
                cursor: row.cursor,
                acked_at_ms: row.acked_at_ms,
            });
        }
        for user in left {
            // A user of whom nothing but the session was known stays known.
            let row = state.users.get(user)?;
            if row.head == Seq::ZERO && !self.heads.contains(user) {
                carried.push(Record::Head {
                    user: user.clone(),
                    head: row.head,
                    first: row.first,
                });
            }
        }
        for (user, platform) in &self.tokens {
            pulse.beat();
            carried.extend(state.tokens.get(user, *platform)?.records(user, *platform));
        }
        let live_since_ms = core.kept_since_ms(limits.keys);
        carried.extend(
            self.keys
                .iter()
                .filter(|key| key.send_time_ms >= live_since_ms)
                .cloned()
                .map(Record::Key),
        );
        Ok(carried)
    }

    /// The registered users, whose profiles the log must hold again before the segment is removed.
    pub(super) fn carried_profiles(&self) -> Vec<Carried> {
        self.registered
            .iter()
            .cloned()
            .map(Carried::Profile)
            .collect()
    }

    /// The erasures that the log must hold again before the segment is removed.
    pub(super) fn carried_erasures(&self) -> Vec<Carried> {
        let users = self.erased.iter().map(|(user, _)| user.clone());
        users.map(Carried::Erasure).collect()
    }

    /// The rows that the log must hold again before the segment is removed.
    pub(super) fn carried_rows(
        &self,
        core: &Core,
        segment: &Segment,
        pulse: &Pulse,
    ) -> Result<Vec<Carried>, ReadError> {
        let mut carried = Vec::new();
        for key in self.conversations.keys().chain(&self.marked) {
            pulse.beat();
            let row = (TableId::Conversations, Bytes::copy_from_slice(key));
            let conversation = core.state.conversations.get(key)?;
            // An entry in a later segment gives the facts of a conversation, but for its mark.
            let is_leaving = conversation
                .as_ref()
                .is_some_and(|conversation| conversation.newest < segment.end());
            // The first entry with a base says where the base begins.
            let has_base = conversation.zip(self.conversations.get(key));
            let has_base = has_base.is_some_and(|(conversation, leaving)| {
                let bases = conversation.bases.all().iter();
                let mut firsts = bases.map(|base| base.after.next());
                firsts.any(|first| leaving.contains(&first))
            });
            if (is_leaving || has_base || self.marked.contains(key)) && !self.rows.contains(&row) {
                carried.push(Carried::Row(row.0, row.1));
            }
        }
        for row in &self.rows {
            pulse.beat();
            if !ends_with(core, row, segment)? {
                let (table, key) = row.clone();
                carried.push(Carried::Row(table, key));
            }
        }
        Ok(carried)
    }

    /// The records that tell which unacked messages leave with the segment.
    pub(super) fn expiries(
        &self,
        core: &Core,
        segment: &Segment,
        pulse: &Pulse,
    ) -> Result<Vec<Record>, ReadError> {
        expiry_records(core, segment, &self.entries, pulse)
    }

    /// True if the segment holds messages or read marks, and not carried facts alone.
    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Forgets the facts that end with the segment. Returns the number of expired entries that no session acked.
    pub(super) fn forget(
        &self,
        core: &Core,
        segment: &Segment,
        limits: &RetentionLimits,
        pulse: &Pulse,
    ) -> Result<ByKind<u64>, ReadError> {
        let mut expired = ByKind::default();
        for (user, highest) in &self.entries {
            pulse.beat();
            let more = core.state.expire(user, highest.next(), segment.end())?;
            expired.messages += more.messages;
            expired.marks += more.marks;
        }
        for (key, range) in &self.conversations {
            pulse.beat();
            let conversations = &core.state.conversations;
            conversations.expire(key, range.end().next(), segment.end())?;
        }
        for (user, erased) in &self.erased {
            pulse.beat();
            // The erasure of a user who is unknown was carried over.
            if !core.state.users.get(user)?.is_erased {
                core.state.erasures.forget(user, erased)?;
            }
        }
        let kept_since_ms = core.kept_since_ms(limits.age);
        for session in &self.sessions {
            pulse.beat();
            core.state.cursors.forget_silent(session, kept_since_ms)?;
        }
        self.unnumbered
            .iter()
            .for_each(|(user, seq)| core.state.conversations.forget_unnumbered(user, *seq));
        self.deleted
            .iter()
            .for_each(|(user, seq)| core.state.forget_deleted(user, *seq));
        for row in &self.rows {
            pulse.beat();
            if ends_with(core, row, segment)? {
                core.state.forget_row(row.0, &row.1);
            }
        }
        let live_since_ms = core.kept_since_ms(limits.keys);
        for key in &self.keys {
            pulse.beat();
            let Some(row) = core.state.keys.get(&key.sender, &key.client_message_id)? else {
                continue;
            };
            // A key may have been carried over already, or be in use again.
            if row.message_id != key.message_id {
                continue;
            }
            if key.send_time_ms < live_since_ms {
                core.state.keys.remove(key);
            } else if row.position < segment.end() {
                core.state.keys.put(key, Position::NONE);
            }
        }
        Ok(expired)
    }
}

/// True if a row says something about this segment or an earlier one only. A message to everyone that is not spread to its
/// end is needed further.
fn ends_with(core: &Core, row: &(TableId, Bytes), segment: &Segment) -> Result<bool, ReadError> {
    let (table, key) = row;
    // A conversation's facts are kept for ever, and not among these rows.
    if *table == TableId::Conversations {
        return Ok(false);
    }
    let Some(value) = core.state.row(*table, key)? else {
        return Ok(true);
    };
    Ok(match table {
        TableId::Spreads => {
            let spread = SpreadRow::read(value)?;
            spread.is_done() && spread.message() < segment.end()
        }
        TableId::Pieces => read_piece(&value)? < segment.end(),
        _ => false,
    })
}
