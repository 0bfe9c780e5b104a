//! The meaning of an answer, and when a batch is tried again.

use std::time::Duration;

use super::super::{
    dispatch::{
        Dispatch, DispatchStep, EventBatch, HookReply, REFUSALS_MAX, Settled, WEBHOOK_PAUSE_MAX,
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
        assert!(matches!(settled, Settled::Delivered(_)));
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
        assert!(matches!(settled, Settled::Refused(_)), "{refusal}");
        assert_eq!(dispatch.step(0), DispatchStep::Compose);
    }
}
