//! A repeated key returns the first result and makes one message.

use super::*;

#[test]
fn a_repeated_key_returns_the_first_result_also_after_a_crash_and_without_the_state_store() {
    for keeps_state in [true, false] {
        let bench = Bench::new();
        let first = bench
            .try_send(&["u1", "u2"], Some("leave-policy"), "body")
            .unwrap();
        assert_eq!(
            bench
                .try_send(&["u1", "u2"], Some("leave-policy"), "body")
                .unwrap(),
            first
        );
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(
            bench
                .try_send(&["u1", "u2"], Some("leave-policy"), "body")
                .unwrap(),
            first
        );
        let reused = bench.try_send(&["u1", "u2"], Some("leave-policy"), "a body that differs");
        assert_eq!(reused, Err(AppendError::KeyReused));
        assert_eq!(bench.bodies("u1"), ["body"]);
    }
}

#[test]
fn repeats_within_one_group_wait_for_its_sync_and_make_one_message() {
    let bench = Bench::new();
    let now = bench.clock.now_ms();
    let append = |number: u8| Append {
        message_id: MessageId::new(now),
        send_time_ms: now,
        sender: "oa".into(),
        client_message_id: "k".into(),
        is_keyed: true,
        fingerprint: [number / 90; 16],
        body: Bytes::from_static(b"b"),
        is_marks: false,
        receivers: vec![user("u1")],
    };
    let pending: Vec<_> = (0..100)
        .map(|number| bench.log.append(append(number)).unwrap())
        .collect();
    let mut answers = pending
        .into_iter()
        .map(|pending| pending.blocking_recv().unwrap());
    let first = answers.next().unwrap().unwrap();
    assert!(
        answers
            .by_ref()
            .take(89)
            .all(|answer| answer.as_ref() == Ok(&first))
    );
    assert!(answers.all(|answer| answer == Err(AppendError::KeyReused)));
    assert_eq!(bench.bodies("u1"), ["b"]);
}
