//! From a client's first frame to a session: where delivery resumes, and what gap is announced (rules 1, 3, 5 and 8).
//!
//! [`Hello`] is a first frame that is one; what its token stands for and where that session stands is found out by
//! others; [`open`] decides the rest.

use super::{Action, Limits, Moment, Session};
use crate::{
    ids::{ConnectionId, Epoch, Platform, Seq, UserId, check_id},
    sabotage::{self, Bug},
    wire::{
        close::Close,
        proto::{CaughtUp, Connected, Gap, client_frame, gap::Reason, server_frame::Body},
    },
};

/// A good `Connect`.
#[derive(Debug)]
pub struct Hello {
    /// Says who it is; not looked into here.
    pub token: String,
    /// Tells devices of one platform apart; may be empty.
    pub device: String,
    /// Name and version of the client, for the operator.
    pub client: String,
    /// Where the client stands.
    pub resume: Resume,
}

/// Where a client says it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The epoch of its store; 0 when it has none.
    pub epoch: u64,
    /// The highest seq in its store.
    pub cursor: Option<Seq>,
}

impl Hello {
    /// Reads the first frame of a connection.
    pub fn read(first: client_frame::Body) -> Result<Self, Close> {
        let client_frame::Body::Connect(connect) = first else {
            return Err(Close::Protocol("the first frame must be Connect"));
        };
        let is_id = |text: &str| text.is_empty() || check_id(text).is_ok();
        if !is_id(&connect.device_id) {
            return Err(Close::Protocol(
                "device_id is longer than 64 bytes or not printable",
            ));
        }
        if !is_id(&connect.client) {
            return Err(Close::Protocol(
                "client is longer than 64 bytes or not printable",
            ));
        }
        let cursor = connect.cursor.map(Seq);
        if connect.epoch == 0 && cursor > Some(Seq::ZERO) {
            return Err(Close::Protocol("a cursor without an epoch"));
        }
        Ok(Self {
            token: connect.token,
            device: connect.device_id,
            client: connect.client,
            resume: Resume {
                epoch: connect.epoch,
                cursor,
            },
        })
    }
}

/// Where the server says a session stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Which log it is.
    pub epoch: Epoch,
    /// Highest seq of the inbox.
    pub head: Seq,
    /// Oldest retained seq; `head` + 1 when none is.
    pub first: Seq,
    /// The cursor the server remembers of this session.
    pub stored: Option<Seq>,
}

/// What else `Connected` tells the client.
#[derive(Debug, Clone, Copy)]
pub struct Welcome<'a> {
    /// Names the connection.
    pub connection: ConnectionId,
    /// Whom the token stands for.
    pub user: &'a UserId,
    /// On which platform.
    pub platform: Platform,
    /// The server's clock, Unix ms.
    pub server_time_ms: u64,
}

/// Where delivery begins.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    cursor: Seq,
    gap: Option<Gap>,
}

/// Opens the session. Perform the actions before any other event.
pub fn open(
    resume: Resume,
    standing: Standing,
    welcome: Welcome<'_>,
    limits: &Limits,
    now: Moment,
) -> (Session, Vec<Action>) {
    let Start { cursor, gap } = start(resume, standing, limits);
    let connected = Connected {
        connection_id: welcome.connection.to_string(),
        epoch: standing.epoch.0,
        cursor: cursor.0,
        head: standing.head.0,
        first: standing.first.0,
        heartbeat_ms: limits.heartbeat.as_millis() as u32,
        window: limits.window,
        server_time_ms: welcome.server_time_ms as i64,
        user_id: welcome.user.to_string(),
        platform: welcome.platform.number(),
    };
    let mut actions = vec![Action::Send(Body::Connected(connected))];
    if standing.stored != Some(cursor) {
        actions.push(Action::Begin(cursor));
    }
    actions.extend(gap.map(|gap| Action::Send(Body::Gap(gap))));
    let has_backlog = cursor < standing.head;
    if !has_backlog {
        actions.push(Action::Send(Body::CaughtUp(CaughtUp { seq: cursor.0 })));
    }
    (
        Session::new(cursor, standing.head, has_backlog, now),
        actions,
    )
}

fn start(resume: Resume, standing: Standing, limits: &Limits) -> Start {
    let Standing { head, first, .. } = standing;
    let before_first = first.previous();
    let is_other_epoch = resume.epoch != 0 && resume.epoch != standing.epoch.0;
    if is_other_epoch || resume.cursor > Some(head) {
        // From 1 to 0 when nothing has expired: the client's cursor goes back to 0 all the same.
        let gap = gap(Seq(1), before_first, Reason::EpochChanged);
        return Start {
            cursor: before_first,
            gap: Some(gap),
        };
    }
    let known = resume
        .cursor
        .or(standing.stored.filter(|cursor| *cursor <= head));
    match known {
        Some(cursor) if cursor < before_first => Start {
            cursor: before_first,
            gap: (!sabotage::is(Bug::GapInSilence))
                .then(|| gap(cursor.next(), before_first, Reason::Expired)),
        },
        Some(cursor) if sabotage::is(Bug::ResendSkipsOne) => Start {
            cursor: cursor.next().min(head),
            gap: None,
        },
        Some(cursor) => Start { cursor, gap: None },
        None if limits.starts_at_head => Start {
            cursor: head,
            gap: None,
        },
        None => Start {
            cursor: before_first,
            gap: None,
        },
    }
}

/// Announces that `from`..=`to` will not come.
pub(super) fn gap(from: Seq, to: Seq, reason: Reason) -> Gap {
    Gap {
        from_seq: from.0,
        to_seq: to.0,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::proto::{Connect, Ping};

    const LIMITS: Limits = Limits {
        window: 256,
        replayed_bytes_max: crate::session::REPLAYED_BYTES_MAX,
        resend_after: Duration::from_secs(5),
        heartbeat: Duration::from_secs(30),
        starts_at_head: false,
    };

    fn standing(head: u64, first: u64, stored: Option<u64>) -> Standing {
        Standing {
            epoch: Epoch(7),
            head: Seq(head),
            first: Seq(first),
            stored: stored.map(Seq),
        }
    }

    fn begins(
        epoch: u64,
        cursor: Option<u64>,
        standing: Standing,
    ) -> (u64, Option<(u64, u64, Reason)>) {
        let resume = Resume {
            epoch,
            cursor: cursor.map(Seq),
        };
        let start = start(resume, standing, &LIMITS);
        let gap = start
            .gap
            .map(|gap| (gap.from_seq, gap.to_seq, gap.reason()));
        (start.cursor.0, gap)
    }

    #[test]
    fn the_clients_cursor_wins_over_the_servers() {
        assert_eq!(begins(7, Some(3), standing(9, 1, Some(5))), (3, None));
        assert_eq!(begins(7, Some(8), standing(9, 1, Some(5))), (8, None));
        assert_eq!(begins(7, None, standing(9, 1, Some(5))), (5, None));
        assert_eq!(begins(0, None, standing(9, 1, Some(5))), (5, None));
        assert_eq!(begins(0, Some(0), standing(9, 1, Some(5))), (0, None));
    }

    #[test]
    fn a_session_never_seen_begins_before_the_first_or_at_the_head() {
        assert_eq!(begins(0, None, standing(9, 4, None)), (3, None));
        let at_head = Limits {
            starts_at_head: true,
            ..LIMITS
        };
        let resume = Resume {
            epoch: 0,
            cursor: None,
        };
        assert_eq!(start(resume, standing(9, 4, None), &at_head).cursor, Seq(9));
        assert_eq!(
            start(resume, standing(9, 4, Some(Seq(5).0)), &at_head).cursor,
            Seq(5)
        );
    }

    #[test]
    fn what_expired_before_the_client_had_it_is_announced() {
        let expired = |from, to| Some((from, to, Reason::Expired));
        assert_eq!(begins(7, Some(2), standing(9, 6, None)), (5, expired(3, 5)));
        assert_eq!(begins(7, None, standing(9, 6, Some(1))), (5, expired(2, 5)));
        assert_eq!(begins(7, Some(5), standing(9, 6, None)), (5, None));
        assert_eq!(
            begins(7, Some(4), standing(9, 10, None)),
            (9, expired(5, 9))
        );
    }

    #[test]
    fn another_epoch_or_a_cursor_above_the_head_resets_the_client() {
        let changed = |to| Some((1, to, Reason::EpochChanged));
        assert_eq!(begins(8, Some(2), standing(9, 6, None)), (5, changed(5)));
        assert_eq!(begins(8, None, standing(9, 6, Some(8))), (5, changed(5)));
        assert_eq!(begins(8, Some(2), standing(9, 1, None)), (0, changed(0)));
        assert_eq!(begins(7, Some(10), standing(9, 1, None)), (0, changed(0)));
        assert_eq!(begins(7, Some(9), standing(9, 1, None)), (9, None));
    }

    #[test]
    fn only_a_good_connect_opens() {
        let good = Connect {
            token: "t".into(),
            epoch: 7,
            cursor: Some(3),
            ..Connect::default()
        };
        let read = |connect| Hello::read(client_frame::Body::Connect(connect));
        assert_eq!(read(good.clone()).unwrap().resume.cursor, Some(Seq(3)));
        let is_refused = |connect| matches!(read(connect), Err(Close::Protocol(_)));
        assert!(is_refused(Connect {
            epoch: 0,
            ..good.clone()
        }));
        assert!(is_refused(Connect {
            device_id: "x".repeat(65),
            ..good.clone()
        }));
        assert!(is_refused(Connect {
            client: "a\nb".into(),
            ..good
        }));
        assert!(Hello::read(client_frame::Body::Ping(Ping { nonce: 1 })).is_err());
    }
}
