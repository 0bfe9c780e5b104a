//! What the log is known to reach from and to, in a file of its own.
//!
//! Without it, damage in the very last group could not be told from a group that was being written when the machine
//! stopped, nor a first segment that was lost from one that retention removed. The end follows the log by about a second,
//! and is exact after a clean stop; the beginning moves before a segment goes. Two slots, written in turn: a torn write
//! leaves the other.

use std::{io, sync::Arc};

use super::{
    Patience,
    disk::{Disk, DiskFile},
    record::Position,
    segment::ORIGIN,
};

const NAME: &str = "synced";
/// The slots lie in different pages, so that no torn write meets both.
const SLOT_BYTES: u64 = 4096;

/// Two words and the number of the write, then their CRC-32C.
const SLOT_USED_BYTES: usize = 28;

/// Between these the log must be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Marks {
    /// Up to here the log was synced; [`Position::NONE`] when nothing is known.
    pub(crate) synced: Position,
    /// The first segment begins here, or before it if retention was interrupted.
    pub(crate) begin: Position,
}

impl Marks {
    /// Of a log of which nothing is known.
    pub(super) const NONE: Self = Self {
        synced: Position::NONE,
        begin: ORIGIN,
    };
}

/// The open file.
pub(crate) struct Watermark {
    file: Arc<dyn DiskFile>,
    latest: Marks,
    writes: u64,
}

impl Watermark {
    /// Opens the file, or makes it. The second value is what it says: nothing is known of an empty one.
    pub(crate) fn open(disk: &dyn Disk) -> io::Result<Self> {
        let file = match disk.open(NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(NAME)?,
            opened => opened?,
        };
        let slots = [read_slot(&*file, 0)?, read_slot(&*file, SLOT_BYTES)?];
        let latest = slots
            .into_iter()
            .flatten()
            .max_by_key(|(writes, _)| *writes);
        let (writes, latest) = latest.unwrap_or((0, Marks::NONE));
        Ok(Self {
            file,
            latest,
            writes,
        })
    }

    /// What is known.
    pub(crate) fn marks(&self) -> Marks {
        self.latest
    }

    /// Writes that the log is synced up to `position`, and syncs that.
    pub(super) fn set_synced(&mut self, position: Position) -> io::Result<()> {
        if position <= self.latest.synced {
            return Ok(());
        }
        self.write(Marks {
            synced: position,
            ..self.latest
        })
    }

    /// Writes that what stands before `position` may be gone, and syncs that.
    pub(super) fn set_begin(&mut self, position: Position) -> io::Result<()> {
        self.write(Marks {
            begin: position,
            ..self.latest
        })
    }

    fn write(&mut self, marks: Marks) -> io::Result<()> {
        // Counted when it is done: a second attempt must meet the same slot, and leave the other whole.
        let writes = self.writes + 1;
        let words = [marks.synced.0, marks.begin.0, writes];
        let mut slot = words.map(u64::to_le_bytes).concat();
        slot.extend(crc32c::crc32c(&slot).to_le_bytes());
        self.file.write_at(&slot, writes % 2 * SLOT_BYTES)?;
        self.file.sync()?;
        (self.writes, self.latest) = (writes, marks);
        Ok(())
    }
}

fn read_slot(file: &dyn DiskFile, offset: u64) -> io::Result<Option<(u64, Marks)>> {
    let mut slot = [0; SLOT_USED_BYTES];
    let read = file.read_at(&mut slot, offset, Patience::Disk)?;
    let word = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("8 bytes"));
    let is_whole = read == slot.len() && slot[24..] == crc32c::crc32c(&slot[..24]).to_le_bytes();
    let marks = Marks {
        synced: Position(word(0)),
        begin: Position(word(8)),
    };
    Ok(is_whole.then(|| (word(16), marks)))
}
