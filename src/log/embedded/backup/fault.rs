//! The failures of a backup.

use std::{io, path::PathBuf};

use crate::log::embedded::{ReadError, Refusing};

/// The reason for which a backup was not made.
#[derive(Debug, thiserror::Error)]
pub(in crate::log::embedded) enum BackupFault {
    /// The path depends on the directory in which the gateway was started.
    #[error("{} is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// Both directories would be lost together, or the backup would copy itself.
    #[error("{} and the data directory lie within each other: choose a directory apart from it", .0.display())]
    WithinData(PathBuf),
    /// The destination is a file.
    #[error("{} is not a directory", .0.display())]
    NoDirectory(PathBuf),
    /// The directory belongs to another user of the machine.
    #[error("{} does not belong to the user of the gateway", .0.display())]
    Foreign(PathBuf),
    /// Other users of the machine may look into the directory.
    #[error(
        "{} has mode {mode:o}: it will hold the messages of all users, so chmod 700 it", path.display()
    )]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory holds something that is no backup.
    #[error("the directory holds {0:?}, which belongs to no backup: choose an empty directory")]
    NotEmpty(String),
    /// The backup in the directory is of another log, or of this log before it got a new epoch.
    #[error(
        "the directory holds a backup of another log, or of an earlier epoch of this one ({0:016x}): choose an empty directory"
    )]
    OtherLog(u64),
    /// The log was put back to an earlier state without a new epoch.
    #[error(
        "the backup in the directory reaches further than this log, so this log is an older copy: stop the gateway and run \
         `towncrier log new-epoch`"
    )]
    Ahead,
    /// The list of the earlier backup's files is not whole.
    #[error("the file \"manifest\" in the directory is damaged: choose an empty directory")]
    Manifest,
    /// A later version made the earlier backup.
    #[error("a later version made the backup in the directory: choose an empty directory")]
    LaterManifest,
    /// The copy would fill the disk.
    #[error(
        "the disk of the backup has too little space: {needed} bytes more are needed, {free} are free, and {kept} stay free"
    )]
    NoSpace {
        /// The bytes that are still to be copied.
        needed: u64,
        /// The bytes that can be written.
        free: u64,
        /// The bytes that must stay free.
        kept: u64,
    },
    /// The log itself is not whole. A copy of it would not be a backup.
    #[error("the log cannot be backed up: {0}")]
    Log(#[from] ReadError),
    /// The log refuses appends for a reason that only a restart ends.
    #[error("the log cannot be backed up: {0}")]
    Refusing(#[from] Refusing),
    /// A segment of the log is shorter than the log says.
    #[error("segment {0} of the log is cut short")]
    SourceShort(String),
    /// The disk of the backup does not give the bytes back that were written to it.
    #[error("{0} of the backup does not read as it was written: look at its disk")]
    ReadBack(String),
    /// The operating system reported an error.
    #[error("{file}: {error}")]
    Io {
        /// The file or directory of the backup, or a segment of the log.
        file: String,
        /// The operating system's error.
        error: io::Error,
    },
    /// The keeper of the log does not answer.
    #[error("the log gave no position to cut at in time")]
    NoCut,
    /// The gateway goes down.
    #[error("the gateway is shutting down")]
    Stopped,
}

impl BackupFault {
    /// True if the destination itself is refused. Nothing was changed in it then.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Relative(_)
                | Self::WithinData(_)
                | Self::NoDirectory(_)
                | Self::Foreign(_)
                | Self::TooOpen { .. }
                | Self::NotEmpty(_)
                | Self::OtherLog(_)
                | Self::Ahead
                | Self::Manifest
                | Self::LaterManifest
        )
    }

    /// Names the file with which the operating system's error came.
    pub(super) fn at(file: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_string();
        move |error| Self::Io { file, error }
    }
}
