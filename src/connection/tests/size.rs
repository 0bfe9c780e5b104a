//! The bounds of a frame, of the outbox and of an idle connection.

use super::*;

#[test]
fn frames_and_answers_stay_within_64_kib() {
    run(async {
        let mut bench = Bench::new();
        for n in 0..10 {
            bench.world.append("u", &[n; 30_000]);
        }
        let mut client = bench.log_in().await;
        let mut messages = 0;
        while messages < 10 {
            match client.hear_frame().await {
                Body::Push(push) => {
                    assert!(prost::Message::encoded_len(&push) <= 64 * 1024);
                    messages += push.messages.len();
                }
                body => panic!("{body:?}"),
            }
        }
    });
}

#[test]
fn a_flood_of_pings_from_a_client_that_reads_nothing_is_not_answered_without_bound() {
    run(async {
        let small = OutboxLimits {
            frames_max: 8,
            bytes_max: 4096,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let client = bench.log_in_with(connect, 4096).await;
        let mut pipe = client.0.into_inner();
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        let mut written = 0;
        // Fills the pipe in both directions.
        while let Ok(Ok(())) =
            tokio::time::timeout(Duration::from_secs(1), pipe.write_all(&ping)).await
        {
            written += 1;
            assert!(written < 100_000, "the client is listened to for ever");
        }
        let waiting = bench.connections[0].borrow().outbox.frames.len();
        assert!(waiting <= 2 * small.frames_max + 1, "{waiting}");
    });
}

#[test]
fn an_idle_connection_is_small() {
    // With tokio's 256 bytes for the socket and about 150 in the registry, this makes 1.5 KB. The allocator rounds the
    // connection and the 24 bytes of its counters up to 448.
    assert!(
        size_of::<Connection>() <= 424,
        "{}",
        size_of::<Connection>()
    );
    assert!(size_of::<Task<tokio::net::TcpStream>>() <= 136);
}
