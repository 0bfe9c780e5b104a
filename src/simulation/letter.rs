//! Letters: what callers want said. Repeats of a keyed send are the same letter, and its number stands in its content.

use std::collections::{BTreeMap, BTreeSet};

/// What a caller wants said.
#[derive(Debug, Default)]
pub(super) struct Letter {
    /// Users by number; `None`: everyone.
    pub(super) receivers: Option<BTreeSet<usize>>,
    pub(super) key: Option<u32>,
    pub(super) is_online_only: bool,
    /// Attempts under way.
    pub(super) open: usize,
    /// Attempts whose end nobody knows.
    pub(super) unknown: usize,
    /// When the latest attempt began.
    pub(super) tried_ms: u64,
    /// Its messages by id: more than one only where its key was forgotten in between.
    pub(super) messages: BTreeMap<String, Known>,
}

/// A message that somebody saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) epoch: u64,
    /// When it was accepted.
    pub(super) at_ms: u64,
    /// Whether a caller was told so.
    pub(super) is_answered: bool,
}

impl Letter {
    pub(super) fn new(
        receivers: Option<BTreeSet<usize>>,
        key: Option<u32>,
        is_online_only: bool,
    ) -> Self {
        Self {
            receivers,
            key,
            is_online_only,
            ..Self::default()
        }
    }

    pub(super) fn may_exist(&self) -> bool {
        self.open > 0 || self.unknown > 0 || !self.messages.is_empty()
    }
}

/// A letter's content: a JSON object, as a caller's would be.
pub(super) fn content(letter: u64, bytes: usize) -> String {
    format!("{{\"letter\":{letter},\"text\":\"{}\"}}", "x".repeat(bytes))
}

/// The number of the letter whose content these bytes are.
pub(super) fn number_in(content: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(content).ok()?;
    let rest = text.strip_prefix("{\"letter\":")?;
    let (number, rest) = rest.split_once(",\"text\":\"")?;
    let is_whole = rest.strip_suffix("\"}")?.bytes().all(|byte| byte == b'x');
    number.parse().ok().filter(|_| is_whole)
}
