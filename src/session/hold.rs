//! Pushes that wait until the client has asked where it stands: `Manner`.
//!
//! A client that sifts drops what it has, and one that forgets takes everything as it comes. Each asks first what there is. A push
//! before the answer would come twice or out of order.

use std::time::Duration;

use super::{Answer, Manner, Moment};

/// The longest wait for a question: a client that asks does so with its first frames. A client of OpenIM whose link breaks
/// twice within 5 s does not ask at all.
const ASKED_WITHIN: Duration = Duration::from_secs(1);

/// Why pushes wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// How far the session has received each conversation is not answered, and this moment has not come.
    Reached(Moment),
    /// The overview is not answered. A client without a store always asks for it; before that it can place no message.
    Overview,
    /// No range is answered, and this moment has not come.
    Ranges(Moment),
}

impl Hold {
    /// The hold of a session that opens now.
    pub(super) fn new(manner: Manner, now: Moment) -> Option<Self> {
        match manner {
            Manner::Acks => None,
            Manner::Sifts => Some(Self::Reached(now.plus(ASKED_WITHIN))),
            Manner::Forgets => Some(Self::Overview),
        }
    }

    /// The hold after an answer. `is_whole`: an overview of all conversations.
    pub(super) fn after(self, answer: &Answer, is_whole: bool, now: Moment) -> Option<Self> {
        match (self, answer) {
            (Self::Reached(_), Answer::Reached(_)) | (Self::Ranges(_), Answer::Ranges(_)) => None,
            (Self::Overview, Answer::Overview(_)) if is_whole => {
                Some(Self::Ranges(now.plus(ASKED_WITHIN)))
            }
            _ => Some(self),
        }
    }

    /// True if the time for the question is over.
    pub(super) fn is_over(self, now: Moment) -> bool {
        match self {
            Self::Reached(until) | Self::Ranges(until) => now >= until,
            Self::Overview => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms)
    }

    #[test]
    fn who_acks_waits_for_nothing_and_who_sifts_for_a_second_at_most() {
        assert_eq!(Hold::new(Manner::Acks, at(0)), None);
        let hold = Hold::new(Manner::Sifts, at(500)).expect("waits");
        assert!(!hold.is_over(at(1499)) && hold.is_over(at(1500)));
        let ranges = Answer::Ranges(Vec::new());
        assert_eq!(hold.after(&ranges, false, at(600)), Some(hold));
        let reached = Answer::Reached(Vec::new());
        assert_eq!(hold.after(&reached, false, at(600)), None);
    }

    #[test]
    fn who_forgets_waits_for_the_whole_overview_and_then_a_second_for_ranges() {
        let hold = Hold::new(Manner::Forgets, at(0)).expect("waits");
        assert!(!hold.is_over(at(100_000)));
        let overview = Answer::Overview(Vec::new());
        assert_eq!(hold.after(&overview, false, at(2000)), Some(hold));
        let next = hold.after(&overview, true, at(2000)).expect("waits on");
        assert!(!next.is_over(at(2999)) && next.is_over(at(3000)));
        assert_eq!(next.after(&overview, true, at(2500)), Some(next));
        assert_eq!(
            next.after(&Answer::Ranges(Vec::new()), false, at(2500)),
            None
        );
    }
}
