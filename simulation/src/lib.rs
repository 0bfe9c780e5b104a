//! The whole gateway in a simulation: real rooms and the real client on a simulated clock, network, disk and state store.
//! Beside it, all other tests that take the gateway apart at its seams.
//!
//! One seed is one run, bit for bit. The seed gives a schedule of operations and faults, and every random choice;
//! everything runs on one thread and one paused clock. The promises P1–P6 and P8 are checked after every step. At the end all
//! faults stop, and every accepted message must be where it belongs. A failing run prints its seed, the shortest schedule
//! that still fails, and the command to repeat it.
//!
//! - `schedule.rs`: the schedule of a seed
//! - `world.rs`: one run; `operations.rs`, `life.rs`, `rest.rs`: its steps, the deaths in it, its end
//! - `model.rs`, `letter.rs`, `conversations.rs`, `policy.rs`, `told.rs`: the promises; `settle.rs`: they are checked against a
//!   whole log
//! - `gateway.rs`, `device.rs`: a life of the gateway's process; a device with its app and its store; `phone/`: one with
//!   OpenIM's core
//! - `clock.rs`, `network.rs`, `disk.rs`, `store.rs`: the simulated machine; `process.rs`: death in the middle of an
//!   operation
//! - `outside/`: the vendors of push and the receiver of webhooks, with the promises to them
//! - `trace.rs`: the events of a run
//! - `shrink.rs`: the shortest schedule that still fails
//! - `seeds.txt`, `regressions.rs`: every seed that ever failed, and each fault that it found as a plain test
//! - `short_life.rs`, `recovered.rs`, `crash_points.rs`: the log alone, what must be found after it, and every point at which a
//!   short life of it can end
//! - `../bugs/`: bugs planted in the program, which the tests have to find
//!
//! Not part of a run:
//!
//! - `memory/`: a log in memory; `fuzzing/`: any bytes against each part that reads bytes
//! - `../tests/interleavings/`: threads in thousands of orders

mod clock;
mod conversations;
#[cfg(test)]
mod crash_points;
mod device;
mod disk;
pub mod fuzzing;
mod gateway;
mod letter;
mod life;
pub mod memory;
mod model;
mod network;
mod operations;
mod outside;
mod phone;
mod policy;
mod process;
#[cfg(test)]
mod recovered;
#[cfg(test)]
mod regressions;
mod rest;
mod schedule;
mod settle;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "fuzzing checks nothing but reads")
)]
mod short_life;
mod shrink;
mod store;
#[cfg(test)]
mod tests;
mod told;
mod trace;
mod world;

// `memory/` is a module of the library's tests as well, and names these by the same paths there.
use towncrier::{ids, log, message};

pub use self::{
    schedule::Schedule,
    shrink::shrink,
    world::{Verdict, run},
};
