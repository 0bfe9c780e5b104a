//! A session gives the log its client's read marks, and answers questions for conversations.

use super::{super::*, LIMITS, closing::opened};
use crate::{
    ids::{ConversationSeq, Seq},
    message::{Bases, Conversation, ReadMark},
};

fn mark(conversation: &str, conversation_seq: u64) -> ReadMark {
    ReadMark {
        conversation_id: conversation.into(),
        conversation_seq,
        ..ReadMark::default()
    }
}

fn read(marks: &[(&str, u64)]) -> Event {
    let marks = marks.iter().map(|(id, seq)| mark(id, *seq));
    Event::Said(FromClient::Read(marks.collect()))
}

fn question(request_id: u32) -> Event {
    Event::Said(FromClient::Conversations(ListRequest {
        request_id,
        before: Seq(9),
        limit: 1000,
    }))
}

fn listed() -> Event {
    Event::Listed {
        conversations: vec![Conversation {
            id: "sg_g".into(),
            head: ConversationSeq(3),
            first: ConversationSeq(1),
            mark: ConversationSeq(2),
            unread: 1,
            last_time_ms: 5,
            last_seq: Seq(8),
            bases: Bases::default(),
            settings: Default::default(),
        }],
        is_end: true,
    }
}

/// The actions of a session to which this happens at this ms, in an outbox with or without room.
fn handle_with(session: &mut Session, event: Event, ms: u64, has_room: bool) -> Vec<Action> {
    let scene = Scene {
        now: Moment(ms),
        has_room,
        is_flushed: true,
        random: || 0.5,
    };
    session.handle(event, scene, &LIMITS)
}

fn handle(session: &mut Session, event: Event, ms: u64) -> Vec<Action> {
    handle_with(session, event, ms, true)
}

/// The marks that go to the log when this happens.
fn marked(session: &mut Session, event: Event, ms: u64) -> Option<Vec<ReadMark>> {
    let mut actions = handle(session, event, ms).into_iter();
    let marks = actions.next().map(|action| match action {
        Action::Mark(marks) => marks,
        other => panic!("{other:?}"),
    });
    assert!(actions.next().is_none());
    marks
}

fn tick() -> Event {
    Event::Tick(Condition::default())
}

#[test]
fn marks_go_to_the_log_at_once_and_then_once_a_second_as_one_entry() {
    let mut session = opened(true);
    let first = marked(&mut session, read(&[("a", 3), ("b", 1)]), 0);
    assert_eq!(first, Some(vec![mark("a", 3), mark("b", 1)]));
    assert_eq!(marked(&mut session, Event::Marked, 100), None);
    for (ms, marks) in [(200, ("a", 5)), (300, ("c", 1)), (400, ("a", 4))] {
        assert_eq!(marked(&mut session, read(&[marks]), ms), None);
    }
    assert_eq!(marked(&mut session, tick(), 1000), None);
    let second = marked(&mut session, tick(), 1100);
    assert_eq!(second, Some(vec![mark("a", 5), mark("c", 1)]));
    assert_eq!(marked(&mut session, Event::Marked, 1200), None);
    assert_eq!(marked(&mut session, tick(), 9000), None);
}

#[test]
fn marks_wait_while_others_are_on_their_way_to_the_log() {
    let mut session = opened(true);
    assert!(marked(&mut session, read(&[("a", 1)]), 0).is_some());
    assert_eq!(marked(&mut session, read(&[("a", 2)]), 5000), None);
    assert_eq!(marked(&mut session, tick(), 6000), None);
    assert_eq!(marked(&mut session, Event::Marked, 7000), None);
    let later = marked(&mut session, tick(), 8000);
    assert_eq!(later, Some(vec![mark("a", 2)]));
}

#[test]
fn a_client_that_marks_without_end_is_not_listened_to() {
    let mut session = opened(true);
    assert!(marked(&mut session, read(&[("first", 1)]), 0).is_some());
    for frame in 0..10 {
        assert!(session.is_listening(), "{frame}");
        let ids: Vec<_> = (0..100).map(|mark| format!("{frame}/{mark}")).collect();
        let marks: Vec<_> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        assert_eq!(marked(&mut session, read(&marks), 1), None);
    }
    assert!(!session.is_listening());
    // The wait is not the client's silence.
    assert_eq!(marked(&mut session, tick(), 100_000), None);
    assert_eq!(marked(&mut session, Event::Marked, 100_000), None);
    let marks = marked(&mut session, tick(), 101_000);
    assert_eq!(marks.map(|marks| marks.len()), Some(300));
    assert!(session.is_listening());
}

#[test]
fn a_question_for_conversations_is_answered_before_the_next_frame_is_taken() {
    let mut session = opened(true);
    let asked = handle(&mut session, question(7), 0);
    let order = ListRequest {
        request_id: 7,
        before: Seq(9),
        limit: 500,
    };
    assert!(
        matches!(asked[..], [Action::List(request)] if request == order),
        "{asked:?}"
    );
    assert!(!session.is_listening());
    assert!(handle(&mut session, tick(), 1000).is_empty());
    let answered = handle(&mut session, listed(), 2000);
    let [
        Action::Send(ToClient::Conversations {
            request_id: 7,
            conversations,
            is_end: true,
        }),
    ] = &answered[..]
    else {
        panic!("{answered:?}")
    };
    assert_eq!(conversations[0].last_seq, Seq(8));
    assert!(session.is_listening());
}

#[test]
fn a_question_waits_for_room_and_for_the_read_under_way() {
    let mut session = opened(true);
    let reading = handle(&mut session, Event::Head(Seq(3)), 0);
    assert!(matches!(reading[..], [Action::Read(_)]), "{reading:?}");
    assert!(handle(&mut session, question(7), 0).is_empty());
    let read = Event::ReadNothing(Seq(4));
    let full = handle_with(&mut session, read, 0, false);
    let is_list = |action: &Action| matches!(action, Action::List(_));
    assert!(!full.iter().any(is_list), "{full:?}");
    let listing = handle(&mut session, Event::Room, 0);
    assert!(matches!(listing[..], [Action::List(_)]), "{listing:?}");
    // New messages of the log wait for the answer.
    assert!(handle(&mut session, Event::Head(Seq(5)), 0).is_empty());
    let answered = handle(&mut session, listed(), 0);
    assert!(
        matches!(answered[..], [Action::Send(_), Action::Read(_)]),
        "{answered:?}"
    );
}

#[test]
fn without_conversations_the_new_frames_are_unknown() {
    for event in [read(&[("a", 1)]), question(7)] {
        let mut session = opened(false);
        let closed = handle(&mut session, event, 0);
        assert!(
            matches!(closed[..], [Action::Close(Reason::UNKNOWN_FRAME)]),
            "{closed:?}"
        );
        assert!(handle(&mut session, tick(), 5000).is_empty());
    }
}
