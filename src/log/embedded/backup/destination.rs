//! The directory of a backup: a manifest, a folder of segments, and the list of the users who were erased.
//!
//! The directory is the operator's choice, and an administrator's token is enough to name one. So a backup goes only into a
//! directory that is empty or holds a backup already, belongs to the gateway's user, and is closed to all others.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    fault::BackupFault,
    manifest::{MANIFEST, Manifest, NEW_MANIFEST, NoManifest},
};
use crate::log::embedded::{
    Disk, disk::RealDisk, epoch::LogEpoch, record::Position, segment::Segment,
};

/// The folder of the segments, within the directory.
pub(super) const FOLDER: &str = "segments";
/// The list of erasures, for older copies of the backup.
const ERASED: &str = "erased";
const NEW_ERASED: &str = "erased.new";
/// Permission bits of everybody but the owner.
const NOT_OWNER: u32 = 0o077;

/// The open directory of a backup.
pub(in crate::log::embedded) struct Destination {
    /// The directory itself.
    pub(in crate::log::embedded) root: Arc<dyn Disk>,
    /// Its folder of segments.
    pub(in crate::log::embedded) segments: Arc<dyn Disk>,
}

impl Destination {
    /// Opens the directory, or makes it in a directory that exists. `data`: the data directory of the log.
    pub(super) fn open(dir: &Path, data: &Path) -> Result<Self, BackupFault> {
        let io = |error| BackupFault::at(dir.display())(error);
        let dir = &resolved(dir)?;
        let data = data
            .canonicalize()
            .map_err(BackupFault::at(data.display()))?;
        if dir.starts_with(&data) || data.starts_with(dir) {
            return Err(BackupFault::WithinData(dir.clone()));
        }
        match fs::metadata(dir) {
            Ok(metadata) => check(dir, &metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(dir).map_err(io)?,
            Err(error) => return Err(io(error)),
        }
        let root = RealDisk::open(dir).map_err(io)?;
        check_names(&root)?;
        let folder = dir.join(FOLDER);
        // A link is not followed.
        match fs::symlink_metadata(&folder) {
            Ok(metadata) => check(&folder, &metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&folder).map_err(io)?,
            Err(error) => return Err(io(error)),
        }
        Ok(Self {
            root: Arc::new(root),
            segments: Arc::new(RealDisk::open(&folder).map_err(io)?),
        })
    }

    /// The backup that the directory holds; `None` for none. Refuses one that a backup of this log up to `position` cannot follow.
    pub(super) fn earlier(
        &self,
        epoch: LogEpoch,
        position: Position,
    ) -> Result<Option<Manifest>, BackupFault> {
        let earlier = match Manifest::read(&*self.root) {
            Ok(earlier) => earlier,
            Err(NoManifest::Missing) => return Ok(None),
            Err(NoManifest::Damaged) => return Err(BackupFault::Manifest),
            Err(NoManifest::Later) => return Err(BackupFault::LaterManifest),
            Err(NoManifest::Io(error)) => return Err(BackupFault::at(MANIFEST)(error)),
        };
        if earlier.epoch != epoch {
            return Err(BackupFault::OtherLog(earlier.epoch.number.0));
        }
        if earlier.position > position {
            return Err(BackupFault::Ahead);
        }
        Ok(Some(earlier))
    }

    /// Writes the list of the erasures so far, which an older copy of a backup needs when it is restored.
    pub(super) fn write_erasures(&self, list: &str) -> Result<(), BackupFault> {
        let written = (|| {
            let file = self.root.create(NEW_ERASED)?;
            file.write_at(list.as_bytes(), 0)?;
            file.sync()?;
            self.root.rename(NEW_ERASED, ERASED)?;
            self.root.sync_names()
        })();
        written.map_err(BackupFault::at(ERASED))
    }

    /// Removes the segments that the manifest does not name. The manifest is durable before.
    pub(super) fn remove_others(&self, manifest: &Manifest) -> io::Result<()> {
        let mut has_removed = false;
        for name in self.segments.list()? {
            let base = Segment::base_of(&name);
            if base.is_some_and(|base| manifest.file(base).is_none()) {
                self.segments.remove(&name)?;
                has_removed = true;
            }
        }
        if has_removed {
            self.segments.sync_names()?;
        }
        Ok(())
    }
}

/// The path without links. The last part of it need not exist.
fn resolved(dir: &Path) -> Result<PathBuf, BackupFault> {
    if !dir.is_absolute() {
        return Err(BackupFault::Relative(dir.into()));
    }
    match (dir.canonicalize(), dir.parent(), dir.file_name()) {
        (Ok(resolved), ..) => Ok(resolved),
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            let parent = parent
                .canonicalize()
                .map_err(BackupFault::at(parent.display()))?;
            Ok(parent.join(name))
        }
        (Err(error), ..) => Err(BackupFault::at(dir.display())(error)),
    }
}

/// Makes a directory for its owner alone, durable in its parent.
fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    let parent = dir
        .parent()
        .expect("a directory that was made has a parent");
    RealDisk::open(parent)?.sync_names()
}

/// Refuses a directory that others could read or change.
fn check(dir: &Path, metadata: &Metadata) -> Result<(), BackupFault> {
    if !metadata.is_dir() {
        return Err(BackupFault::NoDirectory(dir.into()));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(BackupFault::Foreign(dir.into()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & NOT_OWNER != 0 {
        return Err(BackupFault::TooOpen {
            path: dir.into(),
            mode,
        });
    }
    Ok(())
}

/// Refuses a directory with anything that no backup makes.
fn check_names(root: &dyn Disk) -> Result<(), BackupFault> {
    let names = root.list().map_err(BackupFault::at("the directory"))?;
    let own = [MANIFEST, NEW_MANIFEST, ERASED, NEW_ERASED, FOLDER];
    let is_foreign = |name: &String| !own.contains(&name.as_str());
    match names.into_iter().find(is_foreign) {
        Some(name) => Err(BackupFault::NotEmpty(name)),
        None => Ok(()),
    }
}
