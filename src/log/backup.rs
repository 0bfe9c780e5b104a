//! Backups, in words that hold for any log: the state of one, and the reasons for which none begins.

use std::{path::Path, sync::Arc};

/// The progress of a backup, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupState {
    /// The backup is being made. Ask again.
    Running {
        /// The bytes that are in the destination and checked.
        done_bytes: u64,
        /// The bytes of the whole backup; 0 while its extent is not known.
        all_bytes: u64,
    },
    /// The destination holds the backup, durable and checked.
    Done(BackupReport),
    /// The destination cannot take the backup. Nothing was changed in it. The text says why.
    Refused(Arc<str>),
    /// The backup could not be completed. The destination holds the backup before it. The text says why.
    Failed(Arc<str>),
}

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The epoch of the log.
    pub epoch: u64,
    /// The end of the part of the log that the backup holds. Every message accepted before the backup began is before it.
    pub position: u64,
    /// The time at which that end was taken, Unix ms.
    pub taken_ms: u64,
    /// The files with messages.
    pub segments: usize,
    /// The bytes of these files that count.
    pub bytes: u64,
    /// The bytes that the earlier backups in the destination did not have.
    pub copied_bytes: u64,
    /// The duration of the backup, in ms.
    pub took_ms: u64,
}

/// The reason for which no backup begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Another backup is being made. Ask again when it has ended.
    #[error("a backup into {} is being made: ask again later", .0.display())]
    Busy(Arc<Path>),
    /// The gateway does not back this log up. The text names the way to do it.
    #[error("{0}")]
    Elsewhere(&'static str),
    /// The gateway is going down.
    #[error("the gateway is shutting down")]
    Closed,
    /// The operating system gives no thread.
    #[error("no thread can be started: {0}")]
    Thread(std::io::ErrorKind),
}
