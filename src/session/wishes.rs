//! All that a session's client wished for and has not got. A session without wishes keeps no memory for them.

use super::{
    Moment,
    hold::{AskKind, Hold},
    marks::WaitingMarks,
    question::OpenQuestion,
    watch::WatchList,
};
use crate::ids::Seq;

/// The wishes of a client that are not fulfilled yet.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// The question that is not answered yet. No further frame is taken meanwhile.
    pub(super) question: Option<OpenQuestion>,
    /// The read marks of the last second, and those that wait.
    pub(super) marks: WaitingMarks,
    /// Why pushes wait; `None`: they do not.
    pub(super) hold: Option<Hold>,
    /// True if the client asked nothing in its time, and gets the newest messages instead: they show it what it misses.
    pub(super) needs_newest: bool,
    /// The client did not say what it has: up to this entry each message is a push of its own. Of a run of which it has a part it
    /// would pull the rest, and not count that as unread.
    pub(super) singly_to: Option<Seq>,
    /// The users whose presence the client watches.
    pub(super) watch: Option<WatchList>,
    /// True if the client waits for the presence of users that it has just named.
    pub(super) awaits_presence: bool,
}

impl Wishes {
    /// True if no message of the inbox may be sent: the client has not asked where it stands, or the answer to that is on its way.
    pub(super) fn hold_pushes(&self) -> bool {
        let asks = |question: &OpenQuestion| {
            matches!(
                question,
                OpenQuestion::Asked {
                    kind: AskKind::Reached,
                    ..
                }
            )
        };
        self.hold.is_some() || self.question.as_ref().is_some_and(asks)
    }

    /// True if the session takes the client's next frame.
    pub(super) fn take_more(&self) -> bool {
        self.question.is_none() && self.marks.has_room()
    }

    /// True if nothing is wished for any more.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.question.is_none()
            && self.hold.is_none()
            && !self.needs_newest
            && self.singly_to.is_none()
            && self.watch.is_none()
            && self.marks.is_over(now)
    }
}
