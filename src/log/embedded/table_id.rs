//! The tables of rows: the facts besides messages, sessions and keys that the log keeps.
//!
//! A row is a key with a value. One kind of record writes or removes a row of any table, the state store keeps the present
//! rows, and retention carries them over. So a new table needs no new code here except its number. Numbers are final. A table whose rows
//! only grow may merge them instead, as [`TableId::Conversations`] does. [`TableId::Settings`] stand in the rows of conversations.
//!
//! This version writes [`TableId::Numbers`], [`TableId::Spreads`], [`TableId::Pieces`], [`TableId::Conversations`] and
//! [`TableId::Settings`], and the tables of [`RowTable`] for the rooms above the log. The other tables are reserved:
//! their numbers and keys stand here so that this version keeps such rows, when a later version has written them.
//!
//! A version that meets a table without a number here does not start. It would lose the table's rows with their segments.

use bytes::Bytes;

use super::RowTable;

/// A table, by its number in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum TableId {
    /// Users by their number: number u64, big endian → user. A user gets the next number at the first appearance.
    Numbers = 1,
    /// Messages to everyone: message id → how far the message is spread.
    Spreads = 2,
    /// Pieces of such messages: message id, piece u32, big endian → position of the piece's first entry.
    Pieces = 3,
    /// A user's conversations: user `\0` conversation id → head, last time, last seq, read mark.
    Conversations = 4,
    /// Not used. A row of [`TableId::Conversations`] has the read mark.
    Marks = 5,
    /// Devices for vendor push. The rooms above the log make the keys and the values, also of the next two tables.
    Devices = 6,
    /// A user's settings: user `\0` conversation id → pinned, do-not-disturb, cleared.
    Settings = 7,
    /// A sender's profile, from the sender's newest message: user → name, picture.
    Profiles = 8,
    /// Vendor push that is due.
    PushTasks = 9,
    /// Readers of the feed of commits.
    Consumers = 10,
}

impl TableId {
    /// The table with this number; `None` for a table of a later version.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Numbers,
            2 => Self::Spreads,
            3 => Self::Pieces,
            4 => Self::Conversations,
            5 => Self::Marks,
            6 => Self::Devices,
            7 => Self::Settings,
            8 => Self::Profiles,
            9 => Self::PushTasks,
            10 => Self::Consumers,
            _ => return None,
        })
    }
}

impl From<RowTable> for TableId {
    fn from(table: RowTable) -> Self {
        match table {
            RowTable::Devices => Self::Devices,
            RowTable::PushTasks => Self::PushTasks,
            RowTable::Consumers => Self::Consumers,
        }
    }
}

/// The key of a row of [`TableId::Numbers`].
pub(super) fn number_key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_one_number() {
        let known =
            (0..=u8::MAX).filter_map(|number| Some((TableId::from_number(number)?, number)));
        let known: Vec<_> = known.collect();
        assert_eq!(known.len(), 10);
        for (table, number) in known {
            assert_eq!(table as u8, number);
        }
    }
}
