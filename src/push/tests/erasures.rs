//! No push of before an erasure, in each state of it.

use super::*;

impl Bench {
    async fn erase(&self) {
        let (erasure, _) = self.base.delivery.erase(&user()).await.unwrap();
        let delivery = &self.base.delivery;
        delivery
            .remove_erased_devices(&user(), &erasure)
            .await
            .unwrap();
        self.room
            .forgetter()
            .forget(&user(), &erasure)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_decision_that_is_due_and_a_task_go_with_their_user() {
    for is_task in [false, true] {
        let mut bench = Bench::with_phone().await;
        // The vendor takes nothing, so the task stays.
        for _ in 0..3 {
            bench.answer(Outcome::Later {
                retry_after: None,
                reason: "busy".into(),
            });
        }
        bench.send().await;
        match is_task {
            true => bench.later().await,
            false => bench.decide().await,
        }
        bench.pass(500);
        bench.decide().await;
        assert!(bench.rows() > 0, "{is_task}");
        bench.notices();
        bench.erase().await;
        assert_eq!(bench.rows(), 0, "{is_task}");
        for _ in 0..5 {
            bench.later().await;
        }
        assert_eq!(bench.notices(), [], "{is_task}");
        assert_eq!(bench.rows(), 0, "{is_task}");
    }
}

#[tokio::test]
async fn a_page_that_was_read_before_and_a_row_that_is_written_late_push_nothing() {
    let mut bench = Bench::with_phone().await;
    let (id, seq) = bench.send().await;
    let now_ms = bench.now_ms();
    // The page is held until its messages are half a second old.
    bench.work.decider.take_feed(now_ms).await.unwrap();
    bench.erase().await;
    // A new app of the user's id.
    bench.pass(1);
    bench.register(Platform::Ios, "new phone", "en").await;
    bench.later().await;
    bench.later().await;
    assert_eq!(bench.notices(), []);
    let task = super::super::rows::PushTask {
        message_id: id,
        user: user(),
        seq,
        accepted_ms: now_ms,
        class: MOBILE,
        device: [0; 16],
    };
    let pending = bench.base.log.put_rows(vec![task.put(bench.provider, 77)]);
    pending.unwrap().await.unwrap().unwrap();
    bench.call().await;
    assert_eq!(bench.notices(), []);
    assert_eq!(bench.states(id), []);
    // A message that comes after is pushed.
    let (new, _) = bench.send().await;
    bench.later().await;
    assert_eq!(bench.pushed(new), ["new phone"]);
}

#[tokio::test]
async fn a_call_that_was_prepared_before_is_not_made_after() {
    let mut bench = Bench::with_phone().await;
    bench.send().await;
    bench.pass(AFTER_MS);
    bench.decide().await;
    let now_ms = bench.now_ms();
    let worker = &mut bench.work.workers[0];
    worker.wake();
    worker.fill(now_ms).await.unwrap();
    let mut calls = worker.next(now_ms).await;
    assert_eq!(calls.len(), 1);
    bench.erase().await;
    let worker = &mut bench.work.workers[0];
    let vendor = worker.vendor();
    let call = calls.remove(0);
    let outcomes = call.make(&*vendor).await;
    worker.take(call, outcomes, now_ms, 1.0).await;
    bench.later().await;
    assert_eq!(bench.notices(), []);
    assert_eq!(bench.rows(), 0);
}
