//! Letters: the messages that callers want to send. A repeat of a keyed send is the same letter. Its content holds the
//! letter's number.

use std::collections::{BTreeMap, BTreeSet};

/// The sender or the group of a letter, which decides its conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Talk {
    /// This account writes to each receiver alone.
    #[default]
    Notices,
    /// This account does.
    Alerts,
    /// A member writes to this group.
    Group(u8),
}

impl Talk {
    pub(super) fn send_id(self) -> &'static str {
        match self {
            Self::Notices | Self::Group(_) => "oa",
            Self::Alerts => "ob",
        }
    }

    /// Empty for a letter that is in no group.
    pub(super) fn group_id(self) -> String {
        match self {
            Self::Group(group) => format!("g{group}"),
            Self::Notices | Self::Alerts => String::new(),
        }
    }

    /// The session type, as callers number it.
    pub(super) fn session_type(self) -> i32 {
        match self {
            Self::Notices | Self::Alerts => 1,
            Self::Group(_) => 3,
        }
    }

    /// The conversation in which this user finds the letter.
    pub(super) fn conversation_id(self, user: usize) -> String {
        match self {
            Self::Notices | Self::Alerts => format!("si_{}_u{user}", self.send_id()),
            Self::Group(group) => format!("sg_g{group}"),
        }
    }
}

/// A message that a caller wants to send.
#[derive(Debug, Default)]
pub(super) struct Letter {
    /// The receivers by number; `None`: all users.
    pub(super) receivers: Option<BTreeSet<usize>>,
    pub(super) talk: Talk,
    pub(super) key: Option<u32>,
    pub(super) is_online_only: bool,
    /// Attempts under way.
    pub(super) open: usize,
    /// Attempts with an unknown outcome.
    pub(super) unknown: usize,
    /// The time of the latest attempt.
    pub(super) tried_ms: u64,
    /// By log: the users who had a message before the first attempt. A message to all users reaches them at least.
    pub(super) reaches: BTreeMap<u64, BTreeSet<usize>>,
    /// Its messages by id. There are several only if the log forgot its key in between.
    pub(super) messages: BTreeMap<String, Known>,
}

/// A message that the model has seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) epoch: u64,
    /// The time at which it was accepted.
    pub(super) at_ms: u64,
    /// True if a caller was told so.
    pub(super) is_answered: bool,
}

impl Letter {
    pub(super) fn new(
        receivers: Option<BTreeSet<usize>>,
        talk: Talk,
        key: Option<u32>,
        is_online_only: bool,
    ) -> Self {
        Self {
            receivers,
            talk,
            key,
            is_online_only,
            ..Self::default()
        }
    }

    pub(super) fn may_exist(&self) -> bool {
        self.open > 0 || self.unknown > 0 || !self.messages.is_empty()
    }
}

/// True if the caller of the letter with this number wants no push of it.
pub(super) fn is_unpushed(letter: u64) -> bool {
    letter % 8 == 5
}

/// A letter's content: a JSON object, as a caller would send it.
pub(super) fn content(letter: u64, bytes: usize) -> String {
    format!("{{\"letter\":{letter},\"text\":\"{}\"}}", "x".repeat(bytes))
}

/// The number of the letter with this content.
pub(super) fn number_in(content: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(content).ok()?;
    let rest = text.strip_prefix("{\"letter\":")?;
    let (number, rest) = rest.split_once(",\"text\":\"")?;
    let is_whole = rest.strip_suffix("\"}")?.bytes().all(|byte| byte == b'x');
    number.parse().ok().filter(|_| is_whole)
}
