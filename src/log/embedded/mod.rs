//! The embedded log: one data directory, held by this process alone.
//!
//! A commit is a group of records in a segment. The state store holds the rows that follow from the segments, and can be
//! rebuilt from them. Damage is named by segment and offset, never skipped (P8).
//!
//! - `log.rs`: opens the directory, holds the parts together, gives each worker its thread
//! - `requests.rs`: the implementation of [`Log`]
//! - `writer.rs`: the only part that appends; `group.rs`: what it writes with one sync; `spread.rs`, `spread_row.rs`: messages
//!   to everyone, in pieces
//! - `segment.rs`, `record.rs`: the files and their records; `entry_fields.rs`: an entry's optional
//!   fields; `table_id.rs`: the tables of rows
//! - `recovery.rs`: from the files to the state in memory, after any crash
//! - `reader.rs`: one user's messages, in order, every byte checked
//! - `retention.rs`: whole segments are removed; the facts that must outlive them are written again
//! - `state/`: sled and the rows not yet in it
//! - `error.rs`: the failures; `core.rs`: the state that the threads share; `keeper.rs`: checkpoints and all other work
//!   beside the writer; `scrub.rs`: looks for damage that no reader met yet
//! - `scan.rs`: reads a segment from end to end; `epoch.rs`: the number that names this log
//! - `slots.rs`: a file of two slots, used by `watermark.rs` (the position up to which the log is known to be synced) and
//!   `time_mark.rs` (the time)
//! - `inspect.rs`: an operator's look at a stopped log; `lock.rs`: how the plain values that threads share are locked
//! - `disk.rs`, `state/store.rs`: the files and sled behind traits, so that tests can fail and cut them

mod core;
mod disk;
mod entry_fields;
mod epoch;
mod error;
mod group;
pub mod inspect;
mod keeper;
mod lock;
mod log;
mod reader;
mod record;
mod recovery;
mod requests;
mod retention;
mod scan;
mod scrub;
mod segment;
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

/// A log on other directories than those of the machine, and without threads of its own.
pub use self::{
    disk::{Disk, DiskFile, Patience},
    epoch::text as epoch_text,
    log::{Aside, Directories, Workers},
    state::{Opened, Pace, StateError, Store, StoreHome, Tree, Visit},
};
pub use self::{
    epoch::renew as renew_epoch,
    error::{Damage, Later, ReadError},
    log::{EmbeddedLog, is_in_use},
    recovery::OpenError,
};

/// The names that every file here uses: this log's errors, and the trait's types.
use self::error::Refusing;
use super::{
    Append, AppendError, Cause, Commit, Consumer, Inbox, InboxRead, LISTED_MAX, Log, LogAnswer,
    LogError, Lookup, Pending, ReadLimit, Receipt, ResumePoint, SessionRow, Stored, TokenTimes,
};
