//! The whole gateway in a simulation: real rooms and the real client on a simulated clock, network, disk and state store.
//!
//! One seed is one run, bit for bit: a schedule of operations and faults is made from it, everything runs on one thread and
//! one paused clock, and chance comes from the seed. After every step the promises P1–P8 are looked at; at the end all
//! faults stop, and everything accepted must be where it belongs. A failing run prints its seed, the shortest schedule that
//! still fails, and the command to see it again.
//!
//! - `schedule.rs`: what a seed stands for
//! - `world.rs`: one run; `operations.rs`, `life.rs`, `rest.rs`: its steps, the deaths in it, its end
//! - `model.rs`, `letter.rs`, `policy.rs`: what must be true
//! - `gateway.rs`, `device.rs`: a life of the gateway's process; a device with its app and its store
//! - `clock.rs`, `network.rs`, `disk.rs`, `store.rs`: what they live on; `process.rs`: how they die in the middle of it
//! - `trace.rs`: what happened
//! - `shrink.rs`: the shortest schedule that still fails
//! - `seeds.txt`, `regressions.rs`: every seed that ever failed, and what it found as a plain test
//! - `short_life.rs`, `crash_points.rs`: the log alone, and every place at which a short life of it can end

mod clock;
mod crash_points;
mod device;
mod disk;
mod gateway;
mod letter;
mod life;
mod model;
mod network;
mod operations;
mod policy;
mod process;
mod regressions;
mod rest;
mod schedule;
mod short_life;
mod shrink;
mod store;
mod tests;
mod trace;
mod world;
