//! Which log this is: a random number, made with the directory, that clients key their stores by.

use std::{fs, io, path::Path};

use super::OpenError;
use crate::ids::Epoch;

const NAME: &str = "epoch";

/// Reads the directory's epoch; makes one in a new directory.
pub(super) fn read_or_create(dir: &Path) -> Result<Epoch, OpenError> {
    match fs::read_to_string(dir.join(NAME)) {
        Ok(text) => {
            parse(&text).ok_or_else(|| OpenError::Epoch(dir.join(NAME).display().to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            renew(dir).map_err(|error| OpenError::Io {
                dir: dir.display().to_string(),
                error,
            })
        }
        Err(error) => Err(OpenError::Io {
            dir: dir.display().to_string(),
            error,
        }),
    }
}

/// Gives the log a new epoch: every client is told that its cursor belongs to another log. For one restored from a backup.
pub fn renew(dir: &Path) -> io::Result<Epoch> {
    let epoch = Epoch(uuid::Uuid::new_v4().as_u64_pair().1 | 1);
    let new = dir.join("epoch.new");
    let file = fs::File::create(&new)?;
    io::Write::write_all(&mut &file, format!("{:016x}\n", epoch.0).as_bytes())?;
    file.sync_all()?;
    fs::rename(new, dir.join(NAME))?;
    fs::File::open(dir)?.sync_all()?;
    Ok(epoch)
}

fn parse(text: &str) -> Option<Epoch> {
    u64::from_str_radix(text.trim(), 16)
        .ok()
        .filter(|epoch| *epoch != 0)
        .map(Epoch)
}
