//! Which log this is: a random number, made with the directory, that clients key their stores by.

use std::{io, path::Path};

use super::{
    OpenError, Patience,
    disk::{Disk, RealDisk},
};
use crate::ids::Epoch;

const NAME: &str = "epoch";
/// The number is written beside it and takes its name when it is whole.
const NEW_NAME: &str = "epoch.new";
/// 16 digits and a line's end; more is no epoch.
const TEXT_BYTES_MAX: usize = 64;

/// Reads the epoch in the data directory; makes one in a new directory. `dir`: its name, for the error.
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

/// Gives the log a new epoch: every client is told that its cursor belongs to another log. For one restored from a backup.
pub fn renew(dir: &Path) -> io::Result<Epoch> {
    write(&RealDisk::open(dir)?)
}

fn write(root: &dyn Disk) -> io::Result<Epoch> {
    let epoch = Epoch(uuid::Uuid::new_v4().as_u64_pair().1 | 1);
    let file = root.create(NEW_NAME)?;
    file.write_at(format!("{:016x}\n", epoch.0).as_bytes(), 0)?;
    file.sync()?;
    root.rename(NEW_NAME, NAME)?;
    root.sync_names()?;
    Ok(epoch)
}

/// `None`: what stands there is no epoch.
fn read(root: &dyn Disk) -> io::Result<Option<Epoch>> {
    let mut text = [0; TEXT_BYTES_MAX];
    let length = root.open(NAME)?.read_at(&mut text, 0, Patience::Disk)?;
    let epoch = std::str::from_utf8(&text[..length])
        .ok()
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    Ok(epoch.filter(|epoch| *epoch != 0).map(Epoch))
}
