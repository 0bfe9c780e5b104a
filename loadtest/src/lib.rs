//! The load rig: what a gateway carries on this machine, while a ledger watches over every message of the load.
//!
//! `loadtest SCENARIO` starts a gateway of its own, or loads the one at a URL, and speaks nothing but the public
//! protocols. One thread does everything: a rig that took both cores would measure itself.
//!
//! - `ledger.rs`: every message accepted or refused, held against what landed
//! - `cli.rs`: the command line
//! - `scenario/`: what is done to the gateway: `connect`, `send`, `storm`
//! - `crowd.rs`, `session.rs`, `sources.rs`: the sessions, one of them, and the addresses they come from
//! - `senders.rs`, `lane.rs`: the open loop, and one kept HTTP connection
//! - `target.rs`, `process.rs`: the gateway under load, and what a process has used
//! - `meter.rs`: latencies and their course
//! - `machine.rs`, `report/`: what a number needs beside it, and how it is shown

mod cli;
mod crowd;
mod lane;
pub mod ledger;
mod machine;
mod meter;
mod process;
mod report;
mod scenario;
mod senders;
mod session;
mod sources;
mod target;

pub use cli::{Cli, run};
