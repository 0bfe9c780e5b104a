//! Fuzzing of the PROXY protocol.

use towncrier::door;

use super::runtime;

/// The most bytes that name a client: version 2 with as much behind its addresses as is allowed.
const NAMED_BYTES_MAX: usize = 16 + 4096;

/// Reads a preface from `data`. For every input: it is refused, or taken within its bound, and the bytes behind it have no part in it.
pub fn proxy(data: &[u8]) {
    let named_by = |bytes: &[u8]| runtime().block_on(door::named_by(bytes)).ok();
    let Some((named, taken)) = named_by(data) else {
        return;
    };
    assert!(taken <= NAMED_BYTES_MAX, "{taken} bytes");
    assert_eq!(named_by(&data[..taken]), Some((named, taken)));
    if let Some(shorter) = taken.checked_sub(1) {
        assert_eq!(named_by(&data[..shorter]), None, "half of it names nobody");
    }
}
