//! A crash can cause a push too many, and never one too few.

use super::*;
use crate::{log::RowChange, push::rows::POSITION_KEY};

#[tokio::test]
async fn the_first_start_with_a_vendor_begins_with_what_comes_then() {
    let mut bench = Bench::with_phone().await;
    bench.send().await;
    let no_position = RowChange {
        table: RowTable::Consumers,
        key: POSITION_KEY.into(),
        value: None,
    };
    bench.base.log.put_rows(vec![no_position]).unwrap();
    bench.crash().await;
    bench.later().await;
    assert_eq!(bench.notices(), []);
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}

#[tokio::test]
async fn a_message_of_before_a_crash_is_decided_after_it() {
    let mut bench = Bench::with_phone().await;
    let (message, _) = bench.send().await;
    bench.crash().await;
    bench.soon().await;
    assert_eq!(
        bench.pushed(message),
        NONE,
        "the phone may have been connected"
    );
    assert_eq!(bench.states(message), [(MOBILE, "waiting")]);
    bench.later().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}

#[tokio::test]
async fn after_a_crash_clients_have_their_time_to_come_back_once_more() {
    let mut bench = Bench::with_phone().await;
    bench.connect(&key(Platform::Ios));
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.rows(), 1, "it is due");
    bench.pass(3_600_000);
    bench.crash().await;
    assert_eq!(bench.states(message), [(MOBILE, "waiting")]);
    bench.pass(AFTER_MS - 1);
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), NONE);
    bench.pass(1);
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), ["phone"]);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn a_client_that_is_back_after_a_crash_and_acks_gets_no_push() {
    let mut bench = Bench::with_phone().await;
    let (message, seq) = bench.send().await;
    bench.crash().await;
    bench.soon().await;
    bench.connect(&key(Platform::Ios));
    bench.ack(&key(Platform::Ios), seq);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE);
}

#[tokio::test]
async fn a_crash_between_decision_and_call_loses_no_push() {
    let mut bench = Bench::with_phone().await;
    let (message, _) = bench.send().await;
    bench.pass(500);
    bench.decide().await;
    assert_eq!(bench.rows(), 1, "the task is durable");
    bench.crash().await;
    assert_eq!(bench.states(message), [(MOBILE, "queued")]);
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), ["phone"]);
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE, "it is decided once");
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn pushes_of_a_vendor_that_is_configured_no_more_end_at_the_next_start() {
    let mut bench = Bench::with_phone().await;
    bench.send().await;
    bench.pass(500);
    bench.decide().await;
    bench.provider = Provider::Fcm;
    bench.crash().await;
    assert_eq!(bench.rows(), 0);
    assert_eq!(bench.call().await, 0);
}

#[tokio::test]
async fn a_crash_after_the_vendors_answer_repeats_the_push_under_the_same_id() {
    let mut bench = Bench::with_phone().await;
    let (message, _) = bench.send().await;
    bench.pass(500);
    bench.decide().await;
    let now_ms = bench.now_ms();
    let worker = &mut bench.work.workers[0];
    worker.fill(now_ms).await.unwrap();
    let calls = worker.next(now_ms).await;
    calls[0].make(&*worker.vendor()).await;
    bench.crash().await;
    bench.call().await;
    assert_eq!(bench.pushed(message), ["phone", "phone"]);
    bench.crash().await;
    bench.call().await;
    assert_eq!(bench.pushed(message), NONE);
    assert_eq!(bench.rows(), 0);
}
