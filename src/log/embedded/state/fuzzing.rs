//! Fuzzing of the state store: values and keys of any bytes.

use bytes::Bytes;

use super::{SessionRow, UserRow, idempotency::KeyRow, keys, table::Row};
use crate::fuzzing::Input;

/// The first byte selects the kind. The other bytes are a row's value or a key. If they can be read, writing gives the same
/// bytes.
pub fn rows(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 7 {
        0 => {
            if let Some(row) = UserRow::from_bytes(input.0) {
                assert_eq!(UserRow::from_bytes(&row.to_bytes()), Some(row));
                assert!(row.pending() <= row.inbox().head.0);
            }
        }
        1 => round_trip::<SessionRow>(input.0),
        2 => round_trip::<KeyRow>(input.0),
        3 => round_trip::<u64>(input.0),
        4 => round_trip::<()>(input.0),
        5 => round_trip::<Bytes>(input.0),
        _ => {
            if let Some(session) = keys::read_session(input.0) {
                assert_eq!(keys::session(&session), input.0);
            }
        }
    }
}

fn round_trip<R: Row + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Some(row) = R::from_bytes(bytes) {
        assert_eq!(R::from_bytes(&row.to_bytes()), Some(row.clone()));
        assert!(bytes.starts_with(&row.to_bytes()));
    }
}
