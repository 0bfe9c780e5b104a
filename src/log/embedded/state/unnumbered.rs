//! The rows of entries from an earlier version, which have no conversation seq in their records.

use prost::encoding::{decode_varint, encode_varint};

use super::{super::record::Position, table::Row};
use crate::ids::ConversationSeq;

/// The place in its conversation of an entry that has no number in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnnumberedRow {
    pub(super) number: ConversationSeq,
    /// True if the conversation's shift is to be added.
    pub(super) is_provisional: bool,
    /// The conversation's entry before this one.
    pub(super) previous: Position,
}

impl Row for UnnumberedRow {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12);
        let numbers = [
            self.number.0,
            self.previous.0,
            u64::from(self.is_provisional),
        ];
        for number in numbers {
            encode_varint(number, &mut bytes);
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || decode_varint(&mut bytes).ok();
        let row = Self {
            number: ConversationSeq(number()?),
            previous: Position(number()?),
            is_provisional: number()? == 1,
        };
        bytes.is_empty().then_some(row)
    }
}
