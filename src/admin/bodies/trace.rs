//! Request and answer of `/msg/trace`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{json, text::Text};

/// Looks a message up by `serverMsgID`, or by `sendID` and `clientMsgID`. If all are given, they must mean the same
/// message.
#[derive(Deserialize, JsonSchema)]
pub(in crate::admin) struct TraceRequest<'a> {
    #[serde(rename = "serverMsgID", default, borrow)]
    pub(in crate::admin) server_msg_id: Text<'a>,
    #[serde(rename = "sendID", default, borrow)]
    pub(in crate::admin) send_id: Text<'a>,
    #[serde(rename = "clientMsgID", default, borrow)]
    pub(in crate::admin) client_msg_id: Text<'a>,
    /// The answer contains only this receiver.
    #[serde(rename = "userID", default, borrow)]
    pub(in crate::admin) user_id: Text<'a>,
    /// The number of receivers to leave out at the beginning.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) offset: Option<usize>,
    /// The number of receivers wanted: 100 when absent or 0, at most 1000.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) limit: Option<usize>,
}

/// A message and its progress.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct Traced<'a> {
    #[serde(rename = "serverMsgID")]
    pub(in crate::admin) server_msg_id: String,
    #[serde(rename = "clientMsgID")]
    pub(in crate::admin) client_msg_id: &'a str,
    #[serde(rename = "sendID")]
    pub(in crate::admin) send_id: &'a str,
    /// The time at which the message was accepted, Unix ms.
    #[serde(rename = "sendTime")]
    pub(in crate::admin) send_time: u64,
    /// The number of receivers on all pages together. With `userID`: 1, or 0 if that user is not a receiver.
    #[serde(rename = "receiversTotal")]
    pub(in crate::admin) receivers_total: usize,
    pub(in crate::admin) receivers: Vec<TracedReceiver<'a>>,
}

/// A message in one inbox.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct TracedReceiver<'a> {
    #[serde(rename = "userID")]
    pub(in crate::admin) user_id: &'a str,
    pub(in crate::admin) seq: u64,
    /// The furthest state at any of the receiver's sessions: `pending`, `sent`, `received`, `acked` or `expired`.
    pub(in crate::admin) state: &'static str,
    pub(in crate::admin) sessions: Vec<TracedSession<'a>>,
    /// The doings of vendor push, by class of devices. Absent without a configured vendor; empty where the receiver has no device, or that
    /// is no longer remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) push: Option<Vec<TracedPush>>,
}

/// A message and one class of its receiver's devices, or one device.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct TracedPush {
    /// `mobile`, `pc` or `web`.
    pub(in crate::admin) class: &'static str,
    /// `served`, `do-not-disturb`, `waiting`, `queued`, `sent`, `retried`, `refused`, `gone` or `expired`.
    pub(in crate::admin) state: &'static str,
    /// Unix ms: since when it is so.
    pub(in crate::admin) time: u64,
    /// Unix ms: when a `waiting` class is decided, or when a `retried` push is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) until: Option<u64>,
    /// The platform of the session that serves the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) platform: Option<&'static str>,
    /// The device of that session.
    #[serde(rename = "deviceID", skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) device_id: Option<String>,
    /// The proof that it has the message: `ack`, `pull or mark`, or `pong`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) proof: Option<&'static str>,
    /// The vendor of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) provider: Option<&'static str>,
    /// The first characters of a digest of the vendor's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) device: Option<String>,
    /// The vendor's id of a `sent` push; may be empty.
    #[serde(rename = "vendorID", skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) vendor_id: Option<String>,
    /// Why the push failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) reason: Option<String>,
}

/// A message and one session.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct TracedSession<'a> {
    /// By name, e.g. `Web`.
    pub(in crate::admin) platform: &'static str,
    #[serde(rename = "deviceID")]
    pub(in crate::admin) device_id: &'a str,
    /// `pending`, `sent`, `received`, `acked` or `expired`.
    pub(in crate::admin) state: &'static str,
    /// Unix ms; null when the message was not sent, or the time is no longer remembered.
    #[serde(rename = "sentTime")]
    pub(in crate::admin) sent_time: Option<u64>,
    /// Unix ms; null when the message was not acked.
    #[serde(rename = "ackedTime")]
    pub(in crate::admin) acked_time: Option<u64>,
}
