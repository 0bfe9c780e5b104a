//! From `Connect` to `Connected`, or to a refusal, with a log that answers at once or later.

use super::*;

#[test]
fn connected_tells_what_the_client_needs() {
    run(async {
        let mut bench = Bench::new();
        bench.world.append("u", b"1");
        let (mut client, _) = bench.open(1 << 20).await;
        let connect = bench.world.connect("u", Platform::Ios);
        client.say(client_frame::Body::Connect(connect)).await;
        let Body::Connected(connected) = client.hear_frame().await else {
            panic!("not Connected")
        };
        assert_eq!((connected.epoch, connected.cursor), (EPOCH, 0));
        assert_eq!((connected.head, connected.first), (1, 1));
        assert_eq!((connected.heartbeat_ms, connected.window), (30_000, 256));
        assert_eq!((connected.user_id.as_str(), connected.platform), ("u", 1));
        assert!(connected.server_time_ms > 0);
    });
}

#[test]
fn what_a_damaged_log_may_have_forgotten_is_no_other_log_and_no_empty_inbox() {
    run(async {
        let mut bench = Bench::new();
        let ahead = Connect {
            epoch: EPOCH,
            cursor: Some(5),
            ..bench.world.connect("u", Platform::Web)
        };
        let fresh = bench.world.connect("u", Platform::Web);
        let damaged = LogError::new(Cause::Damaged, "it was damaged for a test");
        bench
            .world
            .log
            .fail(Fault::Refuse(AppendError::Refusing(damaged)));
        for connect in [ahead, fresh] {
            let (mut client, _) = bench.open(1 << 20).await;
            client.say(client_frame::Body::Connect(connect)).await;
            assert_eq!(client.hear_close().await, 1011);
            assert_eq!(bench.world.registry.sessions(), 0);
        }
    });
}

#[test]
fn a_revoked_token_and_one_session_too_many_are_refused() {
    run(async {
        let sessions = config::Sessions {
            policy: 0,
            per_user_max: 1,
            ..config::Sessions::default()
        };
        let mut bench = Bench::with(&sessions, ROOMY);
        let _first = bench.log_in().await;
        let (mut client, _) = bench.open(1 << 20).await;
        let connect = bench.world.connect("u", Platform::Ios);
        client
            .say(client_frame::Body::Connect(connect.clone()))
            .await;
        assert_eq!(client.hear_close().await, 4429);
        let user = UserId::new("u").unwrap();
        bench
            .world
            .log
            .revoke(user, Platform::Ios, u64::MAX)
            .unwrap();
        let (mut client, _) = bench.open(1 << 20).await;
        client.say(client_frame::Body::Connect(connect)).await;
        assert_eq!(client.hear_close().await, 4401);
        assert_eq!(bench.world.registry.sessions(), 1);
    });
}

#[test]
fn a_newer_login_replaces_the_older_one_which_learns_it() {
    run(async {
        let mut bench = Bench::new();
        let mut older = bench.log_in_live().await;
        let mut newer = bench.log_in_live().await;
        bench.hand_out();
        let Body::Kicked(kicked) = older.hear_frame().await else {
            panic!("not Kicked")
        };
        assert_eq!(kicked.reason(), kicked::Reason::Replaced);
        assert_eq!(older.hear_close().await, 4409);
        bench.send(b"1");
        assert_eq!(newer.hear_messages(1).await.len(), 1);
        assert_eq!(bench.world.registry.sessions(), 1);
    });
}

#[test]
fn an_ack_of_a_replaced_connection_that_was_not_told_yet_moves_no_cursor() {
    run(async {
        let mut bench = Bench::new();
        let mut older = bench.log_in_live().await;
        bench.send(b"1");
        assert_eq!(older.hear_messages(1).await.len(), 1);
        let _newer = bench.log_in().await;
        older.say(ack(1)).await;
        // The answer says that the ack was taken, and that nobody told the connection of the newer login.
        older.say(client_frame::Body::Ping(Ping { nonce: 5 })).await;
        assert!(matches!(older.hear_frame().await, Body::Pong(pong) if pong.nonce == 5));
        assert_eq!(bench.world.log.cursor(&web("u")), Some(Seq::ZERO));
    });
}

/// A client that sent its `Connect` to a log that answers later. The log holds its first answer.
async fn log_in_later(bench: &mut Bench) -> (Client<DuplexStream>, JoinHandle<()>) {
    bench.world.log.rows().answering = Answering::Held;
    let connect = bench.world.connect("u", Platform::Web);
    let (mut client, task) = bench.open(1 << 20).await;
    client.say(client_frame::Body::Connect(connect)).await;
    rest().await;
    (client, task)
}

/// The same, up to the answer about the resume point: the session is registered.
async fn register_later(bench: &mut Bench) -> (Client<DuplexStream>, JoinHandle<()>) {
    let before = bench.world.registry.sessions();
    let (client, task) = log_in_later(bench).await;
    assert_eq!(bench.world.registry.sessions(), before);
    assert_eq!(bench.world.log.release(), 1);
    rest().await;
    assert_eq!(bench.world.registry.sessions(), before + 1);
    (client, task)
}

#[test]
fn a_login_waits_for_the_log_and_delays_no_other_session() {
    run(async {
        let mut bench = Bench::new();
        let connect = bench.world.connect("another", Platform::Web);
        let mut another = bench.log_in_with(connect, 1 << 20).await;
        assert!(matches!(another.hear_frame().await, Body::CaughtUp(_)));
        let (mut client, _) = register_later(&mut bench).await;
        another
            .say(client_frame::Body::Ping(Ping { nonce: 5 }))
            .await;
        assert!(matches!(another.hear_frame().await, Body::Pong(pong) if pong.nonce == 5));
        assert_eq!(bench.world.log.release(), 1);
        assert!(matches!(client.hear_frame().await, Body::Connected(_)));
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
    });
}

#[test]
fn a_message_during_a_login_reaches_the_session() {
    run(async {
        for is_dropped in [false, true] {
            let mut bench = Bench::new();
            let (mut client, _) = register_later(&mut bench).await;
            // The held answer says that the inbox is empty.
            bench.send(b"1");
            if is_dropped {
                // The mailbox had no room for another one.
                bench.world.append("u", b"2");
                bench.connections[0].borrow_mut().look_up_head();
            }
            bench.world.log.rows().answering = Answering::Later;
            assert_eq!(bench.world.log.release(), 1);
            let Body::Connected(connected) = client.hear_frame().await else {
                panic!("not Connected")
            };
            assert_eq!(connected.head, 0);
            let count = 1 + usize::from(is_dropped);
            assert_eq!(client.hear_messages(count).await.len(), count);
        }
    });
}

#[test]
fn a_login_that_is_overtaken_ends_and_gives_its_place_back() {
    run(async {
        let mut bench = Bench::new();
        let (mut replaced, _) = register_later(&mut bench).await;
        bench.world.log.rows().answering = Answering::Now;
        let _newer = bench.log_in().await;
        bench.hand_out();
        assert_eq!(replaced.hear_close().await, 4409);
        assert_eq!(bench.world.registry.sessions(), 1);

        let mut bench = Bench::new();
        let (mut logged_out, _) = register_later(&mut bench).await;
        let user = UserId::new("u").unwrap();
        assert_eq!(bench.world.registry.log_out(&user, Platform::Web), 1);
        bench.hand_out();
        assert_eq!(logged_out.hear_close().await, 4410);

        let mut bench = Bench::new();
        let (mut drained, _) = register_later(&mut bench).await;
        bench.connections[0]
            .borrow_mut()
            .drain(Duration::from_millis(1500));
        assert_eq!(drained.hear().await, Said::Close(4503, "1500".into()));
        assert_eq!(bench.world.registry.sessions(), 0);

        let mut bench = Bench::new();
        let (_client, task) = register_later(&mut bench).await;
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(bench.world.registry.sessions(), 0);
    });
}

#[test]
fn a_login_that_the_log_does_not_answer_is_told_to_come_back() {
    run(async {
        for is_registered in [false, true] {
            let mut bench = Bench::new();
            let (mut client, _) = if is_registered {
                register_later(&mut bench).await
            } else {
                log_in_later(&mut bench).await
            };
            bench.let_pass(5).await;
            assert_eq!(client.hear_close().await, 4503);
            assert_eq!(bench.world.registry.sessions(), 0);
            // The answer comes too late.
            bench.world.log.release();
        }
    });
}

#[test]
fn a_login_that_a_revocation_overtook_is_refused_when_the_answer_comes() {
    run(async {
        let mut bench = Bench::new();
        let (mut client, _) = log_in_later(&mut bench).await;
        let user = UserId::new("u").unwrap();
        bench
            .world
            .log
            .revoke(user, Platform::Web, u64::MAX)
            .unwrap();
        bench.world.log.rows().answering = Answering::Later;
        assert_eq!(bench.world.log.release(), 1);
        assert_eq!(client.hear_close().await, 4401);
        assert_eq!(bench.world.registry.sessions(), 0);
    });
}
