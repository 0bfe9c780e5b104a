//! The meaning of an answer, and when a batch is tried again.

use std::time::Duration;

use super::super::{
    courier::HookReply,
    dispatch::{
        Dispatch, DispatchStep, EndedBatch, EventBatch, REFUSALS_MAX, Settled, WEBHOOK_PAUSE_MAX,
        WEBHOOK_PAUSE_MIN,
    },
    event::HookEvent,
};
use crate::{config::EventKind, ids::Epoch};

fn event(number: u8) -> HookEvent {
    HookEvent::new(
        Epoch(1),
        EventKind::MessageAccepted,
        &[&[number]],
        5,
        number,
    )
}

fn batch(numbers: &[u8]) -> EventBatch {
    let events = numbers.iter().map(|number| event(*number)).collect();
    EventBatch::new(events, Vec::new())
}

fn under_way() -> Dispatch {
    let mut dispatch = Dispatch::default();
    assert_eq!(dispatch.step(0), DispatchStep::Compose);
    dispatch.take(batch(&[1]));
    assert_eq!(dispatch.step(0), DispatchStep::Send);
    dispatch
}

fn status(status: u16) -> HookReply {
    HookReply::Status(status, None)
}

#[test]
fn one_event_goes_alone_and_several_as_a_batch() {
    let alone = batch(&[1]);
    assert_eq!(alone.id, event(1).id);
    let body: serde_json::Value = serde_json::from_slice(&alone.body).unwrap();
    assert_eq!(body["type"], "message.accepted");
    assert_eq!(body["timestamp"], "1970-01-01T00:00:00.005Z");
    let both = batch(&[1, 2]);
    let body: serde_json::Value = serde_json::from_slice(&both.body).unwrap();
    assert_eq!(body["type"], "batch");
    assert_eq!(body["data"][1]["id"], event(2).id.as_str());
    assert_eq!(both.id, batch(&[1, 2]).id);
    assert_ne!(both.id, batch(&[2, 1]).id);
}

#[test]
fn an_id_follows_from_epoch_kind_and_position() {
    let id =
        |epoch, kind, position: &[&[u8]]| HookEvent::new(Epoch(epoch), kind, position, 5, 0).id;
    let (acked, sent) = (EventKind::MessageAcked, EventKind::PushSent);
    let first = id(1, acked, &[b"a", b"b"]);
    assert_eq!(first, id(1, acked, &[b"a", b"b"]));
    let others = [
        id(2, acked, &[b"a", b"b"]),
        id(1, sent, &[b"a", b"b"]),
        id(1, acked, &[b"ab", b""]),
    ];
    assert!(!others.contains(&first), "{others:?}");
}

#[test]
fn a_batch_that_was_taken_makes_room_for_the_next_one() {
    for good in [200, 202, 204] {
        let mut dispatch = under_way();
        let settled = dispatch.answered(0, 0.0, &status(good));
        let Settled::Ended(end) = settled else {
            panic!("it is over");
        };
        assert_eq!((end.told, end.refused.len()), (1, 0));
        assert_eq!(dispatch.step(0), DispatchStep::Compose);
    }
}

#[test]
fn timeouts_429_and_5xx_hold_the_order_for_ever_and_at_most_a_minute_apart() {
    for reply in [
        HookReply::Silence("no answer".into()),
        status(301),
        status(408),
        status(429),
        status(500),
        status(503),
    ] {
        let mut dispatch = under_way();
        let mut now_ms = 0;
        let mut pauses = Vec::new();
        for _ in 0..1000 {
            let settled = dispatch.answered(now_ms, 1.0, &reply);
            assert!(matches!(settled, Settled::Held));
            let DispatchStep::Wait(until_ms) = dispatch.step(now_ms) else {
                panic!("it waits");
            };
            pauses.push((until_ms - now_ms) / 1000);
            now_ms = until_ms;
            assert_eq!(dispatch.step(now_ms), DispatchStep::Send);
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60], "{reply:?}");
        assert_eq!(pauses[0], WEBHOOK_PAUSE_MIN.as_secs());
        assert_eq!(pauses[999], WEBHOOK_PAUSE_MAX.as_secs());
    }
}

#[test]
fn chance_shortens_a_pause_by_half_at_most() {
    let pause = |chance| {
        let mut dispatch = under_way();
        dispatch.answered(0, chance, &status(500));
        dispatch.step(0)
    };
    assert_eq!(pause(0.0), DispatchStep::Wait(500));
    assert_eq!(pause(1.0), DispatchStep::Wait(1000));
}

#[test]
fn a_receiver_that_asks_for_a_longer_pause_gets_it() {
    let asks = |seconds| HookReply::Status(429, Some(Duration::from_secs(seconds)));
    let mut dispatch = under_way();
    dispatch.answered(0, 0.0, &asks(120));
    assert_eq!(dispatch.step(0), DispatchStep::Wait(120_000));
    let mut dispatch = under_way();
    dispatch.answered(0, 1.0, &asks(0));
    assert_eq!(dispatch.step(0), DispatchStep::Wait(1000));
}

#[test]
fn other_4xx_end_a_batch_after_refusals_max_tries_and_free_the_order() {
    for refusal in [400, 401, 403, 404, 410, 413, 422] {
        let mut dispatch = under_way();
        // A failure between them does not count.
        dispatch.answered(0, 0.0, &status(502));
        for _ in 1..REFUSALS_MAX {
            let settled = dispatch.answered(0, 0.0, &status(refusal));
            assert!(matches!(settled, Settled::Held), "{refusal}");
        }
        let settled = dispatch.answered(0, 0.0, &status(refusal));
        let Settled::Ended(end) = settled else {
            panic!("{refusal}: it is over");
        };
        assert_eq!((end.told, end.refused.len()), (0, 1), "{refusal}");
        assert_eq!(dispatch.step(0), DispatchStep::Compose);
    }
}

/// A batch of three events that the receiver refuses until its events go one by one.
fn refused_batch() -> Dispatch {
    let done = vec![super::super::rows::put("place", "3")];
    let mut dispatch = Dispatch::default();
    dispatch.take(EventBatch::new((1..=3).map(event).collect(), done));
    for _ in 1..REFUSALS_MAX {
        let settled = dispatch.answered(0, 0.0, &status(400));
        assert!(matches!(settled, Settled::Held));
    }
    let settled = dispatch.answered(0, 0.0, &status(400));
    assert!(matches!(settled, Settled::Next));
    dispatch
}

/// Answers each event that goes alone.
fn answer_each(dispatch: &mut Dispatch, statuses: [u16; 3]) -> EndedBatch {
    for (number, answer) in (1..).zip(statuses) {
        assert_eq!(dispatch.step(0), DispatchStep::Send);
        assert_eq!(dispatch.batch().unwrap().id, event(number).id);
        match dispatch.answered(0, 0.0, &status(answer)) {
            Settled::Next => {}
            Settled::Ended(end) => return end,
            Settled::Held => panic!("an event alone has one try"),
        }
    }
    panic!("it is over");
}

#[test]
fn of_a_refused_batch_only_the_event_that_is_refused_alone_is_a_dead_letter() {
    let mut dispatch = refused_batch();
    let end = answer_each(&mut dispatch, [200, 422, 204]);
    assert_eq!((end.told, end.done.len()), (2, 1));
    let refused: Vec<_> = end
        .refused
        .iter()
        .map(|(event, reason)| (&event.id, &**reason))
        .collect();
    assert_eq!(refused, [(&event(2).id, "HTTP 422")]);
    assert_eq!(dispatch.step(0), DispatchStep::Compose);
    // The next batch has all its tries, and an outcome of its own.
    dispatch.take(batch(&[4]));
    let settled = dispatch.answered(0, 0.0, &status(400));
    assert!(matches!(settled, Settled::Held));
    let Settled::Ended(end) = dispatch.answered(0, 0.0, &status(200)) else {
        panic!("it is over");
    };
    assert_eq!((end.told, end.refused.len(), end.done.len()), (1, 0, 0));
    let end = answer_each(&mut refused_batch(), [401, 401, 401]);
    assert_eq!((end.told, end.refused.len(), end.done.len()), (0, 3, 1));
}

#[test]
fn an_event_alone_is_held_by_a_receiver_that_goes_away() {
    let mut dispatch = refused_batch();
    for _ in 0..REFUSALS_MAX {
        let settled = dispatch.answered(0, 1.0, &status(503));
        assert!(matches!(settled, Settled::Held));
    }
    assert!(matches!(dispatch.step(0), DispatchStep::Wait(_)));
    let settled = dispatch.answered(0, 0.0, &status(200));
    assert!(matches!(settled, Settled::Next));
}
