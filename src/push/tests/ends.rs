//! The vendor's answers, and how tasks end.

use super::*;
use crate::{log::SessionBegin, push::ended::REMOVE_MS};

fn reason() -> String {
    "because".into()
}

#[tokio::test]
async fn a_refused_push_ends() {
    let mut bench = Bench::with_phone().await;
    bench.answer(Outcome::Refused { reason: reason() });
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "refused")]);
    assert_eq!(bench.pushed(message), ["phone"]);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn a_push_that_the_vendor_wants_later_is_tried_then() {
    let mut bench = Bench::with_phone().await;
    bench.answer(Outcome::Later {
        retry_after: Some(Duration::from_secs(60)),
        reason: reason(),
    });
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "retried")]);
    assert_eq!(bench.rows(), 1);
    bench.pass(59_999);
    assert_eq!(bench.call().await, 0);
    bench.pass(1);
    assert_eq!(bench.call().await, 1);
    assert_eq!(bench.states(message), [(MOBILE, "sent")]);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn a_push_that_waits_for_another_try_ends_with_an_ack() {
    let mut bench = Bench::with_phone().await;
    for acks in [true, false] {
        bench.answer(Outcome::Later {
            retry_after: None,
            reason: reason(),
        });
        let (message, seq) = bench.send().await;
        bench.soon().await;
        assert_eq!(bench.pushed(message), ["phone"]);
        if acks {
            bench.ack(&key(Platform::Ios), seq);
        }
        bench.pass(1000);
        assert_eq!(bench.call().await, usize::from(!acks));
        let state = if acks { "served" } else { "sent" };
        assert_eq!(bench.states(message), [(MOBILE, state)]);
        assert_eq!(bench.rows(), 0);
        bench.notices();
    }
    let served = r#"towncrier_push_outcomes_total{provider="http",outcome="served"} 1"#;
    assert!(bench.tells(served));
}

#[tokio::test]
async fn a_vendor_that_refuses_our_credentials_is_left_alone_and_no_push_is_lost() {
    let mut bench = Bench::with_phone().await;
    bench.answer(Outcome::Credentials { reason: reason() });
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "retried")]);
    bench.pass(599_999);
    assert_eq!(bench.call().await, 0, "only an operator can help");
    let stopped = "towncrier_push_vendor_stopped{provider=\"http\"} 1";
    assert!(bench.base.metrics.render().contains(stopped));
    bench.pass(1);
    assert_eq!(bench.call().await, 1);
    assert!(!bench.base.metrics.render().contains(stopped));
    assert_eq!(bench.states(message), [(MOBILE, "sent")]);
}

#[tokio::test]
async fn a_device_that_is_gone_is_removed() {
    let mut bench = Bench::with_phone().await;
    bench.answer(Outcome::Gone { reason: reason() });
    let (message, _) = bench.send().await;
    bench.soon().await;
    assert_eq!(bench.states(message), [(MOBILE, "gone")]);
    assert_eq!(bench.base.delivery.devices(&user()).await.unwrap(), []);
    bench.pushed(message);
    let (message, _) = bench.send().await;
    bench.later().await;
    assert_eq!(bench.pushed(message), NONE);
}

#[tokio::test]
async fn a_deleted_message_is_not_pushed() {
    let mut bench = Bench::with_phone().await;
    let (message, seq) = bench.send().await;
    bench.pass(500);
    bench.decide().await;
    let deleted = bench.base.delivery.delete(user(), vec![seq]);
    deleted.await.unwrap();
    bench.call().await;
    assert_eq!(bench.states(message), [(MOBILE, "gone")]);
    assert_eq!(bench.pushed(message), NONE);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn a_push_that_was_not_possible_for_too_long_expires() {
    let mut bench = Bench::with_phone().await;
    let (message, _) = bench.send().await;
    bench.pass(500);
    bench.decide().await;
    bench.pass(24 * 3_600_000);
    assert_eq!(bench.call().await, 0);
    assert_eq!(bench.states(message), [(MOBILE, "expired")]);
    assert_eq!(bench.rows(), 0);
    // A message that was not decided for so long gets no push, and is counted.
    let (message, _) = bench.send().await;
    bench.pass(24 * 3_600_000);
    bench.soon().await;
    assert_eq!(bench.notices(), []);
    assert_eq!(bench.states(message), [(MOBILE, "expired")]);
    let expired = r#"towncrier_push_decisions_total{outcome="expired"} 1"#;
    assert!(bench.tells(expired));
}

/// Sends five messages, half a second apart, and decides each.
async fn five_apart(bench: &mut Bench) -> Vec<MessageId> {
    let mut messages = Vec::new();
    for _ in 0..5 {
        messages.push(bench.send().await.0);
        bench.pass(500);
        bench.decide().await;
    }
    messages
}

#[tokio::test]
async fn of_too_many_tasks_the_oldest_end() {
    let few = |config: &mut config::Push| config.tasks_max = 3;
    let mut bench = Bench::with(Provider::Http, few).await;
    let (all, clock) = (config::Webhooks::default(), clock(&bench.hands));
    let events = PushEvents::new(&all, clock, 0, Arc::default(), Arc::default());
    bench.work.decider.tell_events(events);
    bench.register(Platform::Ios, "phone", "").await;
    let messages = five_apart(&mut bench).await;
    assert_eq!(bench.rows(), 3);
    assert_eq!(bench.states(messages[1]), [(MOBILE, "expired")]);
    // The position, and an event of each end.
    let log: &dyn Log = &*bench.base.log;
    let rows = log.rows(RowTable::Consumers, b"", b"", 10);
    assert_eq!(rows.blocking_wait().unwrap().len(), 1 + 2);
    assert_eq!(bench.call().await, 3);
    assert_eq!(bench.notices()[0].0.id, messages[2]);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn of_too_many_decisions_that_are_due_the_oldest_end() {
    let few = |config: &mut config::Push| config.tasks_max = 3;
    let mut bench = Bench::with(Provider::Http, few).await;
    bench.register(Platform::Ios, "phone", "").await;
    bench.connect(&key(Platform::Ios));
    let messages = five_apart(&mut bench).await;
    assert_eq!(bench.rows(), 3);
    assert_eq!(bench.states(messages[1]), [(MOBILE, "expired")]);
    assert_eq!(bench.states(messages[2]), [(MOBILE, "waiting")]);
    assert!(bench.tells("towncrier_push_decisions_waiting 3"));
    assert!(bench.tells(r#"towncrier_push_decisions_total{outcome="expired"} 2"#));
    bench.later().await;
    assert_eq!(bench.notices().len(), 3);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn the_age_of_what_is_not_decided_is_told() {
    let mut bench = Bench::with_phone().await;
    let (message, _) = bench.send().await;
    bench.pass(30_000);
    let refused = crate::log::AppendError::QueueFull;
    let fault = crate::log::tests::memory::Fault::Refuse(refused);
    bench.base.log.fail(fault);
    for lag in ["30", "40"] {
        let now_ms = bench.now_ms();
        assert!(bench.work.decider.take_feed(now_ms).await.is_err());
        assert!(bench.tells(&format!("towncrier_push_lag_seconds {lag}")));
        bench.pass(10_000);
    }
    bench.base.log.rows().fault = None;
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), ["phone"]);
    assert!(bench.tells("towncrier_push_lag_seconds 0"));
}

#[tokio::test]
async fn the_begin_of_a_session_is_forgotten_once_no_decision_can_ask_for_it() {
    let mut bench = Bench::with_phone().await;
    let (_, seq) = bench.send().await;
    bench.begin_at(&key(Platform::Ios), seq);
    for (passed, kept) in [(24 * 3_600_000, 1), (60_000, 0)] {
        bench.pass(passed);
        let now_ms = bench.now_ms();
        bench.work.decider.sweep(now_ms).await.unwrap();
        let log: &dyn Log = &*bench.base.log;
        let rows = log.rows(RowTable::Consumers, SessionBegin::PUSH_PREFIX, b"", 10);
        assert_eq!(rows.blocking_wait().unwrap().len(), kept);
    }
}

#[tokio::test]
async fn a_log_that_takes_no_rows_delays_a_decision_and_loses_none() {
    let mut bench = Bench::with_phone().await;
    let (message, _) = bench.send().await;
    bench.pass(500);
    let refused = crate::log::AppendError::QueueFull;
    bench
        .base
        .log
        .fail(crate::log::tests::memory::Fault::Refuse(refused));
    let now_ms = bench.now_ms();
    assert!(bench.work.decider.take_feed(now_ms).await.is_err());
    bench.base.log.rows().fault = None;
    bench.decide_and_call().await;
    assert_eq!(bench.pushed(message), ["phone"]);
}

#[tokio::test]
async fn rows_of_ended_tasks_stay_for_a_second_however_much_goes_on() {
    let mut bench = Bench::with_phone().await;
    // Ten pushes, one each 500 ms, so that the worker never rests for a second.
    for _ in 0..10 {
        bench.send().await;
        bench.pass(500);
        bench.decide().await;
        let now_ms = bench.now_ms();
        let worker = &mut bench.work.workers[0];
        worker.wake();
        worker.fill(now_ms).await.unwrap();
        for call in worker.next(now_ms).await {
            let outcomes = call.make(&*worker.vendor()).await;
            worker.take(call, outcomes, now_ms, 1.0).await;
        }
        let removes_ms = worker.wakes_at_ms().unwrap();
        assert!(removes_ms <= now_ms + REMOVE_MS);
        assert!(bench.rows() <= 3, "{}", bench.rows());
    }
    bench.crash().await;
    assert!(bench.call().await <= 2);
}
