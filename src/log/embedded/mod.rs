//! The embedded log: one data directory, held by this process alone.
//!
//! A commit is a group of records in a segment. The state store holds the rows that follow from the segments, and can be
//! rebuilt from them. Damage is named by segment and offset. Its bytes are never taken for data (P8).
//!
//! An append goes through `log.rs`, `writer.rs`, `group.rs` and `segment.rs`; its rows go to `state/`. A read goes through
//! `log.rs` and `reader.rs`. All files, in an order in which to read them, beginning with the stored form:
//!
//! - `record.rs`: the records, to the byte
//! - `entry_fields.rs`: the optional fields of an entry
//! - `message_facts.rs`: what an entry needs of its message
//! - `table_id.rs`: the tables of rows
//! - `segment.rs`: a file of records, and the list of these files
//! - `disk.rs`: files behind a trait, so that tests can fail and cut them
//!
//! The log as the rooms above see it:
//!
//! - `log.rs`: the implementation of [`Log`]
//! - `open.rs`: opens the directory, holds the parts together, gives each worker its thread, and closes
//! - `core.rs`: the state that the threads share
//! - `lock.rs`: a lock on a plain value
//! - `error.rs`: the failures
//!
//! Writing:
//!
//! - `queue.rs`: the requests that wait for the writer
//! - `writer.rs`: the only part that appends
//! - `group.rs`: the records of one write and one sync
//! - `settings.rs`: changes of a user's settings of conversations
//! - `erase.rs`: erasures of users; `erase_again.rs`: the list of them, for a log that is restored from an earlier backup
//! - `spread.rs`: messages to everyone, in pieces
//! - `spread_row.rs`: the rows that say how far each one is spread
//! - `state/`: the rows that follow from the records, in sled and in memory
//!
//! Reading:
//!
//! - `reader.rs`: one user's messages, in order, every byte checked
//! - `entry.rs`: one entry of an inbox, with its places and its content
//! - `conversation.rs`: one conversation's messages, and the list of a user's conversations
//! - `feed.rs`: the commits in log order, from any position
//! - `cursor_feed.rs`: the moves of sessions' cursors in log order
//! - `reads.rs`: the reads that wait for the disk
//! - `scan.rs`: a segment from end to end
//!
//! Work beside the writer:
//!
//! - `keeper.rs`: checkpoints, marks, retention, and another try on a full disk, in rounds
//! - `expiry_rows.rs`: tells which unacked messages leave with a segment
//! - `retention.rs`: removes whole segments, and first writes the facts again that must outlive them
//! - `watermark.rs`: the position up to which the log is known to be synced
//! - `time_mark.rs`: the stored time
//! - `slots.rs`: the file of two slots that holds either mark
//! - `scrub.rs`: looks for damage that no reader met yet
//!
//! The start, and an operator's look:
//!
//! - `recovery.rs`: from the files to the state in memory, after any crash
//! - `epoch.rs`: the number that names this log, with its base; `renew.rs`: a new one
//! - `backup/`: a copy of the running log, and the way back from it
//! - `inspect.rs`: the size, the damage and the records of a stopped log

mod backup;
mod conversation;
mod core;
mod cursor_feed;
mod disk;
mod entry;
mod entry_fields;
mod epoch;
mod erase;
mod erase_again;
mod error;
mod expiry_rows;
mod feed;
mod group;
pub mod inspect;
mod keeper;
mod lock;
mod log;
mod message_facts;
mod open;
mod queue;
mod reader;
mod reads;
mod record;
mod recovery;
mod renew;
mod retention;
mod scan;
mod scrub;
mod segment;
mod settings;
mod slots;
mod spread;
mod spread_row;
mod state;
mod table_id;
#[cfg(test)]
mod tests;
mod time_mark;
mod watermark;
mod writer;

pub use self::{
    backup::{RestoreError, Restored, restore, restore_and_erase},
    epoch::LogEpoch,
    erase_again::{EraseAgainError, ErasureList, ErasureListError},
    error::{Damage, Later, ReadError},
    open::{EmbeddedLog, is_in_use},
    recovery::OpenError,
    renew::{RenewError, renew as renew_epoch},
};
/// A log on other directories than those of the machine, and without threads of its own.
pub use self::{
    disk::{Disk, DiskFile, Patience},
    epoch::text as epoch_text,
    open::{Aside, Directories, Workers},
    state::{Opened, Pace, StateError, StateStore, StoreHome, Tree, Visit},
};

/// The names that every file here uses: this log's errors, and the trait's types.
use self::error::Refusing;
use super::{
    Append, AppendError, BackupError, BackupState, Cause, Commit, CommitGroup, Consumer,
    ConversationPage, ConversationRead, CursorMove, CursorPage, EXPIRIES_WANTED, EXPIRY_PREFIX,
    EXPIRY_SEGMENTS_MAX, Erasure, Expiry, FeedCommit, FeedLimit, FeedLoss, FeedPage, FeedPosition,
    Inbox, InboxRead, LISTED_MAX, Log, LogAnswer, LogError, Lookup, Pending, ReadLimit, Receipt,
    ResumePoint, RowChange, RowTable, SessionRow, TokenTimes, erasing_key,
};
