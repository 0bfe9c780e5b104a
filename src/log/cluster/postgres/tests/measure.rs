//! The cost of an append on this machine: the server's CPU for a message, with conversations and keys, at several group sizes.

use std::{sync::Arc, time::Instant};

use super::{super::PostgresEngine, server::Server};
use crate::log::{
    Append,
    cluster::engine::Engine,
    tests::conformance::{message, user},
};

/// The users of the measurement, each with one conversation or a few.
const USERS: usize = 50_000;
/// The messages of a cell.
const MESSAGES: usize = 20_000;

/// A keyed message of 400 bytes to a random user.
fn send(random: &mut fastrand::Rng, number: usize) -> Append {
    let name = format!("user-{}", random.usize(..USERS));
    let key = format!("key-{number}-{}", random.u64(..));
    let stored = crate::message::StoredMessage {
        send_id: format!("sender-{}", random.usize(..3)),
        session_type: 1,
        content: (0..400).map(|_| random.u8(..)).collect::<Vec<_>>().into(),
        ..Default::default()
    };
    Append {
        body: stored.to_bytes(),
        receivers: vec![user(&name)],
        is_keyed: true,
        client_message_id: key.into(),
        ..message(crate::clock::Clock::system().now_ms(), &[], None, "")
    }
}

#[tokio::test]
#[ignore = "a measurement: run it alone, with --nocapture"]
async fn the_cost_of_an_append() {
    let Some(server) = Server::of_its_own().await else {
        return;
    };
    let database = tokio::task::spawn_blocking(move || server.database()).await;
    let url = database.unwrap().url();
    let engine = PostgresEngine::connect(&url).await.unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    println!("group lanes messages/s p50_ms p99_ms server_us/message");
    for (group, lanes) in [(1, 1), (10, 1), (100, 1), (100, 1), (100, 2), (1000, 1)] {
        let ids = engine.lanes(lanes).await.unwrap();
        let messages = if group == 1 { MESSAGES / 20 } else { MESSAGES };
        let mut work: Vec<Vec<Arc<[Append]>>> = vec![Vec::new(); lanes];
        for number in 0..messages / group {
            let appends = (0..group).map(|of_group| send(&mut random, number * group + of_group));
            work[number % lanes].push(appends.collect());
        }
        let cpu = server.cpu_seconds();
        let begun = Instant::now();
        let run = |(id, groups): (_, Vec<Arc<[Append]>>)| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for (number, appends) in (1..).zip(groups) {
                    let begun = Instant::now();
                    engine.append(id, number, appends).await.unwrap();
                    times.push(begun.elapsed().as_secs_f64() * 1000.0);
                }
                times
            })
        };
        let running: Vec<_> = ids.into_iter().zip(work).map(run).collect();
        let mut times = Vec::new();
        for running in running {
            times.extend(running.await.unwrap());
        }
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = (server.cpu_seconds() - cpu) * 1e6 / messages as f64;
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times[(times.len() - 1) * part / 100];
        println!(
            "{group:5} {lanes:5} {:10.0} {:6.1} {:6.1} {cpu:10.1}",
            messages as f64 / seconds,
            at(50),
            at(99)
        );
    }
    let bytes = server.bytes_of(&url).await;
    println!("{bytes}");
}
