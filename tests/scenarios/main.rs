//! Scenarios: a real gateway process, real sockets, and one module for each promise.
//!
//! - `seed`: the seed's own request, and every content type of its table, land
//! - `order`: seqs without gaps, in the order of acceptance (P4)
//! - `reconnect`: a session resumes at its cursor (P5)
//! - `restart`: kill -9 of the gateway loses and repeats nothing (P1, P3, P5)
//! - `backup`: a restore has what was accepted before its backup, in a new epoch (P1, P6)
//! - `damage`: a flipped byte is named and never delivered (P8)
//! - `listen`: kill -9 of the client, and the commands of the README's tour (P5)
//! - `read_state`: read on one device is read on all, whatever is killed in between
//! - `devices`: devices for push survive a kill, and end with a logout
//! - `openim_rest`: the REST calls of OpenIM's SDKs on the client port, and on a port of their own
//! - `openim_limits`: bad input of OpenIM's clients harms no other (P7)
//! - `push`: devices whose apps did not ack get a vendor's push, never lost
//! - `erase`: nothing of an erased user is told, whatever is killed in between
//! - `retention`: expired messages are announced (P6)
//! - `slow_consumer`, `limits`: a slow or hostile client harms no other (P7)
//! - `hostile`: the small effect of hostile clients on honest ones, in numbers (P7)
//! - `proxy`: clients behind a proxy count by their own addresses (P7)
//! - `admission`: which connections give way to others, on either port (P7)
//! - `conformance`: RFC 6455, case by case
//! - `replacement`: login policies
//! - `fleet`: several gateways on one store
//! - `drain`: the drain, and signals (P2, P5)
//! - `supervisor`: systemd hears when the gateway serves and when it goes down
//! - `disk`: no room on the disk, for a while (P2)
//! - `stderr`: the gateway serves on without a reader of its log
//! - `webhooks`: each event reaches its receiver at least once and in order
//! - `memory`: the cost of a session
//! - `tls`: either port over TLS
//! - `vendors`: the vendors of push services, each against its stand-in
//! - `login_keys`: tokens of a company's own login, and what the audit log tells
//! - `tokens`, `trace`, `metrics`, `config`, `doctor`: operation

#![expect(
    clippy::unwrap_used,
    reason = "what a scenario cannot unwrap is a failure of the scenario"
)]

mod admission;
mod backup;
mod config;
mod conformance;
mod damage;
mod devices;
mod disk;
mod doctor;
mod drain;
mod erase;
mod fleet;
mod hostile;
mod limits;
mod listen;
mod login_keys;
mod memory;
mod metrics;
mod openim_limits;
mod openim_rest;
mod order;
mod proxy;
mod push;
mod read_state;
mod reconnect;
mod replacement;
mod restart;
mod retention;
mod seed;
mod slow_consumer;
mod stderr;
mod supervisor;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tokens;
mod trace;
mod vendors;
mod webhooks;
