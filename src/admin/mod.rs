//! The admin port: OpenIM v2's calls over HTTP, with the differences of `docs/operation.md#the-admin-api`.
//!
//! Promises: the token is looked at before the body; every answer is JSON with an `errCode`, also after a panic; a body,
//! a wait and the number of connections are bounded; nothing is answered `errCode 0` before `delivery` said so.
//! Leaves to others: durability and fan-out (`delivery`), who is online (`registry`), what a token says (`token`).
//!
//! - `server.rs`: the port itself: accept, HTTP/1, a graceful end; `crowd.rs`: who gives way when it is full
//! - `opening.rs`: what it answers before the log is open
//! - `routes.rs`: the one table of paths; the router and `/openapi.json` (`openapi.rs`) both come from it
//! - `guard.rs`: what stands around every handler: panics, CORS, metrics
//! - `call.rs`: what a handler starts with: the caller's token, then the body
//! - `bodies/`, `json.rs`, `text.rs`: requests and answers; strings borrowed from the request
//! - `content.rs`, `shape.rs`: the content types and their fields; the check against them
//! - `send.rs`, `batch.rs`, `fingerprint.rs`, `outcomes.rs`: sending, and what became of it
//! - `auth.rs`, `presence.rs`, `inbox.rs`, `trace.rs`, `health.rs`: the other calls
//! - `console.rs`: the page at `/console/`, and the configuration it shows
//! - `error.rs`: every refusal, with its HTTP status, errCode and sentence

mod auth;
mod batch;
mod bodies;
mod call;
mod console;
mod content;
mod crowd;
mod error;
mod fingerprint;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "much of it is for tests"))]
#[expect(clippy::unwrap_used, reason = "a failure here is the test's")]
mod fixture;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod health;
mod inbox;
mod json;
mod openapi;
mod opening;
mod outcomes;
mod presence;
mod routes;
mod send;
mod server;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod trace;

pub use self::{
    call::{Rooms, SetupError},
    error::code,
    opening::Opening,
    server::{BindError, Server},
};
