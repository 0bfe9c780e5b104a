//! A line on a terminal that shows the progress. Without a terminal nothing is shown.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

const WIDTH: u64 = 40;
/// Often enough for the eye.
const REDRAW: Duration = Duration::from_millis(100);

/// A progress bar. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    is_shown: bool,
    drawn: Cell<Option<Instant>>,
}

impl Progress {
    pub(crate) fn new(what: &str) -> Self {
        Self {
            what: what.to_owned(),
            is_shown: stderr().is_terminal(),
            drawn: Cell::new(None),
        }
    }

    /// True if a terminal shows it.
    pub(crate) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Shows that `done` of `of` is done.
    pub(crate) fn show(&self, done: u64, of: u64) {
        let is_due = self
            .drawn
            .get()
            .is_none_or(|drawn| drawn.elapsed() > REDRAW);
        if !self.is_shown || !is_due {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let full = (done.min(of) * WIDTH).checked_div(of).unwrap_or(WIDTH) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH as usize - full));
        self.write(&format!("\r\x1b[K{bar} {done} of {of} {}", self.what));
    }

    fn write(&self, text: &str) {
        // A terminal that is gone must not end a run.
        let _ = stderr().write_all(text.as_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.get().is_some() {
            self.write("\r\x1b[K");
        }
    }
}
