//! Records: the contents of a segment, to the byte.
//!
//! All integers are little endian. A record is `length u32` (of the body), `previous u32` (the CRC of the record before
//! it), `crc u32`, `kind u8`, body. The CRC-32C covers length, previous, kind and body, so each record can be checked
//! alone. Together the records form a chain, so a missing record is not mistaken for the end. Ids are length (u8) and
//! bytes. `docs/architecture.md` has the layout of every kind of record.
//!
//! A group commit is any number of records closed by one `GroupEnd`. Only a closed group counts.
//!
//! A later version may add a kind of record or a table of rows, with a new format of segments. This version then names the
//! record and does not start. A later version may add fields to an entry in any format; this version passes over them.
//!
//! - `decode.rs`: reads them back

mod decode;

use bytes::Bytes;
use prost::Message as _;

pub(super) use self::decode::{NoRecord, decode};
use super::{Append, entry_fields::EntryFields, table_id::TableId};
use crate::ids::{ConversationSeq, MessageId, Platform, Seq, SessionKey, UserId};

/// A position in the log: bytes since its beginning, over all segments. It names one record for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position(pub(crate) u64);

impl Position {
    /// No record: a position before all records.
    pub(super) const NONE: Self = Self(0);
}

/// Bytes before a record's body.
pub(super) const HEADER_BYTES: usize = 13;
/// The largest body of a record, in bytes; a longer one is damage. A message's content has at most
/// [`CONTENT_BYTES_MAX`](crate::message::CONTENT_BYTES_MAX), so a message with its ids fits easily.
pub(super) const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// No inbox gets so many messages. A record with a higher seq is damage, so counting on from a seq that was read never
/// overflows.
const SEQ_MAX: u64 = 1 << 62;
/// The first bytes of a `GroupEnd`'s body, so that the end of a group can be found after damage.
pub(super) const GROUP_END_MAGIC: [u8; 8] = *b"\xf1TC-end\n";

/// The first format of segments that has rows of tables.
pub(super) const ROWS_SINCE: u8 = 3;
/// The first format of segments that has erasures.
pub(super) const ERASURES_SINCE: u8 = 4;
/// The kind of a row.
const KIND_ROW: u8 = 11;
/// The kind of an erasure, the highest kind that this version knows.
const KIND_ERASE: u8 = 12;

/// One record's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Closes a group: all records since `start` were written and synced together. It contains its own position.
    GroupEnd {
        position: Position,
        start: Position,
        time_ms: u64,
    },
    /// A message, stored once for all its receivers. Its entries follow it directly.
    Message(MessageRecord),
    /// An entry: the message at `message` is number `seq` of `user`'s inbox. The entry before it is at `previous`.
    Entry {
        user: UserId,
        seq: Seq,
        previous: Position,
        message: Position,
        fields: EntryFields,
    },
    /// A session's cursor as of a checkpoint.
    Cursor {
        session: SessionKey,
        cursor: Seq,
        acked_at_ms: u64,
    },
    /// A user became known, with a profile.
    Register { user: UserId, profile: Bytes },
    /// Tokens issued before this time are revoked.
    Revoke {
        user: UserId,
        platform: Platform,
        before_ms: u64,
    },
    /// The newest token of (user, platform) that was issued or accepted, as of a checkpoint.
    Token {
        user: UserId,
        platform: Platform,
        issued_at_ms: u64,
    },
    /// The message of this entry was deleted. The place of an entry in its conversation is missing in records of earlier versions.
    Delete {
        user: UserId,
        seq: Seq,
        place: Option<(ConversationSeq, Box<str>)>,
    },
    /// Carried over from a removed segment: an inbox's head, and `first`, below which nothing is retained.
    Head { user: UserId, head: Seq, first: Seq },
    /// Carried over from a removed segment: an idempotency key that is still valid.
    Key(Key),
    /// A row of a table has this value from here on; `None`: the row is removed.
    Row {
        table: TableId,
        key: Bytes,
        value: Option<Bytes>,
    },
    /// The user was erased. The entries up to `head` are the erased ones, and tokens issued before `before_ms` are revoked. Retention
    /// writes it again for a user who is still unknown.
    Erase {
        user: UserId,
        head: Seq,
        time_ms: u64,
        before_ms: u64,
    },
}

impl Record {
    /// The first format of segments that has this kind of record, see [`LOG_FORMAT`](crate::config::LOG_FORMAT).
    pub(super) fn format(&self) -> u8 {
        match self {
            Self::Entry { fields, .. } if *fields != EntryFields::default() => 3,
            Self::Row { .. } => ROWS_SINCE,
            Self::Erase { .. } => ERASURES_SINCE,
            Self::Token { .. } => 2,
            _ => 1,
        }
    }
}

/// An idempotency key with the result that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) message_id: MessageId,
    pub(super) send_time_ms: u64,
    pub(super) fingerprint: [u8; 16],
    pub(super) sender: Box<str>,
    pub(super) client_message_id: Box<str>,
}

impl Key {
    /// The key of an append.
    pub(super) fn of(append: &Append) -> Self {
        Self {
            message_id: append.message_id,
            send_time_ms: append.send_time_ms,
            fingerprint: append.fingerprint,
            sender: append.sender.clone(),
            client_message_id: append.client_message_id.clone(),
        }
    }
}

/// A message's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageRecord {
    pub(super) key: Key,
    /// True if the sender chose the key, so that repeats are looked for.
    pub(super) is_keyed: bool,
    pub(super) body: Bytes,
}

/// A record's header, not checked yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) previous: u32,
    pub(super) crc: u32,
    pub(super) kind: u8,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` when there are too few bytes or the length is impossible.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = word(0)? as usize;
        let header = Self {
            length,
            previous: word(4)?,
            crc: word(8)?,
            kind: *bytes.get(12)?,
        };
        (length <= BODY_BYTES_MAX).then_some(header)
    }

    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.length
    }

    fn crc_of(&self, body: &[u8]) -> u32 {
        let crc = crc32c::crc32c(&(self.length as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &self.previous.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &[self.kind]);
        crc32c::crc32c_append(crc, body)
    }
}

/// Appends one record to `out`. `previous` is the CRC of the record before it. Returns the CRC of this record.
pub(super) fn encode(record: &Record, previous: u32, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    out.extend([0; HEADER_BYTES]);
    let kind = encode_body(record, out);
    let length = out.len() - start - HEADER_BYTES;
    debug_assert!(
        length <= BODY_BYTES_MAX,
        "the admin API bounds what a body holds"
    );
    let mut header = Header {
        length,
        previous,
        crc: 0,
        kind,
    };
    header.crc = header.crc_of(&out[start + HEADER_BYTES..]);
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&previous.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&header.crc.to_le_bytes());
    out[start + 12] = kind;
    header.crc
}

fn encode_body(record: &Record, out: &mut Vec<u8>) -> u8 {
    match record {
        Record::GroupEnd {
            position,
            start,
            time_ms,
        } => {
            out.extend(GROUP_END_MAGIC);
            put_u64s(out, [position.0, start.0, *time_ms]);
            1
        }
        Record::Message(message) => {
            put_key(out, &message.key);
            out.push(u8::from(message.is_keyed));
            out.extend_from_slice(&message.body);
            2
        }
        Record::Entry {
            user,
            seq,
            previous,
            message,
            fields,
        } => {
            put_u64s(out, [seq.0, previous.0, message.0]);
            put_id(out, user.as_str());
            fields.encode(out).expect("a Vec has room for every field");
            3
        }
        Record::Cursor {
            session,
            cursor,
            acked_at_ms,
        } => {
            put_u64s(out, [cursor.0, *acked_at_ms]);
            out.push(session.platform.number() as u8);
            put_id(out, &session.device);
            put_id(out, session.user.as_str());
            4
        }
        Record::Register { user, profile } => {
            put_id(out, user.as_str());
            out.extend_from_slice(profile);
            5
        }
        Record::Revoke {
            user,
            platform,
            before_ms,
        } => {
            put_u64s(out, [*before_ms]);
            out.push(platform.number() as u8);
            put_id(out, user.as_str());
            6
        }
        Record::Delete { user, seq, place } => {
            put_u64s(out, [seq.0]);
            put_id(out, user.as_str());
            if let Some((number, conversation)) = place {
                put_u64s(out, [number.0]);
                put_id(out, conversation);
            }
            7
        }
        Record::Head { user, head, first } => {
            put_u64s(out, [head.0, first.0]);
            put_id(out, user.as_str());
            8
        }
        Record::Key(key) => {
            put_key(out, key);
            9
        }
        Record::Token {
            user,
            platform,
            issued_at_ms,
        } => {
            put_u64s(out, [*issued_at_ms]);
            out.push(platform.number() as u8);
            put_id(out, user.as_str());
            10
        }
        Record::Row { table, key, value } => {
            debug_assert!(key.len() <= u16::MAX as usize, "keys are made of ids");
            out.push(*table as u8);
            out.push(u8::from(value.is_some()));
            out.extend((key.len() as u16).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value.as_deref().unwrap_or_default());
            KIND_ROW
        }
        Record::Erase {
            user,
            head,
            time_ms,
            before_ms,
        } => {
            put_u64s(out, [head.0, *time_ms, *before_ms]);
            put_id(out, user.as_str());
            KIND_ERASE
        }
    }
}

fn put_u64s<const N: usize>(out: &mut Vec<u8>, numbers: [u64; N]) {
    numbers
        .into_iter()
        .for_each(|number| out.extend(number.to_le_bytes()));
}

fn put_id(out: &mut Vec<u8>, id: &str) {
    debug_assert!(id.len() <= u8::MAX as usize, "at most 132 bytes");
    out.push(id.len() as u8);
    out.extend_from_slice(id.as_bytes());
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    out.extend(key.message_id.0);
    put_u64s(out, [key.send_time_ms]);
    out.extend(key.fingerprint);
    put_id(out, &key.sender);
    put_id(out, &key.client_message_id);
}

#[cfg(test)]
mod tests {
    use super::{super::error::Later, *};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn samples() -> Vec<Record> {
        let key = Key {
            message_id: MessageId::new(1_700_000_000_000),
            send_time_ms: 1_700_000_000_001,
            fingerprint: [7; 16],
            sender: "openIM123456".into(),
            client_message_id: "leave-policy-7".into(),
        };
        vec![
            Record::GroupEnd {
                position: Position(99),
                start: Position(32),
                time_ms: 5,
            },
            Record::Message(MessageRecord {
                key: key.clone(),
                is_keyed: true,
                body: Bytes::from_static(b"body"),
            }),
            Record::Entry {
                user: user("u1"),
                seq: Seq(3),
                previous: Position(40),
                message: Position(99),
                fields: EntryFields::default(),
            },
            Record::Entry {
                user: user("u1"),
                seq: Seq(4),
                previous: Position(140),
                message: Position(199),
                fields: EntryFields {
                    kind: 1,
                    conversation_seq: 7,
                    conversation_time_ms: 1_700_000_000_002,
                    recv_id: "everyone".into(),
                    conversation_id: "sn_oa_everyone".into(),
                    conversation_previous: 140,
                    base: 1_000_000,
                },
            },
            Record::Row {
                table: TableId::Settings,
                key: Bytes::from_static(b"u1"),
                value: Some(Bytes::from_static(b"on")),
            },
            Record::Row {
                table: TableId::Settings,
                key: Bytes::from_static(b"u1"),
                value: None,
            },
            Record::Cursor {
                session: SessionKey {
                    user: user("u1"),
                    platform: Platform::Web,
                    device: "d".into(),
                },
                cursor: Seq(2),
                acked_at_ms: 9,
            },
            Record::Register {
                user: user("系统"),
                profile: Bytes::from_static(b"{}"),
            },
            Record::Revoke {
                user: user("u1"),
                platform: Platform::Ios,
                before_ms: 77,
            },
            Record::Delete {
                user: user("u1"),
                seq: Seq(2),
                place: None,
            },
            Record::Delete {
                user: user("u1"),
                seq: Seq(3),
                place: Some((ConversationSeq(2), "sg_g".into())),
            },
            Record::Head {
                user: user("u1"),
                head: Seq(8),
                first: Seq(9),
            },
            Record::Key(key),
            Record::Token {
                user: user("u1"),
                platform: Platform::Ios,
                issued_at_ms: 78,
            },
            Record::Erase {
                user: user("u1"),
                head: Seq(8),
                time_ms: 1_700_000_000_003,
                before_ms: 1_700_000_000_004,
            },
        ]
    }

    #[test]
    fn every_record_reads_back_as_it_was_written() {
        for record in samples() {
            let mut bytes = Vec::new();
            let crc = encode(&record, 42, &mut bytes);
            let header = Header::read(&bytes).unwrap();
            assert_eq!(
                (header.previous, header.crc, header.record_bytes()),
                (42, crc, bytes.len())
            );
            assert_eq!(
                decode(&header, &Bytes::from(bytes).slice(HEADER_BYTES..)),
                Ok(record)
            );
        }
    }

    /// A record of this kind and body, with a good checksum.
    fn read(kind: u8, body: &[u8]) -> Result<Record, NoRecord> {
        let mut header = Header {
            length: body.len(),
            previous: 42,
            crc: 0,
            kind,
        };
        header.crc = header.crc_of(body);
        decode(&header, &Bytes::copy_from_slice(body))
    }

    #[test]
    fn a_record_of_a_later_version_is_not_damaged() {
        assert_eq!(read(13, b""), Err(NoRecord::Later(Later::Record(13))));
        assert_eq!(read(0, b""), Err(NoRecord::Later(Later::Record(0))));
        assert_eq!(
            read(KIND_ROW, b"\xc8\x01\x00\x00"),
            Err(NoRecord::Later(Later::Table(200)))
        );
        for cut_short in [&b""[..], b"\x01", b"\x01\x01\x09\x00key"] {
            let read = read(KIND_ROW, cut_short);
            assert!(matches!(read, Err(NoRecord::Damaged(_))), "{read:?}");
        }
    }

    #[test]
    fn an_entry_with_fields_of_a_later_version_reads_without_them() {
        let entry = Record::Entry {
            user: user("u1"),
            seq: Seq(3),
            previous: Position(40),
            message: Position(99),
            fields: EntryFields {
                conversation_seq: 7,
                ..EntryFields::default()
            },
        };
        let mut body = Vec::new();
        let kind = encode_body(&entry, &mut body);
        body.extend(b"\xfa\x01\x04next"); // Field 31, four bytes.
        assert_eq!(read(kind, &body), Ok(entry));
        body.push(0xfa); // Half of a field's number.
        assert!(matches!(read(kind, &body), Err(NoRecord::Damaged(_))));
    }

    #[test]
    fn a_seq_that_no_inbox_reaches_does_not_read() {
        for (seq, reads) in [(SEQ_MAX, true), (SEQ_MAX + 1, false), (u64::MAX, false)] {
            let record = Record::Delete {
                user: user("u1"),
                seq: Seq(seq),
                place: None,
            };
            let mut bytes = Vec::new();
            encode(&record, 42, &mut bytes);
            let header = Header::read(&bytes).unwrap();
            let read = decode(&header, &Bytes::from(bytes).slice(HEADER_BYTES..));
            assert_eq!(read.is_ok(), reads, "{seq}");
        }
    }

    #[test]
    fn no_flipped_bit_passes() {
        for record in samples() {
            let mut bytes = Vec::new();
            encode(&record, 42, &mut bytes);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let read = Header::read(&flipped)
                    .filter(|header| header.record_bytes() <= flipped.len())
                    .map(|header| {
                        decode(
                            &header,
                            &Bytes::from(flipped.clone())
                                .slice(HEADER_BYTES..header.record_bytes()),
                        )
                    });
                assert!(!matches!(read, Some(Ok(_))), "bit {bit} of {record:?}");
            }
        }
    }
}
