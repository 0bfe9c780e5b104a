//! Does a large log cost more than a small one? Appends 400-byte messages to random users, and measures at each size: the
//! rate of the last appends, the time to read the inbox of a random user from its first message, the memory of the process,
//! and the disk space. The same inboxes are read twice. In the first reading, data that the kernel no longer has in memory
//! comes from the disk; the number of these bytes stands beside it.
//!
//! `cargo bench --bench large_log` goes to 20 million messages for a million users: 13 GB of disk, some minutes. `… --
//! --messages 2000000 --users 100000` is a smaller one. Seeded.

mod support;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use support::{BODY_BYTES, Round, append_all, argument, open};
use towncrier::{
    config,
    ids::{Seq, UserId},
    log::{ReadLimit, embedded::EmbeddedLog},
};

/// The first size. The others are compared with it.
const FIRST_MESSAGES: u64 = 1_000_000;
/// The last appends of a size, whose rate is measured.
const MEASURED_APPENDS: u64 = 500_000;
/// The number of inboxes read at each size.
const READS: u64 = 5_000;

/// One size of the log.
struct Size {
    messages: u64,
    appends: Round,
    first_reads: Reads,
    second_reads: Reads,
    resident_bytes: u64,
    disk_bytes: u64,
}

/// The result of reading the inboxes of [`READS`] users.
struct Reads {
    inboxes: Round,
    /// The mean time of a message.
    of_one: Duration,
    /// The bytes that the process got from the disk meanwhile.
    disk_bytes: u64,
}

fn main() {
    let messages = argument("--messages", 20_000_000);
    let users = argument("--users", 1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let dir = tempfile::tempdir_in(".").expect("a directory beside the benchmark");
    let config = config::Log {
        dir: dir.path().join("log"),
        ..config::Log::default()
    };
    let log = open(&config);
    let mut first: Option<Size> = None;
    let mut appended = 0;
    for size in [FIRST_MESSAGES, messages / 4, messages] {
        if size < appended + MEASURED_APPENDS {
            continue;
        }
        let user = move |first: u64| move |number: u64| user(first + number, users);
        let silent = size - MEASURED_APPENDS - appended;
        runtime.block_on(append_all(&log, silent, user(appended)));
        let appends = runtime.block_on(append_all(&log, MEASURED_APPENDS, user(appended + silent)));
        appended = size;
        let (first_reads, second_reads) = (read(&log, users), read(&log, users));
        let size = Size {
            messages: size,
            appends,
            first_reads,
            second_reads,
            resident_bytes: resident_bytes(),
            disk_bytes: disk_bytes(dir.path()),
        };
        print(&size, first.as_ref());
        first.get_or_insert(size);
    }
    log.close();
}

fn print(size: &Size, first: Option<&Size>) {
    let payload = size.messages * BODY_BYTES as u64;
    println!(
        "{} messages, {:.1} GB of payload",
        size.messages,
        payload as f64 / 1e9
    );
    println!("  appends              {}", size.appends);
    for (name, reads) in [
        ("reads of an inbox  ", &size.first_reads),
        ("  the same again   ", &size.second_reads),
    ] {
        let of_one = reads.of_one.as_secs_f64() * 1e6;
        let from_disk = reads.disk_bytes as f64 / 1e6;
        println!(
            "  {name}  {}  {of_one:.1} µs a message, {from_disk:.1} MB from the disk",
            reads.inboxes
        );
    }
    println!(
        "  resident             {:>9.0} MB",
        size.resident_bytes as f64 / 1e6
    );
    println!(
        "  disk over payload    {:>9.2}",
        size.disk_bytes as f64 / payload as f64
    );
    if let Some(first) = first {
        let rate = first.appends.per_second / size.appends.per_second;
        let ratio = |size: &Reads, first: &Reads| size.of_one.div_duration_f64(first.of_one);
        let read = ratio(&size.first_reads, &first.first_reads);
        let again = ratio(&size.second_reads, &first.second_reads);
        println!(
            "  against the first    appends {rate:.2} times as long, a message read {read:.2} times, again {again:.2} times"
        );
    }
}

fn user(number: u64, users: u64) -> String {
    format!("user-{:07}", fastrand::Rng::with_seed(number).u64(..users))
}

/// Reads whole inboxes of random users, one after the other.
fn read(log: &EmbeddedLog, users: u64) -> Reads {
    let before = disk_bytes_read();
    let limit = ReadLimit {
        messages: 1024,
        bytes: usize::MAX,
    };
    let mut messages = 0;
    let mut latencies = Vec::new();
    let begun = Instant::now();
    for number in 0..READS {
        let user = UserId::new(&user(u64::MAX - number, users)).expect("an id");
        let begun = Instant::now();
        let read = log.read_blocking(&user, Seq::ZERO, limit);
        let entries = read.expect("the log is whole").entries.len() as u32;
        if entries > 0 {
            latencies.push(begun.elapsed());
            messages += entries;
        }
    }
    let took: Duration = latencies.iter().sum();
    Reads {
        inboxes: Round::of(latencies, begun.elapsed()),
        of_one: took / messages.max(1),
        disk_bytes: disk_bytes_read() - before,
    }
}

/// The bytes that this process got from the disk.
fn disk_bytes_read() -> u64 {
    number_in("/proc/self/io", "read_bytes:")
}

fn resident_bytes() -> u64 {
    number_in("/proc/self/status", "VmRSS:") * 1024
}

/// The number after a name in one of the kernel's files.
fn number_in(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

/// The disk space as `du` counts it, because the state store's file has holes.
fn disk_bytes(dir: &Path) -> u64 {
    let output = Command::new("du")
        .arg("-sk")
        .arg(dir)
        .output()
        .expect("du runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kib = text
        .split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number of KiB") * 1024
}
