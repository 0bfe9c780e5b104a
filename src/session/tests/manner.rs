//! Sessions whose client asks where it stands before it takes pushes: nothing comes before the answer, nothing is left out after it,
//! and nothing comes twice.

use std::sync::Arc;

use bytes::Bytes;

use super::{super::*, LIMITS, inbox::numbers};
use crate::{
    ids::{ConnectionId, Epoch, Platform, Seq, WireSeq},
    message::{Content, Entry, Live, Message, ReadMark, StoredMessage},
};

/// A session in an inbox with this head. It opens at 0 ms.
pub(super) fn opened(manner: Manner, head: u64, stored: Option<u64>) -> (Session, Vec<Action>) {
    opened_in(manner, (1, head), stored)
}

fn opened_in(
    manner: Manner,
    (first, head): (u64, u64),
    stored: Option<u64>,
) -> (Session, Vec<Action>) {
    let resume = Resume {
        epoch: 0,
        cursor: None,
    };
    let footing = Footing {
        epoch: Epoch(7),
        head: Seq(head),
        first: Seq(first),
        stored: stored.map(Seq),
        is_damaged: false,
        has_conversations: true,
    };
    let welcome = Welcome {
        connection: ConnectionId(1),
        platform: Platform::Web,
        server_time_ms: 0,
    };
    open(resume, manner, footing, welcome, &LIMITS, Moment(0)).expect("the log is whole")
}

/// The actions of a session to which this happens at this ms, as text.
pub(super) fn handle(session: &mut Session, event: Event, ms: u64) -> Vec<String> {
    let scene = Scene {
        now: Moment(ms),
        has_room: true,
        is_flushed: true,
        random: || 0.5,
    };
    let actions = session.handle(event, scene, &LIMITS);
    actions.iter().map(said).collect()
}

fn said(action: &Action) -> String {
    match action {
        Action::Send(ToClient::Live(live)) => format!("live {}", live.numbers.seq),
        Action::Send(ToClient::Push { messages, resent }) => {
            assert_eq!(*resent, 0, "nothing is sent twice");
            let seqs = messages.iter().map(|(numbers, _)| numbers.seq.to_string());
            format!("push {}", seqs.collect::<Vec<_>>().join(" "))
        }
        Action::Send(ToClient::Answer(_)) => "answer".into(),
        Action::Read(order) => format!("read after {}", order.after),
        Action::Send(ToClient::Newest(messages)) => format!("newest {}", messages.len()),
        Action::Send(ToClient::Ping) => "ping".into(),
        Action::Ask { sent, .. } => format!("ask at {sent}"),
        Action::ReadNewest(sent) => format!("read newest at {sent}"),
        other => format!("{other:?}"),
    }
}

pub(super) fn live(seq: u64) -> Event {
    let message = Arc::new(Message::new(Bytes::new()));
    let numbers = numbers(Seq(seq));
    Event::Live(Live { numbers, message })
}

pub(super) fn read(seqs: std::ops::RangeInclusive<u64>) -> Event {
    let entries = seqs.map(|seq| Entry {
        numbers: numbers(Seq(seq)),
        content: Content::Message(Bytes::from_static(b"m")),
    });
    Event::Read(entries.collect())
}

pub(super) fn asks(question: Question) -> Event {
    Event::Said(FromClient::Ask(question))
}

pub(super) fn reached() -> Event {
    answered(Answer::Reached(Vec::new()), None)
}

pub(super) fn overview(shown: u64) -> Event {
    answered(Answer::Overview(Vec::new()), Some(Seq(shown)))
}

fn answered(answer: Answer, shown: Option<Seq>) -> Event {
    Event::Answered { answer, shown }
}

fn ranges() -> Question {
    pull(0)
}

/// A pull of so many messages.
pub(super) fn pull(messages: u64) -> Question {
    let range = Range {
        conversation_id: "a".into(),
        from: WireSeq(1),
        to: WireSeq(messages),
    };
    Question::Ranges {
        ranges: vec![range],
        bytes: usize::MAX,
        is_pull: true,
    }
}

pub(super) fn pulled() -> Event {
    answered(Answer::Ranges(Vec::new()), None)
}

/// The pong to the last ping.
pub(super) fn pong() -> Event {
    Event::Said(FromClient::Received(Seq::ZERO))
}

pub(super) fn newest(seqs: std::ops::Range<u64>) -> Event {
    let messages = seqs.map(|seq| (numbers(Seq(seq)), Bytes::from_static(b"m")));
    Event::Newest(messages.collect())
}

pub(super) fn tick() -> Event {
    Event::Tick(Condition::default())
}

pub(super) const NOTHING: [&str; 0] = [];

#[test]
fn who_sifts_gets_nothing_before_the_answer_and_then_all_that_follows_it() {
    let (mut session, _) = opened(Manner::Sifts, 5, Some(3));
    assert_eq!(handle(&mut session, Event::Room, 0), NOTHING);
    assert_eq!(handle(&mut session, live(6), 10), NOTHING);
    let asked = handle(&mut session, asks(Question::Reached), 20);
    assert_eq!(asked, ["ask at 3"]);
    assert!(!session.is_listening());
    assert_eq!(handle(&mut session, live(7), 30), NOTHING);
    assert_eq!(handle(&mut session, tick(), 1500), NOTHING);
    let told = handle(&mut session, reached(), 1600);
    assert_eq!(told, ["answer", "read after 3"]);
    assert_eq!(handle(&mut session, read(4..=7), 1700)[0], "push 4 5 6 7");
    assert_eq!(handle(&mut session, live(8), 1800), ["live 8"]);
}

/// The newest messages show a client what it missed before its place, and the pushes bring what follows.
#[test]
fn who_reads_and_asks_nothing_for_a_second_gets_the_newest_and_what_follows() {
    for stored in [Some(3), None] {
        let (mut session, actions) = opened(Manner::Sifts, 5, stored);
        assert_eq!(actions.last().map(said).as_deref(), Some("ping"));
        let sent = stored.unwrap_or(5);
        // A slow client has its time.
        assert_eq!(handle(&mut session, tick(), 7000), NOTHING);
        assert_eq!(handle(&mut session, pong(), 7500), NOTHING);
        assert_eq!(handle(&mut session, pong(), 8000), NOTHING);
        assert_eq!(handle(&mut session, tick(), 8499), NOTHING);
        let looked = handle(&mut session, tick(), 8500);
        assert_eq!(looked, [format!("read newest at {sent}")]);
        let told = handle(&mut session, newest(1..4), 8600);
        assert_eq!(told[0], "newest 3");
        let Some(read_after) = told.get(1) else {
            assert_eq!(stored, None);
            continue;
        };
        assert_eq!(read_after, "read after 3");
        // The client would pull the rest of a run of which it has a part.
        let pushed = handle(&mut session, read(4..=5), 8700);
        assert_eq!(pushed, ["push 4", "push 5", &caught_up("CaughtUp")]);
        handle(&mut session, tick(), 9000);
        handle(&mut session, Event::Head(Seq(7)), 9100);
        assert_eq!(handle(&mut session, read(6..=7), 9200), ["push 6 7"]);
    }
}

#[test]
fn what_comes_while_the_newest_are_read_is_not_held() {
    let (mut session, _) = opened(Manner::Sifts, 5, None);
    handle(&mut session, pong(), 0);
    handle(&mut session, tick(), 1000);
    assert_eq!(handle(&mut session, live(6), 1010), ["live 6"]);
    assert_eq!(handle(&mut session, asks(Question::Reached), 1020), NOTHING);
    // A user without a message has no newest one.
    let told = handle(&mut session, Event::Newest(Vec::new()), 1030);
    assert_eq!(told, ["ask at 6"]);
    assert_eq!(handle(&mut session, reached(), 1040), ["answer"]);
    assert_eq!(handle(&mut session, tick(), 9000), NOTHING);
}

#[test]
fn a_client_whose_pong_does_not_come_is_not_waited_for_without_end() {
    let (mut session, _) = opened(Manner::Sifts, 5, Some(3));
    let timeout = super::super::window::RECEIPT_TIMEOUT.as_millis() as u64;
    handle(&mut session, Event::Said(FromClient::Nothing), timeout - 1);
    assert_eq!(handle(&mut session, tick(), timeout - 1), NOTHING);
    assert_eq!(handle(&mut session, tick(), timeout), ["read newest at 3"]);
}

#[test]
fn a_later_question_is_answered_by_what_was_sent_by_then() {
    let (mut session, _) = opened(Manner::Sifts, 5, Some(3));
    handle(&mut session, pong(), 0);
    handle(&mut session, tick(), 1000);
    handle(&mut session, newest(3..4), 1000);
    // The read under way comes first.
    let asked = handle(&mut session, asks(Question::Reached), 1100);
    assert_eq!(asked, NOTHING);
    let pushed = handle(&mut session, read(4..=5), 1200);
    let expected = ["push 4", "push 5", "CaughtUp", "ask at 5"];
    assert_eq!(pushed, expected.map(caught_up));
    assert_eq!(handle(&mut session, live(6), 1300), NOTHING);
    let told = handle(&mut session, reached(), 1400);
    assert_eq!(told, ["answer", "read after 5"]);
}

/// `CaughtUp` as the tests print it.
fn caught_up(text: &str) -> String {
    match text {
        "CaughtUp" => "Send(CaughtUp(Seq(5)))".into(),
        _ => text.into(),
    }
}

#[test]
fn a_question_for_ranges_delays_no_live_message() {
    let (mut session, _) = opened(Manner::Sifts, 3, Some(3));
    handle(&mut session, asks(Question::Reached), 0);
    handle(&mut session, reached(), 10);
    assert_eq!(handle(&mut session, asks(ranges()), 20), ["ask at 3"]);
    assert_eq!(handle(&mut session, live(4), 30), ["live 4"]);
}

#[test]
fn a_session_never_seen_begins_at_the_head() {
    for manner in [Manner::Sifts, Manner::Forgets] {
        let (session, actions) = opened(manner, 5, None);
        let actions: Vec<_> = actions.iter().map(said).collect();
        assert_eq!(actions[1], "Begin(Seq(5))", "{manner:?}");
        assert_eq!(session.epoch(), Epoch(7));
    }
}

/// Its overview may be older than the gap, because a conversation's newest message outlives retention.
#[test]
fn who_forgets_is_told_of_no_gap() {
    for (manner, has_gap) in [(Manner::Sifts, true), (Manner::Forgets, false)] {
        let (_, actions) = opened_in(manner, (12, 12), Some(9));
        let is_gap = |action: &Action| matches!(action, Action::Send(ToClient::Gap(_)));
        assert_eq!(actions.iter().any(is_gap), has_gap, "{manner:?}");
    }
}

/// The socket is not read while a question waits for a slow disk, so the receipt lies behind it.
#[test]
fn no_receipt_is_overdue_while_a_question_waits() {
    let (mut session, _) = opened(Manner::Sifts, 3, Some(3));
    handle(&mut session, asks(Question::Reached), 0);
    handle(&mut session, reached(), 10);
    handle(&mut session, live(4), 20);
    handle(&mut session, asks(ranges()), 30);
    for second in 1..60 {
        let told = handle(&mut session, tick(), second * 1000);
        assert!(!told.join(" ").contains("Close"), "{second}: {told:?}");
    }
    handle(&mut session, pulled(), 60_000);
    let told = handle(&mut session, tick(), 88_000);
    assert_eq!(told, NOTHING, "the receipt has its time once more");
    let told = handle(&mut session, tick(), 95_000);
    assert!(told.join(" ").contains("ReceiptsStopped"), "{told:?}");
}

#[test]
fn who_forgets_begins_anew_at_what_the_overview_shows() {
    let (mut session, _) = opened(Manner::Forgets, 5, Some(3));
    assert_eq!(handle(&mut session, tick(), 60_000), ["ping"]);
    assert_eq!(handle(&mut session, live(6), 60_000), NOTHING);
    let named = Question::Overview(vec!["a".into()]);
    assert_eq!(handle(&mut session, asks(named), 60_010), ["ask at 3"]);
    let some = answered(Answer::Overview(Vec::new()), None);
    assert_eq!(handle(&mut session, some, 60_020), ["answer"]);
    let all = Question::Overview(Vec::new());
    assert_eq!(handle(&mut session, asks(all), 60_030), ["ask at 3"]);
    // Message 7 is in the overview, and its commit is heard of later. Message 8 is not in the overview.
    let shown = handle(&mut session, overview(7), 60_040);
    let expected = ["Begin(Seq(7))", "Send(CaughtUp(Seq(7)))", "answer", "ping"];
    assert_eq!(shown, expected);
    assert_eq!(handle(&mut session, live(7), 60_050), NOTHING);
    assert_eq!(handle(&mut session, live(8), 60_060), NOTHING);
    assert_eq!(handle(&mut session, asks(ranges()), 60_070), ["ask at 7"]);
    assert_eq!(handle(&mut session, pulled(), 60_080), ["answer", "ping"]);
    assert_eq!(handle(&mut session, tick(), 63_000), NOTHING);
    assert_eq!(handle(&mut session, pong(), 63_000), ["read after 7"]);
}

/// After an answer with a hundred messages it pulls once more. It counts neither what comes in between nor what comes right behind an
/// answer.
#[test]
fn who_forgets_gets_no_push_before_it_has_pulled_all() {
    let (mut session, _) = opened(Manner::Forgets, 5, None);
    handle(&mut session, asks(Question::Overview(Vec::new())), 0);
    handle(&mut session, overview(5), 10);
    assert_eq!(handle(&mut session, asks(pull(100)), 20), ["ask at 5"]);
    // The pong shows that it has read the overview, and not the answer to its pull.
    assert_eq!(handle(&mut session, pong(), 30), NOTHING);
    assert_eq!(handle(&mut session, pulled(), 40), ["answer", "ping"]);
    assert_eq!(handle(&mut session, live(6), 50), NOTHING);
    assert_eq!(handle(&mut session, tick(), 9000), NOTHING);
    assert_eq!(handle(&mut session, pong(), 9000), NOTHING);
    assert_eq!(handle(&mut session, tick(), 18_999), NOTHING);
    assert_eq!(handle(&mut session, asks(pull(0)), 18_999), ["ask at 5"]);
    assert_eq!(handle(&mut session, pulled(), 19_000), ["answer", "ping"]);
    assert_eq!(handle(&mut session, tick(), 22_000), NOTHING);
    assert_eq!(handle(&mut session, pong(), 22_010), ["read after 5"]);
}

#[test]
fn who_forgets_and_does_not_pull_once_more_gets_pushes_all_the_same() {
    let (mut session, _) = opened(Manner::Forgets, 5, None);
    handle(&mut session, asks(Question::Overview(Vec::new())), 0);
    handle(&mut session, overview(5), 10);
    handle(&mut session, asks(pull(100)), 20);
    handle(&mut session, pulled(), 40);
    handle(&mut session, live(6), 50);
    handle(&mut session, pong(), 60);
    assert_eq!(handle(&mut session, tick(), 10_059), NOTHING);
    assert_eq!(handle(&mut session, tick(), 10_060), ["read after 5"]);
}

/// Its app may look at history at any time.
#[test]
fn history_changes_no_wait_for_a_pull() {
    let (mut session, _) = opened(Manner::Forgets, 5, None);
    handle(&mut session, asks(Question::Overview(Vec::new())), 0);
    handle(&mut session, overview(5), 10);
    handle(&mut session, pong(), 10);
    handle(&mut session, live(6), 20);
    let history = Question::Ranges {
        ranges: Vec::new(),
        bytes: usize::MAX,
        is_pull: false,
    };
    assert_eq!(handle(&mut session, asks(history), 30), ["ask at 5"]);
    assert_eq!(handle(&mut session, pulled(), 40), ["answer"]);
    assert_eq!(handle(&mut session, tick(), 1009), NOTHING);
    assert_eq!(handle(&mut session, tick(), 1010), ["read after 5"]);
}

/// A Go core takes each mark for all of its conversation, so the marks are looked up first.
#[test]
fn marks_come_from_the_log_to_who_sifts() {
    let marks = StoredMessage {
        marks: vec![ReadMark {
            conversation_id: "a".into(),
            conversation_seq: 1,
            base: 0,
        }],
        ..StoredMessage::default()
    };
    for (manner, expected) in [(Manner::Sifts, "read after 0"), (Manner::Acks, "live 1")] {
        let (mut session, _) = opened(manner, 0, None);
        if manner == Manner::Sifts {
            handle(&mut session, asks(Question::Reached), 0);
            handle(&mut session, reached(), 10);
        }
        let live = Event::Live(Live {
            numbers: numbers(Seq(1)),
            message: Arc::new(Message::new(marks.to_bytes())),
        });
        assert_eq!(handle(&mut session, live, 20), [expected]);
    }
}

#[test]
fn who_forgets_and_asks_for_no_range_gets_pushes_a_second_after_it_read_the_overview() {
    let (mut session, _) = opened(Manner::Forgets, 5, None);
    handle(&mut session, asks(Question::Overview(Vec::new())), 3000);
    handle(&mut session, overview(5), 3100);
    assert_eq!(handle(&mut session, live(6), 3200), NOTHING);
    // A slow client has its time.
    assert_eq!(handle(&mut session, tick(), 8000), NOTHING);
    assert_eq!(handle(&mut session, pong(), 8100), NOTHING);
    assert_eq!(handle(&mut session, tick(), 9099), NOTHING);
    assert_eq!(handle(&mut session, tick(), 9100), ["read after 5"]);
}

/// A page may be busy for seconds after its overview.
#[test]
fn who_forgets_and_lacks_some_gets_no_new_message_before_the_missed_ones() {
    let (mut session, _) = opened(Manner::Forgets, 5, Some(3));
    handle(&mut session, asks(Question::Overview(Vec::new())), 0);
    handle(&mut session, overview(5), 10);
    assert_eq!(handle(&mut session, pong(), 20), NOTHING);
    assert_eq!(handle(&mut session, live(6), 30), NOTHING);
    assert_eq!(handle(&mut session, tick(), 10_019), NOTHING);
    assert_eq!(handle(&mut session, asks(pull(2)), 10_019), ["ask at 5"]);
    assert_eq!(handle(&mut session, pulled(), 10_019), ["answer", "ping"]);
    assert_eq!(handle(&mut session, pong(), 10_030), ["read after 5"]);
    // A page that was loaded again has no store, and never pulls.
    let (mut session, _) = opened(Manner::Forgets, 5, Some(3));
    handle(&mut session, asks(Question::Overview(Vec::new())), 0);
    handle(&mut session, overview(5), 10);
    assert_eq!(handle(&mut session, pong(), 20), NOTHING);
    assert_eq!(handle(&mut session, live(6), 30), NOTHING);
    assert_eq!(handle(&mut session, tick(), 10_020), ["read after 5"]);
}

#[test]
fn nothing_is_sent_again_and_a_receipt_that_does_not_come_ends_the_session() {
    let (mut session, _) = opened(Manner::Sifts, 0, None);
    handle(&mut session, asks(Question::Reached), 0);
    handle(&mut session, reached(), 0);
    assert_eq!(handle(&mut session, live(1), 1000), ["live 1"]);
    let timeout = super::super::window::RECEIPT_TIMEOUT.as_secs();
    for second in 2..=timeout {
        assert_eq!(handle(&mut session, Event::Heard, second * 1000), NOTHING);
        assert_eq!(handle(&mut session, tick(), second * 1000), NOTHING);
    }
    let closed = handle(&mut session, tick(), 1000 + timeout * 1000);
    assert_eq!(closed, ["Close(ReceiptsStopped)"]);
}

#[test]
fn a_silent_client_is_asked_for_a_sign_of_life() {
    let (mut session, _) = opened(Manner::Sifts, 0, None);
    handle(&mut session, asks(Question::Reached), 0);
    handle(&mut session, reached(), 0);
    assert_eq!(handle(&mut session, tick(), 29_999), NOTHING);
    assert_eq!(handle(&mut session, tick(), 30_000), ["ping"]);
    let nothing = Event::Said(FromClient::Nothing);
    assert_eq!(handle(&mut session, nothing, 31_000), NOTHING);
    assert_eq!(handle(&mut session, tick(), 60_999), NOTHING);
    assert_eq!(
        handle(&mut session, tick(), 106_001),
        ["Close(HeartbeatStopped)"]
    );
}

#[test]
fn a_client_that_logs_out_is_let_go() {
    let (mut session, _) = opened(Manner::Sifts, 0, None);
    let left = handle(&mut session, Event::Said(FromClient::LogOut), 0);
    assert_eq!(left, ["Close(Left)"]);
}

#[test]
fn a_log_without_conversations_opens_no_session_that_counts_by_them() {
    let footing = |manner| {
        let footing = Footing {
            epoch: Epoch(7),
            head: Seq(1),
            first: Seq(1),
            stored: None,
            is_damaged: false,
            has_conversations: false,
        };
        let welcome = Welcome {
            connection: ConnectionId(1),
            platform: Platform::Web,
            server_time_ms: 0,
        };
        let resume = Resume {
            epoch: 0,
            cursor: None,
        };
        open(resume, manner, footing, welcome, &LIMITS, Moment(0)).map(drop)
    };
    assert_eq!(footing(Manner::Sifts), Err(SessionFault::LogDamaged));
    assert_eq!(footing(Manner::Forgets), Err(SessionFault::LogDamaged));
    assert_eq!(footing(Manner::Acks), Ok(()));
}
