//! The stored form of an append: what its receipt needs, then the body byte for byte, then a CRC-32C over both. Pure.
//!
//! The layout: the length of the header as `u16`, little endian; the header in protobuf's encoding; the body; the CRC in 4 bytes,
//! little endian. Every read checks it, so no damage of the store is taken for a message (P8).

use bytes::Bytes;
use prost::Message as _;

use crate::log::Append;

/// The facts of an append besides its body.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct BodyHeader {
    #[prost(string, tag = "1")]
    pub(super) sender: String,
    #[prost(string, tag = "2")]
    pub(super) client_message_id: String,
    #[prost(uint64, tag = "3")]
    pub(super) send_time_ms: u64,
    /// True for read marks.
    #[prost(bool, tag = "4")]
    pub(super) is_marks: bool,
}

/// The most bytes of a stored form besides the body: two ids of 64 bytes, a time, the frame.
pub(super) const BODY_FRAME_BYTES_MAX: usize = 160;

/// The bytes that are stored for an append.
pub(super) fn encode(append: &Append) -> Vec<u8> {
    let header = BodyHeader {
        sender: append.sender.to_string(),
        client_message_id: append.client_message_id.to_string(),
        send_time_ms: append.send_time_ms,
        is_marks: append.is_marks,
    };
    let length = header.encoded_len();
    let mut bytes = Vec::with_capacity(2 + length + append.body.len() + 4);
    bytes.extend((length as u16).to_le_bytes());
    header.encode(&mut bytes).expect("a vector has room");
    bytes.extend(&append.body[..]);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// The header and the body of stored bytes; `None` when they are damaged.
pub(super) fn decode(bytes: Vec<u8>) -> Option<(BodyHeader, Bytes)> {
    let bytes = Bytes::from(bytes);
    let (_, crc) = bytes.split_last_chunk::<4>()?;
    let checked = bytes.slice(..bytes.len() - 4);
    if crc32c::crc32c(&checked) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (length, _) = checked.split_first_chunk::<2>()?;
    let body_at = 2 + usize::from(u16::from_le_bytes(*length));
    let header = BodyHeader::decode(checked.get(2..body_at)?).ok()?;
    Some((header, checked.slice(body_at..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::conformance::message;

    #[test]
    fn what_is_stored_is_read_back_and_each_flipped_bit_is_found() {
        let append = Append {
            sender: "s".repeat(64).into(),
            client_message_id: "c".repeat(64).into(),
            send_time_ms: u64::MAX,
            is_marks: true,
            ..message(1, &["u1"], Some("key"), "the body")
        };
        let bytes = encode(&append);
        assert!(bytes.len() - append.body.len() <= BODY_FRAME_BYTES_MAX);
        let (header, body) = decode(bytes.clone()).unwrap();
        assert_eq!(body, append.body);
        assert_eq!(*header.sender, *append.sender);
        assert_eq!(*header.client_message_id, *append.client_message_id);
        assert_eq!(header.send_time_ms, append.send_time_ms);
        assert!(header.is_marks);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(damaged), None, "bit {bit}");
        }
        for length in 0..6 {
            assert_eq!(decode(vec![0; length]), None);
        }
    }
}
