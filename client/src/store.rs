//! The place where messages land. A store moves its cursor in the same step in which it stores a message, so the two never
//! disagree.
//!
//! An application uses [`DiskStore`](crate::DiskStore). [`MemoryStore`] keeps only the position, for programs that hold
//! very many sessions and need nothing after their own end.

use std::path::PathBuf;

use crate::{landing::StorePosition, proto::Message};

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
}

/// A store in which messages land. A method returns when its change is durable, as far as the store promises durability at
/// all.
pub trait Store {
    /// The position of landing.
    fn position(&self) -> Result<StorePosition, StoreError>;

    /// Stores `messages` (ascending, contiguous, of one log) and moves the cursor to the last of them: all or nothing.
    /// Returns the messages that were not there before: a log that returns after another one brings messages again.
    fn land(&mut self, epoch: u64, messages: Vec<Message>) -> Result<Vec<Message>, StoreError>;

    /// Moves the position without a message: after a gap, at the first connect, to another log.
    fn move_to(&mut self, position: StorePosition) -> Result<(), StoreError>;
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

    fn land(&mut self, epoch: u64, messages: Vec<Message>) -> Result<Vec<Message>, StoreError> {
        if let Some(last) = messages.last() {
            self.position = StorePosition {
                epoch,
                cursor: last.seq,
            };
        }
        Ok(messages)
    }

    fn move_to(&mut self, position: StorePosition) -> Result<(), StoreError> {
        self.position = position;
        Ok(())
    }
}
