//! Requests and answers as JSON, with OpenIM's names, one file for each kind of call.
//!
//! Strings of a request borrow from its body, and `content` keeps its text unchanged. Every field may be absent here. The
//! call checks its required fields itself, so that the refusal names the field.
//!
//! - `send.rs`: sends to one user, to a batch and to everyone
//! - `inbox.rs`: reads and deletions in an inbox
//! - `conversation.rs`: a user's conversations and read marks
//! - `device.rs`: a user's devices for push
//! - `erase.rs`: the erasure of a user
//! - `dead_letters.rs`: events that the receiver of webhooks refused
//! - `backup.rs`: a backup of the log
//! - `presence.rs`: the sessions that are online
//! - `trace.rs`: a message and its progress
//! - `auth.rs`: tokens, registrations and logouts

mod auth;
mod backup;
mod conversation;
mod dead_letters;
mod device;
mod erase;
mod inbox;
mod presence;
mod send;
mod trace;

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use self::{
    auth::{LoggedOut, LogoutRequest, Profile, TokenIssued, TokenParsed, TokenRequest},
    backup::{BackupMade, BackupRequest, BackupTold},
    conversation::{ConversationsListed, ListConversations, ListedConversation, MarkRead},
    dead_letters::{
        DeadLettersListed, ListDeadLetters, ListedDeadLetter, SendDeadLetters, SentDeadLetters,
    },
    device::{DeviceRequest, DevicesListed, DevicesRemoved, ListedDevice},
    erase::{EraseRequest, Erased},
    inbox::{
        DeleteRequest, MsgData, NewestSeq, NewestSeqRequest, PullRequest, Pulled,
        PulledOfflinePush, SeqBounds, SeqRange,
    },
    presence::{
        OnlineRequest, OnlineSession, OnlineUser, OnlineUsers, PlatformPresence, PresenceRequest,
        UserPresence,
    },
    send::{BatchSent, OfflinePushInfo, OperationStatus, SendRequest, Sent, SentTo, SentToMany},
    trace::{TraceRequest, Traced, TracedPush, TracedReceiver, TracedSession},
};
use super::text::Text;

/// A request that contains only its operationID.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID"]))]
pub(super) struct Operation<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
}

/// The gateway's clock after it was confirmed.
#[derive(Serialize, JsonSchema)]
pub(super) struct ClockAccepted {
    /// The time now, Unix ms.
    #[serde(rename = "time")]
    pub(super) time_ms: u64,
    /// The distance from the time before to this time, ms. Positive if the clock moved forward.
    #[serde(rename = "moved")]
    pub(super) moved_ms: i64,
}

/// An answer without further data.
#[derive(Serialize, JsonSchema)]
pub(super) struct Nothing {}

/// The form of every success.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Answer")]
pub(super) struct Envelope<T> {
    #[serde(rename = "errCode")]
    err_code: u16,
    #[serde(rename = "errMsg")]
    err_msg: &'static str,
    data: T,
}

/// `{"errCode":0,"errMsg":"","data":…}` with HTTP 200.
pub(super) fn answer<T: Serialize>(data: T) -> Response {
    json(&Envelope {
        err_code: 0,
        err_msg: "",
        data,
    })
}

/// Any JSON with HTTP 200.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    let bytes =
        serde_json::to_vec(value).expect("our own types have string keys and finite numbers");
    json_bytes(bytes.into())
}

/// Bytes that already are JSON, with HTTP 200.
pub(super) fn json_bytes(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
