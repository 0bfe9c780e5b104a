//! All refusals of the admin API, and the only code that turns them into HTTP status, errCode and sentence.
//!
//! The caller gets a code and a sentence. Causes that only the operator can use go to the stderr log.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{bodies, shape::Problem};
use crate::{
    delivery::{AppendError, AuthError, Cause, LogError, SendError},
    ids::IdError,
    token::TokenError,
};

/// The errCodes. A code below 10,000 is OpenIM v2's or repeats the HTTP status. The `503xx` are ours and come with HTTP 503
/// and `Retry-After`; the `403xx` come from the system that is asked before each send.
pub mod code {
    /// The request is not JSON or lacks a field, or its token is not good or not sufficient.
    pub const REQUEST: u16 = 400;
    /// `sessionType` is none of 1–4, or means a group although the call expects one receiver.
    pub const SESSION_TYPE: u16 = 203;
    /// A known field of `content` has the wrong JSON type; on `/auth`, the secret is wrong.
    pub const CONTENT_SHAPE: u16 = 401;
    /// `/auth/user_token` and `/auth/user_register`: the secret is wrong.
    pub const SECRET: u16 = 401;
    /// A required field of `content` is missing or out of range.
    pub const CONTENT_REQUIRED: u16 = 403;
    /// `contentType` is not known. With HTTP 404, the path or the message is not known.
    pub const NOT_FOUND: u16 = 404;
    /// The receiver is missing; with HTTP 405, the method is wrong.
    pub const RECEIVER: u16 = 405;
    /// The body did not arrive in time.
    pub const TOO_SLOW: u16 = 408;
    /// The idempotency key was used before with another body.
    pub const KEY_REUSED: u16 = 409;
    /// The body, the content or the answer asked for is too large.
    pub const TOO_LARGE: u16 = 413;
    /// The writer's queue is full; nothing was stored.
    pub const BUSY: u16 = 429;
    /// A fault of the gateway. Its outcome is not known: send again with the same clientMsgID.
    pub const INTERNAL: u16 = 500;
    /// The log is held back to a format without conversations.
    pub const NO_CONVERSATIONS: u16 = 501;
    /// A user who is no administrator called `force_logout`.
    pub const NOT_PERMITTED: u16 = 801;
    /// `parse_token`: the token is not good. Comes with HTTP 200.
    pub const TOKEN_UNPARSED: u16 = 1001;
    /// The system that is asked before each send refused this one. It may give any code up to 40399.
    pub const HOOK_REFUSED: u16 = 40301;
    /// The disk is full. Nothing was stored; sending resumes by itself once there is space.
    pub const DISK_FULL: u16 = 50301;
    /// A write or a sync failed. Nothing more is accepted until an operator restarts the gateway.
    pub const SYNC_FAILED: u16 = 50302;
    /// The log is damaged.
    pub const LOG_DAMAGED: u16 = 50303;
    /// The outcome of the send is not known, as if there were no answer: send again with the same clientMsgID.
    pub const OUTCOME_UNKNOWN: u16 = 50304;
    /// The gateway is going down. Nothing was stored.
    pub const DRAINING: u16 = 50305;
    /// The state store failed. Nothing was stored.
    pub const STATE_FAILED: u16 = 50306;
    /// The log could not be read.
    pub const READ_FAILED: u16 = 50307;
    /// The gateway's clock and the wall clock disagree, so a token out of its time is not judged.
    pub const CLOCK_DOUBTED: u16 = 50308;
    /// The gateway is starting and still reads its log. Nothing was stored.
    pub const STARTING: u16 = 50309;
    /// The system that is asked before each send gave no usable answer. Nothing was stored.
    pub const HOOK_UNANSWERED: u16 = 50310;
    /// The store of the fleet does not answer. Nothing was stored.
    pub const STORE_AWAY: u16 = 50311;
}

/// The reason for which a request was not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The token is missing, is not valid, has expired or was revoked.
    Token(TokenFault),
    /// The token is out of its time by the gateway's clock, but the wall clock disagrees with that clock.
    ClockDoubted,
    /// The token is good, but does not allow this call.
    NotAuthorized,
    /// The same, for `force_logout`.
    NotPermitted,
    /// `parse_token` was asked about a token that is not good.
    TokenUnparsed,
    /// The secret of the `/auth` calls is wrong.
    Secret,
    /// The body ended too early.
    BodyLost,
    /// The body did not come in time.
    BodySlow,
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not the JSON that the call expects.
    Json(serde_json::Error),
    /// This field must be given, and not empty.
    Required(&'static str),
    /// This field must not be 0.
    Zero(&'static str),
    /// This field is not a valid id.
    Id(&'static str, IdError),
    /// The request contradicts itself or a rule. The sentence names the rule.
    Rule(&'static str),
    /// A part has more elements than allowed.
    TooMany {
        what: &'static str,
        count: usize,
        max: usize,
    },
    /// A part is larger than allowed, in bytes.
    TooLarge { what: &'static str, max: usize },
    /// The `contentType` does not exist.
    ContentType,
    /// `content` does not fit its type.
    Content(Problem),
    /// The receiver or the group is missing.
    NullString(&'static str),
    /// A batch names no receivers.
    NoReceivers,
    /// The `sessionType` does not exist.
    SessionType,
    /// `send_msg` was asked to send to a group.
    GroupSend,
    /// Delivery refused the send.
    Send(SendError),
    /// The log did not confirm in time.
    Unconfirmed,
    /// The log could not be read.
    Read(LogError),
    /// No retained message has this id or key.
    NoMessage,
    /// The log keeps no conversations.
    NoConversations,
    /// The system that is asked before each send refused this one, with a code from 40301 to 40399.
    Hook { code: u16, text: String },
    /// That system gave no usable answer.
    HookUnanswered,
    /// The log is not open yet.
    Starting,
    /// The path does not exist.
    NoPath,
    /// The path does not have this method.
    NoMethod,
    /// A handler panicked.
    Panic,
}

/// The reason for which a token is not good. OpenIM v2 has one answer for all of them, v3 tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenFault {
    /// The request has none.
    Missing,
    /// Its own contents are not good.
    Contents(TokenError),
    /// An administrator logged the user out after it was issued.
    Revoked,
}

/// The answer to the caller.
pub(super) struct HttpAnswer {
    pub(super) status: StatusCode,
    pub(super) code: u16,
    pub(super) sentence: Cow<'static, str>,
    /// The seconds in `Retry-After`.
    pub(super) retry_after_s: Option<u16>,
}

/// The body of every refusal.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure<'a> {
    err_code: u16,
    err_msg: &'a str,
    /// OpenIM's answer to a failed send has these two fields for token and receiver failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_time: Option<u8>,
    #[serde(rename = "MsgID", skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

impl Refusal {
    /// The answer in OpenIM v2's words.
    pub(super) fn verdict(&self) -> HttpAnswer {
        use StatusCode as Http;

        let bad = |code, sentence| HttpAnswer::new(Http::BAD_REQUEST, code, sentence);
        match self {
            Self::Token(_) => bad(code::REQUEST, "parse token failed".into()),
            Self::ClockDoubted => HttpAnswer::unavailable(
                code::CLOCK_DOUBTED,
                "the gateway's clock is doubted and the token is out of its time: ask again, or have an administrator confirm the clock",
                30,
            ),
            Self::NotAuthorized => bad(code::REQUEST, "not authorized".into()),
            Self::NotPermitted => bad(code::NOT_PERMITTED, "not authorized".into()),
            Self::TokenUnparsed => HttpAnswer::new(Http::OK, code::TOKEN_UNPARSED, "parse token failed".into()),
            Self::Secret => bad(code::SECRET, "not authorized".into()),
            Self::BodyLost => bad(code::REQUEST, "the body broke off".into()),
            Self::BodySlow => HttpAnswer::new(Http::REQUEST_TIMEOUT, code::TOO_SLOW, "the body did not arrive in time".into()),
            Self::NotUtf8 => bad(code::REQUEST, "the body is not UTF-8".into()),
            Self::Json(error) => bad(code::REQUEST, shortened(error.to_string()).into()),
            Self::Required(name) => bad(code::REQUEST, format!("{name} is required").into()),
            Self::Zero(name) => bad(code::REQUEST, format!("{name} must not be 0").into()),
            Self::Id(name, error) => bad(code::REQUEST, format!("{name} {error}").into()),
            Self::Rule(rule) => bad(code::REQUEST, (*rule).into()),
            Self::TooMany { what, count, max } => {
                bad(code::REQUEST, format!("{what} holds {count}, at most {max} are allowed").into())
            }
            Self::TooLarge { what, max } => HttpAnswer::new(
                Http::PAYLOAD_TOO_LARGE,
                code::TOO_LARGE,
                format!("{what} may have at most {max} bytes").into(),
            ),
            Self::ContentType => bad(code::NOT_FOUND, "contentType err".into()),
            Self::Content(problem) if problem.is_shape() => bad(code::CONTENT_SHAPE, problem.to_string().into()),
            Self::Content(problem) => bad(code::CONTENT_REQUIRED, problem.to_string().into()),
            Self::NullString(name) => bad(code::RECEIVER, format!("{name} is a null string").into()),
            Self::NoReceivers => bad(code::RECEIVER, "recvIDList is empty and isSendAll is not set".into()),
            Self::SessionType => bad(code::SESSION_TYPE, "unknown sessionType: 1 single, 2 and 3 group, 4 notification".into()),
            Self::GroupSend => bad(
                code::SESSION_TYPE,
                "send_msg reaches one receiver: for a group use batch_send_msg with groupID and its members as recvIDList".into(),
            ),
            Self::Send(SendError::Draining) => HttpAnswer::draining(),
            Self::Send(SendError::Append(error)) => append(error),
            Self::Send(SendError::Read(error)) | Self::Read(error) => failed(error),
            Self::Unconfirmed => HttpAnswer::outcome_unknown(),
            Self::NoMessage => HttpAnswer::new(Http::NOT_FOUND, code::NOT_FOUND, "no such message is retained".into()),
            Self::NoConversations => HttpAnswer::new(
                Http::NOT_IMPLEMENTED,
                code::NO_CONVERSATIONS,
                "the log keeps no conversations: the operator has to remove log.format from the configuration".into(),
            ),
            Self::Hook { code, text } => HttpAnswer::new(Http::FORBIDDEN, code::HOOK_REFUSED.max(*code), text.clone().into()),
            Self::HookUnanswered => HttpAnswer::unavailable(
                code::HOOK_UNANSWERED,
                "the system that is asked before each send gave no answer, nothing was stored: send again in a moment",
                1,
            ),
            Self::Starting => HttpAnswer::unavailable(code::STARTING, "the gateway is starting, nothing was stored", 5),
            Self::NoPath => HttpAnswer::new(Http::NOT_FOUND, code::NOT_FOUND, "no such path".into()),
            Self::NoMethod => HttpAnswer::new(Http::METHOD_NOT_ALLOWED, code::RECEIVER, "no such method on this path".into()),
            Self::Panic => HttpAnswer::new(
                Http::INTERNAL_SERVER_ERROR,
                code::INTERNAL,
                "the gateway failed on this request: if it was a send, repeat it with the same clientMsgID".into(),
            ),
        }
    }

    /// Writes the cause to the stderr log, where only the operator can use it.
    pub(super) fn report(&self) {
        if let Self::Read(error)
        | Self::Send(SendError::Read(error) | SendError::Append(AppendError::Read(error))) = self
        {
            tracing::warn!(%error, "an admin request could not read the log");
        }
    }

    /// True if OpenIM adds `sendTime` and `MsgID` to this refusal.
    fn has_send_fields(&self) -> bool {
        matches!(
            self,
            Self::Token(_) | Self::NotAuthorized | Self::NullString(_)
        )
    }
}

fn append(error: &AppendError) -> HttpAnswer {
    match error {
        AppendError::QueueFull => HttpAnswer::new(
            StatusCode::TOO_MANY_REQUESTS,
            code::BUSY,
            "too many sends wait, nothing was stored: send again in a moment".into(),
        )
        .retry_after(1),
        AppendError::KeyReused => HttpAnswer::new(
            StatusCode::CONFLICT,
            code::KEY_REUSED,
            "this clientMsgID was used before with another body".into(),
        ),
        AppendError::OutcomeUnknown => HttpAnswer::outcome_unknown(),
        AppendError::Refusing(failure) | AppendError::Read(failure) => failed(failure),
    }
}

fn failed(failure: &LogError) -> HttpAnswer {
    match failure.cause {
        Cause::Full => HttpAnswer::unavailable(
            code::DISK_FULL,
            "the disk is full, nothing was stored: send again later",
            10,
        ),
        Cause::WriteFailed => HttpAnswer::unavailable(
            code::SYNC_FAILED,
            "a write or a sync failed: send again once the operator has restarted the gateway",
            60,
        ),
        Cause::Damaged => HttpAnswer::unavailable(
            code::LOG_DAMAGED,
            "the log is damaged: try again once the operator has restored it",
            60,
        ),
        Cause::LookupFailed => HttpAnswer::unavailable(
            code::STATE_FAILED,
            "a lookup failed: try again once the gateway was restarted",
            60,
        ),
        Cause::ReadFailed => HttpAnswer::unavailable(
            code::READ_FAILED,
            "the log could not be read: try again later",
            10,
        ),
        Cause::Away => HttpAnswer::unavailable(
            code::STORE_AWAY,
            "the store does not answer, nothing was stored: send again in a moment",
            5,
        ),
        Cause::Closed => HttpAnswer::draining(),
    }
}

impl HttpAnswer {
    fn new(status: StatusCode, code: u16, sentence: Cow<'static, str>) -> Self {
        Self {
            status,
            code,
            sentence,
            retry_after_s: None,
        }
    }

    fn retry_after(self, seconds: u16) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    fn unavailable(code: u16, sentence: &'static str, retry_after_s: u16) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, sentence.into()).retry_after(retry_after_s)
    }

    fn draining() -> Self {
        Self::unavailable(
            code::DRAINING,
            "the gateway is shutting down, nothing was stored",
            5,
        )
    }

    fn outcome_unknown() -> Self {
        Self::unavailable(
            code::OUTCOME_UNKNOWN,
            "the outcome is not known: send again with the same clientMsgID",
            5,
        )
    }
}

/// The longest text of a JSON error that is sent back, in bytes. Some texts quote the caller's own string, which may be a
/// whole body.
const JSON_ERROR_BYTES_MAX: usize = 200;

fn shortened(mut text: String) -> String {
    if text.len() > JSON_ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(JSON_ERROR_BYTES_MAX));
        text.push('…');
    }
    text
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.report();
        let HttpAnswer {
            status,
            code,
            sentence,
            retry_after_s,
        } = self.verdict();
        let has_send_fields = self.has_send_fields();
        let failure = Failure {
            err_code: code,
            err_msg: &sentence,
            send_time: has_send_fields.then_some(0),
            message_id: has_send_fields.then_some(""),
        };
        let mut response = bodies::json(&failure);
        *response.status_mut() = status;
        if let Some(seconds) = retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Token(error) => Self::Token(TokenFault::Contents(error)),
            AuthError::Revoked => Self::Token(TokenFault::Revoked),
            AuthError::ClockDoubted(_) => Self::ClockDoubted,
            AuthError::Read(error) => Self::Read(error),
        }
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        Self::Read(error)
    }
}
