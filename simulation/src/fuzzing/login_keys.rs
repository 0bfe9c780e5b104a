//! Fuzzing of a company's keys.

use towncrier::token::{Algorithm, KeySet};

/// Reads a set of keys from `data`. For every input: it is refused with a text, or no key of it takes a signature that nobody made, or
/// an algorithm with a secret.
pub fn login_keys(data: &[u8]) {
    let set = match KeySet::decode(data) {
        Ok(set) => set,
        Err(fault) => return assert!(!fault.to_string().is_empty()),
    };
    for (algorithm, length) in [
        (Algorithm::Rs256, 256),
        (Algorithm::Es256, 64),
        (Algorithm::Hs256, 32),
    ] {
        for id in [None, Some("a"), Some("")] {
            for byte in [0, 1, 0xff] {
                let taken = set.check(algorithm, id, data, &vec![byte; length]);
                assert!(taken.is_err(), "{algorithm:?}");
            }
        }
    }
}
