//! Calls to other systems over HTTP: vendors of push services, receivers of webhooks.
//!
//! Promises: a call ends by its deadline, its answer has a bounded size, and connections are used again. HTTP/1 and HTTP/2,
//! as the server offers them; certificates are checked against the certificates of the machine. The environment variable
//! `SSL_CERT_FILE` names a PEM file to trust instead of those, e.g. one with a company's own authority. No redirect is
//! followed and no proxy of the environment is used. An error names no URL and no header, because both may hold secrets.
//! Leaves to others: retries, and how many calls run at once.
//!
//! - `client.rs`: the client and its connections
//! - `addresses.rs`: which addresses a name may resolve to
//! - `lookups.rs`: look-ups of names, on threads of their own
//! - `failure.rs`: why a call has no answer
//! - `retry_after.rs`: how long a server wants to be left alone
//! - `standard_webhooks.rs`: signatures by the Standard Webhooks specification

mod addresses;
mod client;
mod failure;
mod lookups;
mod retry_after;
mod standard_webhooks;

pub use self::{
    addresses::Reach,
    client::{ANSWER_BYTES_MAX, LONG_IDLE_TIMEOUT, Outbound, SHORT_IDLE_TIMEOUT},
    failure::CallError,
    retry_after::{ASKED_WAIT_MAX, retry_after},
    standard_webhooks::{SecretFault, WebhookSecrets, iso_8601},
};
