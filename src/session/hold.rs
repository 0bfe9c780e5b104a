//! Pushes that wait until the client has asked where it stands: `Manner`.
//!
//! A client that sifts drops what it has, and one that forgets takes everything as it comes. Each asks first what there is. A push
//! before the answer would come twice or out of order. A question that may not come has its time only from the moment at which the
//! client is known to have read all before it: a slow client must not lose its turn.

use std::time::Duration;

use super::{Manner, Moment, Question, window::RECEIPT_TIMEOUT};
use crate::ids::Seq;

/// The longest wait for a question of a client that has read all before it: a client that asks does so at once. A Go core whose
/// link breaks twice within 5 s does not ask at all.
const ASKED_WITHIN: Duration = Duration::from_secs(1);
/// After a pull of so many messages the JavaScript SDK pulls once more, with the ranges that are left or with none. What is pushed
/// in between it does not count, and neither what is pushed right behind an answer.
const PULL_GOES_ON: u64 = 100;
/// The longest wait for that pull, from the same moment on: some ten times what a phone takes to tell its app of a full answer. The
/// first pull after an overview has as long if the session lacks some of it: the page may be busy.
const PULLED_WITHIN: Duration = Duration::from_secs(10);

/// Why pushes wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// The question about how far the session has received each conversation is not answered, and may not be asked.
    Reached(Wait),
    /// The overview is not answered. A client without a store always asks for it; before that it can place no message. With it
    /// the entry up to which the session had everything when it was last here, if it was.
    Overview(Option<Seq>),
    /// The client may pull, or pull once more.
    Pull(Wait),
}

/// The time for a question that may not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// The time is over at this moment.
    until: Moment,
    /// The time from the moment at which the client is known to have read all that was sent before; `None`: that moment has come.
    once_read: Option<Duration>,
}

/// A question, as far as pushes wait for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskKind {
    /// [`Question::Reached`].
    Reached,
    /// [`Question::Overview`] of all conversations.
    Overview,
    /// A pull; true: another one follows.
    Pull(bool),
    /// Anything else.
    Other,
}

impl AskKind {
    pub(super) fn of(question: &Question) -> Self {
        match question {
            Question::Reached => Self::Reached,
            Question::Overview(named) if named.is_empty() => Self::Overview,
            Question::Ranges {
                ranges,
                is_pull: true,
                ..
            } => {
                let wanted = ranges.iter().map(|range| {
                    let before = range.from.0.saturating_sub(1);
                    range.to.0.saturating_sub(before)
                });
                Self::Pull(wanted.fold(0, u64::saturating_add) >= PULL_GOES_ON)
            }
            Question::Overview(_) | Question::Ranges { .. } => Self::Other,
        }
    }
}

impl Wait {
    /// A wait for this long once the client has read all that was sent before now. Without a receipt it ends when a receipt is overdue.
    fn new(now: Moment, within: Duration) -> Self {
        Self {
            until: now.plus(RECEIPT_TIMEOUT),
            once_read: Some(within),
        }
    }

    /// The client has read all that was sent before now.
    fn read(self, now: Moment) -> Self {
        let within = self.once_read;
        Self {
            until: within.map_or(self.until, |within| now.plus(within)),
            once_read: None,
        }
    }
}

impl Hold {
    /// The hold of a session that opens now. If it is a wait, a ping goes out with it, whose pong is its receipt; likewise below.
    /// `stored`: the cursor of a session that was here before.
    pub(super) fn new(manner: Manner, stored: Option<Seq>, now: Moment) -> Option<Self> {
        match manner {
            Manner::Acks => None,
            Manner::Sifts => Some(Self::Reached(Wait::new(now, ASKED_WITHIN))),
            Manner::Forgets => Some(Self::Overview(stored)),
        }
    }

    /// The hold after an answer. `shown`: the newest entry that an overview shows.
    pub(super) fn after(self, kind: AskKind, shown: Option<Seq>, now: Moment) -> Option<Self> {
        match (self, kind) {
            (Self::Reached(_), AskKind::Reached) => None,
            (Self::Overview(stored), AskKind::Overview) => {
                let lacks_some = stored.is_some() && shown > stored;
                let within = if lacks_some {
                    PULLED_WITHIN
                } else {
                    ASKED_WITHIN
                };
                Some(Self::Pull(Wait::new(now, within)))
            }
            (Self::Pull(_), AskKind::Pull(false)) => {
                Some(Self::Pull(Wait::new(now, Duration::ZERO)))
            }
            (Self::Pull(_), AskKind::Pull(true)) => Some(Self::Pull(Wait::new(now, PULLED_WITHIN))),
            _ => Some(self),
        }
    }

    /// The hold after the client is known to have read all that was sent.
    pub(super) fn read(self, now: Moment) -> Self {
        match self {
            Self::Reached(wait) => Self::Reached(wait.read(now)),
            Self::Overview(stored) => Self::Overview(stored),
            Self::Pull(wait) => Self::Pull(wait.read(now)),
        }
    }

    /// True if nothing more is waited for: the client has read the answer to its last pull.
    pub(super) fn is_settled(self, now: Moment) -> bool {
        matches!(self, Self::Pull(_)) && self.is_over(now)
    }

    /// True if the time for the question is over.
    pub(super) fn is_over(self, now: Moment) -> bool {
        match self {
            Self::Reached(wait) | Self::Pull(wait) => now >= wait.until,
            Self::Overview(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::WireSeq, session::Range};

    fn at(ms: u64) -> Moment {
        Moment(ms)
    }

    /// The hold is over at this ms and not before.
    #[track_caller]
    fn assert_over_at(hold: Hold, ms: u64) {
        assert!(!hold.is_over(at(ms - 1)) && hold.is_over(at(ms)));
    }

    #[test]
    fn who_acks_waits_for_nothing_and_who_sifts_for_a_second_after_its_first_receipt() {
        assert_eq!(Hold::new(Manner::Acks, None, at(0)), None);
        let hold = Hold::new(Manner::Sifts, None, at(500)).expect("waits");
        assert_over_at(hold, 30_500);
        let hold = hold.read(at(2000));
        assert_over_at(hold, 3000);
        assert_eq!(hold.read(at(2500)), hold, "the first receipt counts");
        for other in [AskKind::Overview, AskKind::Pull(false), AskKind::Other] {
            assert_eq!(hold.after(other, None, at(2600)), Some(hold));
        }
        assert_eq!(hold.after(AskKind::Reached, None, at(2600)), None);
    }

    #[test]
    fn who_forgets_waits_for_the_whole_overview_and_then_until_it_pulls_no_more() {
        let hold = Hold::new(Manner::Forgets, None, at(0)).expect("waits");
        assert!(!hold.read(at(0)).is_over(at(100_000)));
        assert_eq!(hold.after(AskKind::Other, None, at(2000)), Some(hold));
        let hold = hold
            .after(AskKind::Overview, None, at(2000))
            .expect("waits on");
        assert_over_at(hold, 32_000);
        assert_over_at(hold.read(at(9000)), 10_000);
        assert_eq!(hold.after(AskKind::Overview, None, at(2500)), Some(hold));
        assert_eq!(hold.after(AskKind::Other, None, at(2500)), Some(hold));
        let hold = hold
            .after(AskKind::Pull(true), None, at(9500))
            .expect("waits on");
        assert_over_at(hold, 39_500);
        let hold = hold.read(at(12_000));
        assert_over_at(hold, 22_000);
        let hold = hold.after(AskKind::Pull(false), None, at(12_500));
        let hold = hold.expect("the client does not count what comes right behind");
        assert_over_at(hold, 42_500);
        assert_over_at(hold.read(at(12_600)), 12_600);
    }

    #[test]
    fn who_forgets_and_lacks_some_of_the_overview_has_longer_to_pull() {
        for (stored, shown, ms) in [
            (None, 7, 1000),
            (Some(Seq(7)), 7, 1000),
            (Some(Seq(6)), 7, 10_000),
        ] {
            let hold = Hold::new(Manner::Forgets, stored, at(0)).expect("waits");
            let hold = hold.after(AskKind::Overview, Some(Seq(shown)), at(5));
            assert_over_at(hold.expect("waits on").read(at(2000)), 2000 + ms);
        }
    }

    #[test]
    fn a_pull_of_a_hundred_messages_is_not_the_last() {
        let asked = |ranges: &[(u64, u64)], is_pull| {
            let ranges = ranges.iter().map(|(from, to)| Range {
                conversation_id: "a".into(),
                from: WireSeq(*from),
                to: WireSeq(*to),
            });
            AskKind::of(&Question::Ranges {
                ranges: ranges.collect(),
                bytes: 0,
                is_pull,
            })
        };
        assert_eq!(asked(&[], true), AskKind::Pull(false));
        assert_eq!(asked(&[(2, 100), (5, 4)], true), AskKind::Pull(false));
        assert_eq!(asked(&[(1, 50), (101, 150)], true), AskKind::Pull(true));
        assert_eq!(asked(&[(1, u64::MAX), (1, 2)], true), AskKind::Pull(true));
        assert_eq!(asked(&[(1, 100)], false), AskKind::Other);
    }
}
