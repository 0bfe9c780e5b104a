//! One entry of an inbox: its record, its numbers, its content, and its deletion. Finds the message of each entry.

use std::sync::Arc;

use super::{
    Damage, Patience, ReadError,
    core::Core,
    entry_fields::{EntryFields, MARKS, MESSAGE},
    message_facts::MessageFacts,
    record::{MessageRecord, Position, Record},
    segment::Segment,
};
use crate::{
    ids::{ConversationSeq, Seq, UserId},
    message::{Content, Entry},
};

/// An entry as its record has it.
pub(super) struct Link {
    pub(super) seq: Seq,
    /// The user's entry before it.
    pub(super) previous: Position,
    pub(super) message: Position,
    pub(super) fields: EntryFields,
}

impl Core {
    /// Reads the link at a position. Another seq or user there is damage.
    pub(super) fn link_of(
        &self,
        user: &UserId,
        (seq, at): (Seq, Position),
        patience: Patience,
    ) -> Result<Link, ReadError> {
        let link = self.link(user, at, patience)?;
        if link.seq != seq {
            return Err(self.misplaced(at));
        }
        Ok(link)
    }

    /// Reads the link at a position. Another user there is damage.
    pub(super) fn link(
        &self,
        user: &UserId,
        at: Position,
        patience: Patience,
    ) -> Result<Link, ReadError> {
        match self.record(at, patience)?.1 {
            Record::Entry {
                user: owner,
                seq,
                previous,
                message,
                fields,
            } if owner == *user => Ok(Link {
                seq,
                previous,
                message,
                fields,
            }),
            _ => Err(self.misplaced(at)),
        }
    }

    /// The damage at a position that holds another record than the expected entry.
    pub(super) fn misplaced(&self, at: Position) -> ReadError {
        let what = "another record stands where an entry was written";
        let Some(segment) = self.segments.holding(at) else {
            return no_segment(at).into();
        };
        segment.damage_at(at, what).into()
    }

    /// The entry at a link: its places and its content. `has_deleted`: the user may have removed or cleared messages.
    pub(super) fn resolve(
        &self,
        user: &UserId,
        has_deleted: bool,
        link: &Link,
        patience: Patience,
    ) -> Result<Entry, ReadError> {
        let message = || self.message_patiently(link.message, patience);
        let is_deleted = has_deleted && self.state.is_deleted(user, link.seq)?;
        let stored = match link.fields.kind {
            MESSAGE | MARKS if !is_deleted => Some(message()?),
            _ => None,
        };
        // Without a message there is no send time to be ahead of.
        let send_time_ms = stored
            .as_ref()
            .map_or(u64::MAX, |stored| stored.key.send_time_ms);
        let mut numbers = link.fields.numbers(link.seq, send_time_ms);
        let key = || Ok(MessageFacts::of(&message()?).conversation_key(user));
        (numbers.conversation_seq, _) = self.place(user, link, key)?;
        if numbers.conversation_seq.0 > link.fields.conversation_seq {
            let row = self.state.conversations.get(&key()?)?;
            numbers.base = row.map_or(0, |row| row.bases.of(numbers.conversation_seq));
        }
        let content = match stored {
            Some(stored) if link.fields.kind == MARKS => Content::Marks(stored.body),
            Some(stored)
                if !(has_deleted
                    && self.is_cleared(user, numbers.conversation_seq, &stored)?) =>
            {
                Content::Message(stored.body)
            }
            _ => Content::Removed,
        };
        Ok(Entry { numbers, content })
    }

    /// True if the user has cleared the conversation with this message in it.
    fn is_cleared(
        &self,
        user: &UserId,
        number: ConversationSeq,
        message: &MessageRecord,
    ) -> Result<bool, ReadError> {
        if number == ConversationSeq::ZERO {
            return Ok(false);
        }
        let key = MessageFacts::of(message).conversation_key(user);
        let conversation = self.state.conversations.get(&key)?;
        Ok(conversation.is_some_and(|row| number <= row.settings.cleared))
    }

    /// The place of an entry in its conversation: the conversation seq, and the position of the conversation's entry before it.
    /// `key` is called for the key of the conversation, if it is needed.
    pub(super) fn place(
        &self,
        user: &UserId,
        link: &Link,
        key: impl FnOnce() -> Result<Vec<u8>, ReadError>,
    ) -> Result<(ConversationSeq, Position), ReadError> {
        let fields = &link.fields;
        if fields.kind != MESSAGE || fields.conversation_seq > 0 || !self.has_conversations() {
            let previous = Position(fields.conversation_previous);
            return Ok((ConversationSeq(fields.conversation_seq), previous));
        }
        let place = self.state.conversations.place_of(user, link.seq, key)?;
        Ok(place.unwrap_or((ConversationSeq::ZERO, Position::NONE)))
    }

    /// The record of the message at a position.
    pub(super) fn message_at(&self, at: Position) -> Result<MessageRecord, ReadError> {
        self.message_patiently(at, Patience::Disk)
    }

    fn message_patiently(
        &self,
        at: Position,
        patience: Patience,
    ) -> Result<MessageRecord, ReadError> {
        match self.record(at, patience)? {
            (_, Record::Message(message)) => Ok(message),
            (segment, _) => Err(segment
                .damage_at(at, "no message stands where an entry points")
                .into()),
        }
    }

    /// The record that deletes the message of a retained entry. Read marks are not deleted.
    pub(super) fn deletion(&self, user: &UserId, seq: Seq) -> Option<Record> {
        let deletion = |place| Record::Delete {
            user: user.clone(),
            seq,
            place,
        };
        let link = self.find_link(user, seq);
        // An entry that cannot be read is deleted all the same. Its conversation is not known, so it still counts as unread there.
        let Ok(link) = link.inspect_err(|error| self.report_damage(error)) else {
            return Some(deletion(None));
        };
        if link.fields.kind == MARKS {
            return None;
        }
        let place = self.message_at(link.message).and_then(|message| {
            let facts = MessageFacts::of(&message);
            let (number, _) = self.place(user, &link, || Ok(facts.conversation_key(user)))?;
            let id = facts.origin.conversation_id(user.as_str());
            Ok((number, id.into_boxed_str()))
        });
        let place = place
            .ok()
            .filter(|(number, _)| *number > ConversationSeq::ZERO);
        Some(deletion(place))
    }

    /// Walks to the entry with this seq.
    fn find_link(&self, user: &UserId, seq: Seq) -> Result<Link, ReadError> {
        let row = self.state.users.get(user)?;
        let mut at = self.state.users.landmark(user, &row, seq)?;
        loop {
            let link = self.link_of(user, at, Patience::Disk)?;
            if link.seq == seq {
                return Ok(link);
            }
            at = (link.seq.previous(), link.previous);
        }
    }

    fn record(
        &self,
        at: Position,
        patience: Patience,
    ) -> Result<(Arc<Segment>, Record), ReadError> {
        let segment = self.segments.holding(at).ok_or_else(|| no_segment(at))?;
        let (_, record) = segment.record_at(at, patience)?;
        Ok((segment, record))
    }
}

fn no_segment(at: Position) -> Damage {
    Damage {
        segment: Segment::name_of(at),
        offset: 0,
        what: "no segment holds this position",
    }
}

/// Finds the message of each entry while records are read one after the other. Most entries follow their message.
#[derive(Default)]
pub(super) struct MessageLookup {
    last: Option<(Position, MessageFacts)>,
}

impl MessageLookup {
    /// Remembers the message of a record.
    pub(super) fn note(&mut self, record: &Record, at: Position) {
        if let Record::Message(message) = record {
            self.last = Some((at, MessageFacts::of(message)));
        }
    }

    /// The facts of the message at `position`. It is read if it is not the last one; `None` if it cannot be read.
    pub(super) fn get(&mut self, core: &Core, position: Position) -> Option<&MessageFacts> {
        if self.last.as_ref().is_none_or(|(at, _)| *at != position) {
            let message = core.message_at(position).ok()?;
            self.last = Some((position, MessageFacts::of(&message)));
        }
        self.last.as_ref().map(|(_, facts)| facts)
    }
}
