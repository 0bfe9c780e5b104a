//! The erasures as text, for backups. A backup from before an erasure still has what was erased. So each backup comes with the list of
//! the erasures so far, and a log that is restored from an earlier one is told the newest list.
//!
//! A line is the time of the erasure, the time before which tokens are revoked, both in Unix ms, and the user, separated by tabs: ids
//! contain none.

use super::{AppendError, EmbeddedLog, Log, LogError, ReadError, core::Core};
use crate::ids::UserId;

/// Why the erasures of a list were not made. Those of the lines before it were; a repeat is harmless.
#[derive(Debug, thiserror::Error)]
pub enum EraseAgainError {
    /// A line of the list has another form.
    #[error("line {0} is no erasure: it needs two times and a user")]
    Line(usize),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// The log did not take an erasure.
    #[error(transparent)]
    Write(#[from] AppendError),
}

impl Core {
    /// The erasures that a restored log may need again, one in each line.
    pub(super) fn erasures(&self) -> Result<String, ReadError> {
        let all = self.state.erasures.all()?;
        let line = |(user, row): (UserId, super::state::ErasureRow)| {
            format!("{}\t{}\t{}\n", row.time_ms, row.before_ms, user.as_str())
        };
        Ok(all.into_iter().map(line).collect())
    }
}

impl EmbeddedLog {
    /// Makes the erasures of a list that this log lacks, durably. Returns their number. `newest_ms`: the time of the log's newest group,
    /// Unix ms, before it was opened: [`LogReport::newest_ms`](super::inspect::LogReport::newest_ms). An erasure from before it is in the
    /// log already, or all that it erased is gone. Blocks.
    pub fn erase_again(&self, list: &str, newest_ms: u64) -> Result<usize, EraseAgainError> {
        let mut erased = 0;
        for (number, line) in (1..).zip(list.lines()) {
            let (user, time_ms, before_ms) =
                read_line(line).ok_or(EraseAgainError::Line(number))?;
            let known = self.core.state.erasures.get(&user);
            let known = known.map_err(LogError::from)?;
            if time_ms < newest_ms || known.is_some_and(|known| known.time_ms >= time_ms) {
                continue;
            }
            let pending = self.erase(user, before_ms)?;
            let answer = pending.blocking_recv();
            answer.unwrap_or(Err(AppendError::OutcomeUnknown))?;
            erased += 1;
        }
        Ok(erased)
    }
}

fn read_line(line: &str) -> Option<(UserId, u64, u64)> {
    let mut fields = line.splitn(3, '\t');
    let mut number = || fields.next()?.parse().ok();
    let (time_ms, before_ms) = (number()?, number()?);
    Some((UserId::new(fields.next()?).ok()?, time_ms, before_ms))
}
