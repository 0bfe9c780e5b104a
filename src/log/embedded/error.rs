//! The failures of the embedded log, by segment, offset and disk, and the meaning of each for the rooms above.

use super::{AppendError, Cause, LogError};

/// A position in the log at which the bytes differ from the bytes that were written (P8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment} is damaged at offset {offset}: {what}")]
pub struct Damage {
    /// File name of the segment.
    pub segment: String,
    /// Byte offset within the segment.
    pub offset: u64,
    /// The part that does not fit.
    pub what: &'static str,
}

/// A part of a segment that only a later version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Later {
    /// The whole segment has this format.
    #[error("format {0}")]
    Format(u8),
    /// A record is of this kind.
    #[error("a record of kind {0}")]
    Record(u8),
    /// A row belongs to the table with this number.
    #[error("a row of table {0}")]
    Table(u8),
}

/// The reason for which the log takes no appends although it serves reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusing {
    /// A write was refused for lack of space, or because of the process's limit of file sizes. The next append tries again.
    #[error(
        "the disk is full, or a file of the log is as large as this process may make one (ulimit -f): make room, sending resumes \
         by itself"
    )]
    DiskFull,
    /// A sync failed; what the disk holds is not known until the log is read again.
    #[error("a disk write or sync failed: check the disk, then restart the gateway")]
    SyncFailed,
    /// Damage hides the heads of inboxes.
    #[error("{0}; restore the data directory from a backup, or move it away to start a new log")]
    Damaged(Damage),
    /// The state store failed.
    #[error("the state store failed: check the disk, then restart the gateway")]
    StateFailed,
    /// The log was closed.
    #[error("the gateway is shutting down")]
    Closed,
}

/// The reason for which a read returned nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not in memory, and the caller does not wait for the disk.
    #[error("not in memory")]
    NotInMemory,
    /// The bytes differ from the bytes that were written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A later version of the gateway wrote this segment; nothing is wrong with it.
    #[error("segment {segment} has {what}, which a later version wrote: start that version")]
    Newer {
        /// File name of the segment.
        segment: String,
        /// The part that only the later version knows.
        what: Later,
    },
    /// The operating system failed the read.
    #[error("the log cannot be read: {0}")]
    Io(std::io::ErrorKind),
    /// The state store failed.
    #[error("the state store failed")]
    State,
}

impl From<Refusing> for LogError {
    fn from(refusing: Refusing) -> Self {
        let cause = match refusing {
            Refusing::DiskFull => Cause::Full,
            Refusing::SyncFailed => Cause::WriteFailed,
            Refusing::Damaged(_) => Cause::Damaged,
            Refusing::StateFailed => Cause::LookupFailed,
            Refusing::Closed => Cause::Closed,
        };
        Self::new(cause, refusing)
    }
}

impl From<ReadError> for LogError {
    fn from(error: ReadError) -> Self {
        let cause = match error {
            ReadError::Damaged(_) => Cause::Damaged,
            ReadError::State => Cause::LookupFailed,
            ReadError::NotInMemory | ReadError::Newer { .. } | ReadError::Io(_) => {
                Cause::ReadFailed
            }
        };
        Self::new(cause, error)
    }
}

impl From<Refusing> for AppendError {
    fn from(refusing: Refusing) -> Self {
        Self::Refusing(refusing.into())
    }
}

impl From<ReadError> for AppendError {
    fn from(error: ReadError) -> Self {
        Self::Read(error.into())
    }
}
