//! The load rig: it measures the load that a gateway carries on this machine, while a ledger checks every message of the
//! load.
//!
//! `loadtest SCENARIO` starts a gateway of its own, or loads the one at a URL, and speaks only the public protocols. A
//! process does everything on one thread, and by default there is one process: a rig that took all cores would measure
//! itself.
//!
//! - `ledger/`: every accepted or refused message, compared with the landings
//! - `cli.rs`: the command line
//! - `compare.rs`: the gateway and a broker: the scenarios in turn
//! - `scenario/`: the loads, one file each; `loadtest/vm/` runs two of them in virtual machines
//! - `callee/`: the systems that a gateway calls: a vendor of push, a receiver of webhooks
//! - `crew/`: the rig's processes, together
//! - `crowd.rs`, `sources.rs`: the sessions of one process, and their source addresses
//! - `senders.rs`: the open loop
//! - `parcel.rs`: one send, its receivers and its outcome
//! - `protocol.rs`: the seam between the loads and a server's protocol; `gateway/`, `mqtt/`: the two protocols
//! - `target.rs`, `process.rs`: the server under load, and the resources that a process has used; `store.rs`: PostgreSQL servers of the
//!   rig's own, for the gateways of a fleet
//! - `signals.rs`: the early end of a run
//! - `meter.rs`: latencies and their course
//! - `machine.rs`, `report/`, `progress.rs`: the circumstances of a number, and its presentation
//! - `keep/`: a run in the repository, with everything that a reader needs to follow its numbers

mod callee;
mod cli;
mod compare;
mod crew;
mod crowd;
mod gateway;
mod keep;
pub mod ledger;
mod machine;
mod meter;
mod mqtt;
mod parcel;
mod process;
mod progress;
mod protocol;
mod report;
mod scenario;
mod senders;
mod signals;
mod sources;
mod store;
mod target;

pub use cli::{Cli, run};
pub use gateway::openim::{NoSdkForm, SdkCore, SdkForm, SdkRequest, SdkResponse};
