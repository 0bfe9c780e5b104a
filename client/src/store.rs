//! The place where messages land. A store moves its cursor in the same step in which it stores a message, so the two never
//! disagree.
//!
//! An application uses [`DiskStore`](crate::DiskStore). [`MemoryStore`] keeps only the position, for programs that hold
//! very many sessions and need nothing after their own end.

use std::path::PathBuf;

use crate::{
    conversation::{ConversationRecord, Knowledge, KnownConversation},
    landing::StorePosition,
    proto::Message,
};

/// Why a store cannot continue. The client ends, because no message can land without its store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("{} is in use by another process: one listener per store", .0.display())]
    InUse(PathBuf),
    /// The file cannot be opened or created.
    #[error("{}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The database's error.
        error: Box<redb::Error>,
    },
    /// Reading or writing failed.
    #[error("the local store failed: {0}")]
    Failed(#[from] Box<redb::Error>),
    /// A stored message does not decode.
    #[error("the local store holds no message at epoch {epoch} seq {seq} that can be read")]
    Unreadable {
        /// The epoch of its log.
        epoch: u64,
        /// Its seq.
        seq: u64,
    },
    /// A stored conversation does not decode.
    #[error("the local store holds a conversation that cannot be read")]
    UnreadableConversation,
}

/// A store in which messages land. A method returns when its change is durable, as far as the store promises durability at
/// all. Each change is one transaction: all or nothing.
///
/// A store that keeps no conversations leaves out the methods for them. The client then asks the gateway for them each time
/// it starts.
pub trait Store {
    /// The position of landing.
    fn position(&self) -> Result<StorePosition, StoreError>;

    /// The conversations, and how much is known of them at the position of landing. A store from a client that knew no
    /// conversations has none, and knowledge of it is partial.
    fn conversations(&self) -> Result<(Knowledge, Vec<KnownConversation>), StoreError> {
        Ok((Knowledge::Partial, Vec::new()))
    }

    /// Stores `messages` (ascending, of one log), moves to `position`, and records the conversations. The entries up to the
    /// position that are no messages hold read marks; the record has their outcome.
    /// Returns the messages that were not there before: a log that returns after another one brings messages again.
    fn land(
        &mut self,
        position: StorePosition,
        messages: Vec<Message>,
        record: &ConversationRecord,
    ) -> Result<Vec<Message>, StoreError>;

    /// Moves the position without a message: after a gap, at the first connect, to another log.
    fn move_to(
        &mut self,
        position: StorePosition,
        record: &ConversationRecord,
    ) -> Result<(), StoreError>;

    /// Records the conversations, and moves nothing.
    fn record(&mut self, _: &ConversationRecord) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A store that keeps only the position. The receiver of the event decides what happens to a message.
#[derive(Debug, Default)]
pub struct MemoryStore {
    position: StorePosition,
}

impl Store for MemoryStore {
    fn position(&self) -> Result<StorePosition, StoreError> {
        Ok(self.position)
    }

    fn land(
        &mut self,
        position: StorePosition,
        messages: Vec<Message>,
        _: &ConversationRecord,
    ) -> Result<Vec<Message>, StoreError> {
        self.position = position;
        Ok(messages)
    }

    fn move_to(
        &mut self,
        position: StorePosition,
        _: &ConversationRecord,
    ) -> Result<(), StoreError> {
        self.position = position;
        Ok(())
    }
}
