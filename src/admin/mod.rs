//! The admin port: the calls of OpenIM v2 and v3 over HTTP, with the differences of `docs/operation.md#the-admin-api`.
//!
//! Promises: the token is checked before the body is read. Every answer to a call is JSON with an `errCode`, also after a
//! panic. Health, metrics, `/openapi.json` and the console's page have forms of their own. Bodies, waits and the number of
//! connections are bounded. No call is answered `errCode 0` before `delivery` confirmed it. Leaves to others: the port
//! itself (`door`), durability and fan-out (`delivery`), online sessions (`registry`), the claims of a token (`token`).
//!
//! - `opening.rs`: the answers before the log is open
//! - `routes.rs`, `route.rs`: the table of v2's paths and our own; the router and `/openapi.json` (`openapi.rs`) both come from
//!   it and from v3's table
//! - `v3/`: OpenIM v3's calls
//! - `guard.rs`: the layer around every handler: panics, CORS, metrics
//! - `call.rs`: the first steps of every handler: the caller's token, then the body; `access.rs`, `administrators.rs`: who may call;
//!   `audit.rs`: the line about a call that changed something
//! - `bodies/`, `json.rs`, `text.rs`: requests and answers; strings borrowed from the request; `required.rs`: their checks
//! - `content.rs`, `shape.rs`: the content types and their fields; the check against them
//! - `send.rs`, `batch.rs`, `fingerprint.rs`, `outcomes.rs`: sends, and their outcomes
//! - `before_send.rs`: the question to another system before a send; `dead_letters.rs`: the events that it refused
//! - `auth.rs`, `presence.rs`, `inbox.rs`, `pull.rs`, `conversation.rs`, `device.rs`, `trace.rs`, `erase.rs`, `backup.rs`, `health.rs`:
//!   the other calls
//! - `console.rs`: the page at `/console/`, and the configuration that it shows
//! - `error.rs`: every refusal, with its HTTP status, errCode and sentence

mod access;
mod administrators;
mod audit;
mod auth;
mod backup;
mod batch;
mod before_send;
mod bodies;
mod call;
mod console;
mod content;
mod conversation;
mod dead_letters;
mod device;
mod erase;
mod error;
mod fingerprint;
mod guard;
mod health;
mod inbox;
mod json;
mod openapi;
mod opening;
mod outcomes;
mod presence;
mod pull;
mod required;
mod route;
mod routes;
mod send;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod trace;
mod v3;

pub use self::{
    administrators::SetupError,
    call::Rooms,
    error::code,
    opening::{Opening, api, bind},
};
