//! The tests that every log (`conformance.rs`) and every store of a fleet (`fleet_store.rs`) passes, and a log in memory for the tests of the rooms above.

pub(crate) mod conformance;
pub(crate) mod fleet_store;
/// The simulation's log in memory, compiled once more: a log of another crate would be a log of another `Log`.
#[path = "../../../simulation/src/memory/mod.rs"]
#[expect(unreachable_pub, reason = "its own crate shows it")]
pub(crate) mod memory;
