//! The log's epoch: a random number that names this log. It is made with the data directory, and clients key their stores
//! by it.
//!
//! The epoch is stored in a file as 16 hexadecimal digits and the CRC-32C of the number's little-endian bytes. Without the
//! CRC, a flipped bit would send every client back to the beginning.

use std::{io, path::Path};

use super::{
    OpenError, Patience,
    disk::{Disk, RealDisk},
};
use crate::ids::Epoch;

const NAME: &str = "epoch";
/// The number is written to this file first. The file gets its final name when it is whole.
const NEW_NAME: &str = "epoch.new";
/// A longer file holds no epoch.
const TEXT_BYTES_MAX: usize = 64;

/// Reads the epoch in the data directory, or makes one in a new directory. `dir` is the directory's name, for the error.
pub(super) fn read_or_create(root: &dyn Disk, dir: &Path) -> Result<Epoch, OpenError> {
    let epoch = match read(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(root).map(Some),
        read => read,
    };
    let io = |error| OpenError::Io {
        dir: dir.display().to_string(),
        error,
    };
    epoch
        .map_err(io)?
        .ok_or_else(|| OpenError::Epoch(dir.join(NAME).display().to_string()))
}

/// Gives the log a new epoch, after a restore from a backup. Every client is then told that its cursor belongs to another
/// log.
pub fn renew(dir: &Path) -> io::Result<Epoch> {
    write(&RealDisk::open(dir)?)
}

fn write(root: &dyn Disk) -> io::Result<Epoch> {
    let epoch = Epoch(uuid::Uuid::new_v4().as_u64_pair().1 | 1);
    let file = root.create(NEW_NAME)?;
    file.write_at(text(epoch).as_bytes(), 0)?;
    file.sync()?;
    root.rename(NEW_NAME, NAME)?;
    root.sync_names()?;
    Ok(epoch)
}

/// The text of an epoch's file.
pub fn text(epoch: Epoch) -> String {
    let crc = crc32c::crc32c(&epoch.0.to_le_bytes());
    format!("{:016x} {crc:08x}\n", epoch.0)
}

/// Reads the file; `None` when its text is no epoch.
fn read(root: &dyn Disk) -> io::Result<Option<Epoch>> {
    let mut bytes = [0; TEXT_BYTES_MAX];
    let length = root.open(NAME)?.read_at(&mut bytes, 0, Patience::Disk)?;
    let found = std::str::from_utf8(&bytes[..length]).ok();
    let epoch = found.and_then(|found| {
        let number = u64::from_str_radix(found.get(..16)?, 16).ok()?;
        Some(Epoch(number)).filter(|epoch| text(*epoch) == found)
    });
    Ok(epoch.filter(|epoch| epoch.0 != 0))
}
