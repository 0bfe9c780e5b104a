//! Each inbox is dense and reads back in order. A message is found by either of its ids.

use super::*;

#[test]
fn each_inbox_is_dense_and_reads_back_in_order_from_any_cursor() {
    let bench = Bench::new();
    let seed = std::env::var("TOWNCRIER_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("TOWNCRIER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for number in 0..1000 {
        let all = ["u1", "u2", "系统"];
        let users: Vec<&str> = all.into_iter().filter(|_| random.f32() < 0.6).collect();
        if !users.is_empty() {
            let body = format!("{number}{}", "x".repeat(random.usize(..3000)));
            let receipt = bench.send(&users, &body);
            for (name, (receiver, numbers)) in users.iter().zip(&*receipt.entries) {
                let inbox = model.entry(name).or_default();
                inbox.push(body.clone());
                assert_eq!(
                    (receiver.as_str(), numbers.seq.0),
                    (*name, inbox.len() as u64)
                );
            }
        }
    }
    for (name, inbox) in &model {
        let head = inbox.len() as u64;
        assert_eq!(bench.bounds(name), (1, head));
        for after in [head, head + 1, u64::MAX] {
            assert_eq!(bench.read(name, after), [], "nothing is above the head");
        }
        for _ in 0..50 {
            let after = random.u64(..=head);
            let limit = ReadLimit {
                messages: random.usize(1..400),
                bytes: random.usize(1..100_000),
            };
            let LogAnswer::Now(read) = bench.log.read(&user(name), Seq(after), limit) else {
                panic!("it is in memory");
            };
            let read = read.unwrap().entries;
            assert!(
                after == head || !read.is_empty(),
                "a read below the head returns something"
            );
            assert!(read.len() <= limit.messages);
            for (expected, entry) in (after + 1..).zip(read) {
                assert_eq!(entry.numbers.seq.0, expected);
                assert_eq!(
                    entry.content.into_message().map(text).as_ref(),
                    inbox.get(expected as usize - 1)
                );
            }
        }
    }
}

/// A message is found by its id even if the clock was set back in the middle of the log, while a process ran or before a
/// restart.
#[test]
fn a_message_is_found_by_its_id_after_the_clock_was_set_back() {
    let bench = Bench::new();
    let mut sent = Vec::new();
    for jump in [0, 50 * 86_400_000, -80 * 86_400_000, 10 * 86_400_000] {
        bench.machine.jump(jump);
        bench.clock.accept();
        for number in 0..3 {
            sent.push(bench.send(&["u1"], &format!("{jump} {number}")));
        }
    }
    for receipt in sent {
        let found = bench
            .log
            .find(Lookup::Id(receipt.message_id))
            .blocking_wait()
            .unwrap();
        assert_eq!(found, Some(receipt));
    }
}

#[test]
fn deleted_messages_keep_their_places_empty() {
    let bench = Bench::new();
    for body in ["a", "b", "c"] {
        bench.send(&["u1"], body);
    }
    bench
        .log
        .delete(user("u1"), vec![Seq(2), Seq(99)])
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    let expected = [
        (1, Some("a".to_owned())),
        (2, None),
        (3, Some("c".to_owned())),
    ];
    assert_eq!(bench.read("u1", 0), expected);
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(bench.read("u1", 0), expected);
}

#[test]
fn messages_are_found_by_either_id() {
    let bench = Bench::with(|limits| limits.segment_bytes = 700);
    let mut receipts = Vec::new();
    for number in 0..30 {
        bench.machine.advance(500);
        receipts.push(bench.send(&["u1", "u2"], &format!("{number}")));
    }
    receipts.push(bench.try_send(&["u1"], Some("mine"), "x").unwrap());
    for receipt in receipts {
        assert_eq!(
            bench
                .log
                .find(Lookup::Id(receipt.message_id))
                .blocking_wait()
                .unwrap()
                .as_ref(),
            Some(&receipt)
        );
        let key = Lookup::Key {
            sender: "oa".into(),
            client_message_id: receipt.client_message_id.clone(),
        };
        assert_eq!(
            bench.log.find(key).blocking_wait().unwrap().as_ref(),
            Some(&receipt)
        );
        let other = Lookup::Key {
            sender: "somebody".into(),
            client_message_id: receipt.client_message_id.clone(),
        };
        assert_eq!(bench.log.find(other).blocking_wait().unwrap(), None);
    }
    assert_eq!(
        bench
            .log
            .find(Lookup::Id(MessageId::new(START_MS + 3)))
            .blocking_wait()
            .unwrap(),
        None
    );
}
