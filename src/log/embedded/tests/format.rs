//! Older formats are read and written on. A record or a segment of a later version is named, and nothing is changed.

use super::*;

/// The digit of the format in each segment's header.
fn formats(disk: &TestDisk) -> Vec<u8> {
    let segments = disk.segments().into_iter();
    segments.map(|name| disk.get(&name)[7] - b'0').collect()
}

/// The lines that a dump of the segments prints.
fn dump(disk: &TestDisk) -> Vec<String> {
    let mut lines = Vec::new();
    let mut note = |line: &str| lines.push(line.to_owned());
    inspect_segments(disk, &mut Some(&mut note)).unwrap();
    lines
}

#[test]
fn an_older_log_is_written_on_in_the_format_that_is_configured() {
    let bench = Bench::with(|limits| limits.format = 1);
    bench.send(&["u1"], "old");
    bench
        .log
        .note_token(&user("u1"), Platform::Web, 76)
        .unwrap();
    let mut bench = bench.reopen(TestDisk::after_kill, true);
    bench.send(&["u1"], "old still");
    let lines = dump(&bench.disk);
    assert!(
        !lines.iter().any(|line| line.contains(" token ")),
        "{lines:?}"
    );
    assert_eq!(formats(&bench.disk), [1]);

    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    bench.send(&["u1"], "new");
    assert_eq!(formats(&bench.disk), [1, config::LOG_FORMAT]);
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    let texts = ["old", "old still", "new"].map(|text| Some(text.to_owned()));
    let read: Vec<_> = bench
        .read("u1", 0)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(read, texts);
}

/// A segment that an older version wrote, in each older format: messages `one` for u1 and u2, `two` with a key and `three`
/// for u1, a registration of u3, a revocation, the deletion of `three`, and the session of u2. From format 2 on: a token as well.
const OLDER: [(u8, &[u8]); 3] = [
    (1, include_bytes!("../samples/format-1.log")),
    (2, include_bytes!("../samples/format-2.log")),
    (3, include_bytes!("../samples/format-3.log")),
];

/// A log whose directory holds this one segment, all of which is retained.
fn opened(segment: &[u8]) -> Bench {
    let mut bench = Bench::new();
    bench.limits.retention = Duration::from_secs(10_000 * 86_400);
    let disk = TestDisk::default();
    disk.put(&Segment::name_of(segment::ORIGIN), segment.to_vec());
    bench.reopen(|_| Arc::new(disk), false)
}

#[test]
fn a_directory_of_each_older_format_opens_and_is_written_on() {
    for (format, bytes) in OLDER {
        let mut bench = opened(bytes);
        for keeps_state in [true, false] {
            let read: Vec<_> = bench.read("u1", 0).into_iter().take(3).collect();
            let texts = [Some("one"), Some("two"), None];
            let expected = (1..).zip(texts.map(|text| text.map(str::to_owned)));
            assert_eq!(read, expected.collect::<Vec<_>>(), "format {format}");
            assert_eq!(bench.bodies("u2")[0], "one");
            assert!(
                bench
                    .log
                    .users()
                    .blocking_wait()
                    .unwrap()
                    .contains(&user("u3"))
            );
            let times = bench
                .log
                .token_times(&user("u1"), Platform::Web)
                .blocking_wait()
                .unwrap();
            assert_eq!(times.revoked_before_ms, 77);
            assert_eq!(times.newest_ms, if format == 1 { 0 } else { 99 });
            let session = SessionKey {
                user: user("u2"),
                platform: Platform::Web,
                device: "d".into(),
            };
            let stored = bench.log.enter(&session).blocking_wait().unwrap().stored;
            assert_eq!(stored.map(|row| row.cursor), Some(Seq(1)));
            let repeat = bench.try_send(&["u1"], Some("leave-policy"), "two");
            assert_eq!(repeat.unwrap().entries[0].1.seq, Seq(2));
            bench.send(&["u1", "u2"], "new");
            assert_eq!(formats(&bench.disk), [format, config::LOG_FORMAT]);
            bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        }
        assert_eq!(bench.bodies("u1"), ["one", "two", "new", "new"]);
    }
}

#[test]
fn a_user_of_an_older_directory_gets_a_message_to_everyone() {
    for (_, bytes) in OLDER {
        let bench = opened(bytes);
        let receipt = bench.everyone(None, "all").unwrap();
        let mut users: Vec<_> = receipt
            .entries
            .iter()
            .map(|(user, _)| user.as_str())
            .collect();
        users.sort_unstable();
        assert_eq!(users, ["u1", "u2", "u3"]);
    }
}

#[test]
fn while_the_format_is_held_back_a_message_to_everyone_is_one_append() {
    let bench = Bench::with(|limits| limits.format = 2);
    bench.send(&["u1", "u2"], "one");
    let receipt = bench.everyone(Some("k"), "all").unwrap();
    assert_eq!(receipt.entries.len(), 2);
    assert_eq!(bench.everyone(Some("k"), "all"), Ok(receipt.clone()));
    let lines = dump(&bench.disk);
    assert!(
        !lines.iter().any(|line| line.contains(" row ")),
        "{lines:?}"
    );
    // The newer format knows the key.
    let mut bench = bench;
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    assert_eq!(bench.everyone(Some("k"), "all"), Ok(receipt));
    let everyone = bench.everyone(None, "new").unwrap();
    assert_eq!(everyone.entries.len(), 2);
}

#[test]
fn an_entry_of_a_later_kind_is_an_entry_without_a_message() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    let message = |body: &'static str| {
        Record::Message(record::MessageRecord {
            key: record::Key {
                message_id: MessageId([9; 16]),
                send_time_ms: 1,
                fingerprint: [0; 16],
                sender: "oa".into(),
                client_message_id: body.into(),
            },
            is_keyed: false,
            body: Bytes::from_static(body.as_bytes()),
        })
    };
    let (newest, at) = (newest(&bench, "u1"), bench.log_end());
    bench.append(vec![
        message("marks"),
        Record::Entry {
            user: user("u1"),
            seq: Seq(2),
            previous: newest,
            message: at,
            fields: entry_fields::EntryFields {
                kind: 77,
                ..entry_fields::EntryFields::default()
            },
        },
    ]);
    bench.send(&["u1"], "three");
    let read = bench.read("u1", 0);
    let texts = [Some("one"), None, Some("three")].map(|text| text.map(str::to_owned));
    assert_eq!(read, (1..).zip(texts).collect::<Vec<_>>());
}

#[test]
fn a_record_of_a_later_version_is_named_and_nothing_is_changed() {
    for (kind, body, named) in [
        (200, &b""[..], "a record of kind 200"),
        (11, b"\xc8\x01\x00\x00", "a row of table 200"),
    ] {
        let bench = Bench::new();
        bench.send(&["u1"], "one");
        bench.log.close();
        let disk = bench.disk.after_kill();
        let name = disk.segments().remove(0);
        let mut bytes = disk.get(&name);
        append_group(kind, body, &mut bytes);
        disk.put(&name, bytes.clone());
        let error = bench.refusal(&disk);
        assert!(error.contains(named), "{error}");
        assert!(error.contains("which a later version wrote"), "{error}");
        let inspected = inspect_segments(&*disk, &mut None);
        assert!(matches!(inspected, Err(ReadError::Newer { .. })));
        assert_eq!(disk.get(&name), bytes, "nothing was changed");
    }
}

/// Appends a closed group with one record of any kind and body to a whole segment's bytes, as a later version would.
fn append_group(kind: u8, body: &[u8], bytes: &mut Vec<u8>) {
    let position = |bytes: &Vec<u8>| Position(ORIGIN.0 + bytes.len() as u64);
    let start = position(bytes);
    // The last record of a closed segment is a `Commit`, whose CRC the next record names.
    let commit = bytes.len() - (record::HEADER_BYTES + 32);
    let commit = record::Header::read(&bytes[commit..]).expect("a commit");
    let (length, previous) = ((body.len() as u32).to_le_bytes(), commit.crc.to_le_bytes());
    let crc = crc32c::crc32c(&[&length[..], &previous, &[kind], body].concat());
    for part in [&length[..], &previous, &crc.to_le_bytes(), &[kind], body] {
        bytes.extend_from_slice(part);
    }
    let commit = Record::GroupEnd {
        position: position(bytes),
        start,
        time_ms: 1,
    };
    record::encode(&commit, crc, bytes);
}

/// The position of the newest entry of a user.
fn newest(bench: &Bench, name: &str) -> Position {
    let mut newest = Position::NONE;
    let segment = bench.disk.last_segment();
    let segment = Segment::open(&*bench.disk, Segment::base_of(&segment).unwrap()).unwrap();
    let mut scan = scan::Scan::whole(&segment);
    while let Some(scanned) = scan.next().unwrap() {
        if matches!(&scanned.record, Record::Entry { user, .. } if user.as_str() == name) {
            newest = scanned.position;
        }
    }
    newest
}

#[test]
fn a_log_of_a_later_version_is_no_damaged_one() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    bench.log.close();
    let disk = bench.disk.after_kill();
    let name = disk.segments().remove(0);
    let mut bytes = disk.get(&name);
    bytes[7] += 1;
    let crc = crc32c::crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    disk.put(&name, bytes.clone());
    let error = bench.refusal(&disk);
    assert!(error.contains("which a later version wrote"), "{error}");
    assert_eq!(disk.get(&name), bytes, "nothing was changed");
}
