//! Bytes of files in pieces: copied, read back, and summed up.
//!
//! A piece is synced before the next one is read. Otherwise the kernel would hold much of the copy in memory, and a sync of the
//! log on the same disk would have to wait for it.

use std::{
    io,
    ops::Range,
    time::{Duration, Instant},
};

use crate::log::embedded::{Patience, disk::DiskFile};

/// The bytes of one piece: some milliseconds of a disk.
pub(super) const BACKUP_PIECE_BYTES: u64 = 1 << 20;

/// One step of a long work on files.
#[derive(Debug, Clone, Copy)]
pub(in crate::log::embedded) struct Piece {
    /// The bytes of the backup that are done with this piece.
    pub(super) done_bytes: u64,
    /// The bytes that this piece wrote.
    pub(super) written_bytes: u64,
    /// The duration of the work on it.
    pub(super) took: Duration,
}

/// The function that is called after each piece. The work ends with its error.
pub(in crate::log::embedded) type AfterPiece<'a, E> = &'a mut dyn FnMut(Piece) -> Result<(), E>;

/// The reason for which a copy ended early.
pub(super) enum CopyFault<E> {
    /// The source is shorter than the range.
    Short,
    /// A read failed.
    Read(io::Error),
    /// A write or a sync failed.
    Write(io::Error),
    /// The function after a piece says so.
    Ended(E),
}

/// Copies a range of bytes to the same place of another file, and syncs them. `crc`: the CRC-32C of the bytes before the range.
/// Returns that of all bytes up to its end.
pub(super) fn copy<E>(
    from: &dyn DiskFile,
    to: &dyn DiskFile,
    range: Range<u64>,
    mut crc: u32,
    after: AfterPiece<'_, E>,
) -> Result<u32, CopyFault<E>> {
    let mut bytes = vec![0; BACKUP_PIECE_BYTES.min(range.end - range.start) as usize];
    let mut at = range.start;
    while at < range.end {
        let begun = Instant::now();
        let piece = &mut bytes[..BACKUP_PIECE_BYTES.min(range.end - at) as usize];
        let read = from.read_at(piece, at, Patience::Disk);
        if read.map_err(CopyFault::Read)? < piece.len() {
            return Err(CopyFault::Short);
        }
        crc = crc32c::crc32c_append(crc, piece);
        let written = to.write_at(piece, at).and_then(|()| to.sync());
        written.map_err(CopyFault::Write)?;
        let written_bytes = piece.len() as u64;
        at += written_bytes;
        after(Piece {
            done_bytes: written_bytes,
            written_bytes,
            took: begun.elapsed(),
        })
        .map_err(CopyFault::Ended)?;
    }
    Ok(crc)
}

/// Sums up a range of a file, read from its device. `crc`: the CRC-32C of the bytes before the range. `None`: the file is shorter.
/// `counts`: the bytes are the backup's own, and not copied just before.
pub(super) fn sum<E>(
    file: &dyn DiskFile,
    range: Range<u64>,
    mut crc: u32,
    counts: bool,
    after: AfterPiece<'_, E>,
) -> Result<Option<u32>, CopyFault<E>> {
    file.forget_cached();
    let mut bytes = vec![0; BACKUP_PIECE_BYTES.min(range.end - range.start) as usize];
    let mut at = range.start;
    while at < range.end {
        let begun = Instant::now();
        let piece = &mut bytes[..BACKUP_PIECE_BYTES.min(range.end - at) as usize];
        let read = file.read_at(piece, at, Patience::Disk);
        if read.map_err(CopyFault::Read)? < piece.len() {
            return Ok(None);
        }
        crc = crc32c::crc32c_append(crc, piece);
        at += piece.len() as u64;
        after(Piece {
            done_bytes: if counts { piece.len() as u64 } else { 0 },
            written_bytes: 0,
            took: begun.elapsed(),
        })
        .map_err(CopyFault::Ended)?;
    }
    Ok(Some(crc))
}
