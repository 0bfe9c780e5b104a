//! A log that lost its entries has another epoch: its sessions come back and learn it.

use super::*;

#[test]
fn a_session_of_another_epoch_is_told_to_come_back_and_learns_it_there() {
    run(async {
        for way in ["live", "read", "head"] {
            for answering in [Answering::Now, Answering::Later] {
                let mut bench = Bench::new();
                bench.send(b"of the older epoch");
                let mut client = bench.log_in().await;
                assert_eq!(client.hear_messages(1).await.len(), 1);
                bench.world.log.rows().answering = answering;
                bench.world.log.lose_everything();
                match way {
                    "live" => bench.send(b"of the newer epoch"),
                    // The read that follows a resend.
                    "read" => {
                        client
                            .say(client_frame::Body::Resend(Resend { after_seq: 0 }))
                            .await
                    }
                    _ => bench.connections[0].borrow_mut().look_up_head(),
                }
                assert_eq!(client.hear_close().await, 4503, "{way}");
                let connect = Connect {
                    epoch: EPOCH,
                    cursor: Some(1),
                    ..bench.world.connect("u", Platform::Web)
                };
                let mut client = bench.log_in_with(connect, 1 << 20).await;
                let Body::Gap(gap) = client.hear_frame().await else {
                    panic!("not a Gap")
                };
                assert_eq!(gap.reason(), gap::Reason::EpochChanged);
            }
        }
    });
}

#[test]
fn an_ack_in_another_epoch_moves_no_cursor() {
    run(async {
        let mut bench = Bench::new();
        bench.send(b"1");
        let mut client = bench.log_in().await;
        assert_eq!(client.hear_messages(1).await.len(), 1);
        bench.world.log.lose_everything();
        client.say(ack(1)).await;
        rest().await;
        let key = SessionKey {
            user: UserId::new("u").unwrap(),
            platform: Platform::Web,
            device: "".into(),
        };
        assert_eq!(bench.world.log.cursor(&key), None);
    });
}
