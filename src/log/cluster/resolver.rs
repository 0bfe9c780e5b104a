//! The resolver of unknown outcomes. Pure.
//!
//! The answer to a group may be lost while the group commits, has committed, or waits in the store to commit later. The lane
//! then sets a fence at the group's number. The fence waits for a transaction that holds the lane, and keeps out one that comes
//! later. After it the lane's newest number tells whether the group committed. The rows of a lane travel with its messages, so the
//! answer is right on another primary too.

use super::engine::EngineError;

/// The next step of a lane with its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LaneStep {
    /// Append the group with this number.
    Append(u64),
    /// Set a fence at this number, after a pause.
    Fence(u64),
    /// Append the group with this number, after a pause: the store is away.
    AppendLater(u64),
    /// The group committed, and its answer was lost: read its entries.
    LookUp,
    /// The group is nowhere, and the store refuses it: append its messages one by one.
    Split,
    /// The message is nowhere, and the store refuses it.
    Refuse,
    /// The store answered.
    Answered,
}

/// The attempts of one group, from its first number to its outcome.
#[derive(Debug)]
pub(super) struct Attempt {
    number: u64,
    /// True if the group has one message.
    is_single: bool,
    /// The store refused the group once.
    was_refused: bool,
}

impl Attempt {
    /// The first attempt of a group, behind the lane's group with the number `newest`.
    pub(super) fn new(newest: u64, is_single: bool) -> (Self, LaneStep) {
        let attempt = Self {
            number: newest + 1,
            is_single,
            was_refused: false,
        };
        let step = LaneStep::Append(attempt.number);
        (attempt, step)
    }

    /// The number of the newest attempt. No later group of the lane has a number up to this.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The store answered the append with this, or a deadline passed (`Unknown`).
    pub(super) fn appended(&mut self, outcome: Result<(), &EngineError>) -> LaneStep {
        match outcome {
            Ok(()) => LaneStep::Answered,
            Err(EngineError::Unknown(_)) => LaneStep::Fence(self.number),
            Err(EngineError::Away(_)) => LaneStep::AppendLater(self.number),
            Err(EngineError::Refused(_) | EngineError::Damaged(_)) if !self.was_refused => {
                self.was_refused = true;
                LaneStep::Append(self.number)
            }
            Err(_) if self.is_single => LaneStep::Refuse,
            Err(_) => LaneStep::Split,
        }
    }

    /// The store answered the fence with the number of the lane's newest group.
    pub(super) fn fenced(&mut self, outcome: Result<u64, &EngineError>) -> LaneStep {
        match outcome {
            Ok(newest) if newest >= self.number => LaneStep::LookUp,
            Ok(_) => {
                // The fence forbids the old number for ever.
                self.number += 1;
                LaneStep::Append(self.number)
            }
            Err(_) => LaneStep::Fence(self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> EngineError {
        EngineError::Unknown("the connection was lost".into())
    }

    fn refused() -> EngineError {
        EngineError::Refused("a deadlock".into())
    }

    #[test]
    fn a_group_goes_again_only_under_another_number_and_behind_a_fence() {
        let (mut attempt, step) = Attempt::new(6, false);
        assert_eq!(step, LaneStep::Append(7));
        assert_eq!(attempt.appended(Err(&unknown())), LaneStep::Fence(7));
        assert_eq!(attempt.fenced(Ok(6)), LaneStep::Append(8));
        assert_eq!(attempt.appended(Ok(())), LaneStep::Answered);
        assert_eq!(attempt.number(), 8);
    }

    #[test]
    fn a_group_that_committed_is_looked_up_and_never_goes_again() {
        let (mut attempt, _) = Attempt::new(6, false);
        attempt.appended(Err(&unknown()));
        assert_eq!(attempt.fenced(Ok(7)), LaneStep::LookUp);
        assert_eq!(attempt.number(), 7);
    }

    #[test]
    fn a_fence_without_an_answer_is_set_again() {
        let (mut attempt, _) = Attempt::new(0, true);
        attempt.appended(Err(&unknown()));
        for error in [unknown(), refused(), EngineError::Away("".into())] {
            assert_eq!(attempt.fenced(Err(&error)), LaneStep::Fence(1));
        }
    }

    #[test]
    fn a_group_that_the_store_refuses_twice_is_taken_apart() {
        let (mut attempt, _) = Attempt::new(0, false);
        assert_eq!(attempt.appended(Err(&refused())), LaneStep::Append(1));
        assert_eq!(attempt.appended(Err(&refused())), LaneStep::Split);
        let (mut single, _) = Attempt::new(0, true);
        assert_eq!(single.appended(Err(&refused())), LaneStep::Append(1));
        assert_eq!(single.appended(Err(&refused())), LaneStep::Refuse);
    }

    #[test]
    fn a_store_that_is_away_has_done_nothing_so_the_number_stays() {
        let (mut attempt, _) = Attempt::new(0, false);
        let away = EngineError::Away("".into());
        assert_eq!(attempt.appended(Err(&away)), LaneStep::AppendLater(1));
        assert_eq!(attempt.number(), 1);
    }
}
