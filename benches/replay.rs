//! Reads of a written log: the inbox of a user who was away for long, and the log of a gateway that starts. 400-byte
//! messages; every 40th is the user's, the others go to 100,000 users; seeded. Files are in the page cache, as they are
//! after a kill. Prints medians of the rounds.
//!
//! `cargo bench --bench replay`, or `… -- --messages 4000000 --rounds 5`.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use support::{BODY_BYTES, append_all, argument};
use towncrier::{
    config,
    ids::{Seq, UserId},
    log::{Log, ReadLimit, embedded::EmbeddedLog},
    message::TOGETHER_BYTES_MAX,
};

const USERS: u64 = 100_000;
/// The user who was away.
const READER: &str = "reader";
/// One message in this many is the reader's.
const SHARE: u64 = 40;
/// One read of a session: a window, or as much of it as fits a frame.
const READ: ReadLimit = ReadLimit {
    messages: 256,
    bytes: TOGETHER_BYTES_MAX,
};

fn main() {
    let messages = argument("--messages", 400_000);
    let rounds = argument("--rounds", 5);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let dir = tempfile::tempdir_in(".").expect("a directory beside the benchmark");
    let [alone, among, killed] = ["alone", "among", "killed"].map(|name| dir.path().join(name));

    println!("median of {rounds} rounds");
    let log = open(&alone);
    runtime.block_on(append_all(&log, messages / SHARE, |_| READER.into()));
    replay("inbox alone in its log", &log, rounds);
    drop(log);

    let log = open(&among);
    runtime.block_on(append_all(&log, messages, user));
    replay("inbox among all others", &log, rounds);
    leave(&among, &killed);
    log.close();

    let (segments, bytes) = segments(&among);
    println!("a log of {messages} messages, {segments} segments, {bytes} bytes, opened");
    for (name, left) in [("after a kill", killed), ("after a close", among)] {
        let took = median(rounds, |round| {
            let begun = dir.path().join(format!("{name} {round}"));
            leave(&left, &begun);
            let start = Instant::now();
            let log = open(&begun);
            let took = start.elapsed();
            assert_eq!(head(&log), Seq(messages / SHARE), "{name}");
            took
        });
        print(name, took, messages, bytes);
    }
}

/// The receiver of message number `number`.
fn user(number: u64) -> String {
    if number.is_multiple_of(SHARE) {
        return READER.into();
    }
    format!("user-{:06}", fastrand::Rng::with_seed(number).u64(..USERS))
}

/// Opens a log that makes no checkpoint until it is closed.
fn open(dir: &Path) -> Arc<EmbeddedLog> {
    let config = config::Log {
        dir: dir.to_owned(),
        checkpoint_interval: Duration::from_secs(3600),
        ..config::Log::default()
    };
    support::open(&config)
}

fn reader() -> UserId {
    UserId::new(READER).expect("an id")
}

fn head(log: &EmbeddedLog) -> Seq {
    let inbox = log.inbox(&reader()).blocking_wait();
    inbox.expect("the log is whole").head
}

/// Reads the whole inbox as a session does.
fn replay(name: &str, log: &EmbeddedLog, rounds: u64) {
    let (reader, head) = (reader(), head(log));
    let took = median(rounds, |_| {
        let begun = Instant::now();
        let mut after = Seq::ZERO;
        while after < head {
            let read = log.read_blocking(&reader, after, READ);
            let entries = read.expect("the log is whole").entries;
            after = entries.last().expect("there is more").numbers.seq;
        }
        begun.elapsed()
    });
    print(name, took, head.0, head.0 * BODY_BYTES as u64);
}

fn median(rounds: u64, mut round: impl FnMut(u64) -> Duration) -> Duration {
    let mut took: Vec<_> = (1..=rounds).map(&mut round).collect();
    took.sort_unstable();
    took[took.len() / 2]
}

fn print(name: &str, took: Duration, messages: u64, bytes: u64) {
    let seconds = took.as_secs_f64();
    println!(
        "{name:<24} {:>9.1} ms  {:>9.0} messages/s  {:>6.0} MB/s",
        seconds * 1000.0,
        messages as f64 / seconds,
        bytes as f64 / seconds / 1e6,
    );
}

/// Makes the directory that a killed process would leave of the log in `from`. All segments but the last are never written
/// again, so they are shared; copies still on their way to the disk would slow the opened log down.
fn leave(from: &Path, to: &Path) {
    let last = segment_files(from).pop();
    copy(from, to, &|file| {
        is_segment(file) && Some(file) != last.as_deref()
    });
}

fn copy(from: &Path, to: &Path, is_shared: &dyn Fn(&Path) -> bool) {
    if is_shared(from) {
        return fs::hard_link(from, to).expect("a link");
    }
    if from.is_file() {
        fs::copy(from, to).expect("a copy");
        return;
    }
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        copy(&entry.path(), &to.join(entry.file_name()), is_shared);
    }
}

/// The number of segments, and their bytes.
fn segments(dir: &Path) -> (usize, u64) {
    let files = segment_files(dir);
    let bytes = files
        .iter()
        .map(|file| file.metadata().expect("a file").len());
    (files.len(), bytes.sum())
}

/// The segment files, the oldest first; their names are their positions.
fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("log")).expect("a directory");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = files.filter(|file| is_segment(file)).collect();
    files.sort_unstable();
    files
}

fn is_segment(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "log")
}
