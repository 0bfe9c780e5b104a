//! Fuzzing of a log's files: bytes of any kind, a real segment with changed bits, and records that no writer would have
//! written.

use std::{
    cell::OnceCell,
    sync::{Arc, OnceLock},
};

use towncrier::{
    ids::{MessageId, Seq},
    log::{
        Log as _, Lookup, ReadLimit,
        embedded::inspect::{LogReport, inspect_segments},
    },
    metrics::Metrics,
};

use super::Input;
use crate::{
    disk::SimDisk,
    process::Life,
    short_life::{Ground, Step, live},
};

/// A segment begins with a header of this size.
const SEGMENT_HEADER_BYTES: usize = 32;
/// The first bytes of the body of a record that closes a group.
const GROUP_END_MAGIC: [u8; 8] = *b"\xf1TC-end\n";
const GROUP_END: u8 = 1;

/// The metrics of all runs. They are made once, because making them takes longer than a recovery.
pub(super) fn metrics() -> Arc<Metrics> {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    Arc::clone(METRICS.get_or_init(Arc::default))
}

/// The directories of a log with records of many kinds, after a clean stop.
pub(super) fn with_real<T>(work: impl FnOnce(&Ground) -> T) -> T {
    thread_local! {
        static REAL: OnceCell<Ground> = const { OnceCell::new() };
    }
    let make = || {
        let steps = [
            Step::Message,
            Step::Batch,
            Step::Checkpoint,
            Step::Retention,
            Step::Roll,
            Step::Batch,
            Step::Delete,
            Step::Checkpoint,
        ];
        super::runtime().block_on(live(&steps, 0, metrics())).0
    };
    REAL.with(|real| work(real.get_or_init(make)))
}

/// The first segment of a log.
fn first(segments: &SimDisk) -> (String, Vec<u8>) {
    let mut names = segments.names().into_iter();
    let name = names.find(|name| name.ends_with(".log"));
    let name = name.expect("a log has a segment");
    let bytes = segments.bytes(&name);
    (name, bytes)
}

fn inspect(segments: &SimDisk) -> (LogReport, Vec<String>) {
    let mut lines = Vec::new();
    let mut visit = |line: &str| lines.push(line.to_owned());
    let report = inspect_segments(segments, &mut Some(&mut visit)).expect("in memory");
    (report, lines)
}

/// The first byte selects the case. Either the other bytes follow a good header, and the scan walks to their end. Or they
/// describe a burst of up to 32 changed bits in a real segment, and a place to cut it: then the scan finds damage, and
/// reads no record that was not written.
pub fn segments(data: &[u8]) {
    with_real(|real| segments_of(real, data));
}

fn segments_of(real: &Ground, data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let (name, whole) = first(&real.segments);
    let changed = real.segments.copy();
    if how & 1 == 0 {
        if how & 2 == 0 {
            // Nothing is known about what was synced.
            changed.wipe();
        }
        let header = &whole[..SEGMENT_HEADER_BYTES];
        changed.put(&name, &[header, input.0].concat());
        inspect(&changed);
        return;
    }
    let mut bytes = whole.clone();
    let at = (usize::from(input.byte()) << 8 | usize::from(input.byte())) % bytes.len();
    for (byte, change) in bytes[at..].iter_mut().zip(input.bytes(4)) {
        *byte ^= change;
    }
    let cut = usize::from(input.byte()) << 8 | usize::from(input.byte());
    bytes.truncate(bytes.len().saturating_sub(cut));
    let is_changed = bytes != whole;
    changed.put(&name, &bytes);
    let (report, lines) = inspect(&changed);
    assert_eq!(is_changed, !report.damages.is_empty(), "{report:?}");
    let (_, written) = inspect(&real.segments);
    for line in lines {
        assert!(written.contains(&line), "{line} was never written");
    }
}

/// Groups of records of any kind and content, each with a good checksum, in the first segment of a log. The log opens, and
/// reports the damage. Everything that can be read is read.
pub fn recovery(data: &[u8]) {
    let runtime = super::runtime();
    let _entered = runtime.enter();
    let ground = Ground::new(metrics());
    let life = Arc::<Life>::default();
    // A new log's first segment, with its header.
    drop(ground.open(&life).expect("an empty directory opens"));
    let (name, mut bytes) = first(&ground.segments);
    let base: u64 = name
        .trim_end_matches(".log")
        .parse()
        .expect("a segment's name is its position");
    bytes.truncate(SEGMENT_HEADER_BYTES);
    let mut input = Input(data);
    let (mut previous, mut start) = (0, bytes.len());
    while !input.is_empty() {
        match input.byte() {
            GROUP_END => {
                previous = close(base, start, previous, &mut bytes);
                start = bytes.len();
            }
            kind => previous = put(kind, input.counted(), previous, &mut bytes),
        }
    }
    close(base, start, previous, &mut bytes);

    let disk = Ground::new(metrics());
    disk.segments.put(&name, &bytes);
    let (log, _workers) = match disk.open(&life) {
        Ok(opened) => opened,
        // The log says that a later version wrote it, and does not open. Damage is no error.
        Err(error) => {
            let is_newer = error.to_string().contains("which a later version wrote");
            return assert!(is_newer, "{error}");
        }
    };
    let limit = ReadLimit {
        messages: 10,
        bytes: 1000,
    };
    for user in log.users().blocking_wait().into_iter().flatten() {
        let Ok(inbox) = log.inbox(&user).blocking_wait() else {
            continue;
        };
        for after in [Seq::ZERO, inbox.first, inbox.head.previous(), Seq(u64::MAX)] {
            let read = log.read(&user, after, limit).blocking_wait();
            for entry in read.into_iter().flat_map(|read| read.entries) {
                let seq = entry.numbers.seq;
                assert!(seq > after && seq <= inbox.head);
            }
        }
    }
    let _ = log.find(Lookup::Id(MessageId([7; 16]))).blocking_wait();
}

/// Closes the group that begins at the offset `start` of the segment at `base`.
fn close(base: u64, start: usize, previous: u32, bytes: &mut Vec<u8>) -> u32 {
    let position = |offset: usize| (base + offset as u64).to_le_bytes();
    let (position, start) = (position(bytes.len()), position(start));
    let body = [&GROUP_END_MAGIC[..], &position, &start, &1u64.to_le_bytes()].concat();
    put(GROUP_END, &body, previous, bytes)
}

/// Writes a record in the layout of `src/log/embedded/record.rs`, with any kind and body. Returns its checksum.
fn put(kind: u8, body: &[u8], previous: u32, bytes: &mut Vec<u8>) -> u32 {
    let length = (body.len() as u32).to_le_bytes();
    let previous = previous.to_le_bytes();
    let crc = crc32c::crc32c(&[&length[..], &previous, &[kind], body].concat());
    for part in [&length[..], &previous, &crc.to_le_bytes(), &[kind], body] {
        bytes.extend_from_slice(part);
    }
    crc
}
