//! Fuzzing of a log's files: bytes of any kind, a real segment with changed bits, and records that no writer would have
//! written.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

pub use super::state::fuzzing::rows;
use super::{
    core::Core,
    fixture::TestDisk,
    inspect::inspect_segments,
    record::{self, EntryFields, HEADER_BYTES, Key, Position, Record},
    recovery,
    segment::{self, ORIGIN, Segment},
    state::{MemoryHome, State},
    table_id::TableId,
    watermark::{Marks, Watermark},
    *,
};
use crate::{
    clock::Clock,
    config::LOG_FORMAT,
    fuzzing::Input,
    ids::{Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    metrics::Metrics,
};

fn user(name: &str) -> UserId {
    UserId::new(name).expect("an id")
}

/// The bytes of a segment with these records. Each group is closed.
fn image(groups: &[&[Record]]) -> Vec<u8> {
    let disk = TestDisk::default();
    Segment::create(&disk, ORIGIN, 0, 1, LOG_FORMAT).expect("in memory");
    let mut bytes = disk.get(&Segment::name_of(ORIGIN));
    let mut previous = 0;
    for group in groups {
        let start = Position(ORIGIN.0 + bytes.len() as u64);
        for record in *group {
            previous = record::encode(record, previous, &mut bytes);
        }
        previous = close(start, previous, &mut bytes);
    }
    bytes
}

fn close(start: Position, previous: u32, bytes: &mut Vec<u8>) -> u32 {
    let commit = Record::Commit {
        position: Position(ORIGIN.0 + bytes.len() as u64),
        start,
        time_ms: 1,
    };
    record::encode(&commit, previous, bytes)
}

/// A segment as the writer makes it, with one record of each kind.
fn real() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let key = |client_message_id: &str| Key {
            message_id: MessageId([7; 16]),
            send_time_ms: 1,
            fingerprint: [1; 16],
            sender: "oa".into(),
            client_message_id: client_message_id.into(),
        };
        let message = Record::Message(record::Message {
            key: key("one"),
            is_keyed: true,
            body: Bytes::from_static(b"the new leave policy"),
        });
        let at = Position(ORIGIN.0 + segment::HEADER_BYTES);
        let place = |name: &str| Record::Place {
            user: user(name),
            seq: Seq(1),
            previous: Position::NONE,
            message: at,
            fields: EntryFields::default(),
        };
        let marked = Record::Place {
            user: user("dave"),
            seq: Seq(10),
            previous: Position::NONE,
            message: at,
            fields: EntryFields {
                conversation_seq: 3,
                conversation_id: "sg_g".into(),
                ..EntryFields::default()
            },
        };
        let row = |value: Option<&'static [u8]>| Record::Row {
            table: TableId::Settings,
            key: Bytes::from_static(b"alice"),
            value: value.map(Bytes::from_static),
        };
        let others = [
            Record::Register {
                user: user("carol"),
                profile: Bytes::from_static(b"{}"),
            },
            Record::Revoke {
                user: user("alice"),
                platform: Platform::Web,
                before_ms: 1,
            },
            Record::Token {
                user: user("alice"),
                platform: Platform::Web,
                issued_at_ms: 2,
            },
            Record::Delete {
                user: user("bob"),
                seq: Seq(1),
            },
            Record::Head {
                user: user("dave"),
                head: Seq(9),
                first: Seq(10),
            },
            Record::Key(key("two")),
            Record::Cursor {
                session: SessionKey {
                    user: user("alice"),
                    platform: Platform::Web,
                    device: "d".into(),
                },
                cursor: Seq(1),
                acked_at_ms: 1,
            },
        ];
        image(&[
            &[message, place("alice"), place("bob")],
            &others,
            &[marked, row(Some(b"on")), row(None)],
            &[Record::Register {
                user: user("erin"),
                profile: Bytes::new(),
            }],
        ])
    })
}

fn inspect(bytes: Vec<u8>, synced: Position) -> (inspect::LogReport, Vec<String>) {
    let disk = TestDisk::default();
    disk.put(&Segment::name_of(ORIGIN), bytes);
    let marks = Marks {
        synced,
        ..Marks::NONE
    };
    let mut lines = Vec::new();
    let mut visit = |line: &str| lines.push(line.to_owned());
    let report = inspect_segments(&disk, marks, &mut Some(&mut visit)).expect("in memory");
    (report, lines)
}

/// The first byte selects the case. Either the other bytes follow a good header, and the scan walks to their end. Or they
/// describe a burst of up to 32 changed bits in a real segment, and a place to cut it: then the scan finds damage, and
/// reads no record that was not written.
pub fn segments(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let end = Position(ORIGIN.0 + real().len() as u64);
    if how & 1 == 0 {
        let header = &real()[..segment::HEADER_BYTES as usize];
        let synced = if how & 2 == 0 { Position::NONE } else { end };
        inspect([header, input.0].concat(), synced);
        return;
    }
    let mut bytes = real().to_vec();
    let at = (usize::from(input.byte()) << 8 | usize::from(input.byte())) % bytes.len();
    for (byte, change) in bytes[at..].iter_mut().zip(input.bytes(4)) {
        *byte ^= change;
    }
    let cut = usize::from(input.byte()) << 8 | usize::from(input.byte());
    bytes.truncate(bytes.len().saturating_sub(cut));
    let is_changed = bytes != real();
    let (report, lines) = inspect(bytes, end);
    assert_eq!(is_changed, !report.damages.is_empty(), "{report:?}");
    let (_, written) = inspect(real().to_vec(), end);
    for line in lines {
        assert!(written.contains(&line), "{line} was never written");
    }
}

/// Groups of records of any kind and content, each with a good checksum. The log opens, or reports the damage. Everything
/// that can be read is read.
pub fn recovery(data: &[u8]) {
    let mut bytes = image(&[]);
    let mut input = Input(data);
    let (mut previous, mut start) = (0, Position(ORIGIN.0 + bytes.len() as u64));
    while !input.is_empty() {
        match input.byte() {
            1 => {
                previous = close(start, previous, &mut bytes);
                start = Position(ORIGIN.0 + bytes.len() as u64);
            }
            kind => previous = put(kind, input.counted(), previous, &mut bytes),
        }
    }
    close(start, previous, &mut bytes);

    let disk = Arc::new(TestDisk::default());
    disk.put(&Segment::name_of(ORIGIN), bytes);
    let mut watermark = Watermark::open(&*disk).expect("in memory");
    let (state, _) = State::open(&MemoryHome::default()).expect("an empty store opens");
    // The metrics are made once, because making them takes longer than a recovery.
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    let metrics = Arc::clone(METRICS.get_or_init(Arc::default));
    let core = Core::new(Epoch(7), disk, state, Arc::new(Clock::system()), metrics);
    match recovery::replay(&core, None, &mut watermark, LOG_FORMAT) {
        Ok(()) => {}
        // A later version wrote it, which is said; the log does not open.
        Err(ReadError::Newer { .. }) => return,
        Err(error) => panic!("damage is no error: {error}"),
    }
    let limit = ReadLimit {
        messages: 10,
        bytes: 1000,
    };
    for user in core.state.all_users().expect("reads") {
        let Ok(inbox) = core.inbox(&user) else {
            continue;
        };
        for after in [Seq::ZERO, inbox.first, inbox.head.previous(), Seq(u64::MAX)] {
            for stored in core
                .read(&user, after, limit, Patience::Disk)
                .into_iter()
                .flat_map(|read| read.stored)
            {
                assert!(stored.seq > after && stored.seq <= inbox.head);
            }
        }
    }
    let _ = core.find(&Lookup::Id(MessageId([7; 16])));
}

/// Appends a closed group with one record of any kind and body to a whole segment's bytes, as a later version would.
#[cfg(test)]
pub(super) fn append_group(kind: u8, body: &[u8], bytes: &mut Vec<u8>) {
    let start = Position(ORIGIN.0 + bytes.len() as u64);
    // The last record of a closed segment is a `Commit`, whose CRC the next record names.
    let commit = bytes.len() - (HEADER_BYTES + 32);
    let previous = record::Header::read(&bytes[commit..])
        .expect("a commit")
        .crc;
    let previous = put(kind, body, previous, bytes);
    close(start, previous, bytes);
}

/// Writes a record in the layout of `record.rs`, with any kind and body.
fn put(kind: u8, body: &[u8], previous: u32, bytes: &mut Vec<u8>) -> u32 {
    let length = (body.len() as u32).to_le_bytes();
    let previous = previous.to_le_bytes();
    let crc = crc32c::crc32c(&[&length[..], &previous, &[kind], body].concat());
    let at = bytes.len();
    for part in [&length[..], &previous, &crc.to_le_bytes(), &[kind], body] {
        bytes.extend_from_slice(part);
    }
    debug_assert_eq!(bytes.len() - at, HEADER_BYTES + body.len());
    crc
}
