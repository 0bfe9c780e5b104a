//! The rows of messages to everyone: how far each one is spread, and where its pieces are.

use bytes::Bytes;
use prost::Message as _;

use super::{
    record::{Position, Record},
    state::StateError,
    table_id::TableId,
};
use crate::ids::MessageId;

/// No version puts more entries into one piece.
const PIECE_MAX: u64 = 65_536;

/// The present state of a message to everyone: a row of [`TableId::Spreads`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct SpreadRow {
    /// The message is for the users with a number from 1 to this one.
    #[prost(uint64, tag = "1")]
    pub(super) highest: u64,
    /// The users with a number up to this one have their entry.
    #[prost(uint64, tag = "2")]
    pub(super) done: u64,
    /// The position of the message's newest copy.
    #[prost(uint64, tag = "3")]
    message: u64,
    /// The receivers of each piece, except the last.
    #[prost(uint64, tag = "4")]
    pub(super) piece: u64,
    /// The users with such a number who have no entry: they were erased before their turn.
    #[prost(uint64, tag = "5")]
    left_out: u64,
}

impl SpreadRow {
    /// A message that was just accepted.
    pub(super) fn new(highest: u64, message: Position, piece: u64) -> Self {
        Self {
            highest,
            done: 0,
            message: message.0,
            piece,
            left_out: 0,
        }
    }

    /// The row after this many more entries, up to the user with the number `done`.
    pub(super) fn moved(&self, done: u64, message: Position, entries: usize) -> Self {
        let left_out = (done - self.done).saturating_sub(entries as u64);
        Self {
            done,
            message: message.0,
            left_out: self.left_out + left_out,
            ..self.clone()
        }
    }

    /// Reads a row's value.
    pub(super) fn read(value: Bytes) -> Result<Self, StateError> {
        let row = Self::decode(value).ok();
        let row = row.filter(|row| (1..=PIECE_MAX).contains(&row.piece) && row.done <= row.highest);
        row.ok_or(StateError::Undecodable)
    }

    /// The number of users who have an entry, once the message is spread to its end.
    pub(super) fn receivers(&self) -> u64 {
        self.highest.saturating_sub(self.left_out)
    }

    /// The position of the message's newest copy.
    pub(super) fn message(&self) -> Position {
        Position(self.message)
    }

    /// True once every receiver has the entry.
    pub(super) fn is_done(&self) -> bool {
        self.done >= self.highest
    }

    /// The record that writes the row.
    pub(super) fn record(&self, id: MessageId) -> Record {
        Record::Row {
            table: TableId::Spreads,
            key: Bytes::copy_from_slice(&id.0),
            value: Some(self.encode_to_vec().into()),
        }
    }
}

/// The key of a piece's row in [`TableId::Pieces`], from 0.
pub(super) fn piece_key(id: MessageId, piece: u64) -> Bytes {
    [&id.0[..], &(piece as u32).to_be_bytes()].concat().into()
}

/// The piece that a key names.
pub(super) fn read_piece_key(key: &[u8]) -> Result<u64, StateError> {
    let number = key.last_chunk().copied().map(u32::from_be_bytes);
    number.map(u64::from).ok_or(StateError::Undecodable)
}

/// The record that writes the position of a piece's first entry.
pub(super) fn piece_record(id: MessageId, piece: u64, at: Position) -> Record {
    Record::Row {
        table: TableId::Pieces,
        key: piece_key(id, piece),
        value: Some(Bytes::copy_from_slice(&at.0.to_le_bytes())),
    }
}

/// The position in a piece's row.
pub(super) fn read_piece(value: &[u8]) -> Result<Position, StateError> {
    let bytes = value.try_into().map_err(|_| StateError::Undecodable)?;
    Ok(Position(u64::from_le_bytes(bytes)))
}
