#![no_main]
//! See `simulation/src/fuzzing/`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| towncrier_simulation::fuzzing::mesh(data));
