//! A user's conversations: how far each is numbered, retained and read.
//!
//! Each entry of a message holds its conversation seq, and the position of the conversation's entry before it. So a conversation
//! is a chain of its own, with waypoints of its own, as an inbox is.
//!
//! Entries of an earlier version have no conversation seq. They are numbered as they are read into the state, in the order of
//! the inbox, and count as read. The number depends on the entries that are still retained, so it is *provisional* until a record
//! says how many there were: the row that the keeper then writes into the segments, or the next numbered entry. The *shift* of a
//! conversation is the final number of an entry minus its provisional one.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    super::{
        entry_fields::EntryFields,
        message_facts::{MessageFacts, conversation_key},
        record::Position,
    },
    StateError,
    conversation_row::ConversationRow,
    keys::{self, WAYPOINT_EVERY},
    settings::settings_of,
    store::StateStore,
    table::Table,
    unnumbered::UnnumberedRow,
};
use crate::{
    ids::{ConversationSeq, Seq, UserId},
    log::Conversation,
    message::EpochBase,
};

/// All conversations, the waypoints into their chains, and the places of entries without a number.
pub(in crate::log::embedded) struct Conversations {
    pub(super) rows: Table<ConversationRow>,
    pub(super) waypoints: Table<Position>,
    pub(super) unnumbered: Table<UnnumberedRow>,
    /// Conversations whose numbers follow from entries without a number alone. The keeper writes their rows into the segments.
    unrecorded: Mutex<BTreeSet<Box<[u8]>>>,
}

impl Conversations {
    pub(super) fn open(store: &dyn StateStore) -> Result<Self, StateError> {
        Ok(Self {
            rows: Table::open_sorted(store, "conversations")?,
            waypoints: Table::open(store, "conversation_waypoints")?,
            unnumbered: Table::open(store, "unnumbered")?,
            unrecorded: Mutex::default(),
        })
    }

    /// The row with this key, see [`conversation_key`].
    pub(in crate::log::embedded) fn get(
        &self,
        key: &[u8],
    ) -> Result<Option<ConversationRow>, StateError> {
        self.rows.get(key)
    }

    /// All conversations of a user. `base`: of the messages that are stored now.
    pub(in crate::log::embedded) fn of(
        &self,
        user: &UserId,
        base: u32,
    ) -> Result<Vec<Conversation>, StateError> {
        let prefix = keys::prefix(user);
        let (mut conversations, mut is_readable) = (Vec::new(), true);
        self.rows.visit(&prefix, |key, row| {
            match std::str::from_utf8(&key[prefix.len()..]) {
                Ok(id) => conversations.push(row.conversation(id, base)),
                Err(_) => is_readable = false,
            }
        })?;
        is_readable
            .then_some(conversations)
            .ok_or(StateError::Undecodable)
    }

    /// Adds the entry of a message. Replaying an old one changes nothing.
    pub(super) fn add_entry(
        &self,
        user: &UserId,
        seq: Seq,
        at: Position,
        fields: &EntryFields,
        message: &MessageFacts,
    ) -> Result<(), StateError> {
        let key = message.conversation_key(user);
        let number = ConversationSeq(fields.conversation_seq);
        if number == ConversationSeq::ZERO {
            return self.add_unnumbered(user, seq, at, key, message.send_time_ms);
        }
        if number.0.is_multiple_of(WAYPOINT_EVERY) {
            self.waypoints
                .put(keys::conversation_entry(&key, number), at);
        }
        let time_ms = fields.time_ms(message.send_time_ms);
        let is_first = fields.conversation_previous == Position::NONE.0;
        let was_provisional = self.rows.update(key, |row| {
            let row = row.get_or_insert_default();
            let was_provisional = row.is_provisional;
            row.anchor(number.previous());
            if number > row.head {
                row.add(number, seq, at, time_ms);
                if fields.base > row.bases.newest() {
                    row.bases.add(EpochBase {
                        after: number.previous(),
                        base: fields.base,
                    });
                }
                // Nothing before it was retained when it was written, whatever else a replay has found.
                if is_first {
                    row.first = number;
                    row.settle_deleted();
                }
            }
            was_provisional
        })?;
        if was_provisional {
            lock(&self.unrecorded).remove(&*message.conversation_key(user));
        }
        Ok(())
    }

    fn add_unnumbered(
        &self,
        user: &UserId,
        seq: Seq,
        at: Position,
        key: Vec<u8>,
        send_time_ms: u64,
    ) -> Result<(), StateError> {
        let place = self.rows.update(key.clone(), |row| {
            let is_new = row.is_none();
            let row = row.get_or_insert_default();
            row.is_provisional |= is_new;
            if seq <= row.last_seq {
                return None;
            }
            let place = UnnumberedRow {
                number: row.head.next(),
                is_provisional: row.is_provisional,
                previous: row.newest,
            };
            let time_ms = send_time_ms.max(row.last_time_ms + 1);
            row.add(place.number, seq, at, time_ms);
            row.mark = place.number;
            row.settle_deleted();
            Some(place)
        })?;
        if let Some(place) = place {
            if place.number.0.is_multiple_of(WAYPOINT_EVERY) {
                let key = match place.is_provisional {
                    true => keys::provisional_entry(&key, place.number),
                    false => keys::conversation_entry(&key, place.number),
                };
                self.waypoints.put(key, at);
            }
            self.unnumbered.put(keys::entry(user, seq), place);
            lock(&self.unrecorded).insert(key.into());
        }
        Ok(())
    }

    /// A replay meets a user's marks. The marked messages were there; those that are not have expired since.
    pub(in crate::log::embedded) fn recall(
        &self,
        user: &UserId,
        message: &MessageFacts,
    ) -> Result<(), StateError> {
        for mark in &message.origin.marks {
            let key = conversation_key(user, &mark.conversation_id);
            let head = ConversationSeq(mark.conversation_seq);
            self.rows
                .update(key, |row| row.get_or_insert_default().raise(head))?;
        }
        Ok(())
    }

    /// Moves a user's marks forward.
    pub(super) fn mark(&self, user: &UserId, message: &MessageFacts) -> Result<(), StateError> {
        for mark in &message.origin.marks {
            let key = conversation_key(user, &mark.conversation_id);
            self.rows.update(key, |row| {
                let Some(row) = row else { return };
                let mark = ConversationSeq(mark.conversation_seq).min(row.head);
                if mark > row.mark {
                    row.mark = mark;
                    row.settle_deleted();
                }
            })?;
        }
        Ok(())
    }

    /// A message was deleted: it is not unread any more.
    pub(super) fn delete(&self, key: Vec<u8>, number: ConversationSeq) -> Result<(), StateError> {
        self.rows.update(key, |row| {
            let Some(row) = row else { return };
            if number > row.read_up_to()
                && let Err(at) = row.deleted.binary_search(&number)
            {
                row.deleted.insert(at, number);
            }
        })
    }

    /// Takes the facts that were carried over into the segments.
    pub(super) fn merge(&self, key: &[u8], facts: &[u8]) -> Result<(), StateError> {
        self.rows
            .update(key.to_vec(), |row| row.get_or_insert_default().take(facts))??;
        lock(&self.unrecorded).remove(key);
        Ok(())
    }

    /// Takes the user's settings of a conversation, as a record has them. The cleared messages had been there; those that a replay
    /// does not find have expired since. Returns true if something was cleared.
    pub(super) fn set(&self, key: &[u8], value: Option<&[u8]>) -> Result<bool, StateError> {
        let settings = settings_of(value);
        self.rows.update(key.to_vec(), |row| {
            let row = row.get_or_insert_default();
            row.settings = settings;
            if !row.is_provisional {
                row.raise(settings.cleared);
            }
            row.settle_deleted();
            settings.cleared > ConversationSeq::ZERO
        })
    }

    /// Removes everything below `first` from a conversation, because retention did.
    pub(in crate::log::embedded) fn expire(
        &self,
        key: &[u8],
        first: ConversationSeq,
        removed_before: Position,
    ) -> Result<(), StateError> {
        let (from, shift) = self.rows.update(key.to_vec(), |row| {
            let row = row.get_or_insert_default();
            let from = row.first;
            row.first = row.first.max(first);
            if row.newest < removed_before {
                row.newest = Position::NONE;
            }
            row.settle_deleted();
            (from, row.shift)
        })?;
        for shift in [0, shift] {
            let from = from
                .0
                .saturating_sub(shift)
                .next_multiple_of(WAYPOINT_EVERY);
            let first = first.0.saturating_sub(shift);
            for number in (from..first).step_by(WAYPOINT_EVERY as usize) {
                let number = ConversationSeq(number);
                self.waypoints.remove(keys::conversation_entry(key, number));
                self.waypoints.remove(keys::provisional_entry(key, number));
            }
        }
        Ok(())
    }

    /// The user's entries up to this seq are erased. The heads stay.
    pub(super) fn erase(&self, key: Vec<u8>, head: Seq) -> Result<(), StateError> {
        self.rows.update(key, |row| {
            if let Some(row) = row {
                row.erase(head);
            }
        })
    }

    /// Forgets the place of an entry without a number, because retention removed the entry.
    pub(in crate::log::embedded) fn forget_unnumbered(&self, user: &UserId, seq: Seq) {
        self.unnumbered.remove(keys::entry(user, seq));
    }

    /// The conversation seq of an entry without a number, and the conversation's entry before it. `key` is called for the key of
    /// its conversation, if the number is provisional. `None`: the entry is in no conversation.
    pub(in crate::log::embedded) fn place_of<E: From<StateError>>(
        &self,
        user: &UserId,
        seq: Seq,
        key: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Option<(ConversationSeq, Position)>, E> {
        let Some(place) = self.unnumbered.get(&keys::entry(user, seq))? else {
            return Ok(None);
        };
        let mut number = place.number;
        if place.is_provisional {
            number.0 += self.get(&key()?)?.map_or(0, |row| row.shift);
        }
        Ok(Some((number, place.previous)))
    }

    /// The start of a walk back to `number`: the nearest stored position of an entry at or above it.
    pub(in crate::log::embedded) fn landmark(
        &self,
        key: &[u8],
        row: &ConversationRow,
        number: ConversationSeq,
    ) -> Result<(ConversationSeq, Position), StateError> {
        let waypoint = ConversationSeq(number.0.next_multiple_of(WAYPOINT_EVERY));
        let provisional = number.0.saturating_sub(row.shift);
        let provisional = ConversationSeq(provisional.next_multiple_of(WAYPOINT_EVERY));
        let shifted = ConversationSeq(provisional.0 + row.shift);
        let keys = [
            (waypoint, keys::conversation_entry(key, waypoint)),
            (shifted, keys::provisional_entry(key, provisional)),
        ];
        for (waypoint, key) in keys {
            if waypoint < row.head
                && let Some(position) = self.waypoints.get(&key)?
            {
                return Ok((waypoint, position));
            }
        }
        Ok((row.head, row.newest))
    }

    /// The keys of up to `most` conversations whose rows the segments do not have.
    pub(in crate::log::embedded) fn unrecorded(&self, most: usize) -> Vec<Bytes> {
        let unrecorded = lock(&self.unrecorded);
        let keys = unrecorded.iter().take(most);
        keys.map(|key| Bytes::copy_from_slice(key)).collect()
    }

    /// True if the segments alone give every conversation its numbers.
    pub(super) fn are_recorded(&self) -> bool {
        lock(&self.unrecorded).is_empty()
    }
}

/// A panic of the lock's holder leaves the set of keys whole.
fn lock(keys: &Mutex<BTreeSet<Box<[u8]>>>) -> MutexGuard<'_, BTreeSet<Box<[u8]>>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
