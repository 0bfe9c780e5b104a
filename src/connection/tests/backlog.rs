//! A session gets every entry in order: its backlog, then live messages, and again until it acks.

use super::*;

#[test]
fn a_session_gets_its_backlog_then_caught_up_then_live_messages() {
    run(async {
        let mut bench = Bench::new();
        for content in [b"1", b"2"] {
            bench.world.append("u", content);
        }
        let mut client = bench.log_in().await;
        let Body::Push(push) = client.hear_frame().await else {
            panic!("no backlog")
        };
        let seqs: Vec<u64> = push.messages.iter().map(|m| m.seq).collect();
        assert_eq!(seqs, [1, 2]);
        assert_eq!(push.messages[0].recv_id, "u");
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(c) if c.seq == 2));
        bench.send(b"3");
        assert_eq!(
            client.hear_messages(1).await,
            [(3, Bytes::from_static(b"3"))]
        );
        client.say(ack(3)).await;
        rest().await;
        assert_eq!(bench.world.log.cursor(&web("u")), Some(Seq(3)));
    });
}

#[test]
fn unacked_messages_come_again_and_after_five_rewinds_the_close() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.send(b"1");
        assert_eq!(client.hear_messages(1).await[0].0, 1);
        for wait in [5, 10, 20, 40, 60] {
            client
                .say(client_frame::Body::Ping(Ping { nonce: 0 }))
                .await;
            assert!(matches!(client.hear_frame().await, Body::Pong(_)));
            bench.let_pass(wait).await;
            assert_eq!(client.hear_messages(1).await[0].0, 1);
        }
        client
            .say(client_frame::Body::Ping(Ping { nonce: 0 }))
            .await;
        rest().await;
        bench.let_pass(60).await;
        assert_eq!(client.hear_close().await, 4500);
    });
}

#[test]
fn what_is_not_in_memory_is_read_beside_the_task() {
    run(async {
        let mut bench = Bench::new();
        bench.world.log.rows().answering = Answering::Later;
        for n in 0..300_u16 {
            bench.world.append("u", &n.to_be_bytes());
        }
        let mut client = bench.log_in().await;
        assert_eq!(client.hear_messages(256).await.len(), 256);
        client.say(ack(256)).await;
        let rest_of_them = client.hear_messages(44).await;
        assert_eq!(rest_of_them.last().unwrap().0, 300);
    });
}

#[test]
fn history_comes_one_fetch_at_a_time_and_leaves_out_what_was_deleted() {
    run(async {
        for answering in [Answering::Now, Answering::Later] {
            let mut bench = Bench::new();
            for n in 0..600_u16 {
                bench.world.append("u", &n.to_be_bytes());
            }
            bench.world.log.rows().answering = answering;
            (301..=401).for_each(|seq| bench.world.delete("u", seq));
            let connect = Connect {
                epoch: EPOCH,
                cursor: Some(600),
                ..bench.world.connect("u", Platform::Web)
            };
            let mut client = bench.log_in_with(connect, 1 << 20).await;
            assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
            let asked = [
                (0, 0),
                (0, 1000),
                (300, 100),
                (599, 0),
                (600, 0),
                (u64::MAX, 5),
            ];
            for (request_id, (after_seq, limit)) in (0..).zip(asked) {
                let fetch = Fetch {
                    request_id,
                    after_seq,
                    limit,
                };
                client.say(client_frame::Body::Fetch(fetch)).await;
            }
            let expected = [
                (100, Some(1), false),
                // Fewer than asked for: a frame has room for 256 of the longest addresses.
                (252, Some(1), false),
                // All of the hundred asked for are deleted, so the session reads on until it has a hundred.
                (100, Some(402), false),
                (1, Some(600), true),
                (0, None, true),
                (0, None, true),
            ];
            for (request_id, (count, first, end)) in (0..).zip(expected) {
                let Body::Fetched(fetched) = client.hear_frame().await else {
                    panic!("not Fetched")
                };
                assert_eq!(fetched.request_id, request_id);
                assert_eq!(fetched.messages.len(), count, "request {request_id}");
                assert_eq!(fetched.messages.first().map(|m| m.seq), first);
                assert_eq!(fetched.end, end, "request {request_id}");
            }
        }
    });
}

#[test]
fn deleted_places_are_announced_as_a_gap() {
    run(async {
        let mut bench = Bench::new();
        for content in [b"1", b"2", b"3"] {
            bench.world.append("u", content);
        }
        bench.world.delete("u", 2);
        let mut client = bench.log_in().await;
        assert_eq!(client.hear_messages(1).await[0].0, 1);
        let Body::Gap(gap) = client.hear_frame().await else {
            panic!("not a Gap")
        };
        assert_eq!(
            (gap.from_seq, gap.to_seq, gap.reason()),
            (2, 2, gap::Reason::Expired)
        );
        assert_eq!(client.hear_messages(1).await[0].0, 3);
    });
}

#[test]
fn a_resend_sends_again_from_the_hole() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        for content in [b"1", b"2", b"3"] {
            bench.send(content);
        }
        assert_eq!(client.hear_messages(3).await.len(), 3);
        client
            .say(client_frame::Body::Resend(Resend { after_seq: 1 }))
            .await;
        let again: Vec<u64> = client.hear_messages(2).await.iter().map(|m| m.0).collect();
        assert_eq!(again, [2, 3]);
    });
}

#[test]
fn messages_before_a_damage_arrive_and_then_the_close_says_so() {
    run(async {
        for answering in [Answering::Now, Answering::Later] {
            let mut bench = Bench::new();
            for n in 0..20 {
                bench.world.append("u", &[n]);
            }
            bench.world.log.fail(Fault::Damaged(Seq(14)));
            bench.world.log.rows().answering = answering;
            let mut client = bench.log_in().await;
            assert_eq!(client.hear_messages(13).await.len(), 13);
            let Said::Close(1011, text) = client.hear().await else {
                panic!("not closed with 1011")
            };
            assert!(text.contains("damaged"), "{text}");
        }
    });
}

#[test]
fn dropped_live_messages_are_found_by_looking_up_the_head() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.world.send("u", b"1");
        bench.world.send("u", b"2");
        // The mailbox had no room for them.
        bench.posts.0.lock().unwrap().clear();
        bench.connections[0].borrow_mut().look_up_head();
        assert_eq!(client.hear_messages(2).await.len(), 2);
    });
}

#[test]
fn a_session_with_many_deleted_entries_lets_others_have_their_turn() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        // Each read brings a window of entries, and makes one frame of them: a gap.
        let window = bench.context.session.window as usize;
        let deleted = window * (READS_IN_A_ROW + 1);
        for _ in 0..deleted {
            bench.world.append("u", b"deleted");
        }
        (1..=deleted as u64).for_each(|seq| bench.world.delete("u", seq));
        let connection = &bench.connections[0];
        let frames = || connection.borrow().outbox.frames.len();
        assert_eq!(frames(), 0);
        connection.borrow_mut().look_up_head();
        assert_eq!(frames(), READS_IN_A_ROW);
        for _ in 0..=READS_IN_A_ROW {
            assert!(matches!(client.hear_frame().await, Body::Gap(_)));
        }
    });
}

#[test]
fn online_only_messages_pass_the_sequence_by() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let message = Arc::new(Message::new(Bytes::new()));
        bench
            .world
            .registry
            .deliver("u", Numbers::default(), &message);
        bench.hand_out();
        assert_eq!(client.hear_messages(1).await[0].0, 0);
        bench.send(b"1");
        assert_eq!(client.hear_messages(1).await[0].0, 1);
    });
}
