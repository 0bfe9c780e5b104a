//! The stored state of the trusted clock, in a file of the data directory. With it the next start can tell if the wall
//! clock jumped while no process ran.

use std::io;

use super::{disk::Disk, slots::Slots};
use crate::clock::{MARK_WORDS, Mark};

pub(super) const NAME: &str = "clock";

/// The open file.
pub(super) struct TimeMark {
    file: Slots<MARK_WORDS>,
    latest: Option<Mark>,
}

impl TimeMark {
    /// Opens the file, or makes it. The second value is the newest mark; `None` when there is none.
    pub(super) fn open(root: &dyn Disk) -> io::Result<(Self, Option<Mark>)> {
        let (file, words) = Slots::open(root, NAME)?;
        let latest = words.map(Mark::from_words);
        Ok((Self { file, latest }, latest))
    }

    /// Writes the mark, and syncs the file.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        self.file.write(mark.words())?;
        self.latest = Some(mark);
        Ok(())
    }

    /// True if there is no mark yet, or the clock's offset changed by more than a minute since the latest mark.
    pub(super) fn is_outdated(&self, now: Mark) -> bool {
        self.latest.is_none_or(|latest| now.is_news_after(&latest))
    }
}
