//! The stored form of a message, and the values that follow from it for one receiver.

use bytes::Bytes;
use prost::Message as _;

use crate::ids::WireSeq;

pub use self::store::{OfflinePush, ReadMark, StoredMessage};

/// The prost types of `proto/towncrier/store/v1/message.proto`.
#[expect(missing_docs, reason = "generated; the .proto is the manual")]
mod store {
    include!(concat!(env!("OUT_DIR"), "/towncrier.store.v1.rs"));
}

const WHOLE: &str = "messages are encoded here and read back checksummed";

impl StoredMessage {
    /// The bytes that the log stores.
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Decodes a message from the bytes that the log stores. Its content shares them.
    ///
    /// # Panics
    /// If the bytes are not a message. The log checks the bytes that it reads.
    pub fn from_bytes(bytes: &Bytes) -> Self {
        Self::decode(bytes.clone()).expect(WHOLE)
    }
}

impl ReadMark {
    /// The number under which clients without epochs know the marked message.
    pub fn wire_seq(&self) -> WireSeq {
        WireSeq(self.conversation_seq.saturating_add(self.base.into()))
    }
}

/// The fields of a stored message that decide a receiver's conversation, and the read marks. Decoding skips the others.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Origin {
    #[prost(string, tag = "4")]
    send_id: String,
    #[prost(string, tag = "6")]
    group_id: String,
    #[prost(int32, tag = "10")]
    session_type: i32,
    /// When the gateway accepted the message, Unix ms.
    #[prost(int64, tag = "13")]
    pub send_time: i64,
    /// The read marks of a user. Such an entry is no message.
    #[prost(message, repeated, tag = "19")]
    pub marks: Vec<ReadMark>,
}

impl Origin {
    /// Decodes the origin of a message from the bytes that the log stores. Bytes that are no message have the empty origin. A
    /// log under test holds such bytes.
    pub fn of(body: &Bytes) -> Self {
        Self::decode(body.clone()).unwrap_or_default()
    }

    /// The id of the conversation in which a receiver finds the message, by OpenIM's rule: `si_`/`sn_` + the two ids sorted
    /// and joined by `_`, or `sg_` + the group id.
    pub fn conversation_id(&self, recv_id: &str) -> String {
        self.conversation_id_parts(recv_id).concat()
    }

    /// The parts of the conversation's id, one behind the other.
    pub fn conversation_id_parts<'a>(&'a self, recv_id: &'a str) -> [&'a str; 4] {
        let (low, high) = if self.send_id.as_str() <= recv_id {
            (self.send_id.as_str(), recv_id)
        } else {
            (recv_id, self.send_id.as_str())
        };
        match self.session_type {
            2 | 3 => ["sg_", &self.group_id, "", ""],
            4 => ["sn_", low, "_", high],
            _ => ["si_", low, "_", high],
        }
    }
}
