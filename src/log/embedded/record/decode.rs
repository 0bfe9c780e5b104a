//! Reads records back. Bytes that differ from the bytes that were written are no record.

use bytes::Bytes;
use prost::Message as _;

use super::{
    GROUP_END_MAGIC, Header, KIND_ERASE, KIND_ROW, Key, MessageRecord, Position, Record, SEQ_MAX,
};
use crate::{
    ids::{ConversationSeq, MessageId, Platform, Seq, SessionKey, UserId},
    log::embedded::{entry_fields::EntryFields, error::Later, table_id::TableId},
};

/// The reason for which bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log::embedded) enum NoRecord {
    /// The bytes differ from the bytes that were written. The text names the part that does not fit.
    Damaged(&'static str),
    /// The bytes are as they were written, by a later version.
    Later(Later),
}

/// Reads a record from its bytes (header and body, exactly).
pub(in crate::log::embedded) fn decode(header: &Header, body: &Bytes) -> Result<Record, NoRecord> {
    if body.len() != header.length || header.crc_of(body) != header.crc {
        return Err(NoRecord::Damaged("the checksum does not match"));
    }
    let later = match (header.kind, body.first()) {
        (KIND_ROW, Some(table)) if TableId::from_number(*table).is_none() => {
            Some(Later::Table(*table))
        }
        (1..=KIND_ERASE, _) => None,
        (kind, _) => Some(Later::Record(kind)),
    };
    if let Some(later) = later {
        return Err(NoRecord::Later(later));
    }
    let mut fields = Fields { rest: body.clone() };
    fields
        .record(header.kind)
        .ok_or(NoRecord::Damaged("the record has no form of its kind"))
}

/// Takes the fields of a body off its front.
struct Fields {
    rest: Bytes,
}

impl Fields {
    fn record(&mut self, kind: u8) -> Option<Record> {
        Some(match kind {
            1 => {
                let magic = self.array::<8>()?;
                let (position, start, time_ms) = (self.position()?, self.position()?, self.u64()?);
                (magic == GROUP_END_MAGIC).then_some(Record::GroupEnd {
                    position,
                    start,
                    time_ms,
                })?
            }
            2 => {
                let (key, is_keyed) = (self.key()?, self.u8()? == 1);
                Record::Message(MessageRecord {
                    key,
                    is_keyed,
                    body: self.rest.split_off(0),
                })
            }
            3 => {
                let (seq, previous, message) = (self.seq()?, self.position()?, self.position()?);
                Record::Entry {
                    user: self.user()?,
                    seq,
                    previous,
                    message,
                    fields: EntryFields::decode(self.rest.split_off(0)).ok()?,
                }
            }
            4 => {
                let (cursor, acked_at_ms, platform) = (self.seq()?, self.u64()?, self.platform()?);
                let device = self.id()?.into();
                Record::Cursor {
                    session: SessionKey {
                        user: self.user()?,
                        platform,
                        device,
                    },
                    cursor,
                    acked_at_ms,
                }
            }
            5 => {
                let (user, profile) = (self.user()?, self.rest.split_off(0));
                Record::Register { user, profile }
            }
            6 => {
                let (before_ms, platform, user) = (self.u64()?, self.platform()?, self.user()?);
                Record::Revoke {
                    user,
                    platform,
                    before_ms,
                }
            }
            7 => {
                let (seq, user) = (self.seq()?, self.user()?);
                let place = match self.rest.is_empty() {
                    true => None,
                    false => Some((ConversationSeq(self.seq()?.0), self.id()?.into())),
                };
                Record::Delete { user, seq, place }
            }
            8 => {
                let (head, first, user) = (self.seq()?, self.seq()?, self.user()?);
                Record::Head { user, head, first }
            }
            9 => Record::Key(self.key()?),
            10 => {
                let (issued_at_ms, platform) = (self.u64()?, self.platform()?);
                Record::Token {
                    user: self.user()?,
                    platform,
                    issued_at_ms,
                }
            }
            KIND_ROW => {
                let (table, is_there) = (TableId::from_number(self.u8()?)?, self.u8()? == 1);
                let key = u16::from_le_bytes(self.array()?);
                let key = self.take(key.into())?;
                let value = is_there.then(|| self.rest.split_off(0));
                if table == TableId::Numbers && !is_number(&key, value.as_deref()) {
                    return None;
                }
                Record::Row { table, key, value }
            }
            KIND_ERASE => {
                let (head, time_ms, before_ms) = (self.seq()?, self.u64()?, self.u64()?);
                Record::Erase {
                    user: self.user()?,
                    head,
                    time_ms,
                    before_ms,
                }
            }
            _ => return None,
        })
    }

    fn take(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.rest.len()).then(|| self.rest.split_to(count))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn seq(&mut self) -> Option<Seq> {
        self.u64().filter(|seq| *seq <= SEQ_MAX).map(Seq)
    }

    fn position(&mut self) -> Option<Position> {
        self.u64().map(Position)
    }

    fn platform(&mut self) -> Option<Platform> {
        Platform::from_number(self.u8()?.into()).ok()
    }

    fn id(&mut self) -> Option<String> {
        let length = self.u8()?;
        String::from_utf8(self.take(length.into())?.into()).ok()
    }

    fn user(&mut self) -> Option<UserId> {
        UserId::new(&self.id()?).ok()
    }

    fn key(&mut self) -> Option<Key> {
        Some(Key {
            message_id: MessageId(self.array()?),
            send_time_ms: self.u64()?,
            fingerprint: self.array()?,
            sender: self.id()?.into(),
            client_message_id: self.id()?.into(),
        })
    }
}

/// True if a row gives a user a number. A user keeps a number for ever.
fn is_number(key: &[u8], value: Option<&[u8]>) -> bool {
    let number = key.try_into().map(u64::from_be_bytes);
    let user = value.and_then(|value| std::str::from_utf8(value).ok());
    number.is_ok_and(|number| number <= SEQ_MAX)
        && user.is_some_and(|user| UserId::new(user).is_ok())
}
