//! Fuzzing of the links between gateways.

use bytes::BytesMut;
use towncrier::mesh::{FrameNumbers, decode, encode, take_record};

/// Reads the records of a link from `data`, and their frames. For every input: each record is whole, the numbers never go back, and each frame
/// that is understood is the same after it was written and read once more.
pub fn mesh(data: &[u8]) {
    let mut bytes = BytesMut::from(data);
    let mut numbers = FrameNumbers::default();
    let mut next = 0;
    while let Ok(Some(record)) = take_record(&mut bytes) {
        let Ok(_missing) = numbers.take(&record) else {
            assert!(record.number < next, "{record:?} is not before {next}");
            return;
        };
        assert!(record.number >= next, "{record:?} is before {next}");
        next = record.number;
        if let Ok(frame) = decode(record.frame) {
            assert_eq!(decode(encode(&frame).into()), Ok(frame));
        }
    }
}
