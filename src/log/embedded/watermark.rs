//! The known beginning and the known synced end of the log, in a file of their own.
//!
//! The end tells damage in the very last group from a group that was being written when the machine stopped. The beginning
//! tells a lost first segment from one that retention removed. The end follows the log by about a second, and is exact
//! after a clean stop. The beginning moves before a segment is removed.

use std::io;

use super::{disk::Disk, record::Position, segment::ORIGIN, slots::Slots};

const NAME: &str = "synced";

/// The log must be whole between these two positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Marks {
    /// The log was synced up to this position; [`Position::NONE`] when nothing is known.
    pub(super) synced: Position,
    /// The first segment begins here, or before it if retention was interrupted.
    pub(super) begin: Position,
}

impl Marks {
    /// The marks of a log about which nothing is known.
    pub(super) const NONE: Self = Self {
        synced: Position::NONE,
        begin: ORIGIN,
    };
}

/// The open file.
pub(super) struct Watermark {
    file: Slots<2>,
    latest: Marks,
}

impl Watermark {
    /// Opens the file, or makes it.
    pub(super) fn open(disk: &dyn Disk) -> io::Result<Self> {
        let (file, words) = Slots::open(disk, NAME)?;
        let latest = words.map_or(Marks::NONE, |[synced, begin]| Marks {
            synced: Position(synced),
            begin: Position(begin),
        });
        Ok(Self { file, latest })
    }

    /// The known positions.
    pub(super) fn marks(&self) -> Marks {
        self.latest
    }

    /// Writes that the log is synced up to `position`, and syncs the file.
    pub(super) fn set_synced(&mut self, position: Position) -> io::Result<()> {
        if position <= self.latest.synced {
            return Ok(());
        }
        self.write(Marks {
            synced: position,
            ..self.latest
        })
    }

    /// Writes that the log before `position` may be gone, and syncs the file.
    pub(super) fn set_begin(&mut self, position: Position) -> io::Result<()> {
        self.write(Marks {
            begin: position,
            ..self.latest
        })
    }

    fn write(&mut self, marks: Marks) -> io::Result<()> {
        self.file.write([marks.synced.0, marks.begin.0])?;
        self.latest = marks;
        Ok(())
    }
}
