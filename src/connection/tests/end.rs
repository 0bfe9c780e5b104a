//! Each end of a connection: by its client, by time, by its token, by a drain.

use super::*;

#[test]
fn a_clients_close_is_answered_and_nothing_follows_the_answer() {
    run(async {
        let mut bench = Bench::new();
        let (ours, mut theirs) = duplex(1 << 20);
        let deadline = bench.context.now().plus(Duration::from_secs(10));
        let (handle, task) = open(
            Rc::clone(&bench.context),
            ConnectionId(0),
            Box::new(TowncrierV1),
            ours,
            Vec::new(),
            deadline,
            bench.world.arrival(),
        );
        bench.connections.push(handle);
        let task = spawn_local(task);
        // Masked with zeros: a close with code 1000.
        theirs
            .write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])
            .await
            .unwrap();
        // A ping after the close, which must not be answered.
        theirs.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [0x88, 0x02, 0x03, 0xe8]);
        drop(theirs);
        task.await.unwrap();
    });
}

#[test]
fn without_a_connect_or_a_sign_of_life_the_connection_ends() {
    run(async {
        let mut bench = Bench::new();
        let (mut mute, _) = bench.open(1 << 20).await;
        rest().await;
        bench.let_pass(10).await;
        assert_eq!(mute.hear_close().await, 4508);
        let mut silent = bench.log_in_live().await;
        bench.let_pass(60).await;
        silent.say_raw(WsMessage::Ping(Bytes::new())).await;
        assert_eq!(silent.hear().await, Said::Pong);
        bench.let_pass(75).await;
        silent
            .say(client_frame::Body::Ping(Ping { nonce: 5 }))
            .await;
        assert!(matches!(silent.hear_frame().await, Body::Pong(pong) if pong.nonce == 5));
        bench.let_pass(76).await;
        assert_eq!(silent.hear_close().await, 4501);
    });
}

#[test]
fn a_session_ends_with_its_token_by_the_time_that_passed_and_not_by_a_clock_that_was_set() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let lifetime = config::Auth::default().token_lifetime;
        let (machine, clock) = (
            Arc::clone(&bench.world.machine),
            Arc::clone(&bench.world.clock),
        );
        machine.jump(lifetime.as_millis() as i64);
        clock.observe();
        clock.accept();
        bench.let_pass(1).await;
        client
            .say(client_frame::Body::Ping(Ping { nonce: 5 }))
            .await;
        assert!(matches!(client.hear_frame().await, Body::Pong(pong) if pong.nonce == 5));
        bench.let_pass(lifetime.as_secs()).await;
        assert_eq!(client.hear_close().await, 4401);
    });
}

#[test]
fn draining_tells_each_client_when_to_come_back() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let (mut greeting, task) = bench.open(1 << 20).await;
        for handle in &bench.connections {
            handle.borrow_mut().drain(Duration::from_millis(1500));
        }
        assert!(
            matches!(client.hear_frame().await, Body::Draining(d) if d.reconnect_after_ms == 1500)
        );
        assert_eq!(client.hear().await, Said::Close(4503, "1500".into()));
        assert_eq!(greeting.hear_close().await, 4503);
        assert_eq!(greeting.hear().await, Said::End);
        drop(greeting);
        task.await.unwrap();
    });
}

#[test]
fn a_client_that_ignores_the_close_is_cut_off() {
    run(async {
        let mut bench = Bench::new();
        let (client, task) = bench.open(1 << 20).await;
        rest().await;
        bench.let_pass(10).await;
        rest().await;
        assert!(!task.is_finished(), "it may still read its close frame");
        bench.let_pass(LINGER.as_secs()).await;
        task.await.unwrap();
        drop(client);
    });
}
