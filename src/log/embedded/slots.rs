//! A small file that holds a fixed number of 64-bit words. It has two slots, and each slot has room for all words.
//!
//! A write replaces the slot with the older words and syncs the file. So a crash during a write leaves the newer slot
//! whole. A slot holds its words, the number of the write, and the CRC-32C of both, all little endian. The whole slot with
//! the higher number counts.

use std::{io, sync::Arc};

use super::{
    Patience,
    disk::{Disk, DiskFile},
};

/// The slots lie in different pages, so that no torn write reaches both.
const SLOT_BYTES: u64 = 4096;

/// The open file.
pub(super) struct Slots<const WORDS: usize> {
    file: Arc<dyn DiskFile>,
    writes: u64,
}

impl<const WORDS: usize> Slots<WORDS> {
    /// Opens the file, or makes it. The second value is the newest whole write; `None` for an empty or torn file.
    pub(super) fn open(disk: &dyn Disk, name: &str) -> io::Result<(Self, Option<[u64; WORDS]>)> {
        let file = match disk.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(name)?,
            opened => opened?,
        };
        let slots = [
            read::<WORDS>(&*file, 0)?,
            read::<WORDS>(&*file, SLOT_BYTES)?,
        ];
        let newest = slots
            .into_iter()
            .flatten()
            .max_by_key(|(writes, _)| *writes);
        let writes = newest.map_or(0, |(writes, _)| writes);
        Ok((Self { file, writes }, newest.map(|(_, words)| words)))
    }

    /// Writes the words into the older slot, and syncs the file.
    pub(super) fn write(&mut self, words: [u64; WORDS]) -> io::Result<()> {
        // The write counts only when it is done: a second attempt must use the same slot, and leave the other one whole.
        let writes = self.writes + 1;
        let mut slot: Vec<u8> = words
            .into_iter()
            .chain([writes])
            .flat_map(u64::to_le_bytes)
            .collect();
        slot.extend(crc32c::crc32c(&slot).to_le_bytes());
        self.file.write_at(&slot, writes % 2 * SLOT_BYTES)?;
        self.file.sync()?;
        self.writes = writes;
        Ok(())
    }
}

/// The words of a slot with the number of the write; `None` when the slot is not whole.
fn read<const WORDS: usize>(
    file: &dyn DiskFile,
    offset: u64,
) -> io::Result<Option<(u64, [u64; WORDS])>> {
    let mut slot = vec![0; (WORDS + 1) * 8 + 4];
    if file.read_at(&mut slot, offset, Patience::Disk)? < slot.len() {
        return Ok(None);
    }
    let (content, crc) = slot.split_at((WORDS + 1) * 8);
    if crc != crc32c::crc32c(content).to_le_bytes() {
        return Ok(None);
    }
    let word =
        |at: usize| u64::from_le_bytes(content[at * 8..][..8].try_into().expect("eight bytes"));
    Ok(Some((word(WORDS), std::array::from_fn(word))))
}
