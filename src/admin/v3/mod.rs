//! The admin API in OpenIM v3's words: the same rooms, limits, checks and durability as v2's calls.
//!
//! Promises: a request with the header `operationID` gets a v3 answer, also where its body is broken: HTTP 200 with `errCode`,
//! `errMsg` (the name of the code), `errDlt` (the sentence) and `data`. Content is translated to v2's form before it is
//! stored, so that every client reads one form. Leaves to others: sends (`admin/send.rs`, `admin/batch.rs`), tokens and
//! profiles (`delivery`).
//!
//! - `version.rs`: the header that tells a v3 request, and its check
//! - `routes.rs`: the table of v3's paths
//! - `error.rs`: every refusal with v3's code
//! - `bodies.rs`: requests and answers
//! - `content.rs`: v3's content types, and their translation to v2's form
//! - `auth.rs`, `user.rs`, `notification.rs`, `send.rs`: the calls
//! - `profile.rs`: a user's stored profile, with the mark of a notification account

mod auth;
mod bodies;
mod content;
mod error;
mod notification;
mod profile;
mod routes;
mod send;
#[cfg(test)]
pub(crate) mod tests;
mod user;
mod version;

pub(super) use self::{
    bodies::FailureV3,
    content::BUSINESS,
    error::{V3Refusal, refuse},
    routes::routes,
    version::{check_operation, either, in_words_of},
};
