//! The identity of a message, which travels as its `clientMsgID`.

use std::{fmt, num::ParseIntError, str::FromStr};

/// The identity of a message. Its text, at most 45 bytes, is the `clientMsgID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// The number of the run, which tells its messages from those of other runs.
    pub run: u32,
    /// From 0, in the order of [`super::Ledger::issue`].
    pub number: u32,
    /// The first receiver. The others follow by number, and user 0 follows the last.
    pub first: u32,
    /// The time at which it was to be sent.
    pub due_us: u64,
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            number,
            first,
            due_us,
        } = self;
        write!(f, "{run:08x}-{number:x}-{first:x}-{due_us:x}")
    }
}

/// The text is not the text of a [`MessageKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKey;

impl From<ParseIntError> for NoKey {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for MessageKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NoKey);
        let key = Self {
            run: u32::from_str_radix(part()?, 16)?,
            number: u32::from_str_radix(part()?, 16)?,
            first: u32::from_str_radix(part()?, 16)?,
            due_us: u64::from_str_radix(part()?, 16)?,
        };
        if parts.next().is_some() {
            return Err(NoKey);
        }
        Ok(key)
    }
}
