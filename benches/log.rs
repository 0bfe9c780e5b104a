//! Durable appends: the log of this gateway and sled alone, in turn, and the disk's own sync beside them.
//!
//! 1,024 appenders in a closed loop; each waits for its answer before it sends again. 424-byte records to 100,000 users,
//! seeded. `sled alone` is the best use of sled: one committer takes everything that waits, inserts, flushes once, in a
//! directory with the synchronous attribute, so that its flush reaches the disk. Prints medians of the rounds.
//!
//! `cargo bench --bench log`, or `… -- --rounds 5 --appends 100000`.

mod support;

use std::{path::Path, time::Instant};

use rustix::fs::IFlags;
use support::{APPENDERS, BODY_BYTES, Round, append_all, argument, closed_loop, open};
use tokio::sync::{mpsc, oneshot};
use towncrier::config;

const USERS: u64 = 100_000;

fn main() {
    let rounds = argument("--rounds", 3);
    let appends = argument("--appends", 1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let mut results: [Vec<Round>; 3] = Default::default();
    for round in 1..=rounds {
        let dir = tempfile::tempdir_in(".").expect("a directory beside the benchmark");
        results[0].push(sync_alone(dir.path()));
        results[1].push(runtime.block_on(log(dir.path(), appends)));
        results[2].push(runtime.block_on(sled_alone(dir.path(), appends)));
        for (name, rounds) in NAMES.iter().zip(&results) {
            println!(
                "round {round} {name}: {}",
                rounds.last().expect("just pushed")
            );
        }
    }
    println!("\nmedian of {rounds} rounds, {appends} appends each, {APPENDERS} appenders");
    let [sync, log, sled] = results.map(median);
    for (name, round) in NAMES.iter().zip([&sync, &log, &sled]) {
        println!("{name:<24} {round}");
    }
    println!(
        "log : sled alone = {:.1} : 1",
        log.per_second / sled.per_second
    );
}

const NAMES: [&str; 3] = ["4 KiB append + sync", "log", "sled alone"];

fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|left, right| left.per_second.total_cmp(&right.per_second));
    rounds.swap_remove(rounds.len() / 2)
}

/// The disk's sync without a log.
fn sync_alone(dir: &Path) -> Round {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("sync")).expect("a file");
    let begun = Instant::now();
    let latencies = (0..1000).map(|_| {
        let begun = Instant::now();
        file.write_all(&[7; 4096]).expect("a write");
        file.sync_data().expect("a sync");
        begun.elapsed()
    });
    let latencies: Vec<_> = latencies.collect();
    Round::of(latencies, begun.elapsed())
}

/// Every engine gets the same user for the same number.
fn user(number: u64) -> String {
    format!("user-{:06}", fastrand::Rng::with_seed(number).u64(..USERS))
}

async fn log(dir: &Path, appends: u64) -> Round {
    let config = config::Log {
        dir: dir.join("towncrier"),
        ..config::Log::default()
    };
    let log = open(&config);
    let round = append_all(&log, appends, user).await;
    log.close();
    round
}

async fn sled_alone(dir: &Path, appends: u64) -> Round {
    let dir = dir.join("sled");
    std::fs::create_dir(&dir).expect("a directory");
    let handle = std::fs::File::open(&dir).expect("the directory opens");
    let flags = rustix::fs::ioctl_getflags(&handle).expect("a file system with attributes");
    rustix::fs::ioctl_setflags(&handle, flags | IFlags::SYNC).expect("the synchronous attribute");
    let config = sled::Config::new()
        .path(&dir)
        .cache_capacity(1 << 30)
        .flush_every_ms(None);
    let db = config.open().expect("sled opens");
    let (sender, mut queue) = mpsc::channel::<(String, oneshot::Sender<()>)>(65_536);
    let committer = std::thread::spawn(move || {
        let mut heads = std::collections::HashMap::new();
        while let Some(first) = queue.blocking_recv() {
            let mut next = Some(first);
            let mut waiting = Vec::new();
            while let Some((user, answer)) = next {
                let head = heads.entry(user.clone()).or_insert(0_u64);
                *head += 1;
                let key = [user.as_bytes(), &head.to_be_bytes()].concat();
                db.insert(key, vec![b'x'; BODY_BYTES]).expect("an insert");
                waiting.push(answer);
                next = queue.try_recv().ok();
            }
            db.flush().expect("a flush");
            waiting
                .into_iter()
                .for_each(|answer| answer.send(()).expect("somebody waits"));
        }
    });
    let round = closed_loop(appends, move |number| {
        let sender = sender.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            sender
                .send((user(number), answer))
                .await
                .expect("the committer runs");
            answered.await.expect("an answer");
        }
    })
    .await;
    committer.join().expect("the committer ends");
    round
}
