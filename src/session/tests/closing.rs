//! The facts that close a session, each with the reason that the client gets.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{super::*, LIMITS};
use crate::{
    ids::{ConnectionId, Epoch, Platform, Seq},
    message::{Live, Message, Numbers},
};

/// A session with an empty inbox in epoch 7, of a log with or without conversations.
pub(super) fn opened(has_conversations: bool) -> Session {
    let resume = Resume {
        epoch: 0,
        cursor: None,
    };
    let footing = Footing {
        epoch: Epoch(7),
        head: Seq::ZERO,
        first: Seq(1),
        stored: None,
        is_damaged: false,
        has_conversations,
    };
    let welcome = Welcome {
        connection: ConnectionId(1),
        platform: Platform::Web,
        server_time_ms: 0,
    };
    let opened = open(resume, Manner::Acks, footing, welcome, &LIMITS, Moment(0));
    opened.expect("the log is whole").0
}

/// The actions of a session to which this happens at this second, as text.
pub(super) fn actions(event: Event, second: u64) -> String {
    let scene = Scene {
        now: Moment(second * 1000),
        has_room: true,
        is_flushed: true,
        random: || 0.5,
    };
    format!("{:?}", opened(true).handle(event, scene, &LIMITS))
}

#[test]
fn a_tick_closes_a_session_whose_socket_stalls_or_whose_token_is_over() {
    let stalled_for = |seconds| Condition {
        stalled: Duration::from_secs(seconds),
        ..Condition::default()
    };
    let tick = |condition| actions(Event::Tick(condition), 1);
    assert_eq!(tick(stalled_for(19)), "[]");
    assert_eq!(
        tick(stalled_for(20)),
        "[DropUnsent, Close(SlowConsumer)]",
        "the client would read the dropped frames too late"
    );
    let over = Condition {
        is_token_over: true,
        ..Condition::default()
    };
    assert_eq!(tick(over), "[Close(Unauthorized(Expired))]");
}

#[test]
fn silence_counts_only_while_the_connection_reads() {
    let flooded = Condition {
        is_flooded: true,
        ..Condition::default()
    };
    let tick = |condition| actions(Event::Tick(condition), 76);
    assert_eq!(tick(Condition::default()), "[Close(HeartbeatStopped)]");
    assert_eq!(tick(flooded), "[]");
}

#[test]
fn a_message_of_another_epoch_and_a_failed_read_end_the_session() {
    let message = Arc::new(Message::of(Epoch(8), Bytes::new()));
    let numbers = Numbers {
        seq: Seq(1),
        ..Numbers::default()
    };
    let live = Event::Live(Live { numbers, message });
    assert_eq!(actions(live, 1), "[Close(Unavailable(5s))]");
    let failed = Event::Failed(SessionFault::LogUnreadable);
    let closed = "[Close(LogUnreadable)]";
    assert_eq!(actions(failed, 1), closed);
}
