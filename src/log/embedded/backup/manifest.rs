//! The manifest: which bytes of a backup's files count, with a checksum of each file.
//!
//! The manifest is a text of lines, so that an operator can read it:
//!
//! ```text
//! towncrier backup 1
//! epoch 0123456789abcdef
//! base 0
//! taken_ms 1798675200000
//! position 1052672
//! segment 00000000000001048576.log 4096 89abcdef
//! crc32c 01234567
//! ```
//!
//! A line of a segment has its name, the number of its first bytes that count, and their CRC-32C. The last line has the CRC-32C
//! of all lines before it. The file is replaced whole: after a crash it is this one or the one before.

use std::io;

use super::fault::BackupFault;
use crate::{
    ids,
    log::embedded::{Disk, Patience, epoch::LogEpoch, record::Position, segment::Segment},
};

/// The name of the manifest.
pub(super) const MANIFEST: &str = "manifest";
/// The manifest is written to this file first.
pub(super) const NEW_MANIFEST: &str = "manifest.new";
/// The first line, but for the number of the format.
const HEAD: &str = "towncrier backup ";
/// The format of this version.
const MANIFEST_FORMAT: &str = "1";
/// A longer file is no manifest: 200,000 segments have a line each.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// The list of a backup's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) epoch: LogEpoch,
    /// The time of the cut, Unix ms.
    pub(super) taken_ms: u64,
    /// The position of the cut.
    pub(super) position: Position,
    /// Ascending. Each begins at the end of the one before it.
    pub(super) files: Vec<ListedFile>,
}

/// A segment of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedFile {
    pub(super) base: Position,
    /// The first bytes of the file, which count. The file may have more.
    pub(super) length: u64,
    /// The CRC-32C of these bytes.
    pub(super) crc: u32,
}

/// The reason for which a manifest is not used.
#[derive(Debug)]
pub(super) enum NoManifest {
    /// There is none.
    Missing,
    /// The bytes differ from the bytes that were written.
    Damaged,
    /// A later version wrote it.
    Later,
    /// The operating system reported an error.
    Io(io::Error),
}

impl Manifest {
    /// The file with this beginning, if there is one.
    pub(super) fn file(&self, base: Position) -> Option<ListedFile> {
        let at = self.files.binary_search_by_key(&base, |file| file.base);
        at.ok().map(|at| self.files[at])
    }

    /// The bytes that count, of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    fn text(&self) -> String {
        let Self {
            epoch,
            taken_ms,
            position,
            files,
        } = self;
        let mut text = format!(
            "{HEAD}{MANIFEST_FORMAT}\nepoch {:016x}\nbase {}\ntaken_ms {taken_ms}\nposition {}\n",
            epoch.number.0, epoch.base, position.0
        );
        for file in files {
            let name = Segment::name_of(file.base);
            text.push_str(&format!(
                "segment {name} {} {:08x}\n",
                file.length, file.crc
            ));
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc32c {crc:08x}\n"));
        text
    }

    /// Reads a text; `None` when a bit of it differs from what [`text`](Self::text) makes.
    fn of_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        value("towncrier")?;
        let number = u64::from_str_radix(value("epoch")?, 16).ok()?;
        let base = value("base")?.parse().ok()?;
        let taken_ms = value("taken_ms")?.parse().ok()?;
        let position = Position(value("position")?.parse().ok()?);
        let file = |line: &str| {
            let mut words = line.strip_prefix("segment ")?.split(' ');
            Some(ListedFile {
                base: Segment::base_of(words.next()?)?,
                length: words.next()?.parse().ok()?,
                crc: u32::from_str_radix(words.next()?, 16).ok()?,
            })
        };
        let manifest = Self {
            epoch: LogEpoch {
                number: ids::Epoch(number),
                base,
            },
            taken_ms,
            position,
            files: lines.map_while(file).collect(),
        };
        (manifest.text() == text).then_some(manifest)
    }

    /// Reads the manifest of a backup.
    pub(super) fn read(root: &dyn Disk) -> Result<Self, NoManifest> {
        let file = root.open(MANIFEST).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NoManifest::Missing,
            _ => NoManifest::Io(error),
        })?;
        let length = file.len().map_err(NoManifest::Io)?;
        let mut bytes = vec![0; length.min(MANIFEST_BYTES_MAX) as usize];
        let read = file.read_at(&mut bytes, 0, Patience::Disk);
        bytes.truncate(read.map_err(NoManifest::Io)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| NoManifest::Damaged)?;
        let format = text.lines().next().and_then(|line| line.strip_prefix(HEAD));
        if format.is_some_and(|format| format != MANIFEST_FORMAT && format.parse::<u32>().is_ok()) {
            return Err(NoManifest::Later);
        }
        Self::of_text(text).ok_or(NoManifest::Damaged)
    }

    /// Replaces the manifest of a backup. It is durable when this returns.
    pub(super) fn write(&self, root: &dyn Disk) -> Result<(), BackupFault> {
        let written = (|| {
            let file = root.create(NEW_MANIFEST)?;
            file.write_at(self.text().as_bytes(), 0)?;
            file.sync()?;
            root.rename(NEW_MANIFEST, MANIFEST)?;
            root.sync_names()
        })();
        written.map_err(BackupFault::at(MANIFEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(u64, u64, u32)]) -> Manifest {
        let files = files.iter().map(|(base, length, crc)| ListedFile {
            base: Position(*base),
            length: *length,
            crc: *crc,
        });
        Manifest {
            epoch: LogEpoch {
                number: ids::Epoch(0xbeef),
                base: 1_000_000,
            },
            taken_ms: 1_798_675_200_000,
            position: Position(99),
            files: files.collect(),
        }
    }

    #[test]
    fn a_manifest_reads_as_it_was_written_and_with_any_other_byte_not_at_all() {
        for files in [
            &[][..],
            &[(1 << 20, 4096, 7), ((1 << 20) + 4096, 32, u32::MAX)],
        ] {
            let manifest = manifest(files);
            let text = manifest.text();
            assert_eq!(Manifest::of_text(&text).as_ref(), Some(&manifest), "{text}");
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(Manifest::of_text(&changed), None, "{changed}");
                assert_eq!(Manifest::of_text(&text[..at]), None, "cut at {at}");
            }
        }
    }

    #[test]
    fn a_file_is_found_by_its_beginning() {
        let manifest = manifest(&[(10, 5, 0), (15, 7, 0)]);
        assert_eq!(manifest.file(Position(15)).map(|file| file.length), Some(7));
        assert_eq!(manifest.file(Position(11)), None);
        assert_eq!(manifest.bytes(), 12);
    }
}
