//! The log's epoch: a random number that names this log, with its base. The number is made with the data directory, and clients key
//! their stores by it. The base is for clients that know nothing of epochs, see [`Bases`](crate::message::Bases).
//!
//! The epoch is stored in a file as 16 hexadecimal digits, a CRC-32C in 8, and the base in decimal if it is not 0. The CRC covers the
//! little-endian bytes of the number, and of the base if it is there. Without the CRC, a flipped bit would send every client back to
//! the beginning. A version without bases reads an epoch with base 0, and says of another one that the file holds no epoch.

use std::{io, path::Path};

use super::{OpenError, Patience, disk::Disk};
use crate::ids;

const NAME: &str = "epoch";
/// The epoch is written to this file first. The file gets its final name when it is whole.
const NEW_NAME: &str = "epoch.new";
/// A longer file holds no epoch.
const TEXT_BYTES_MAX: usize = 64;

/// The epoch of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEpoch {
    /// The number that names the log.
    pub number: ids::Epoch,
    /// The base of the messages that are stored in this epoch.
    pub base: u32,
}

impl LogEpoch {
    /// An epoch with a new number.
    pub(super) fn new(base: u32) -> Self {
        let number = ids::Epoch(uuid::Uuid::new_v4().as_u64_pair().1 | 1);
        Self { number, base }
    }

    /// The text of its file.
    fn text(self) -> String {
        let number = self.number.0;
        let crc = crc32c::crc32c(&number.to_le_bytes());
        if self.base == 0 {
            return format!("{number:016x} {crc:08x}\n");
        }
        let crc = crc32c::crc32c_append(crc, &self.base.to_le_bytes());
        format!("{number:016x} {crc:08x} {}\n", self.base)
    }

    /// Reads the text of a file; `None` when it is no epoch.
    fn of_text(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number = u64::from_str_radix(words.next()?, 16).ok()?;
        let base = words.nth(1).map_or(Some(0), |base| base.parse().ok())?;
        let epoch = Self {
            number: ids::Epoch(number),
            base,
        };
        (number != 0 && epoch.text() == text).then_some(epoch)
    }
}

/// Reads the epoch in the data directory, or makes one in a new directory. `dir` is the directory's name, for the error.
pub(super) fn read_or_create(root: &dyn Disk, dir: &Path) -> Result<LogEpoch, OpenError> {
    let epoch = match read(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let first = LogEpoch::new(0);
            write(root, first).map(|()| Some(first))
        }
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

/// Writes the epoch into its file. After a crash the file has either this epoch or the one before.
pub(super) fn write(root: &dyn Disk, epoch: LogEpoch) -> io::Result<()> {
    let file = root.create(NEW_NAME)?;
    file.write_at(epoch.text().as_bytes(), 0)?;
    file.sync()?;
    root.rename(NEW_NAME, NAME)?;
    root.sync_names()
}

/// The text of the file of an epoch.
pub fn text(number: ids::Epoch, base: u32) -> String {
    LogEpoch { number, base }.text()
}

/// Reads the file; `None` when its text is no epoch.
pub(super) fn read(root: &dyn Disk) -> io::Result<Option<LogEpoch>> {
    let mut bytes = [0; TEXT_BYTES_MAX];
    let length = root.open(NAME)?.read_at(&mut bytes, 0, Patience::Disk)?;
    let found = std::str::from_utf8(&bytes[..length]).ok();
    Ok(found.and_then(LogEpoch::of_text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_number_and_base_and_any_other_text_holds_no_epoch() {
        let number = ids::Epoch(0xbeef);
        for base in [0, 1, 1_000_000, u32::MAX] {
            let epoch = LogEpoch { number, base };
            let text = epoch.text();
            assert_eq!(LogEpoch::of_text(&text), Some(epoch));
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(LogEpoch::of_text(&changed), None, "{changed:?}");
            }
            assert_eq!(LogEpoch::of_text(&text[..text.len() - 1]), None);
        }
        assert_eq!(text(number, 0), "000000000000beef 78ee9d66\n");
        for none in ["", "\n", "000000000000beef"] {
            assert_eq!(LogEpoch::of_text(none), None);
        }
    }
}
