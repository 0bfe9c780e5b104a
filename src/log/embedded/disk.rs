//! Files behind a trait, so that tests can fail a write, fail a sync, or lose unsynced bytes.
//!
//! One flat directory of files. A file is appended to, read at positions, cut and removed. [`RealDisk`] is a directory of
//! the machine. Leaves to others: the meaning of the bytes, and the times of syncs.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSliceMut},
    os::unix::fs::{FileExt, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::fsync,
    io::{Errno, ReadWriteFlags},
};

/// Tells if a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The read returns `WouldBlock` rather than wait: for threads that others depend on.
    MemoryOnly,
    /// The read waits for the disk: for threads that may block.
    Disk,
}

/// The space that stays free on the disk. The state store needs it to stop cleanly when the log may no longer grow.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// True if the disk has less space than must stay free.
pub(super) fn is_short_of_space(disk: &dyn Disk) -> bool {
    disk.free_bytes().is_ok_and(|free| free < FREE_BYTES_MIN)
}

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file for reading and writing; `NotFound` when the file does not exist.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes an empty file. It replaces a file of the same name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name. It replaces a file that had the name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. A reader that still holds the file open can read its bytes.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, new names and removals durable.
    fn sync_names(&self) -> io::Result<()>;
    /// The bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One file, shared by the writer and any number of readers.
#[expect(
    clippy::len_without_is_empty,
    reason = "no caller asks whether a file is empty"
)]
pub trait DiskFile: Send + Sync + 'static {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Writes all of `bytes` at `offset`. After an error any part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file. With [`Patience::MemoryOnly`]:
    /// `WouldBlock` when any of the bytes would have to come from the device.
    fn read_at(&self, buffer: &mut [u8], offset: u64, patience: Patience) -> io::Result<usize>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Returns once all written bytes are on the device (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Lets go of what memory holds of the file, so that the next read comes from the device. Only a hint. Synced bytes only.
    fn forget_cached(&self) {}
}

/// A directory of the machine.
#[derive(Debug)]
pub(super) struct RealDisk {
    dir: PathBuf,
    /// False: its files are only read, so they may be another user's, or on a disk that takes no writes.
    is_written: bool,
}

impl RealDisk {
    /// Opens the directory. A new directory is made durable in its parent.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        if !dir.is_dir() {
            std::fs::create_dir_all(dir)?;
            if let Some(parent) = dir.canonicalize()?.parent() {
                fsync(File::open(parent)?)?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            is_written: true,
        })
    }

    /// A directory that is only read. It need not exist.
    pub(super) fn reading(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            is_written: false,
        }
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(
            OpenOptions::new()
                .read(true)
                .write(self.is_written)
                .open(self.dir.join(name))?,
        ))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        // The messages of all users are nobody else's on this machine.
        options.mode(0o600);
        // A link would write over a file elsewhere.
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        Ok(Arc::new(options.open(self.dir.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(fsync(File::open(&self.dir)?)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::statvfs(&self.dir)?;
        Ok(status.f_bavail * status.f_frsize)
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64, patience: Patience) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let read = match patience {
                Patience::Disk => FileExt::read_at(self, &mut buffer[filled..], at),
                Patience::MemoryOnly => read_cached(self, &mut buffer[filled..], at),
            };
            match read {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cached(&self) {
        // A file system that knows no such hint gives the bytes from memory.
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// Reads bytes that are in the page cache. The kernel's cache is our cache of the log's tail: bounded, shared, and never
/// stale.
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    match rustix::io::preadv2(
        file,
        &mut [IoSliceMut::new(buffer)],
        offset,
        ReadWriteFlags::NOWAIT,
    ) {
        Ok(count) => Ok(count),
        Err(error) if cannot_say(error) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// True if the kernel cannot tell whether a read would wait. Then a thread that may wait has to do the read. The reasons:
/// the file system does not tell (`OPNOTSUPP`), the kernel is older than preadv2(2) or its flags (`NOSYS`, `INVAL`), or a
/// container does not allow the call (`PERM`, `ACCESS`).
fn cannot_say(error: Errno) -> bool {
    matches!(
        error,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::ACCESS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_or_container_without_preadv2_reads_on_threads_that_may_wait() {
        for error in [Errno::OPNOTSUPP, Errno::NOSYS, Errno::PERM, Errno::INVAL] {
            assert!(cannot_say(error), "{error}");
        }
        for error in [Errno::IO, Errno::BADF, Errno::AGAIN] {
            assert!(!cannot_say(error), "{error}");
        }
    }
}
