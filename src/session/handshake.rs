//! From a client's `Connect` to a session: where delivery resumes (`docs/protocol.md#a-connection-from-begin-to-end`), and
//! which gap is announced (`docs/protocol.md#epochs`).
//!
//! The connection checks the token and reads the session's state from the log. [`open`] decides the rest.

use super::{
    Action, Connected, Gap, GapReason, Limits, Manner, Moment, Resume, Session, SessionFault,
    ToClient, hold::Hold,
};
use crate::ids::{ConnectionId, Epoch, Platform, Seq};

/// The resume point that the log knows.
#[derive(Debug, Clone, Copy)]
pub struct Footing {
    /// The epoch of the log.
    pub epoch: Epoch,
    /// The highest seq of the inbox.
    pub head: Seq,
    /// The oldest retained seq; `head` + 1 when no message is retained.
    pub first: Seq,
    /// The stored cursor of this session.
    pub stored: Option<Seq>,
    /// True if damage hides the heads of inboxes: `head` may be too low.
    pub is_damaged: bool,
    /// True if the log keeps conversations and read marks.
    pub has_conversations: bool,
}

/// The fields of [`Connected`] that the connection knows.
#[derive(Debug, Clone, Copy)]
pub struct Welcome {
    /// The id of the connection.
    pub connection: ConnectionId,
    /// The platform of the session.
    pub platform: Platform,
    /// The server's clock, Unix ms.
    pub server_time_ms: u64,
}

/// The point where delivery begins.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    cursor: Seq,
    gap: Option<Gap>,
}

/// Opens the session. Perform the actions before any other event.
///
/// # Errors
/// [`SessionFault::LogDamaged`], if the log is damaged and its head is doubtful, or if it has no conversations and the client
/// counts by them.
pub fn open(
    resume: Resume,
    manner: Manner,
    footing: Footing,
    welcome: Welcome,
    limits: &Limits,
    now: Moment,
) -> Result<(Session, Vec<Action>), SessionFault> {
    // With a head that is too low, the client must not be treated as one of another log, and must not be told that nothing
    // waits for it.
    let is_doubtful = footing.head == Seq::ZERO || resume.cursor > Some(footing.head);
    if is_doubtful && footing.is_damaged {
        return Err(SessionFault::LogDamaged);
    }
    if manner != Manner::Acks && !footing.has_conversations {
        return Err(SessionFault::LogDamaged);
    }
    let begins_at_head = limits.starts_at_head || manner != Manner::Acks;
    let Start { cursor, gap } = start(resume, footing, begins_at_head);
    let connected = Connected {
        connection: welcome.connection,
        platform: welcome.platform,
        epoch: footing.epoch,
        cursor,
        head: footing.head,
        first: footing.first,
        heartbeat: limits.heartbeat,
        window: limits.window,
        server_time_ms: welcome.server_time_ms,
        has_conversations: footing.has_conversations,
    };
    let mut actions = vec![Action::Send(ToClient::Connected(connected))];
    // The row of a session that its token alone names is forgotten some time after the session was last seen.
    if footing.stored != Some(cursor) || manner != Manner::Acks {
        actions.push(Action::Begin(cursor));
    }
    // A client without a store begins at its overview. It misses nothing, and its window knows nothing of a gap.
    let gap = gap.filter(|_| manner != Manner::Forgets);
    actions.extend(gap.map(|gap| Action::Send(ToClient::Gap(gap))));
    let has_backlog = cursor < footing.head;
    if !has_backlog {
        actions.push(Action::Send(ToClient::CaughtUp(cursor)));
    }
    let Footing {
        epoch,
        head,
        has_conversations,
        ..
    } = footing;
    let backlog = has_backlog.then_some(head);
    let inbox = (epoch, cursor, head);
    let mut session = Session::new(inbox, backlog, has_conversations, manner, now);
    if let Some(hold) = Hold::new(manner, footing.stored, now) {
        session.ask().hold = Some(hold);
    }
    if manner == Manner::Sifts {
        // The time in which the client has to ask begins with its pong.
        actions.push(Action::Send(ToClient::Ping));
    }
    Ok((session, actions))
}

fn start(resume: Resume, footing: Footing, begins_at_head: bool) -> Start {
    let Footing { head, first, .. } = footing;
    let before_first = first.previous();
    let is_other_epoch = resume.epoch != 0 && resume.epoch != footing.epoch.0;
    if is_other_epoch || resume.cursor > Some(head) {
        // When nothing has expired, this gap goes from 1 to 0. It still moves the client's cursor back to 0.
        let gap = gap(Seq(1), before_first, GapReason::EpochChanged);
        return Start {
            cursor: before_first,
            gap: Some(gap),
        };
    }
    let known = resume
        .cursor
        .or(footing.stored.filter(|cursor| *cursor <= head));
    match known {
        Some(cursor) if cursor < before_first => Start {
            cursor: before_first,
            gap: Some(gap(cursor.next(), before_first, GapReason::Expired)),
        },
        Some(cursor) => Start { cursor, gap: None },
        None if begins_at_head => Start {
            cursor: head,
            gap: None,
        },
        None => Start {
            cursor: before_first,
            gap: None,
        },
    }
}

fn gap(from: Seq, to: Seq, reason: GapReason) -> Gap {
    Gap { from, to, reason }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        window: 256,
        replayed_bytes_max: crate::session::REPLAYED_BYTES_MAX,
        resend_after: Duration::from_secs(5),
        heartbeat: Duration::from_secs(30),
        stall_timeout: Duration::from_secs(20),
        starts_at_head: false,
    };

    #[test]
    fn the_row_of_a_session_that_its_token_names_is_renewed_at_each_login() {
        let begun = |manner, stored| {
            let resume = Resume {
                epoch: 0,
                cursor: None,
            };
            let footing = footing(9, 1, stored);
            let welcome = Welcome {
                connection: ConnectionId(1),
                platform: Platform::Web,
                server_time_ms: 0,
            };
            let now = Moment::default();
            let opened = super::open(resume, manner, footing, welcome, &LIMITS, now);
            let (_, actions) = opened.unwrap();
            actions.iter().find_map(|action| match action {
                Action::Begin(cursor) => Some(cursor.0),
                _ => None,
            })
        };
        for (manner, at_5) in [
            (Manner::Acks, None),
            (Manner::Sifts, Some(5)),
            (Manner::Forgets, Some(5)),
        ] {
            assert_eq!(begun(manner, Some(5)), at_5, "{manner:?}");
        }
        assert_eq!(begun(Manner::Sifts, None), Some(9));
    }

    fn footing(head: u64, first: u64, stored: Option<u64>) -> Footing {
        Footing {
            epoch: Epoch(7),
            head: Seq(head),
            first: Seq(first),
            stored: stored.map(Seq),
            is_damaged: false,
            has_conversations: true,
        }
    }

    fn begins(
        epoch: u64,
        cursor: Option<u64>,
        footing: Footing,
    ) -> (u64, Option<(u64, u64, GapReason)>) {
        let resume = Resume {
            epoch,
            cursor: cursor.map(Seq),
        };
        let start = start(resume, footing, false);
        let gap = start.gap.map(|gap| (gap.from.0, gap.to.0, gap.reason));
        (start.cursor.0, gap)
    }

    #[test]
    fn the_clients_cursor_wins_over_the_servers() {
        assert_eq!(begins(7, Some(3), footing(9, 1, Some(5))), (3, None));
        assert_eq!(begins(7, Some(8), footing(9, 1, Some(5))), (8, None));
        assert_eq!(begins(7, None, footing(9, 1, Some(5))), (5, None));
        assert_eq!(begins(0, None, footing(9, 1, Some(5))), (5, None));
        assert_eq!(begins(0, Some(0), footing(9, 1, Some(5))), (0, None));
    }

    #[test]
    fn a_session_never_seen_begins_before_the_first_or_at_the_head() {
        assert_eq!(begins(0, None, footing(9, 4, None)), (3, None));
        let resume = Resume {
            epoch: 0,
            cursor: None,
        };
        assert_eq!(start(resume, footing(9, 4, None), true).cursor, Seq(9));
        assert_eq!(
            start(resume, footing(9, 4, Some(Seq(5).0)), true).cursor,
            Seq(5)
        );
    }

    #[test]
    fn what_expired_before_the_client_had_it_is_announced() {
        let expired = |from, to| Some((from, to, GapReason::Expired));
        assert_eq!(begins(7, Some(2), footing(9, 6, None)), (5, expired(3, 5)));
        assert_eq!(begins(7, None, footing(9, 6, Some(1))), (5, expired(2, 5)));
        assert_eq!(begins(7, Some(5), footing(9, 6, None)), (5, None));
        assert_eq!(begins(7, Some(4), footing(9, 10, None)), (9, expired(5, 9)));
    }

    #[test]
    fn another_epoch_or_a_cursor_above_the_head_resets_the_client() {
        let changed = |to| Some((1, to, GapReason::EpochChanged));
        assert_eq!(begins(8, Some(2), footing(9, 6, None)), (5, changed(5)));
        assert_eq!(begins(8, None, footing(9, 6, Some(8))), (5, changed(5)));
        assert_eq!(begins(8, Some(2), footing(9, 1, None)), (0, changed(0)));
        assert_eq!(begins(7, Some(10), footing(9, 1, None)), (0, changed(0)));
        assert_eq!(begins(7, Some(9), footing(9, 1, None)), (9, None));
    }

    #[test]
    fn a_damaged_log_opens_only_sessions_below_its_head() {
        let open = |head, cursor: Option<u64>| {
            let resume = Resume {
                epoch: 7,
                cursor: cursor.map(Seq),
            };
            let footing = Footing {
                is_damaged: true,
                ..footing(head, 1, None)
            };
            let welcome = Welcome {
                connection: ConnectionId(1),
                platform: Platform::Web,
                server_time_ms: 0,
            };
            let now = Moment::default();
            super::open(resume, Manner::Acks, footing, welcome, &LIMITS, now).map(drop)
        };
        assert_eq!(open(9, Some(9)), Ok(()));
        assert_eq!(open(9, None), Ok(()));
        assert_eq!(open(9, Some(10)), Err(SessionFault::LogDamaged));
        assert_eq!(open(0, None), Err(SessionFault::LogDamaged));
    }
}
