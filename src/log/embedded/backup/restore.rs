//! From a backup to a data directory with a new epoch.
//!
//! The segments are copied into a folder of another name. It gets its own name last, when every byte was checked and the new epoch
//! is durable. A gateway does not start on a directory with such a folder, and the next restore into it begins anew.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use super::{
    destination::FOLDER,
    manifest::{ListedFile, MANIFEST, Manifest, NoManifest},
    pieces::{CopyFault, copy},
};
use crate::{
    config::{SECRETS_FILE, WEBPUSH_KEY_FILE},
    log::embedded::{
        Damage, EraseAgainError, OpenError, ReadError, RenewError,
        disk::{Disk, RealDisk},
        epoch::{self, LogEpoch},
        inspect::inspect_segments,
        open::{ERASING, LOCK, RESTORING, SEGMENTS, STATE, STATE_ASIDE, lock_directory},
        renew::next_base,
        segment::Segment,
        time_mark,
        watermark::Watermark,
    },
};

/// The files and folders that an opened log has in its directory, but for its epoch.
const OF_A_LOG: [&str; 4] = [SEGMENTS, STATE, STATE_ASIDE, time_mark::NAME];

/// The reason for which a backup was not restored. The data directory has no log then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no backup in the directory.
    #[error("{0} holds no backup: it has no file \"manifest\"")]
    NoBackup(String),
    /// A later version made the backup.
    #[error("a later version made the backup in {0}: restore it with that version")]
    Later(String),
    /// A file of the backup differs from what was written. No other file can replace it.
    #[error("{file} of the backup in {dir} is damaged: {what}")]
    Damaged {
        /// The directory of the backup.
        dir: String,
        /// The file in it.
        file: String,
        /// The part that does not fit.
        what: &'static str,
    },
    /// The files are whole, and what they hold is no log.
    #[error("the backup holds no whole log: {0}")]
    NoLog(Damage),
    /// The records cannot be read.
    #[error("the backup holds no whole log: {0}")]
    Read(#[from] ReadError),
    /// The place is in use.
    #[error("{dir} is not empty: it holds {name:?}. Move it away, or choose another log.dir")]
    NotEmpty {
        /// The data directory.
        dir: String,
        /// A file or folder in it.
        name: String,
    },
    /// A gateway holds the place, or it cannot be locked.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The erasures of the list were not made.
    #[error(
        "the list of erasures: {0}. No gateway starts on the directory until a restore into it is complete"
    )]
    Erase(#[from] EraseAgainError),
    /// There is no room.
    #[error("{dir} has too little space: {needed} bytes are needed, {free} are free")]
    NoSpace {
        /// The data directory.
        dir: String,
        /// The bytes of the backup.
        needed: u64,
        /// The bytes that can be written.
        free: u64,
    },
    /// There is no base for the new epoch.
    #[error(transparent)]
    Renew(#[from] RenewError),
    /// The operating system reported an error.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// The operating system's error.
        error: io::Error,
    },
}

/// A restored log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The new epoch.
    pub epoch: LogEpoch,
    /// The time of the backup, Unix ms.
    pub taken_ms: u64,
    /// The files with messages, and their bytes.
    pub segments: usize,
    /// The bytes of these files.
    pub bytes: u64,
    /// The messages in them, each counted once.
    pub messages: u64,
    /// The time of the newest of them, Unix ms.
    pub newest_ms: u64,
}

/// Restores the backup in `source` to the data directory `data`, which must hold no log. Secrets and keys in it may stay.
pub fn restore(source: &Path, data: &Path, now_ms: u64) -> Result<Restored, RestoreError> {
    bring_back(source, data, now_ms, false)
}

/// The same. `then_erases`: the log keeps gateways from starting until the caller removes the file [`ERASING`].
pub(super) fn bring_back(
    source: &Path,
    data: &Path,
    now_ms: u64,
    then_erases: bool,
) -> Result<Restored, RestoreError> {
    let manifest = read_manifest(source)?;
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error| RestoreError::Io { path, error }
    };
    let mut directory = DirBuilder::new();
    directory.recursive(true).mode(0o700);
    directory.create(data).map_err(at(data))?;
    let _lock = lock_directory(data)?;
    check_empty(data)?;
    let root = RealDisk::open(data).map_err(at(data))?;
    let erasing = data.join(ERASING);
    if erasing.exists() {
        remove_unerased(data).map_err(at(data))?;
    }
    let restoring = data.join(RESTORING);
    if restoring.exists() {
        fs::remove_dir_all(&restoring).map_err(at(&restoring))?;
    }
    let free = root.free_bytes().map_err(at(data))?;
    if free < manifest.bytes() {
        return Err(RestoreError::NoSpace {
            dir: data.display().to_string(),
            needed: manifest.bytes(),
            free,
        });
    }
    let mut directory = DirBuilder::new();
    directory
        .mode(0o700)
        .create(&restoring)
        .map_err(at(&restoring))?;
    let disk = RealDisk::open(&restoring).map_err(at(&restoring))?;
    let kept = RealDisk::reading(&source.join(FOLDER));
    for file in &manifest.files {
        bring(source, &kept, &disk, *file)?;
    }
    let (epoch, messages, newest_ms) = conclude(&manifest, &disk, now_ms)?;
    disk.sync_names().map_err(at(&restoring))?;
    let marked = match then_erases {
        true => root.create(ERASING).and_then(|file| file.sync()),
        false if erasing.exists() => root.remove(ERASING),
        false => Ok(()),
    };
    marked
        .and_then(|()| root.sync_names())
        .map_err(at(&erasing))?;
    // The folder gets its name when all else is durable. Until then the directory is one that was not restored.
    let named = epoch::write(&root, epoch)
        .and_then(|()| root.rename(RESTORING, SEGMENTS))
        .and_then(|()| root.sync_names());
    named.map_err(at(data))?;
    Ok(Restored {
        epoch,
        taken_ms: manifest.taken_ms,
        segments: manifest.files.len(),
        bytes: manifest.bytes(),
        messages,
        newest_ms,
    })
}

fn read_manifest(source: &Path) -> Result<Manifest, RestoreError> {
    let dir = || source.display().to_string();
    Manifest::read(&RealDisk::reading(source)).map_err(|error| match error {
        NoManifest::Missing => RestoreError::NoBackup(dir()),
        NoManifest::Later => RestoreError::Later(dir()),
        NoManifest::Damaged => damaged(source, MANIFEST, "it does not match its checksum"),
        NoManifest::Io(error) => RestoreError::Io {
            path: source.join(MANIFEST).display().to_string(),
            error,
        },
    })
}

fn damaged(source: &Path, file: &str, what: &'static str) -> RestoreError {
    RestoreError::Damaged {
        dir: source.display().to_string(),
        file: file.into(),
        what,
    }
}

/// Removes a log that was restored and waits for its erasures. The file that says so stays.
fn remove_unerased(data: &Path) -> io::Result<()> {
    for name in OF_A_LOG {
        let path = data.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(_) => {}
        }
    }
    Ok(())
}

/// Refuses a directory with anything but secrets, keys, and what a restore has left that did not come to its end.
fn check_empty(data: &Path) -> Result<(), RestoreError> {
    let dir = data.display().to_string();
    let entries = fs::read_dir(data).map_err(|error| RestoreError::Io {
        path: dir.clone(),
        error,
    })?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let is_unerased = names.iter().any(|name| name == ERASING);
    let has_begun = is_unerased || names.iter().any(|name| name == RESTORING);
    let stays = |name: &str| {
        [LOCK, SECRETS_FILE, WEBPUSH_KEY_FILE, RESTORING, ERASING].contains(&name)
            || is_unerased && OF_A_LOG.contains(&name)
            // A restore writes the epoch before its folder gets its name.
            || has_begun && name.starts_with("epoch")
    };
    match names.into_iter().find(|name| !stays(name)) {
        Some(name) => Err(RestoreError::NotEmpty { dir, name }),
        None => Ok(()),
    }
}

/// Copies a file of the backup, and checks it.
fn bring(
    source: &Path,
    kept: &RealDisk,
    disk: &RealDisk,
    file: ListedFile,
) -> Result<(), RestoreError> {
    let name = Segment::name_of(file.base);
    let io = |error| RestoreError::Io {
        path: name.clone(),
        error,
    };
    let from = kept.open(&name).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(source, &name, "it is missing"),
        _ => io(error),
    })?;
    let to = disk.create(&name).map_err(io)?;
    let copied = copy(&*from, &*to, 0..file.length, 0, &mut |_| Ok(()));
    match copied.map_err(|fault: CopyFault<RestoreError>| match fault {
        CopyFault::Short => damaged(source, &name, "it is cut short"),
        CopyFault::Read(error) | CopyFault::Write(error) => io(error),
        CopyFault::Ended(error) => error,
    })? {
        crc if crc == file.crc => Ok(()),
        _ => Err(damaged(source, &name, "it does not match its checksum")),
    }
}

/// Writes down where the log begins and ends, checks every record, and makes the new epoch. Returns it with the number of
/// messages.
fn conclude(
    manifest: &Manifest,
    disk: &RealDisk,
    now_ms: u64,
) -> Result<(LogEpoch, u64, u64), RestoreError> {
    let marked = Watermark::open(disk).and_then(|mut watermark| {
        if let Some(first) = manifest.files.first() {
            watermark.set_begin(first.base)?;
        }
        watermark.set_synced(manifest.position)
    });
    marked.map_err(|error| RestoreError::Io {
        path: RESTORING.into(),
        error,
    })?;
    let report = inspect_segments(disk, &mut None)?;
    if let Some(damage) = report.damages.into_iter().next() {
        return Err(RestoreError::NoLog(damage));
    }
    let last = report.base.max(manifest.epoch.base);
    let base = next_base(last, report.newest_ms, None, now_ms)?;
    Ok((LogEpoch::new(base), report.messages, report.newest_ms))
}
