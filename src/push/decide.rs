//! The decision: which classes of a receiver's devices get a push, and when. Pure.
//!
//! A class is served when one of its sessions has the message. A session of `towncrier.v1` has what it acked. An OpenIM session has
//! what a later pull or a read mark proved. Its pong proves less: the socket received the message, and the app may have died before
//! it stored it. So a pong counts only at the deadline, while the session is connected and in foreground, and never of a browser,
//! whose frozen tabs answer.

use std::sync::Arc;

use crate::{
    config::{self, DeviceClass},
    ids::{ConversationSeq, Platform, Seq},
};

/// A message at one receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct PushCase {
    /// The message's seq in the inbox.
    pub(super) seq: Seq,
    /// The message's seq in its conversation.
    pub(super) conversation_seq: ConversationSeq,
    /// The time at which the message was accepted, Unix ms.
    pub(super) accepted_ms: u64,
}

/// The rules of a gateway.
#[derive(Debug, Clone, Default)]
pub(super) struct PushRules {
    /// `push.after`, in ms.
    pub(super) after_ms: u64,
    /// `push.unless_acked_on`.
    pub(super) unless_acked_on: Classes,
    /// No decision falls before this time, Unix ms: after a start clients need time to come back.
    pub(super) settled_ms: u64,
}

/// A set of device classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Classes(u8);

/// A session of the receiver that was seen before.
#[derive(Debug, Clone)]
pub(super) struct SessionFacts {
    pub(super) platform: Platform,
    pub(super) device: Arc<str>,
    pub(super) is_openim: bool,
    /// Everything between `begun` and it was acked, or received.
    pub(super) cursor: Seq,
    /// The session began behind it: it received nothing up to it.
    pub(super) begun: Seq,
    /// The time of the cursor's last move, Unix ms.
    pub(super) acked_at_ms: u64,
    /// An OpenIM session has everything up to it in the message's conversation, as a pull or a mark proved.
    pub(super) proven: ConversationSeq,
    /// True if it is connected now.
    pub(super) is_connected: bool,
    /// True if it is connected and its app is in background.
    pub(super) is_background: bool,
}

/// The proof by which a session has a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The client acked it.
    Ack,
    /// A later pull or a read mark of an OpenIM client.
    Later,
    /// The pong of an OpenIM client that is connected and in foreground at the deadline.
    Pong,
}

/// The outcome for one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClassStanding {
    /// This session, by its index, has the message.
    Served(usize, Proof),
    /// The decision falls at this time, Unix ms.
    Waits(u64),
    /// The devices of the class get a push now.
    Push,
}

impl Classes {
    pub(super) fn with(self, class: DeviceClass) -> Self {
        Self(self.0 | 1 << class as u8)
    }

    pub(super) fn has(self, class: DeviceClass) -> bool {
        self.0 & 1 << class as u8 != 0
    }

    /// The classes in both.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = DeviceClass> {
        DeviceClass::ALL
            .into_iter()
            .filter(move |class| self.has(*class))
    }

    /// The bits of the set, for a row.
    pub(super) fn bits(self) -> u32 {
        self.0.into()
    }

    /// The set with these bits. Unknown ones are left out.
    pub(super) fn from_bits(bits: u32) -> Self {
        DeviceClass::ALL
            .into_iter()
            .filter(|class| bits & 1 << *class as u32 != 0)
            .collect()
    }
}

impl FromIterator<DeviceClass> for Classes {
    fn from_iter<T: IntoIterator<Item = DeviceClass>>(classes: T) -> Self {
        classes.into_iter().fold(Self::default(), Self::with)
    }
}

impl PushRules {
    /// The rules of a gateway that starts now: no decision falls before clients had `push.after` to come back.
    pub(super) fn new(config: &config::Push, now_ms: u64) -> Self {
        let after_ms = config.after.as_millis() as u64;
        Self {
            after_ms,
            unless_acked_on: config.unless_acked_on.iter().copied().collect(),
            settled_ms: now_ms.saturating_add(after_ms),
        }
    }

    /// The time at which the decision about a message falls at the latest, Unix ms.
    pub(super) fn deadline_ms(&self, accepted_ms: u64) -> u64 {
        let deadline_ms = accepted_ms.saturating_add(self.after_ms);
        deadline_ms.max(self.settled_ms)
    }

    /// Decides about the classes `wanted`, those in which the receiver has a device. `absent`: the classes of which no session is
    /// connected, and none was for `push.after`. Call it before the deadline to serve and push early, and at the deadline: then no class
    /// waits.
    pub(super) fn decide(
        &self,
        case: PushCase,
        wanted: Classes,
        sessions: &[SessionFacts],
        absent: Classes,
        now_ms: u64,
    ) -> Vec<(DeviceClass, ClassStanding)> {
        let deadline_ms = self.deadline_ms(case.accepted_ms);
        let is_due = now_ms >= deadline_ms;
        let served = DeviceClass::ALL.map(|class| serving(case, class, sessions, is_due));
        let by_other = self.unless_acked_on.iter();
        let by_other = by_other.filter_map(|class| served[class as usize]).next();
        // A class that would serve the others is waited for, unless it is absent.
        let is_awaited = self.unless_acked_on.iter().any(|class| !absent.has(class));
        let standing = |class: DeviceClass| {
            if let Some((index, proof)) = served[class as usize].or(by_other) {
                return ClassStanding::Served(index, proof);
            }
            if is_due || absent.has(class) && !is_awaited {
                ClassStanding::Push
            } else {
                ClassStanding::Waits(deadline_ms)
            }
        };
        wanted
            .iter()
            .map(|class| (class, standing(class)))
            .collect()
    }
}

/// The session that serves a class, and its proof.
fn serving(
    case: PushCase,
    class: DeviceClass,
    sessions: &[SessionFacts],
    is_due: bool,
) -> Option<(usize, Proof)> {
    let of_class = sessions.iter().enumerate();
    let of_class = of_class.filter(|(_, session)| DeviceClass::of(session.platform) == Some(class));
    of_class
        .filter_map(|(index, session)| Some((index, proof(case, session, is_due)?)))
        .next()
}

/// The proof by which a session has the message, if there is one.
fn proof(case: PushCase, session: &SessionFacts, is_due: bool) -> Option<Proof> {
    let is_in_conversation = case.conversation_seq != ConversationSeq::ZERO;
    let is_received = session.cursor >= case.seq && session.begun < case.seq;
    if !session.is_openim {
        return is_received.then_some(Proof::Ack);
    }
    if is_in_conversation && session.proven >= case.conversation_seq {
        return Some(Proof::Later);
    }
    let is_browser = DeviceClass::of(session.platform) == Some(DeviceClass::Web);
    let is_awake = session.is_connected && !session.is_background && !is_browser;
    (is_due && is_awake && is_received).then_some(Proof::Pong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ClassStanding::{Push, Served, Waits};

    const MOBILE: DeviceClass = DeviceClass::Mobile;
    const PC: DeviceClass = DeviceClass::Pc;
    const WEB: DeviceClass = DeviceClass::Web;

    /// Message 5 of the inbox, 3 of its conversation, accepted at 1,000; the deadline is 11,000.
    const CASE: PushCase = PushCase {
        seq: Seq(5),
        conversation_seq: ConversationSeq(3),
        accepted_ms: 1000,
    };
    const EARLY: u64 = 1500;
    const DUE: u64 = 11_000;

    fn rules(unless_acked_on: &[DeviceClass]) -> PushRules {
        PushRules {
            after_ms: 10_000,
            unless_acked_on: unless_acked_on.iter().copied().collect(),
            settled_ms: 0,
        }
    }

    /// A connected session with this cursor.
    fn session(platform: Platform, cursor: u64) -> SessionFacts {
        SessionFacts {
            platform,
            device: "".into(),
            is_openim: false,
            cursor: Seq(cursor),
            begun: Seq::ZERO,
            acked_at_ms: 1200,
            proven: ConversationSeq::ZERO,
            is_connected: true,
            is_background: false,
        }
    }

    fn openim(platform: Platform, cursor: u64) -> SessionFacts {
        SessionFacts {
            is_openim: true,
            ..session(platform, cursor)
        }
    }

    /// The standing of the one class with devices.
    fn standing(
        rules: &PushRules,
        class: DeviceClass,
        sessions: &[SessionFacts],
        absent: &[DeviceClass],
        now_ms: u64,
    ) -> ClassStanding {
        let wanted = [class].into_iter().collect();
        let absent = absent.iter().copied().collect();
        let decided = rules.decide(CASE, wanted, sessions, absent, now_ms);
        assert_eq!(decided.len(), 1);
        decided[0].1
    }

    #[test]
    fn a_session_that_acked_serves_its_class_at_once() {
        let rules = rules(&[]);
        let acked = [session(Platform::Ios, 4), session(Platform::IPad, 5)];
        assert_eq!(
            standing(&rules, MOBILE, &acked, &[PC, WEB], EARLY),
            Served(1, Proof::Ack)
        );
    }

    #[test]
    fn a_class_that_is_online_and_did_not_ack_waits_for_the_deadline_and_is_pushed_then() {
        let rules = rules(&[]);
        let behind = [session(Platform::Android, 4)];
        let others = [PC, WEB];
        assert_eq!(
            standing(&rules, MOBILE, &behind, &others, EARLY),
            Waits(DUE)
        );
        assert_eq!(
            standing(&rules, MOBILE, &behind, &others, DUE - 1),
            Waits(DUE)
        );
        assert_eq!(standing(&rules, MOBILE, &behind, &others, DUE), Push);
    }

    #[test]
    fn a_class_that_left_a_moment_ago_waits_and_an_absent_one_is_pushed_at_once() {
        let rules = rules(&[]);
        assert_eq!(standing(&rules, MOBILE, &[], &[PC, WEB], EARLY), Waits(DUE));
        assert_eq!(standing(&rules, MOBILE, &[], &[MOBILE], EARLY), Push);
    }

    #[test]
    fn an_ack_of_another_class_serves_only_where_it_is_configured() {
        let acked = [session(Platform::Windows, 5)];
        let absent = [MOBILE, WEB];
        assert_eq!(standing(&rules(&[]), MOBILE, &acked, &absent, EARLY), Push);
        assert_eq!(
            standing(&rules(&[PC]), MOBILE, &acked, &absent, EARLY),
            Served(0, Proof::Ack)
        );
        // Until the deadline the PC may ack.
        let behind = [session(Platform::Windows, 4)];
        let rules = rules(&[PC]);
        assert_eq!(
            standing(&rules, MOBILE, &behind, &absent, EARLY),
            Waits(DUE)
        );
        assert_eq!(standing(&rules, MOBILE, &behind, &absent, DUE), Push);
        assert_eq!(standing(&rules, MOBILE, &[], &[MOBILE, PC], EARLY), Push);
    }

    #[test]
    fn a_pong_serves_only_at_the_deadline_of_a_client_that_is_connected_and_in_foreground() {
        let rules = rules(&[]);
        let pong = openim(Platform::Ios, 5);
        let of = |session: &SessionFacts, now_ms| {
            standing(&rules, MOBILE, std::slice::from_ref(session), &[], now_ms)
        };
        assert_eq!(of(&pong, EARLY), Waits(DUE));
        assert_eq!(of(&pong, DUE), Served(0, Proof::Pong));
        let background = SessionFacts {
            is_background: true,
            ..pong.clone()
        };
        assert_eq!(of(&background, DUE), Push);
        let gone = SessionFacts {
            is_connected: false,
            ..pong.clone()
        };
        assert_eq!(of(&gone, DUE), Push);
        assert_eq!(of(&openim(Platform::Ios, 4), DUE), Push);
    }

    #[test]
    fn a_pong_of_a_browser_serves_never_and_its_pull_or_mark_does() {
        let rules = rules(&[]);
        let mut sessions = [openim(Platform::Web, 5)];
        assert_eq!(standing(&rules, WEB, &sessions, &[], DUE), Push);
        sessions[0].proven = ConversationSeq(3);
        assert_eq!(
            standing(&rules, WEB, &sessions, &[], EARLY),
            Served(0, Proof::Later)
        );
    }

    #[test]
    fn a_session_that_began_behind_the_message_serves_only_by_a_pull_or_a_mark() {
        let rules = rules(&[]);
        for session in [session(Platform::Ios, 7), openim(Platform::Ios, 7)] {
            let began = |begun| SessionFacts {
                begun: Seq(begun),
                ..session.clone()
            };
            let of = |session: SessionFacts| standing(&rules, MOBILE, &[session], &[], DUE);
            assert_eq!(of(began(5)), Push);
            assert!(matches!(of(began(4)), Served(0, _)));
        }
        let mut proven = openim(Platform::Ios, 7);
        (proven.begun, proven.proven) = (Seq(7), ConversationSeq(3));
        let standing = standing(&rules, MOBILE, &[proven], &[], EARLY);
        assert_eq!(standing, Served(0, Proof::Later));
    }

    #[test]
    fn a_pull_or_a_mark_serves_also_when_its_client_has_left() {
        let rules = rules(&[]);
        let mut proven = openim(Platform::Android, 0);
        proven.is_connected = false;
        proven.proven = ConversationSeq(2);
        let sessions = [proven.clone()];
        assert_eq!(standing(&rules, MOBILE, &sessions, &[], DUE), Push);
        proven.proven = ConversationSeq(4);
        assert_eq!(
            standing(&rules, MOBILE, &[proven], &[MOBILE], EARLY),
            Served(0, Proof::Later)
        );
    }

    #[test]
    fn after_a_start_no_decision_falls_before_clients_had_time_to_come_back() {
        let rules = PushRules {
            settled_ms: 70_000,
            ..rules(&[])
        };
        assert_eq!(standing(&rules, MOBILE, &[], &[], 60_000), Waits(70_000));
        assert_eq!(standing(&rules, MOBILE, &[], &[], 70_000), Push);
    }

    #[test]
    fn each_class_with_devices_is_decided_by_itself() {
        let rules = rules(&[]);
        let sessions = [session(Platform::Osx, 5), session(Platform::Web, 4)];
        let wanted = Classes::from_bits(0xff);
        let absent = Classes::default().with(MOBILE);
        let decided = rules.decide(CASE, wanted, &sessions, absent, EARLY);
        let expected = [
            (MOBILE, Push),
            (PC, Served(0, Proof::Ack)),
            (WEB, Waits(DUE)),
        ];
        assert_eq!(decided, expected);
        assert_eq!(Classes::from_bits(wanted.bits()), wanted);
    }
}
