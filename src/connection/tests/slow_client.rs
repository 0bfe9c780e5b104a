//! A client that reads little or nothing delays nobody, and loses nothing that it reads later.

use super::*;

#[test]
fn short_writes_and_pings_in_the_middle_of_frames_mix_nothing_up() {
    run(async {
        let mut bench = Bench::new();
        let contents: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 40 * usize::from(n) + 1]).collect();
        // With a pipe of 13 bytes every frame is written in many pieces, and read while it is written.
        let connect = bench.world.connect("u", Platform::Web);
        let client = bench.log_in_with(connect, 13).await;
        let (mut sink, mut stream) = client.0.split();
        let pinging = spawn_local(async move {
            for _ in 0..20 {
                sink.send(WsMessage::Ping(Bytes::from_static(b"are you there")))
                    .await
                    .unwrap();
            }
            sink
        });
        for content in &contents {
            bench.send(content);
            yield_now().await;
        }
        let (mut pongs, mut heard) = (0, Vec::new());
        while pongs < 20 || heard.len() < 20 {
            match stream.next().await.expect("goes on").expect("well formed") {
                WsMessage::Pong(data) => {
                    assert_eq!(&data[..], b"are you there");
                    pongs += 1;
                }
                WsMessage::Binary(bytes) => {
                    let frame: crate::protocol::towncrier_v1::proto::ServerFrame =
                        prost::Message::decode(bytes).unwrap();
                    if let Some(Body::Push(push)) = frame.body {
                        heard.extend(push.messages.into_iter().map(|m| m.content.to_vec()));
                    }
                }
                message => panic!("{message:?}"),
            }
        }
        assert_eq!(heard, contents);
        drop(pinging.await);
    });
}

#[test]
fn a_close_waits_for_the_frame_that_is_half_written() {
    run(async {
        let mut bench = Bench::new();
        let connect = bench.world.connect("u", Platform::Web);
        let mut client = bench.log_in_with(connect, 64).await;
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
        bench.send(&[b'x'; 5000]);
        rest().await;
        let user = UserId::new("u").unwrap();
        assert_eq!(bench.world.registry.log_out(&user, Platform::Web), 1);
        bench.hand_out();
        assert_eq!(client.hear_messages(1).await[0].1.len(), 5000);
        assert!(matches!(client.hear_frame().await, Body::Kicked(_)));
        assert_eq!(client.hear_close().await, 4410);
    });
}

#[test]
fn a_client_that_never_reads_is_closed_with_4502_and_delays_nobody() {
    run(async {
        let small = OutboxLimits {
            frames_max: 8,
            bytes_max: 4096,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let mut stuck = bench.log_in_with(connect, 256).await;
        let connect = bench.world.connect("u", Platform::Ios);
        let mut other = bench.log_in_with(connect, 1 << 20).await;
        for n in 0..100 {
            bench.send(&[n; 300]);
            rest().await;
        }
        assert_eq!(other.hear_messages(100).await.len(), 100);
        other.say(ack(100)).await;
        rest().await;
        let seconds = bench.context.session.stall_timeout.as_secs();
        bench.let_pass(seconds / 2).await;
        assert_eq!(bench.world.registry.sessions(), 2);
        bench.let_pass(seconds / 2 + 1).await;
        assert_eq!(bench.world.registry.sessions(), 1);
        // The client reads at last: it gets the frame that was begun, then the close, and no other waiting frame.
        let mut messages = 0;
        let code = loop {
            match stuck.hear().await {
                Said::Close(code, _) => break code,
                Said::Frame(_) => messages += 1,
                said => panic!("{said:?}"),
            }
        };
        assert_eq!(code, 4502);
        assert!(messages < 10, "{messages}");
    });
}

#[test]
fn a_slow_client_gets_all_from_the_log_in_order() {
    run(async {
        let small = OutboxLimits {
            frames_max: 4,
            bytes_max: 1024,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let mut client = bench.log_in_with(connect, 100).await;
        for n in 0..200 {
            bench.send(&[n; 50]);
        }
        let messages = client.hear_messages(200).await;
        let seqs: Vec<u64> = messages.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=200).collect::<Vec<u64>>());
    });
}

#[test]
fn a_flood_of_pings_that_is_read_late_is_answered_whole() {
    run(async {
        const PINGS: usize = 5000;
        let small = OutboxLimits {
            frames_max: 8,
            bytes_max: 4096,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let client = bench.log_in_with(connect, 4096).await;
        let (mut from, mut to) = tokio::io::split(client.0.into_inner());
        let sending = spawn_local(async move {
            for _ in 0..PINGS {
                let ping = [0x89, 0x80, 0, 0, 0, 0];
                to.write_all(&ping).await.unwrap();
            }
        });
        // Both pipes fill up before the client reads the first answer.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut pongs = vec![0; 2 * PINGS];
        let answered = from.read_exact(&mut pongs);
        let answered = tokio::time::timeout(Duration::from_secs(30), answered).await;
        assert!(answered.is_ok(), "the connection went to sleep");
        sending.await.unwrap();
    });
}
