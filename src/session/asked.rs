//! The questions of OpenIM's v3 protocol, and their answers. They name messages by [`WireSeq`], as its clients count.

use bytes::Bytes;

use crate::{
    ids::WireSeq,
    message::{Conversation, Numbers},
};

/// The most ranges of one question, and the most named conversations. Further ones get no answer. A user of 2,000 conversations has
/// one range of each in one question.
pub const RANGES_MAX: usize = 2000;
/// The most bytes of the messages of one answer to [`Question::Ranges`]: what OpenIM's clients take in one frame.
pub const RANGES_BYTES_MAX: usize = 1 << 20;

/// A question of OpenIM's v3 protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// All conversations, the newest [`OVERVIEW_MAX`](crate::message::OVERVIEW_MAX) of them, each with how far this
    /// session has received it.
    Reached,
    /// These conversations, at most [`RANGES_MAX`]. None: all, the newest
    /// [`OVERVIEW_MAX`](crate::message::OVERVIEW_MAX) of them.
    Overview(Vec<String>),
    /// The messages of some ranges.
    Ranges {
        /// The ranges; at most [`RANGES_MAX`].
        ranges: Vec<Range>,
        /// The most bytes of all messages together; at most [`RANGES_BYTES_MAX`]. The newest messages of each range are kept.
        bytes: usize,
        /// True if the client catches up with them; false: its app shows history.
        is_pull: bool,
    },
}

/// A range of a conversation, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The id of the conversation.
    pub conversation_id: String,
    /// The first message.
    pub from: WireSeq,
    /// The last message. Below `from`, the range is empty.
    pub to: WireSeq,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Reached`].
    Reached(Vec<Standing>),
    /// To [`Question::Overview`]: the conversations, those with the newest messages first, or as named. Unknown ones are left out.
    Overview(Vec<Conversation>),
    /// To [`Question::Ranges`]: one for each range, in order.
    Ranges(Vec<RangeAnswer>),
}

/// How far a session has received a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The conversation.
    pub conversation: Conversation,
    /// The session was sent everything up to this message, and nothing above it.
    pub reached: WireSeq,
}

/// The messages of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The conversation; `None` if it is unknown.
    pub conversation: Option<Conversation>,
    /// The messages that are still there, ascending; the newest that fit.
    pub messages: Vec<(Numbers, Bytes)>,
}
