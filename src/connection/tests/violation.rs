//! Input that breaks the protocol closes the connection with its code, and hurts no other session.

use super::*;
use crate::protocol::towncrier_v1::FRAME_BYTES_MAX;

#[test]
fn what_is_not_the_protocol_closes_with_its_code() {
    run(async {
        let mut bench = Bench::new();
        let say = |body| {
            let frame = crate::protocol::towncrier_v1::proto::ClientFrame { body: Some(body) };
            WsMessage::Binary(prost::Message::encode_to_vec(&frame).into())
        };
        let ping = say(client_frame::Body::Ping(Ping { nonce: 1 }));
        assert_eq!(bench.close_of(ping).await, 4400, "a frame before Connect");
        let empty = WsMessage::Binary(Bytes::new());
        assert_eq!(bench.close_of(empty).await, 4400, "an empty frame");
        let text = WsMessage::Text("hello".into());
        assert_eq!(bench.close_of(text).await, 1003, "a text frame");
        let large = WsMessage::Binary(vec![0; FRAME_BYTES_MAX + 1].into());
        assert_eq!(bench.close_of(large).await, 1009, "a frame above 64 KiB");
        let connect = say(client_frame::Body::Connect(Connect::default()));
        assert_eq!(bench.close_of(connect).await, 4401, "no token");
    });
}

#[test]
fn random_and_truncated_frames_close_with_4400_and_hurt_nobody() {
    let seed = std::env::var("TOWNCRIER_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("TOWNCRIER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    run(async move {
        let mut bench = Bench::new();
        let mut other = bench.log_in_live().await;
        let connect = crate::protocol::towncrier_v1::proto::ClientFrame {
            body: Some(client_frame::Body::Connect(
                bench.world.connect("v", Platform::Ios),
            )),
        };
        let whole = prost::Message::encode_to_vec(&connect);
        for _ in 0..200 {
            let bytes: Vec<u8> = if rng.bool() {
                (0..rng.usize(..100)).map(|_| rng.u8(..)).collect()
            } else {
                whole[..rng.usize(..whole.len())].to_vec()
            };
            let code = bench.close_of(WsMessage::Binary(bytes.into())).await;
            assert!(code == 4400 || code == 4401, "{code}");
        }
        bench.send(b"1");
        assert_eq!(other.hear_messages(1).await.len(), 1);
    });
}

#[test]
fn random_bytes_instead_of_frames_end_the_connection() {
    run(async {
        let mut bench = Bench::new();
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (client, task) = bench.open(1 << 20).await;
            let mut pipe = client.0.into_inner();
            let bytes: Vec<u8> = (0..2000).map(|_| rng.u8(..)).collect();
            pipe.write_all(&bytes).await.unwrap();
            pipe.shutdown().await.unwrap();
            task.await.expect("ends without a panic");
        }
    });
}

#[test]
fn a_second_connect_and_an_ack_from_the_future_close_with_4400() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let connect = bench.world.connect("u", Platform::Web);
        client.say(client_frame::Body::Connect(connect)).await;
        assert_eq!(client.hear_close().await, 4400);
        let mut client = bench.log_in_live().await;
        client.say(ack(1)).await;
        assert_eq!(client.hear_close().await, 4400);
        assert_eq!(bench.world.registry.sessions(), 0);
    });
}
