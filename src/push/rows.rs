//! The rows of vendor push in the log: decisions that are due, tasks, and how far the feed was read.
//!
//! | table | key | value |
//! |---|---|---|
//! | `PushTasks` | 1, time of accept u64, seq u64, user | [`DueValue`] |
//! | `PushTasks` | 2, provider u8, number u64 | [`TaskValue`] |
//! | `Consumers` | `push` | epoch u64, position in the feed u64 |
//! | `Consumers` | `begun-push/` session | [`SessionBegin`](crate::log::SessionBegin), written by `delivery` |
//!
//! Integers are big endian, so decisions are in the order of their deadlines, and tasks in the order of their numbers. A number is
//! the time of the decision with a counter behind it; it ascends also over a restart.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use super::decide::Classes;
use crate::{
    config::DeviceClass,
    ids::{ConversationSeq, Epoch, MessageId, Seq, UserId},
    log::{FeedPosition, RowChange, RowTable},
    message::Provider,
};

/// The first byte of the keys of decisions that are due.
pub(super) const DUE: u8 = 1;
/// The first byte of the keys of tasks.
pub(super) const TASK: u8 = 2;
/// The key of the reader's position.
pub(super) const POSITION_KEY: &[u8] = b"push";

/// A decision that is due later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) message_id: MessageId,
    pub(super) user: UserId,
    pub(super) seq: Seq,
    /// The time at which the message was accepted, Unix ms.
    pub(super) accepted_ms: u64,
    pub(super) conversation_id: String,
    pub(super) conversation_seq: ConversationSeq,
    /// The classes that are not decided yet.
    pub(super) classes: Classes,
}

/// A push to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PushTask {
    pub(super) message_id: MessageId,
    pub(super) user: UserId,
    pub(super) seq: Seq,
    /// The time at which the message was accepted, Unix ms.
    pub(super) accepted_ms: u64,
    pub(super) class: DeviceClass,
    /// A digest of the vendor's token of the device.
    pub(super) device: [u8; 16],
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DueValue {
    #[prost(bytes = "vec", tag = "1")]
    message_id: Vec<u8>,
    #[prost(string, tag = "2")]
    conversation_id: String,
    #[prost(uint64, tag = "3")]
    conversation_seq: u64,
    #[prost(uint32, tag = "4")]
    classes: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TaskValue {
    #[prost(bytes = "vec", tag = "1")]
    message_id: Vec<u8>,
    #[prost(string, tag = "2")]
    user: String,
    #[prost(uint64, tag = "3")]
    seq: u64,
    #[prost(uint64, tag = "4")]
    accepted_ms: u64,
    #[prost(uint32, tag = "5")]
    class: u32,
    #[prost(bytes = "vec", tag = "6")]
    device: Vec<u8>,
}

impl Due {
    fn key(&self) -> Bytes {
        let mut key = BytesMut::with_capacity(17 + self.user.as_str().len());
        key.put_u8(DUE);
        key.put_u64(self.accepted_ms);
        key.put_u64(self.seq.0);
        key.put_slice(self.user.as_str().as_bytes());
        key.freeze()
    }

    /// The change that writes the row.
    pub(super) fn put(&self) -> RowChange {
        let value = DueValue {
            message_id: self.message_id.0.to_vec(),
            conversation_id: self.conversation_id.clone(),
            conversation_seq: self.conversation_seq.0,
            classes: self.classes.bits(),
        };
        change(self.key(), Some(value.encode_to_vec().into()))
    }

    /// The row, read back; `None` if it is none of this version.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (&DUE, rest) = key.split_first()? else {
            return None;
        };
        let (accepted, rest) = rest.split_first_chunk()?;
        let (seq, user) = rest.split_first_chunk()?;
        let value = DueValue::decode(value).ok()?;
        Some(Self {
            message_id: MessageId(value.message_id.try_into().ok()?),
            user: UserId::new(str::from_utf8(user).ok()?).ok()?,
            seq: Seq(u64::from_be_bytes(*seq)),
            accepted_ms: u64::from_be_bytes(*accepted),
            conversation_id: value.conversation_id,
            conversation_seq: ConversationSeq(value.conversation_seq),
            classes: Classes::from_bits(value.classes),
        })
    }
}

impl PushTask {
    /// The change that writes the row of this provider and number.
    pub(super) fn put(&self, provider: Provider, number: u64) -> RowChange {
        let value = TaskValue {
            message_id: self.message_id.0.to_vec(),
            user: self.user.as_str().to_owned(),
            seq: self.seq.0,
            accepted_ms: self.accepted_ms,
            class: self.class as u32,
            device: self.device.to_vec(),
        };
        change(
            task_key(provider, number),
            Some(value.encode_to_vec().into()),
        )
    }

    /// The row, read back with its number; `None` if it is none of this version.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<(u64, Self)> {
        let number = key.first().filter(|first| **first == TASK);
        let number = number.and_then(|_| number_of(key))?;
        let value = TaskValue::decode(value).ok()?;
        let mut classes = DeviceClass::ALL.into_iter();
        let task = Self {
            message_id: MessageId(value.message_id.try_into().ok()?),
            user: UserId::new(&value.user).ok()?,
            seq: Seq(value.seq),
            accepted_ms: value.accepted_ms,
            class: classes.find(|class| *class as u32 == value.class)?,
            device: value.device.try_into().ok()?,
        };
        Some((number, task))
    }

    /// True if one call may push both: the same message, to the same user unless the vendor takes several.
    pub(super) fn goes_with(&self, other: &Self, takes_many_users: bool) -> bool {
        self.message_id == other.message_id && (takes_many_users || self.user == other.user)
    }
}

/// The first bytes of the keys of a provider's tasks.
pub(super) fn task_prefix(provider: Provider) -> [u8; 2] {
    [TASK, provider.number() as u8]
}

/// The provider of the task with this key.
pub(super) fn provider_of(key: &[u8]) -> Option<Provider> {
    let number = u32::from(*key.get(1)?);
    let mut all = Provider::ALL.into_iter();
    all.find(|provider| provider.number() == number)
}

/// The number of the task with this key.
pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.get(2..)?.first_chunk()?))
}

/// The key of a task.
pub(super) fn task_key(provider: Provider, number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(10);
    key.put_slice(&task_prefix(provider));
    key.put_u64(number);
    key.freeze()
}

/// The lowest number of a task that is decided at this time, Unix ms.
pub(super) fn first_number(now_ms: u64) -> u64 {
    now_ms << 20
}

/// The time at which the task with this number was decided, Unix ms. Later than that where the clock was set back before.
pub(super) fn decided_ms(number: u64) -> u64 {
    number >> 20
}

/// The change that removes the row of a task or of a decision.
pub(super) fn remove(key: Bytes) -> RowChange {
    change(key, None)
}

/// The change that removes the row of a session's begin.
pub(super) fn remove_begun(key: Bytes) -> RowChange {
    RowChange {
        table: RowTable::Consumers,
        key,
        value: None,
    }
}

/// The change that writes the reader's position.
pub(super) fn put_position(epoch: Epoch, position: FeedPosition) -> RowChange {
    let mut value = BytesMut::with_capacity(16);
    value.put_u64(epoch.0);
    value.put_u64(position.0);
    RowChange {
        table: RowTable::Consumers,
        key: Bytes::from_static(POSITION_KEY),
        value: Some(value.freeze()),
    }
}

/// The reader's position, read back.
pub(super) fn read_position(value: &[u8]) -> Option<(Epoch, FeedPosition)> {
    let (epoch, rest) = value.split_first_chunk()?;
    let position = rest.first_chunk()?;
    let epoch = Epoch(u64::from_be_bytes(*epoch));
    Some((epoch, FeedPosition(u64::from_be_bytes(*position))))
}

fn change(key: Bytes, value: Option<Bytes>) -> RowChange {
    RowChange {
        table: RowTable::PushTasks,
        key,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserId {
        UserId::new("用户-1").unwrap()
    }

    #[test]
    fn rows_are_read_back_as_they_were_written() {
        let due = Due {
            message_id: MessageId([7; 16]),
            user: user(),
            seq: Seq(300),
            accepted_ms: 1_700_000_000_123,
            conversation_id: "si_a_b".into(),
            conversation_seq: ConversationSeq(9),
            classes: Classes::default().with(DeviceClass::Web),
        };
        let row = due.put();
        assert_eq!(Due::read(&row.key, &row.value.unwrap()), Some(due));
        let task = PushTask {
            message_id: MessageId([8; 16]),
            user: user(),
            seq: Seq(1),
            accepted_ms: 5,
            class: DeviceClass::Pc,
            device: [3; 16],
        };
        let row = task.put(Provider::Http, 77);
        assert_eq!(row.key, task_key(Provider::Http, 77));
        assert_eq!(
            PushTask::read(&row.key, &row.value.unwrap()),
            Some((77, task))
        );
        let row = put_position(Epoch(4), FeedPosition(6));
        assert_eq!(
            read_position(&row.value.unwrap()),
            Some((Epoch(4), FeedPosition(6)))
        );
        assert_eq!(Due::read(&[], &[]), None);
        assert_eq!(PushTask::read(&[TASK, 1, 0], &[]), None);
    }

    #[test]
    fn decisions_are_in_the_order_of_their_deadlines_and_tasks_of_their_numbers() {
        let due = |accepted_ms, seq| {
            let due = Due {
                message_id: MessageId([0; 16]),
                user: user(),
                seq: Seq(seq),
                accepted_ms,
                conversation_id: String::new(),
                conversation_seq: ConversationSeq::ZERO,
                classes: Classes::default(),
            };
            due.key()
        };
        assert!(due(255, 9) < due(256, 1) && due(256, 1) < due(256, 2));
        assert!(task_key(Provider::Http, 255) < task_key(Provider::Http, 256));
    }
}
