//! How far the log is known to have been synced, in a file of its own.
//!
//! Without it, damage in the very last group could not be told from a group that was being written when the machine
//! stopped. It follows the log by about a second, and is exact after a clean stop. Two slots, written in turn: a torn
//! write leaves the other.

use std::{io, sync::Arc};

use super::{
    Patience,
    disk::{Disk, DiskFile},
    record::Position,
};

const NAME: &str = "synced";
/// The slots lie in different pages, so that no torn write meets both.
const SLOT_BYTES: u64 = 4096;

/// The open file.
pub(super) struct Watermark {
    file: Arc<dyn DiskFile>,
    latest: Position,
    writes: u64,
}

impl Watermark {
    /// Opens the file, or makes it. The second value is what it says: nothing is known of an empty one.
    pub(super) fn open(disk: &dyn Disk) -> io::Result<Self> {
        let file = match disk.open(NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(NAME)?,
            opened => opened?,
        };
        let slots = [read_slot(&*file, 0)?, read_slot(&*file, SLOT_BYTES)?];
        let (latest, writes) = slots
            .into_iter()
            .flatten()
            .max()
            .unwrap_or((Position::NONE, 0));
        Ok(Self {
            file,
            latest,
            writes,
        })
    }

    /// Up to here the log was synced; [`Position::NONE`] when nothing is known.
    pub(super) fn get(&self) -> Position {
        self.latest
    }

    /// Writes that the log is synced up to `position`, and syncs that.
    pub(super) fn set(&mut self, position: Position) -> io::Result<()> {
        if position <= self.latest {
            return Ok(());
        }
        self.writes += 1;
        let mut slot = [position.0.to_le_bytes(), self.writes.to_le_bytes()].concat();
        slot.extend(crc32c::crc32c(&slot).to_le_bytes());
        self.file.write_at(&slot, self.writes % 2 * SLOT_BYTES)?;
        self.file.sync()?;
        self.latest = position;
        Ok(())
    }
}

fn read_slot(file: &dyn DiskFile, offset: u64) -> io::Result<Option<(Position, u64)>> {
    let mut slot = [0; 20];
    let read = file.read_at(&mut slot, offset, Patience::Disk)?;
    let word = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("8 bytes"));
    let is_whole = read == slot.len() && slot[16..] == crc32c::crc32c(&slot[..16]).to_le_bytes();
    Ok(is_whole.then(|| (Position(word(0)), word(8))))
}
