//! The erasures as text, for backups. A backup from before an erasure still has what was erased. So each backup comes with the list of
//! all erasures, and a log that is restored from an earlier one is told the newest list.
//!
//! ```text
//! towncrier erased 1
//! 1798675200000 1798675200001 alice
//! end 1 01234567
//! ```
//!
//! A line has the time of the erasure, the time before which tokens are revoked, both in Unix ms, and the user, separated by tabs: ids
//! contain none. The last line has the number of erasures, and the CRC-32C of all lines before it.

use std::collections::BTreeMap;

use super::{
    AppendError, EmbeddedLog, Log, LogError, ReadError, ReadLimit,
    core::Core,
    erase::{self, LISTED_PREFIX},
    table_id::TableId,
};
use crate::{
    ids::{Seq, UserId},
    message::Origin,
};

/// The first line, but for the number of the format.
const HEAD: &str = "towncrier erased ";
/// The format of this version.
const LIST_FORMAT: &str = "1";
/// The part of an inbox that is looked at together.
const LOOK: ReadLimit = ReadLimit {
    messages: 256,
    bytes: 4 << 20,
};

/// The last erasure of each user who was ever erased, in a log and in those that it was restored from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasureList(BTreeMap<UserId, Times>);

/// The time of an erasure, and the time before which tokens are revoked, Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Times {
    time_ms: u64,
    before_ms: u64,
}

/// The reason for which a text is not used as a list of erasures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErasureListError {
    /// A later version wrote it.
    #[error("a later version wrote this list of erasures: restore with that version")]
    Later,
    /// The text differs from the one that was written.
    #[error(
        "this is no list of erasures, or it is damaged: take the file \"erased\" of another backup"
    )]
    Damaged,
}

/// The reason for which the erasures of a list were not made.
#[derive(Debug, thiserror::Error)]
pub enum EraseAgainError {
    /// Some messages of a user came before the erasure, and some after it.
    #[error(
        "{user} was erased at {time_ms} (Unix ms), but in this backup the user was not erased and has messages from after that time: an \
         erasure would take these too. Choose another backup, or restore without the list and erase the user with /user/erase"
    )]
    Unsure {
        /// The user.
        user: UserId,
        /// The time of the erasure, Unix ms.
        time_ms: u64,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// The log did not take an erasure.
    #[error(transparent)]
    Write(#[from] AppendError),
}

impl ErasureList {
    /// Reads a list, and checks that it is whole.
    pub fn of_text(text: &str) -> Result<Self, ErasureListError> {
        let format = text.lines().next().and_then(|line| line.strip_prefix(HEAD));
        if format.is_some_and(|format| format != LIST_FORMAT && format.parse::<u32>().is_ok()) {
            return Err(ErasureListError::Later);
        }
        let lines = text.lines().skip(1).map_while(|line| {
            let mut fields = line.splitn(3, '\t');
            let mut number = || fields.next()?.parse().ok();
            let (time_ms, before_ms) = (number()?, number()?);
            let user = UserId::new(fields.next()?).ok()?;
            Some((user, Times { time_ms, before_ms }))
        });
        let list = Self(lines.collect());
        match list.text() == text {
            true => Ok(list),
            false => Err(ErasureListError::Damaged),
        }
    }

    /// The list as text.
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}{LIST_FORMAT}\n");
        for (user, Times { time_ms, before_ms }) in &self.0 {
            text += &format!("{time_ms}\t{before_ms}\t{}\n", user.as_str());
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text + &format!("end {} {crc:08x}\n", self.0.len())
    }

    /// The number of users in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if it names nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, user: UserId, times: Times) {
        let known = self.0.entry(user).or_insert(times);
        *known = times.max(*known);
    }
}

fn read_listed(key: &[u8], value: &[u8]) -> Option<(UserId, Times)> {
    let user = key.strip_prefix(LISTED_PREFIX)?;
    let user = UserId::new(std::str::from_utf8(user).ok()?).ok()?;
    let (time, before) = value.split_first_chunk()?;
    let times = Times {
        time_ms: u64::from_le_bytes(*time),
        before_ms: u64::from_le_bytes(before.try_into().ok()?),
    };
    Some((user, times))
}

impl Core {
    /// The erasures that a log which is restored from any backup may need again.
    pub(super) fn erasures(&self) -> Result<ErasureList, ReadError> {
        let mut list = ErasureList::default();
        for (key, value) in self.state.rows_of(TableId::Consumers, LISTED_PREFIX)? {
            if let Some((user, times)) = read_listed(&key, &value) {
                list.add(user, times);
            }
        }
        Ok(list)
    }
}

impl EmbeddedLog {
    /// Makes the erasures of a list that this log lacks, durably. Returns their number. `newest_ms`: the time of the log's newest group,
    /// Unix ms, before it was opened: [`LogReport::newest_ms`](super::inspect::LogReport::newest_ms). Begins only if all of them can be
    /// made. A repeat is harmless. Blocks.
    pub(super) fn erase_again(
        &self,
        list: &ErasureList,
        newest_ms: u64,
    ) -> Result<usize, EraseAgainError> {
        let known = self.core.erasures().map_err(LogError::from)?;
        let is_lacking = |user: &UserId, times: &Times| {
            known
                .0
                .get(user)
                .is_none_or(|known| known.time_ms < times.time_ms)
        };
        let mut lacking = list.0.clone();
        lacking.retain(|user, times| is_lacking(user, times));
        if !lacking.is_empty() {
            erase::check(self.format)?;
        }
        for (user, times) in &lacking {
            let time_ms = times.time_ms;
            if time_ms < newest_ms && self.has_since(user, time_ms)? {
                let user = user.clone();
                return Err(EraseAgainError::Unsure { user, time_ms });
            }
        }
        for (user, times) in &lacking {
            let pending = self.erase(user.clone(), times.before_ms)?;
            let answer = pending.blocking_recv();
            answer.unwrap_or(Err(AppendError::OutcomeUnknown))?;
        }
        Ok(lacking.len())
    }

    /// True if the user has an entry from after this Unix ms.
    fn has_since(&self, user: &UserId, time_ms: u64) -> Result<bool, LogError> {
        let mut after = Seq::ZERO;
        loop {
            let read = self.read_blocking(user, after, LOOK)?;
            let Some(last) = read.entries.last() else {
                return Ok(false);
            };
            after = last.numbers.seq;
            let mut bodies = read.entries.iter().filter_map(|entry| entry.content.body());
            if bodies.any(|body| Origin::of(body).send_time > time_ms as i64) {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> ErasureList {
        let mut list = ErasureList::default();
        for (user, time_ms) in [("alice", 5), ("bob", 7), ("alice", 9), ("alice", 3)] {
            let before_ms = time_ms + 1;
            list.add(UserId::new(user).unwrap(), Times { time_ms, before_ms });
        }
        list
    }

    #[test]
    fn a_list_reads_back_with_the_last_erasure_of_each_user() {
        let text = list().text();
        assert!(text.starts_with("towncrier erased 1\n9\t10\talice\n7\t8\tbob\nend 2 "));
        assert_eq!(ErasureList::of_text(&text), Ok(list()));
        let none = ErasureList::default();
        assert_eq!(ErasureList::of_text(&none.text()), Ok(none));
    }

    #[test]
    fn a_list_with_any_byte_changed_or_cut_is_refused() {
        let text = list().text();
        for at in 0..text.len() {
            let cut = ErasureList::of_text(&text[..at]);
            assert_eq!(cut, Err(ErasureListError::Damaged), "cut at {at}");
            for bit in 0..7 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                let changed = String::from_utf8(changed).unwrap();
                assert!(ErasureList::of_text(&changed).is_err(), "{changed}");
            }
        }
        let longer = format!("{text}5\t6\tcarol\n");
        assert_eq!(
            ErasureList::of_text(&longer),
            Err(ErasureListError::Damaged)
        );
        let later = text.replace("erased 1", "erased 2");
        assert_eq!(ErasureList::of_text(&later), Err(ErasureListError::Later));
    }
}
