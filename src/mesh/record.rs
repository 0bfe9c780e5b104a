//! The records of a link: length, number, frame. The numbers tell the receiver how many frames it misses. Pure.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Length and number.
pub(super) const HEADER_BYTES: usize = 12;
/// The longest frame. The longest body has 1 MiB by default, and the entries of a hint are bounded by its sender. A sender drops a
/// longer frame.
pub(super) const MESH_FRAME_BYTES_MAX: usize = 4 << 20;

/// A record of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshRecord {
    /// The number of the frame. Without a frame: the number of the next one.
    pub number: u64,
    /// The bytes of the frame; empty for a heartbeat.
    pub frame: Bytes,
}

/// The reason for which a link cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A frame is too long.
    #[error("a frame of {0} bytes is longer than any gateway sends")]
    TooLong(u32),
    /// The numbers went back.
    #[error("frame {0} came after a later one")]
    Backwards(u64),
}

/// Adds a record.
pub(super) fn put_record(to: &mut BytesMut, number: u64, frame: &[u8]) {
    to.reserve(HEADER_BYTES + frame.len());
    to.put_u32(u32::try_from(frame.len()).expect("a frame is at most MESH_FRAME_BYTES_MAX long"));
    to.put_u64(number);
    to.put_slice(frame);
}

/// Takes the next record; `None` until it is complete. The record has bytes of its own, so that a message in memory holds no more than its
/// frame.
pub fn take_record(from: &mut BytesMut) -> Result<Option<MeshRecord>, RecordError> {
    let Some(length) = from.first_chunk().copied().map(u32::from_be_bytes) else {
        return Ok(None);
    };
    let frame_bytes = length as usize;
    if frame_bytes > MESH_FRAME_BYTES_MAX {
        return Err(RecordError::TooLong(length));
    }
    if from.len() < HEADER_BYTES + frame_bytes {
        return Ok(None);
    }
    from.advance(4);
    let number = from.get_u64();
    let frame = Bytes::copy_from_slice(&from[..frame_bytes]);
    from.advance(frame_bytes);
    Ok(Some(MeshRecord { number, frame }))
}

/// The numbers of a link, as its receiver sees them.
#[derive(Debug, Default)]
pub struct FrameNumbers {
    /// The number of the next frame; `None` before the first record.
    next: Option<u64>,
}

impl FrameNumbers {
    /// Takes a record, and returns how many frames before it are missing. The first record of a link misses none.
    pub fn take(&mut self, record: &MeshRecord) -> Result<u64, RecordError> {
        let number = record.number;
        let expected = self.next.unwrap_or(number);
        let missing = number.checked_sub(expected);
        let missing = missing.ok_or(RecordError::Backwards(number))?;
        let is_frame = !record.frame.is_empty();
        self.next = Some(number.saturating_add(is_frame.into()));
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, frame: &'static [u8]) -> MeshRecord {
        let frame = Bytes::from_static(frame);
        MeshRecord { number, frame }
    }

    #[test]
    fn records_are_read_back_whole_wherever_the_bytes_are_cut() {
        let records = [record(1, b"one"), record(2, b""), record(2, b"two")];
        let mut bytes = BytesMut::new();
        for MeshRecord { number, frame } in &records {
            put_record(&mut bytes, *number, frame);
        }
        for cut in 0..bytes.len() {
            let mut read = Vec::new();
            let mut arrived = BytesMut::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                arrived.extend_from_slice(part);
                while let Some(record) = take_record(&mut arrived).unwrap() {
                    read.push(record);
                }
            }
            assert_eq!(read, records);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_length() {
        let length = MESH_FRAME_BYTES_MAX as u32 + 1;
        let mut bytes = BytesMut::from(&length.to_be_bytes()[..]);
        assert_eq!(take_record(&mut bytes), Err(RecordError::TooLong(length)));
    }

    #[test]
    fn numbers_tell_each_missing_frame_once() {
        let mut numbers = FrameNumbers::default();
        let mut take = |number, frame| numbers.take(&record(number, frame));
        assert_eq!(take(5, b""), Ok(0), "the first record");
        assert_eq!(take(5, b"five"), Ok(0));
        assert_eq!(take(8, b"eight"), Ok(2));
        assert_eq!(take(9, b""), Ok(0), "nothing is missing behind it");
        assert_eq!(
            take(12, b""),
            Ok(3),
            "a heartbeat shows the loss of the last ones"
        );
        assert_eq!(take(12, b"twelve"), Ok(0));
        assert_eq!(take(12, b"again"), Err(RecordError::Backwards(12)));
    }
}
