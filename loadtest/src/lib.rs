//! The load rig: what a gateway carries on this machine, while a ledger watches over every message of the load.
//!
//! `loadtest SCENARIO` starts a gateway of its own, or loads the one at a URL, and speaks nothing but the public
//! protocols. A process does everything on one thread, and by default there is one: a rig that took all cores would
//! measure itself.
//!
//! - `ledger.rs`: every message accepted or refused, held against what landed
//! - `cli.rs`: the command line
//! - `compare.rs`: the gateway beside a broker: the scenarios in alternation
//! - `scenario/`: what is done to the server, a file each; `loadtest/vm/` does two of them in virtual machines
//! - `crew/`: the rig's processes, together
//! - `crowd.rs`, `sources.rs`: the sessions of one of them, and the addresses they come from
//! - `senders.rs`: the open loop
//! - `protocol.rs`: the seam behind which a server is spoken to; `gateway/`, `mqtt/`: how a gateway is, and a broker
//! - `target.rs`, `process.rs`: the server under load, and what a process has used
//! - `signals.rs`: how a run is ended early
//! - `meter.rs`: latencies and their course
//! - `machine.rs`, `report/`, `progress.rs`: what a number needs beside it, and how it is shown

mod cli;
mod compare;
mod crew;
mod crowd;
mod gateway;
pub mod ledger;
mod machine;
mod meter;
mod mqtt;
mod process;
mod progress;
mod protocol;
mod report;
mod scenario;
mod senders;
mod signals;
mod sources;
mod target;

pub use cli::{Cli, run};
