//! The REST calls of OpenIM v3's SDKs, as the client port serves them.
//!
//! Promises: every answer is HTTP 200 and JSON with `errCode`, `errMsg` and `errDlt`. A call without a good token is refused before
//! its body is looked at, and one that names another user as its own is refused. A field of the wrong type is refused. A call that
//! asks for a change is refused unless the change is made, and above a rate for each user. Every other call of the known groups gets an empty answer, because
//! there are no friends, groups and blocked users here. Leaves to others: HTTP, CORS and bounds on bodies (`door`), conversations and
//! marks (`delivery`).
//!
//! - `routes.rs`: the paths, and the first steps of every call: the token, then the body
//! - `body.rs`: a body's fields, each with its type, and whose call it is
//! - `answer.rs`: an answer as JSON; `failure.rs`: every refusal, with OpenIM's errCode
//! - `conversations.rs`: a user's conversations; `marks.rs`: what the user has read of them
//! - `settings.rs`: a user's settings of conversations, and the removal of messages
//! - `devices.rs`: a phone's token of FCM, and its badge
//! - `rate.rs`: the changes that a user may make in a time
//! - `jssdk.rs`: the calls of the JavaScript SDK, in protobuf or JSON
//! - `profiles.rs`: names and pictures

mod answer;
mod body;
mod conversations;
mod devices;
mod failure;
mod jssdk;
mod marks;
mod profiles;
mod rate;
mod routes;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use self::routes::rest;

/// The prost types of `proto/openim/v3/jssdk.proto`.
#[expect(unreachable_pub, reason = "generated; the .proto is the manual")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/openim.v3.jssdk.rs"));
}
