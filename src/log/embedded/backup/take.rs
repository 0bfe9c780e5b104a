//! One backup, from the cut to the manifest.
//!
//! Each file of the backup is read back from its device. A file that the backup before had and that no longer reads as it was
//! written is copied again from the log. The records of what was copied are checked as well, so a damaged log makes no backup.

use std::time::{Duration, Instant};

use super::{
    cut::Cut,
    destination::Destination,
    fault::BackupFault,
    manifest::{ListedFile, Manifest},
    pieces::{AfterPiece, CopyFault, Piece, copy, sum},
};
use crate::log::{
    BackupReport,
    embedded::{
        ReadError, disk::Disk, epoch::LogEpoch, record::Record, scan::Scan, scrub::RECORDS_AT_ONCE,
        segment::Segment,
    },
};

/// The space that a backup leaves free on its disk. The disk may be the log's, whose writer needs `FREE_BYTES_MIN`.
pub(in crate::log::embedded) const BACKUP_FREE_BYTES_MIN: u64 = 256 << 20;

/// Makes the backup. The destination holds the backup before until this one is durable. `after` is called after each piece of
/// work, and may end the backup.
pub(in crate::log::embedded) fn take(
    cut: &Cut,
    destination: &Destination,
    after: AfterPiece<'_, BackupFault>,
) -> Result<BackupReport, BackupFault> {
    let begun = Instant::now();
    let epoch = LogEpoch {
        number: cut.epoch,
        base: cut.base,
    };
    let earlier = destination.earlier(epoch, cut.position)?;
    let mut backup = Backup {
        destination,
        copied_bytes: 0,
        needed_bytes: needed_bytes(cut, earlier.as_ref()),
        after,
    };
    backup.check_space()?;
    let mut files = Vec::with_capacity(cut.segments.len());
    for (segment, length) in &cut.segments {
        let known = earlier
            .as_ref()
            .and_then(|earlier| earlier.file(segment.base));
        files.push(backup.bring(segment, *length, known)?);
    }
    let copied_bytes = backup.copied_bytes;
    let names = destination.segments.sync_names();
    names.map_err(BackupFault::at("the folder of segments"))?;
    let manifest = Manifest {
        epoch,
        taken_ms: cut.taken_ms,
        position: cut.position,
        files,
    };
    manifest.write(&*destination.root)?;
    // The next backup tries again.
    if let Err(error) = destination.remove_others(&manifest) {
        tracing::warn!(%error, "segments that no backup needs could not be removed");
    }
    Ok(BackupReport {
        epoch: cut.epoch.0,
        position: cut.position.0,
        taken_ms: cut.taken_ms,
        segments: manifest.files.len(),
        bytes: manifest.bytes(),
        copied_bytes,
        took_ms: begun.elapsed().as_millis() as u64,
    })
}

/// The bytes that the backup before does not have.
fn needed_bytes(cut: &Cut, earlier: Option<&Manifest>) -> u64 {
    let known = cut.segments.iter().filter_map(|(segment, _)| {
        let known = earlier?.file(segment.base)?;
        Some(known.length)
    });
    cut.bytes().saturating_sub(known.sum())
}

/// A backup that is being made.
struct Backup<'a> {
    destination: &'a Destination,
    copied_bytes: u64,
    /// The bytes that are still to be copied.
    needed_bytes: u64,
    after: AfterPiece<'a, BackupFault>,
}

impl Backup<'_> {
    fn check_space(&self) -> Result<(), BackupFault> {
        let (needed, kept) = (self.needed_bytes, BACKUP_FREE_BYTES_MIN);
        let free = self.destination.root.free_bytes();
        let free = free.map_err(BackupFault::at("the directory"))?;
        if needed > 0 && free < needed.saturating_add(kept) {
            return Err(BackupFault::NoSpace { needed, free, kept });
        }
        Ok(())
    }

    /// Brings the first `length` bytes of a segment into the backup, where `known` are there already.
    fn bring(
        &mut self,
        segment: &Segment,
        length: u64,
        known: Option<ListedFile>,
    ) -> Result<ListedFile, BackupFault> {
        let name = segment.name();
        let known = known.filter(|known| known.length <= length);
        let known = match known {
            Some(known) => self.check_known(&name, known)?,
            None => None,
        };
        if let Some(known) = known
            && known.length == length
        {
            return Ok(known);
        }
        let (from, crc) = known.map_or((0, 0), |known| (known.length, known.crc));
        let disk = &*self.destination.segments;
        let io = BackupFault::at(&name);
        let file = if from == 0 {
            disk.create(&name)
        } else {
            disk.open(&name)
        };
        let file = file.map_err(io)?;
        let copied = {
            let (after, copied_bytes) = (&mut *self.after, &mut self.copied_bytes);
            let needed_bytes = &mut self.needed_bytes;
            let mut note = |piece: Piece| {
                *copied_bytes += piece.written_bytes;
                *needed_bytes = needed_bytes.saturating_sub(piece.written_bytes);
                after(piece)
            };
            copy(&*segment.file, &*file, from..length, crc, &mut note)
        };
        let copied = copied.map_err(|fault| named(&name, fault))?;
        self.check_space()?;
        let read = sum(&*file, from..length, crc, false, &mut *self.after);
        if read.map_err(|fault| named(&name, fault))? != Some(copied) {
            return Err(BackupFault::ReadBack(name));
        }
        self.check_records(disk, segment, length)?;
        file.forget_cached();
        Ok(ListedFile {
            base: segment.base,
            length,
            crc: copied,
        })
    }

    /// The file of the backup before, if it still reads as it was written.
    fn check_known(
        &mut self,
        name: &str,
        known: ListedFile,
    ) -> Result<Option<ListedFile>, BackupFault> {
        let file = match self.destination.segments.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(
                    file = name,
                    "a file of the backup is missing, and is copied again"
                );
                return Ok(None);
            }
            Err(error) => return Err(BackupFault::at(name)(error)),
        };
        let is_whole = {
            // The bytes of a file that is copied again count when they are copied.
            let mut done_bytes = 0;
            let after = &mut *self.after;
            let mut hold = |piece: Piece| {
                done_bytes += piece.done_bytes;
                after(Piece {
                    done_bytes: 0,
                    ..piece
                })
            };
            let read = sum(&*file, 0..known.length, 0, true, &mut hold);
            let is_whole = read.map_err(|fault| named(name, fault))? == Some(known.crc);
            if is_whole {
                after(Piece {
                    done_bytes,
                    written_bytes: 0,
                    took: Duration::ZERO,
                })?;
            }
            is_whole
        };
        file.forget_cached();
        if is_whole {
            return Ok(Some(known));
        }
        tracing::warn!(
            file = name,
            "a file of the backup is damaged, and is copied again: look at its disk"
        );
        self.needed_bytes += known.length;
        self.check_space()?;
        Ok(None)
    }

    /// Checks every record of a file that was copied, and that the last group in it is closed.
    fn check_records(
        &mut self,
        disk: &dyn Disk,
        source: &Segment,
        length: u64,
    ) -> Result<(), BackupFault> {
        let copy = Segment::open(disk, source.base)?;
        copy.set_length(length);
        let mut scan = Scan::whole(&copy);
        let mut is_closed = true;
        let mut begun = Instant::now();
        for count in 1_usize.. {
            let Some(scanned) = scan.next()? else {
                break;
            };
            is_closed = matches!(scanned.record, Record::GroupEnd { .. });
            if count.is_multiple_of(RECORDS_AT_ONCE) {
                (self.after)(Piece {
                    done_bytes: 0,
                    written_bytes: 0,
                    took: begun.elapsed(),
                })?;
                begun = Instant::now();
            }
        }
        if !is_closed {
            let damage = copy.damage_at(scan.position(), "a group is not closed");
            return Err(ReadError::from(damage).into());
        }
        Ok(())
    }
}

/// The fault of a copy of this file.
fn named(name: &str, fault: CopyFault<BackupFault>) -> BackupFault {
    match fault {
        CopyFault::Short => BackupFault::SourceShort(name.into()),
        CopyFault::Read(error) | CopyFault::Write(error) => BackupFault::at(name)(error),
        CopyFault::Ended(fault) => fault,
    }
}
