//! The conversations of a client: unread counts, marks, questions and gaps, whatever comes first.
//!
//! - `world.rs`: any schedule of a gateway, a wire and a client that crashes

mod world;

use super::*;
use crate::proto::Conversation;

const A: &str = "si_a_me";
const B: &str = "si_b_me";

fn message(seq: u64, conversation_id: &str, conversation_seq: u64) -> Message {
    Message {
        seq,
        conversation_id: conversation_id.into(),
        conversation_seq,
        ..Message::default()
    }
}

fn mark(conversation_id: &str, conversation_seq: u64) -> ReadMark {
    ReadMark {
        conversation_id: conversation_id.into(),
        conversation_seq,
    }
}

/// A conversation as the gateway tells it. Everything in it is retained.
fn told(conversation_id: &str, head: u64, mark: u64, last_seq: u64) -> Conversation {
    Conversation {
        conversation_id: conversation_id.into(),
        head,
        first: 1,
        mark,
        unread: (head - mark) as u32,
        last_seq,
        ..Conversation::default()
    }
}

fn expired(from_seq: u64, to_seq: u64) -> Gap {
    Gap {
        from_seq,
        to_seq,
        reason: Reason::Expired.into(),
    }
}

/// The head, mark and unread count of a conversation.
fn numbers(known: &KnownConversations, id: &str) -> (u64, u64, u64) {
    let row = &known.rows[id];
    (row.head, row.mark, row.unread)
}

/// The request and the page of the question that is due.
fn question(known: &mut KnownConversations) -> Option<(u32, u64)> {
    match known.next_frame(Instant::now()) {
        Some(client_frame::Body::Conversations(asked)) => {
            Some((asked.request_id, asked.before_seq))
        }
        None => None,
        other => panic!("expected Conversations, got {other:?}"),
    }
}

/// The marks that are to be sent now.
fn read(known: &mut KnownConversations, now: Instant) -> Vec<ReadMark> {
    match known.next_frame(now) {
        Some(client_frame::Body::Read(read)) => read.marks,
        None => Vec::new(),
        other => panic!("expected Read, got {other:?}"),
    }
}

/// Answers the question that is due.
fn answer(
    known: &mut KnownConversations,
    cursor: u64,
    list: Vec<Conversation>,
) -> ConversationOutcome {
    let (request_id, _) = question(known).expect("it asks");
    let list = ConversationList {
        request_id,
        list,
        end: true,
    };
    known.answered(&list, cursor).expect("it was asked")
}

/// A client at `cursor` that knows these conversations, connected to a gateway with read state.
fn knowing(cursor: u64, list: Vec<Conversation>) -> KnownConversations {
    let mut known = KnownConversations::default();
    known.begin(true);
    answer(&mut known, cursor, list);
    assert_eq!(known.knowledge, Knowledge::Whole);
    assert_eq!(question(&mut known), None);
    known
}

#[test]
fn messages_raise_the_unread_count_and_marks_lower_it() {
    let mut known = knowing(0, vec![]);
    let both = [message(1, A, 1), message(2, A, 2), message(3, B, 1)];
    let outcome = known.land(3, &both, &[]);
    assert_eq!(outcome.record.rows.len(), 2);
    assert_eq!(numbers(&known, A), (2, 0, 2));
    let outcome = known.land(4, &[], &[mark(A, 1)]);
    assert_eq!(outcome.marks, [mark(A, 1)]);
    assert_eq!(numbers(&known, A), (2, 1, 1));
    // A mark that comes late moves nothing back.
    known.land(5, &[], &[mark(A, 2)]);
    assert_eq!(known.land(6, &[], &[mark(A, 1)]).marks, []);
    assert_eq!(numbers(&known, A), (2, 2, 0));
    assert_eq!(numbers(&known, B), (1, 0, 1));
    assert_eq!(question(&mut known), None, "everything is known");
}

#[test]
fn an_answer_from_before_or_after_a_landing_gives_the_same_count() {
    // The answer knows of messages that have not landed: they are counted once.
    let mut known = knowing(0, vec![told(A, 3, 1, 3)]);
    assert_eq!(numbers(&known, A), (3, 1, 2));
    known.land(
        3,
        &[message(1, A, 1), message(2, A, 2), message(3, A, 3)],
        &[],
    );
    assert_eq!(numbers(&known, A), (3, 1, 2));

    // Messages and marks have landed since the answer was made.
    let mut known = KnownConversations::default();
    known.begin(true);
    let (request_id, _) = question(&mut known).unwrap();
    known.land(
        3,
        &[message(1, A, 5), message(2, A, 6), message(3, A, 7)],
        &[mark(A, 6)],
    );
    let list = ConversationList {
        request_id,
        list: vec![told(A, 5, 4, 1)],
        end: true,
    };
    known.answered(&list, 3).unwrap();
    assert_eq!(numbers(&known, A), (7, 6, 1));
    assert_eq!(known.knowledge, Knowledge::Whole);
}

#[test]
fn an_own_mark_counts_at_once_and_is_sent_until_it_comes_back() {
    let mut known = knowing(5, vec![told(A, 5, 0, 5)]);
    let start = Instant::now();
    assert!(known.mark_read("si_unknown", 1).is_none());
    // Above the head counts as the head.
    assert!(known.mark_read(A, 9).is_some());
    assert!(known.mark_read(A, 5).is_none());
    assert_eq!(numbers(&known, A), (5, 5, 0));
    assert_eq!(read(&mut known, start), [mark(A, 5)]);
    assert_eq!(read(&mut known, start), []);
    assert_eq!(known.due_at(), Some(start + REPEAT_AFTER));
    assert_eq!(read(&mut known, start + REPEAT_AFTER), [mark(A, 5)]);
    // Another session's lower mark ends nothing.
    known.land(6, &[], &[mark(A, 3)]);
    assert_eq!(read(&mut known, start + REPEAT_AFTER * 2), [mark(A, 5)]);
    known.land(7, &[], &[mark(A, 5)]);
    assert_eq!(known.due_at(), None);
    assert_eq!(read(&mut known, start + REPEAT_AFTER * 9), []);
}

#[test]
fn a_mark_that_never_comes_back_gives_way_to_the_gateways() {
    let mut known = knowing(5, vec![told(A, 5, 0, 5), told(B, 5, 0, 4)]);
    let start = Instant::now();
    known.mark_read(A, 4);
    for times in 0..SENT_TIMES_MAX {
        assert_eq!(read(&mut known, start + REPEAT_AFTER * times), [mark(A, 4)]);
    }
    let end = start + REPEAT_AFTER * SENT_TIMES_MAX;
    let Some(client_frame::Body::Conversations(asked)) = known.next_frame(end) else {
        panic!("expected Conversations");
    };
    // Another mark that is made meanwhile stays.
    known.mark_read(B, 2);
    let list = ConversationList {
        request_id: asked.request_id,
        list: vec![told(A, 5, 1, 5), told(B, 5, 0, 4)],
        end: true,
    };
    known.answered(&list, 5).unwrap();
    assert_eq!(numbers(&known, A), (5, 1, 4));
    assert_eq!(numbers(&known, B), (5, 2, 3));
    assert_eq!(read(&mut known, end), [mark(B, 2)]);
}

#[test]
fn marks_wait_through_reconnects_and_restarts_and_end_with_their_log() {
    let mut known = knowing(5, vec![told(A, 5, 0, 5)]);
    // The gateway of this connection is older.
    known.begin(false);
    let outcome = known.mark_read(A, 2).unwrap();
    let now = Instant::now();
    assert_eq!(known.next_frame(now), None);
    assert_eq!(numbers(&known, A), (5, 2, 3));
    known.begin(true);
    assert_eq!(read(&mut known, now), [mark(A, 2)]);
    known.begin(true);
    assert_eq!(read(&mut known, now), [mark(A, 2)]);

    let ConversationRecord {
        rows, knowledge, ..
    } = outcome.record;
    let mut known = KnownConversations::new(knowledge, rows);
    known.begin(true);
    assert_eq!(read(&mut known, now), [mark(A, 2)]);
    let outcome = known.skip(&Gap {
        from_seq: 1,
        to_seq: 0,
        reason: Reason::EpochChanged.into(),
    });
    assert!(outcome.record.is_anew && outcome.gaps.len() == 1);
    assert!(known.rows.is_empty());
    assert!(question(&mut known).is_some());
    assert_eq!(read(&mut known, now + REPEAT_AFTER), []);
}

#[test]
fn many_marks_leave_in_frames_of_a_hundred_and_three_hundred_are_under_way() {
    let list = (0..350).map(|number| told(&format!("si_{number:03}"), 1, 0, 350 - number));
    let mut known = knowing(350, list.collect());
    for number in 0..350 {
        known.mark_read(&format!("si_{number:03}"), 1);
    }
    let now = Instant::now();
    for _ in 0..3 {
        assert_eq!(read(&mut known, now).len(), READ_MARKS_MAX);
    }
    assert_eq!(read(&mut known, now), []);
    let back: Vec<_> = (0..60).map(|n| mark(&format!("si_{n:03}"), 1)).collect();
    known.land(351, &[], &back);
    assert_eq!(read(&mut known, now).len(), 50);
    assert_eq!(read(&mut known, now), []);
}

#[test]
fn a_question_goes_page_by_page_and_again_to_those_that_moved_meanwhile() {
    let mut known = KnownConversations::default();
    known.begin(true);
    let mut asked = Vec::new();
    let c = "si_c_me";
    // B was to come on the second page, but got a message and moved to the front.
    for (list, end) in [
        (vec![told(A, 5, 5, 9)], false),
        (vec![told(c, 2, 2, 3)], true),
        (vec![told(B, 4, 1, 10), told(A, 5, 5, 9)], false),
    ] {
        assert_eq!(known.knowledge, Knowledge::Partial);
        let (request_id, before_seq) = question(&mut known).unwrap();
        assert_eq!(question(&mut known), None, "one page at a time");
        asked.push(before_seq);
        let mut list = ConversationList {
            request_id: request_id - 1,
            list,
            end,
        };
        assert!(known.answered(&list, 9).is_none(), "an old answer");
        list.request_id = request_id;
        known.answered(&list, 9).unwrap();
    }
    assert_eq!(asked, [0, 9, 0]);
    assert_eq!(known.knowledge, Knowledge::Whole);
    assert_eq!(question(&mut known), None);
    assert_eq!(numbers(&known, B), (4, 1, 3));
}

#[test]
fn a_conversation_that_was_not_told_is_asked_for() {
    let mut known = knowing(9, vec![told(A, 5, 5, 9)]);
    known.land(10, &[message(10, B, 1)], &[]);
    assert_eq!(question(&mut known), None, "it is new");
    known.land(11, &[message(11, "si_c_me", 7)], &[]);
    assert!(question(&mut known).is_some());
}

#[test]
fn a_gap_over_marks_alone_is_not_shown() {
    let list = || vec![told(A, 5, 5, 9)];
    let mut known = knowing(9, list());
    assert_eq!(known.skip(&expired(10, 14)).gaps, []);
    assert_eq!(answer(&mut known, 14, list()).gaps, []);
    assert_eq!(known.knowledge, Knowledge::Whole);

    // The next message behind the gap has to land first. It is the next one of its conversation.
    let mut known = knowing(9, list());
    assert_eq!(known.skip(&expired(10, 14)).gaps, []);
    assert_eq!(answer(&mut known, 14, vec![told(A, 6, 5, 15)]).gaps, []);
    assert!(matches!(known.knowledge, Knowledge::Gap { .. }));
    assert_eq!(known.land(15, &[message(15, A, 6)], &[]).gaps, []);
    assert_eq!(known.knowledge, Knowledge::Whole);
}

#[test]
fn a_gap_over_a_message_is_shown_once() {
    // The message was the newest of its conversation.
    let mut known = knowing(9, vec![told(A, 5, 5, 9)]);
    known.skip(&expired(10, 14));
    let outcome = answer(&mut known, 14, vec![told(A, 6, 5, 12)]);
    assert_eq!(outcome.gaps, [expired(10, 14)]);
    assert_eq!(known.knowledge, Knowledge::Whole);
    assert_eq!(known.land(15, &[message(15, A, 7)], &[]).gaps, []);

    // A later one of its conversation lands before the answer, or after it.
    for is_before in [true, false] {
        let mut known = knowing(9, vec![told(A, 5, 5, 9)]);
        known.skip(&expired(10, 14));
        if !is_before {
            answer(&mut known, 14, vec![told(A, 7, 5, 15)]);
        }
        let outcome = known.land(15, &[message(15, A, 7)], &[]);
        assert_eq!(outcome.gaps, [expired(10, 14)]);
        if is_before {
            let outcome = answer(&mut known, 15, vec![told(A, 7, 5, 15)]);
            assert_eq!(outcome.gaps, []);
        }
        assert_eq!(known.knowledge, Knowledge::Whole);
    }

    // The missing message was the only one of its conversation.
    let mut known = knowing(9, vec![told(A, 5, 5, 9)]);
    known.skip(&expired(10, 14));
    let list = vec![told(B, 1, 0, 13), told(A, 5, 5, 9)];
    assert_eq!(answer(&mut known, 14, list).gaps, [expired(10, 14)]);
}

#[test]
fn a_gap_that_nothing_can_judge_is_shown_at_once() {
    // The gateway is older.
    let mut known = knowing(9, vec![told(A, 5, 5, 9)]);
    known.begin(false);
    assert_eq!(known.skip(&expired(10, 14)).gaps, [expired(10, 14)]);
    // Nothing was known before the gap.
    let mut known = KnownConversations::default();
    known.begin(true);
    assert_eq!(known.skip(&expired(1, 14)).gaps, [expired(1, 14)]);
    // A second gap shows the first, and a restart with an older gateway shows the one that waits.
    let mut known = knowing(9, vec![told(A, 5, 5, 9)]);
    assert_eq!(known.skip(&expired(10, 14)).gaps, []);
    assert_eq!(
        known.skip(&expired(15, 16)).gaps,
        [expired(10, 14), expired(15, 16)]
    );
    let gap = Knowledge::Gap {
        from_seq: 10,
        to_seq: 14,
    };
    let mut known = KnownConversations::new(gap, Vec::new());
    assert_eq!(known.begin(false).gaps, [expired(10, 14)]);
}
