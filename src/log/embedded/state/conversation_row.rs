//! The row of a conversation of a user, and the facts of it that outlive its messages.

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{decode_varint, encode_varint},
};

use super::{
    super::record::Position,
    StateError,
    settings::{put_settings, take_settings},
    table::Row,
};
use crate::{
    ids::{ConversationSeq, Seq},
    log::Conversation,
    message::{Bases, ConversationSettings, EpochBase},
};

/// One conversation of a user. The default stands for a conversation without a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log::embedded) struct ConversationRow {
    /// Highest assigned conversation seq.
    pub(in crate::log::embedded) head: ConversationSeq,
    /// The position of the newest entry's record; [`Position::NONE`] when no entry is retained.
    pub(in crate::log::embedded) newest: Position,
    /// Oldest retained conversation seq.
    pub(in crate::log::embedded) first: ConversationSeq,
    /// The user has read everything up to this.
    pub(in crate::log::embedded) mark: ConversationSeq,
    /// The conversation time of the newest message, Unix ms.
    pub(in crate::log::embedded) last_time_ms: u64,
    /// The newest message's seq in the inbox.
    pub(in crate::log::embedded) last_seq: Seq,
    /// The retained messages above the mark that were deleted, ascending.
    pub(super) deleted: Vec<ConversationSeq>,
    /// True until a record says how many entries without a number there were.
    pub(super) is_provisional: bool,
    /// The difference between the final and the provisional numbers.
    pub(super) shift: u64,
    /// The bases of its messages.
    pub(in crate::log::embedded) bases: Bases,
    /// The user's settings.
    pub(in crate::log::embedded) settings: ConversationSettings,
}

/// The flags in a row's bytes.
const IS_PROVISIONAL: u64 = 1;
/// A shift follows.
const HAS_SHIFT: u64 = 2;
/// Bases follow: their number, and both numbers of each.
const HAS_BASES: u64 = 4;
/// Settings follow.
const HAS_SETTINGS: u64 = 8;

impl Default for ConversationRow {
    fn default() -> Self {
        Self {
            head: ConversationSeq::ZERO,
            newest: Position::NONE,
            first: ConversationSeq(1),
            mark: ConversationSeq::ZERO,
            last_time_ms: 0,
            last_seq: Seq::ZERO,
            deleted: Vec::new(),
            is_provisional: false,
            shift: 0,
            bases: Bases::default(),
            settings: ConversationSettings::default(),
        }
    }
}

impl ConversationRow {
    /// Oldest conversation seq that is retained and not cleared.
    pub(in crate::log::embedded) fn begin(&self) -> ConversationSeq {
        self.first.max(self.settings.cleared.next())
    }

    /// No message up to this is unread.
    pub(super) fn read_up_to(&self) -> ConversationSeq {
        self.mark.max(self.begin().previous())
    }

    /// True until a record says how the entries are numbered.
    pub(in crate::log::embedded) fn is_provisional(&self) -> bool {
        self.is_provisional
    }

    /// The conversation with this id, as the rooms above see it. `base`: of the messages that are stored now.
    pub(in crate::log::embedded) fn conversation(&self, id: &str, base: u32) -> Conversation {
        let above = self.head.0.saturating_sub(self.read_up_to().0);
        Conversation {
            id: id.into(),
            head: self.head,
            first: self.begin(),
            mark: self.mark,
            unread: above.saturating_sub(self.deleted.len() as u64),
            last_time_ms: self.last_time_ms,
            last_seq: self.last_seq,
            bases: self.bases.clone().then(EpochBase {
                after: self.head,
                base,
            }),
            settings: self.settings,
        }
    }

    /// The facts that a record in the segments carries over.
    pub(in crate::log::embedded) fn facts(&self) -> Bytes {
        let facts = ConversationFacts {
            head: self.head.0,
            last_time_ms: self.last_time_ms,
            last_seq: self.last_seq.0,
            mark: self.mark.0,
            bases: self.bases.all().iter().map(BaseFacts::of).collect(),
        };
        facts.encode_to_vec().into()
    }

    /// Takes the facts that were carried over into the segments.
    pub(super) fn take(&mut self, facts: &[u8]) -> Result<(), StateError> {
        let facts = ConversationFacts::decode(facts).map_err(|_| StateError::Undecodable)?;
        let head = ConversationSeq(facts.head);
        self.anchor(head);
        self.raise(head);
        if head == self.head && self.newest == Position::NONE {
            self.last_time_ms = facts.last_time_ms;
            self.last_seq = Seq(facts.last_seq);
        }
        self.mark = self.mark.max(ConversationSeq(facts.mark).min(self.head));
        self.settle_deleted();
        for base in facts.bases {
            self.bases.add(EpochBase {
                after: ConversationSeq(base.after),
                base: base.base,
            });
        }
        Ok(())
    }

    /// Makes provisional numbers final. `head` is the final number of the newest entry.
    pub(super) fn anchor(&mut self, head: ConversationSeq) {
        if self.is_provisional {
            self.is_provisional = false;
            self.shift = head.0.saturating_sub(self.head.0);
            for number in [&mut self.head, &mut self.first, &mut self.mark] {
                number.0 += self.shift;
            }
        }
    }

    /// Takes a new message.
    pub(super) fn add(&mut self, number: ConversationSeq, seq: Seq, at: Position, time_ms: u64) {
        if self.newest == Position::NONE {
            self.first = number;
        }
        self.head = number;
        self.newest = at;
        self.last_time_ms = time_ms;
        self.last_seq = seq;
    }

    /// The messages up to this are not retained. Their number may not have been known.
    pub(super) fn raise(&mut self, head: ConversationSeq) {
        if head > self.head {
            self.head = head;
            self.newest = Position::NONE;
            self.first = head.next();
        }
    }

    /// The user's entries up to this seq are erased. A newer message says that this happened before. Without a last seq a conversation
    /// is in no list.
    pub(super) fn erase(&mut self, head: Seq) {
        if self.last_seq <= head {
            self.first = self.head.next();
            self.newest = Position::NONE;
            self.mark = ConversationSeq::ZERO;
            (self.last_time_ms, self.last_seq) = (0, Seq::ZERO);
        }
        self.settings = ConversationSettings::default();
        self.settle_deleted();
    }

    /// Forgets deleted messages that are not unread any more.
    pub(super) fn settle_deleted(&mut self) {
        let read = self.read_up_to();
        self.deleted.retain(|deleted| *deleted > read);
    }
}

impl Row for ConversationRow {
    /// Varints keep the value small, see [`super::UserRow`].
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(22);
        let bases = self.bases.all();
        let has_settings = self.settings != ConversationSettings::default();
        let flags = [
            (self.is_provisional, IS_PROVISIONAL),
            (self.shift > 0, HAS_SHIFT),
            (!bases.is_empty(), HAS_BASES),
            (has_settings, HAS_SETTINGS),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let flags = flags.map(|(_, flag)| flag).sum();
        let numbers = [
            self.head.0,
            self.newest.0,
            self.first.0,
            self.mark.0,
            self.last_time_ms,
            self.last_seq.0,
            flags,
        ];
        let shift = (self.shift > 0).then_some(self.shift);
        let count = (!bases.is_empty()).then_some(bases.len() as u64);
        let bases = bases
            .iter()
            .flat_map(|base| [base.after.0, base.base.into()]);
        let numbers = numbers.into_iter().chain(shift).chain(count).chain(bases);
        for number in numbers {
            encode_varint(number, &mut bytes);
        }
        if has_settings {
            put_settings(self.settings, &mut bytes);
        }
        for deleted in &self.deleted {
            encode_varint(deleted.0, &mut bytes);
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || decode_varint(&mut bytes).ok();
        let mut row = Self {
            head: ConversationSeq(number()?),
            newest: Position(number()?),
            first: ConversationSeq(number()?),
            mark: ConversationSeq(number()?),
            last_time_ms: number()?,
            last_seq: Seq(number()?),
            ..Self::default()
        };
        let flags = number()?;
        row.is_provisional = flags & IS_PROVISIONAL > 0;
        if flags & HAS_SHIFT > 0 {
            row.shift = number()?;
        }
        if flags & HAS_BASES > 0 {
            for _ in 0..number()? {
                row.bases.add(EpochBase {
                    after: ConversationSeq(number()?),
                    base: number()?.try_into().ok()?,
                });
            }
        }
        if flags & HAS_SETTINGS > 0 {
            row.settings = take_settings(&mut bytes)?;
        }
        while !bytes.is_empty() {
            row.deleted
                .push(ConversationSeq(decode_varint(&mut bytes).ok()?));
        }
        Some(row)
    }
}

/// The value of a row of [`TableId::Conversations`](super::super::table_id::TableId::Conversations) in the segments: the facts
/// that outlive a conversation's messages.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ConversationFacts {
    #[prost(uint64, tag = "1")]
    head: u64,
    #[prost(uint64, tag = "2")]
    last_time_ms: u64,
    #[prost(uint64, tag = "3")]
    last_seq: u64,
    #[prost(uint64, tag = "4")]
    mark: u64,
    /// Absent while the log has had one epoch.
    #[prost(message, repeated, tag = "5")]
    bases: Vec<BaseFacts>,
}

/// A base of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct BaseFacts {
    #[prost(uint64, tag = "1")]
    after: u64,
    #[prost(uint32, tag = "2")]
    base: u32,
}

impl BaseFacts {
    fn of(base: &EpochBase) -> Self {
        Self {
            after: base.after.0,
            base: base.base,
        }
    }
}

/// The highest base in the value of a row in the segments; 0 if there is none.
pub(in crate::log::embedded) fn newest_base(facts: &[u8]) -> u32 {
    let facts = ConversationFacts::decode(facts).unwrap_or_default();
    let bases = facts.bases.iter().map(|base| base.base);
    bases.max().unwrap_or_default()
}
