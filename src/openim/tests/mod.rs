//! The calls of the SDKs on a log in memory.
//!
//! - `fixture.rs`: the calls, messages to ask about, and a caller
//! - `tokens.rs`: whose call it is
//! - `wrong.rs`: bodies that are refused
//! - `conversations.rs`: lists, seqs and marks
//! - `settings.rs`: settings, and the removal of messages
//! - `profiles.rs`: names and pictures
//! - `devices.rs`: a phone's token, and its badge
//! - `jssdk.rs`: the JavaScript SDK's calls

mod conversations;
mod devices;
mod fixture;
mod jssdk;
mod profiles;
mod settings;
mod tokens;
mod wrong;
