//! The bases of a conversation: how its numbers are told to clients that know nothing of epochs.
//!
//! Such a client keeps only what is above the highest number that it has seen. So each epoch of the log has a base, and a message is
//! told as base + conversation seq, with the base of the epoch in which it was stored. A message keeps this number for ever. Between two
//! epochs the numbers have a hole.

use crate::ids::{ConversationSeq, WireSeq};

/// A base of a conversation: it counts for the messages above `after`, up to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochBase {
    /// The conversation's head before its first message with this base.
    pub after: ConversationSeq,
    /// The base of the epoch in which these messages were stored.
    pub base: u32,
}

/// The bases of a conversation, ascending in both numbers. The messages before the first one have base 0. Without a change of the
/// epoch there are none, and they cost no allocation. Each further one is an operator's act.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bases(Vec<EpochBase>);

impl Bases {
    /// The bases, ascending.
    pub fn all(&self) -> &[EpochBase] {
        &self.0
    }

    /// The base of the conversation's newest messages.
    pub fn newest(&self) -> u32 {
        self.0.last().map_or(0, |last| last.base)
    }

    /// The base of the message with this conversation seq.
    pub fn of(&self, seq: ConversationSeq) -> u32 {
        let earlier = self.0.iter().rev().find(|base| base.after < seq);
        earlier.map_or(0, |base| base.base)
    }

    /// The number under which clients without epochs know a conversation seq. 0 stays 0.
    pub fn wire_of(&self, seq: ConversationSeq) -> WireSeq {
        WireSeq(seq.0.saturating_add(self.of(seq).into()))
    }

    /// The conversation seq that clients without epochs know under this number. A number within a hole gives the newest message
    /// before the hole.
    pub fn seq_of(&self, wire: WireSeq) -> ConversationSeq {
        let mut most = ConversationSeq(u64::MAX);
        for EpochBase { after, base } in self.0.iter().rev() {
            let seq = ConversationSeq(wire.0.saturating_sub((*base).into()));
            if seq > *after {
                return seq.min(most);
            }
            most = *after;
        }
        ConversationSeq(wire.0).min(most)
    }

    /// These, and the base of the messages that are stored from now on, above `after`.
    #[must_use]
    pub fn then(mut self, added: EpochBase) -> Self {
        // A log whose epoch was lost goes on with the base that it had.
        if added.base > self.newest() {
            self.0.push(added);
        }
        self
    }

    /// All messages with the newest base.
    #[must_use]
    pub fn dense(&self) -> Self {
        let mut dense = Self::default();
        dense.add(EpochBase {
            after: ConversationSeq::ZERO,
            base: self.newest(),
        });
        dense
    }

    /// The conversation seq up to which a client has messages that names its last one by this number, and may have learned the number
    /// in an earlier epoch. Such a number means at most what that epoch left.
    pub fn held_by(&self, wire: WireSeq) -> ConversationSeq {
        let mut most = ConversationSeq(u64::MAX);
        for EpochBase { after, base } in self.0.iter().rev() {
            if let Some(seq) = wire.0.checked_sub((*base).into()) {
                return ConversationSeq(seq).min(most);
            }
            most = most.min(*after);
        }
        ConversationSeq(wire.0).min(most)
    }

    /// Adds a base, which counts for the messages above `after`. A base that is known counts from its lowest `after` on: a later
    /// message may have told of it before an earlier one.
    pub fn add(&mut self, added: EpochBase) {
        match self.0.binary_search_by_key(&added.base, |base| base.base) {
            Ok(at) => self.0[at].after = self.0[at].after.min(added.after),
            Err(at) if added.base > 0 => self.0.insert(at, added),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 messages of the first epoch, 5 of the second, and later ones of the third.
    fn bases() -> Bases {
        let mut bases = Bases::default();
        for (after, base) in [(40, 1000), (45, 3000)] {
            let after = ConversationSeq(after);
            bases.add(EpochBase { after, base });
        }
        bases
    }

    #[test]
    fn a_message_is_told_with_the_base_of_its_epoch() {
        let bases = bases();
        for (seq, wire) in [
            (0, 0),
            (1, 1),
            (40, 40),
            (41, 1041),
            (45, 1045),
            (46, 3046),
            (99, 3099),
        ] {
            assert_eq!(bases.wire_of(ConversationSeq(seq)), WireSeq(wire));
            assert_eq!(bases.seq_of(WireSeq(wire)), ConversationSeq(seq));
        }
        assert_eq!(bases.newest(), 3000);
        let most = ConversationSeq(u64::MAX);
        assert_eq!(bases.wire_of(most), WireSeq(u64::MAX));
    }

    #[test]
    fn a_number_within_a_hole_is_the_message_before_the_hole() {
        let bases = bases();
        for (wire, seq) in [
            (41, 40),
            (50, 40),
            (1000, 40),
            (1040, 40),
            (1046, 45),
            (3045, 45),
        ] {
            assert_eq!(bases.seq_of(WireSeq(wire)), ConversationSeq(seq));
        }
    }

    #[test]
    fn without_a_change_both_numbers_are_the_same() {
        let bases = Bases::default();
        for number in [0, 1, 77, u64::MAX] {
            assert_eq!(bases.wire_of(ConversationSeq(number)), WireSeq(number));
            assert_eq!(bases.seq_of(WireSeq(number)), ConversationSeq(number));
        }
    }

    #[test]
    fn a_conversation_that_began_in_a_later_epoch_has_nothing_before_its_base() {
        let mut bases = Bases::default();
        let after = ConversationSeq::ZERO;
        bases.add(EpochBase { after, base: 1000 });
        assert_eq!(bases.wire_of(ConversationSeq(1)), WireSeq(1001));
        assert_eq!(bases.wire_of(after), WireSeq(0));
        assert_eq!(bases.seq_of(WireSeq(500)), after);
        assert_eq!(bases.seq_of(WireSeq(1001)), ConversationSeq(1));
    }

    #[test]
    fn bases_may_be_told_in_any_order_and_more_than_once() {
        let mut told = Bases::default();
        for (after, base) in [(46, 3000), (44, 1000), (40, 1000), (45, 3000), (9, 0)] {
            let after = ConversationSeq(after);
            told.add(EpochBase { after, base });
        }
        assert_eq!(told, bases());
    }
}
