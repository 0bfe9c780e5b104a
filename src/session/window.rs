//! The pushes that were sent and are not yet acked: how many more may be sent, when to send again, when to give up.
//!
//! Invariant: `acked <= sent <= highest`. A rewind moves `sent` back; `highest` stays, because a client may still ack
//! messages that it got before the rewind. Entries announced by a `Gap` hold no message: they take no room in the window
//! and wait for no ack.

use std::time::Duration;

use super::{Limits, Moment};
use crate::ids::Seq;

/// The longest wait for a receipt from a client to which nothing is sent twice. OpenIM's own core ends a connection on which
/// it hears nothing for this long.
pub(super) const RECEIPT_TIMEOUT: Duration = Duration::from_secs(30);
/// After this many rewinds without an ack in between the connection is closed: `docs/protocol.md#acks`.
const REWINDS_MAX: u8 = 5;
/// The longest wait for an ack before the next rewind: `docs/protocol.md#acks`.
const RESEND_AFTER_MAX: Duration = Duration::from_secs(60);

/// The result of [`Window::tick`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing is overdue.
    No,
    /// The window was rewound: send again, beginning after the acked seq.
    Rewound,
    /// Too many rewinds: close the connection.
    GivenUp,
}

/// An ack above everything that was ever sent on this connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AheadOfSent;

#[derive(Debug)]
pub(super) struct Window {
    acked: Seq,
    sent: Seq,
    highest: Seq,
    /// The highest message ever sent. An ack is awaited while `acked` is below it.
    due: Seq,
    /// The announced gaps within `acked..=sent`, ascending and not adjacent. There is at most one more than the window,
    /// because a message lies between two gaps.
    gaps: Vec<(Seq, Seq)>,
    /// The moment at which the awaited acks are overdue.
    deadline: Moment,
    rewinds: u8,
    /// The approximate bytes of replayed messages that are unacked. An ack of some of them removes a share in proportion to
    /// their number.
    replayed_bytes: u32,
}

impl Window {
    /// A window in which nothing after `cursor` was sent.
    pub(super) fn new(cursor: Seq) -> Self {
        Self {
            acked: cursor,
            sent: cursor,
            highest: cursor,
            due: Seq::ZERO,
            gaps: Vec::new(),
            deadline: Moment::default(),
            rewinds: 0,
            replayed_bytes: 0,
        }
    }

    /// Everything up to this seq was sent, or announced as a gap.
    pub(super) fn sent(&self) -> Seq {
        self.sent
    }

    /// Everything up to this seq was sent at least once on this connection.
    pub(super) fn highest(&self) -> Seq {
        self.highest
    }

    /// The number of messages that may still be sent.
    pub(super) fn room(&self, limits: &Limits) -> usize {
        if self.replayed_bytes >= limits.replayed_bytes_max {
            return 0;
        }
        u64::from(limits.window).saturating_sub(self.unacked()) as usize
    }

    /// Messages up to `seq` were sent. The first of them is the next after [`Self::sent`].
    pub(super) fn push(&mut self, seq: Seq, now: Moment, limits: &Limits) {
        debug_assert!(seq > self.sent, "pushes ascend");
        if self.due <= self.acked {
            self.deadline = now.plus(limits.resend_after);
        }
        self.sent = seq;
        self.due = self.due.max(seq);
        self.highest = self.highest.max(seq);
    }

    /// This many bytes of the pushed messages came from the log.
    pub(super) fn note_replayed(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.replayed_bytes = self.replayed_bytes.saturating_add(bytes);
    }

    /// The entries up to `seq` were announced as a gap. Returns the first seq of the gap.
    pub(super) fn skip(&mut self, seq: Seq) -> Seq {
        debug_assert!(seq > self.sent, "gaps ascend");
        let from = self.sent.next();
        match self.gaps.last_mut() {
            Some((_, to)) if to.next() == from => *to = seq,
            _ => self.gaps.push((from, seq)),
        }
        self.sent = seq;
        self.highest = self.highest.max(seq);
        from
    }

    /// The client stored everything up to `seq`. Returns the number of entries by which the cursor moved; 0 for an old ack.
    pub(super) fn ack(
        &mut self,
        seq: Seq,
        now: Moment,
        limits: &Limits,
    ) -> Result<u64, AheadOfSent> {
        if seq > self.highest {
            return Err(AheadOfSent);
        }
        if seq <= self.acked {
            return Ok(0);
        }
        let advanced = seq.0 - self.acked.0;
        let unacked = self.unacked();
        self.acked = seq;
        self.sent = self.sent.max(seq);
        self.gaps.retain(|(_, to)| *to > seq);
        if self.gaps.is_empty() {
            self.gaps = Vec::new();
        }
        self.shrink_from(unacked);
        self.rewinds = 0;
        self.deadline = now.plus(limits.resend_after);
        Ok(advanced)
    }

    /// The client asks for everything after `seq` again. Acked messages are not sent again. The deadline stays, because
    /// only acks are progress.
    pub(super) fn rewind_to(&mut self, seq: Seq) {
        let seq = seq.max(self.acked);
        if seq < self.sent {
            let unacked = self.unacked();
            self.sent = seq;
            self.gaps.retain(|(_, to)| *to <= seq);
            self.shrink_from(unacked);
        }
    }

    /// The receipt of what was sent may lie where it is not read yet: its time begins now.
    pub(super) fn wait_anew(&mut self, now: Moment, limits: &Limits) {
        self.deadline = now.plus(self.resend_after(limits));
    }

    /// Time passed. Acks are not overdue while sent frames still wait in the outbox: a resend would only lengthen the queue
    /// of a slow client.
    pub(super) fn tick(&mut self, now: Moment, is_flushed: bool, limits: &Limits) -> Overdue {
        if self.due <= self.acked || now < self.deadline {
            return Overdue::No;
        }
        if !is_flushed {
            self.deadline = now.plus(self.resend_after(limits));
            return Overdue::No;
        }
        if self.rewinds == REWINDS_MAX {
            return Overdue::GivenUp;
        }
        self.rewinds += 1;
        self.deadline = now.plus(self.resend_after(limits));
        self.rewind_to(self.acked);
        Overdue::Rewound
    }

    /// The number of messages sent and not acked.
    fn unacked(&self) -> u64 {
        let gaps: u64 = self
            .gaps
            .iter()
            .map(|(from, to)| to.0 - from.0.max(self.acked.0 + 1) + 1)
            .sum();
        self.sent.0 - self.acked.0 - gaps
    }

    /// The number of unacked messages fell from `before`; the replayed bytes shrink in proportion. Gaps do not count,
    /// because no client has to ack them: a share kept for a gap would never be released.
    fn shrink_from(&mut self, before: u64) {
        let left = u64::from(self.replayed_bytes) * self.unacked();
        let left = left.checked_div(before).unwrap_or(0);
        self.replayed_bytes = u32::try_from(left).unwrap_or(u32::MAX);
    }

    fn resend_after(&self, limits: &Limits) -> Duration {
        (limits.resend_after * (1 << self.rewinds)).min(RESEND_AFTER_MAX.max(limits.resend_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        window: 4,
        replayed_bytes_max: 1000,
        resend_after: Duration::from_secs(5),
        heartbeat: Duration::from_secs(30),
        stall_timeout: Duration::from_secs(20),
        starts_at_head: false,
    };

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1000)
    }

    #[test]
    fn at_most_a_window_of_messages_is_unacked() {
        let mut window = Window::new(Seq(10));
        assert_eq!(window.room(&LIMITS), 4);
        window.push(Seq(14), at(0), &LIMITS);
        assert_eq!(window.room(&LIMITS), 0);
        assert_eq!(window.ack(Seq(12), at(0), &LIMITS), Ok(2));
        assert_eq!(window.room(&LIMITS), 2);
    }

    #[test]
    fn so_many_bytes_unacked_leave_no_room_and_acks_and_rewinds_take_their_share() {
        let mut window = Window::new(Seq(10));
        window.push(Seq(12), at(0), &LIMITS);
        window.note_replayed(1000);
        assert_eq!(window.room(&LIMITS), 0);
        assert_eq!(window.ack(Seq(11), at(0), &LIMITS), Ok(1));
        assert_eq!(window.room(&LIMITS), 3);
        window.push(Seq(14), at(0), &LIMITS);
        window.note_replayed(500);
        assert_eq!(window.room(&LIMITS), 0);
        window.rewind_to(Seq(13));
        assert_eq!(window.room(&LIMITS), 2);
        assert_eq!(window.ack(Seq(14), at(0), &LIMITS), Ok(3));
        assert_eq!(window.replayed_bytes, 0);
        assert_eq!(window.room(&LIMITS), 4);
    }

    /// Regression: a gap behind the messages that no client acked kept a share of the bytes, and the session stalled for
    /// ever.
    #[test]
    fn when_all_messages_are_acked_no_bytes_are_left_whatever_gaps_follow() {
        let mut window = Window::new(Seq::ZERO);
        window.push(Seq(3), at(0), &LIMITS);
        window.note_replayed(100_000);
        window.skip(Seq(1000));
        assert_eq!(window.room(&LIMITS), 0);
        assert_eq!(window.ack(Seq(3), at(0), &LIMITS), Ok(3));
        assert_eq!(window.room(&LIMITS), 4);
    }

    #[test]
    fn gaps_take_no_room_and_await_no_ack() {
        let mut window = Window::new(Seq::ZERO);
        assert_eq!(window.skip(Seq(1000)), Seq(1));
        assert_eq!(window.room(&LIMITS), 4);
        assert_eq!(window.tick(at(1000), true, &LIMITS), Overdue::No);
        window.push(Seq(1002), at(0), &LIMITS);
        window.skip(Seq(1003));
        window.skip(Seq(1004));
        assert_eq!(window.gaps, [(Seq(1), Seq(1000)), (Seq(1003), Seq(1004))]);
        assert_eq!(window.room(&LIMITS), 2);
        assert_eq!(window.ack(Seq(500), at(0), &LIMITS), Ok(500));
        assert_eq!(window.room(&LIMITS), 2);
        assert_eq!(window.ack(Seq(1002), at(0), &LIMITS), Ok(502));
        assert_eq!(window.room(&LIMITS), 4);
        assert_eq!(window.tick(at(1000), true, &LIMITS), Overdue::No);
    }

    #[test]
    fn an_ack_above_what_was_sent_is_an_error_and_one_below_the_acked_is_nothing() {
        let mut window = Window::new(Seq(10));
        window.push(Seq(12), at(0), &LIMITS);
        assert_eq!(window.ack(Seq(13), at(0), &LIMITS), Err(AheadOfSent));
        assert_eq!(window.ack(Seq(10), at(0), &LIMITS), Ok(0));
        assert_eq!(window.ack(Seq(3), at(0), &LIMITS), Ok(0));
    }

    #[test]
    fn rewinds_come_after_5_10_20_40_and_60_seconds_and_then_the_end() {
        let mut window = Window::new(Seq::ZERO);
        window.push(Seq(2), at(0), &LIMITS);
        for due in [5, 15, 35, 75, 135] {
            assert_eq!(
                window.tick(Moment(due * 1000 - 1), true, &LIMITS),
                Overdue::No
            );
            assert_eq!(window.tick(at(due), true, &LIMITS), Overdue::Rewound);
            assert_eq!(window.sent(), Seq::ZERO);
            window.push(Seq(2), at(due), &LIMITS);
        }
        assert_eq!(window.tick(at(194), true, &LIMITS), Overdue::No);
        assert_eq!(window.tick(at(195), true, &LIMITS), Overdue::GivenUp);
    }

    #[test]
    fn an_ack_begins_the_count_of_rewinds_anew() {
        let mut window = Window::new(Seq::ZERO);
        window.push(Seq(2), at(0), &LIMITS);
        assert_eq!(window.tick(at(5), true, &LIMITS), Overdue::Rewound);
        // Sent before the rewind, acked after it: the ack counts, and the message is not sent again.
        assert_eq!(window.ack(Seq(1), at(6), &LIMITS), Ok(1));
        assert_eq!(window.sent(), Seq(1));
        assert_eq!(window.tick(at(10), true, &LIMITS), Overdue::No);
        assert_eq!(window.tick(at(11), true, &LIMITS), Overdue::Rewound);
    }

    #[test]
    fn asking_to_resend_for_ever_is_not_progress() {
        let mut window = Window::new(Seq::ZERO);
        let mut rewinds = 0;
        for second in 0..1000 {
            if window.sent() < Seq(2) {
                window.push(Seq(2), at(second), &LIMITS);
            }
            match window.tick(at(second), true, &LIMITS) {
                Overdue::GivenUp => return assert_eq!(rewinds, 5),
                Overdue::Rewound => rewinds += 1,
                Overdue::No => window.rewind_to(Seq::ZERO),
            }
        }
        panic!("never given up");
    }

    #[test]
    fn nothing_is_sent_again_while_it_has_not_left_yet() {
        let mut window = Window::new(Seq::ZERO);
        window.push(Seq(2), at(0), &LIMITS);
        assert_eq!(window.tick(at(6), false, &LIMITS), Overdue::No);
        assert_eq!(window.tick(at(7), true, &LIMITS), Overdue::No);
        assert_eq!(window.tick(at(11), true, &LIMITS), Overdue::Rewound);
    }
}
