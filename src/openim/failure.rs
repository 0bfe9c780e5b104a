//! The refusals of the calls, each with OpenIM v3's errCode, its fixed name and a sentence.

use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answer::json;
use crate::{
    codes::{self, Code},
    delivery::{AuthError, LogError, SendError},
    door::Stranger,
    ids::IdError,
    token::TokenError,
};

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallFailure {
    /// A header that every call has is missing.
    #[error("the header {0} is required")]
    Header(&'static str),
    /// The body is no JSON object.
    #[error("the body must be a JSON object")]
    NoObject,
    /// The body is no protobuf message of this call.
    #[error("the body must be protobuf")]
    NoProtobuf,
    /// A field has another type than it must have.
    #[error("{0} must be {1}")]
    Field(&'static str, &'static str),
    /// A field that the call needs is missing.
    #[error("{0} is required")]
    Required(&'static str),
    /// A field is no id.
    #[error("{0} {1}")]
    Id(&'static str, IdError),
    /// A list has more entries than one answer may have.
    #[error("{0} has more than {1} entries")]
    TooMany(&'static str, usize),
    /// The call names another user as its own.
    #[error("{0} must be the user of the token")]
    OtherUser(&'static str),
    /// A device breaks a rule.
    #[error("{0}")]
    Device(String),
    /// The call asks for a change that the gateway does not make.
    #[error("this gateway does not support the call")]
    NotSupported,
    /// The token is not good.
    #[error("{0}")]
    Token(TokenError),
    /// The user was logged out.
    #[error("the token was revoked")]
    Revoked,
    /// The user makes changes faster than a person does.
    #[error("too many changes: try again later")]
    TooOften,
    /// The log does not answer now, or the clock is in doubt. The details are the operator's.
    #[error("try again later")]
    Unavailable,
}

/// The form of every refusal.
#[derive(Serialize)]
struct FailureBody<'a> {
    #[serde(rename = "errCode")]
    code: u16,
    #[serde(rename = "errMsg")]
    name: &'static str,
    #[serde(rename = "errDlt")]
    detail: &'a str,
}

impl CallFailure {
    fn code(&self) -> Code {
        match self {
            Self::Header(_)
            | Self::NoObject
            | Self::NoProtobuf
            | Self::Field(..)
            | Self::Required(_)
            | Self::Id(..)
            | Self::Device(_)
            | Self::TooMany(..) => codes::ARGS,
            Self::OtherUser(_) | Self::NotSupported => codes::NO_PERMISSION,
            Self::Token(error) => codes::of_token(*error),
            Self::Revoked => codes::TOKEN_KICKED,
            Self::TooOften | Self::Unavailable => codes::INTERNAL,
        }
    }
}

impl IntoResponse for CallFailure {
    fn into_response(self) -> Response {
        let (code, name) = self.code();
        let mut response = json(&FailureBody {
            code,
            name,
            detail: &self.to_string(),
        });
        if let Self::Header(_) | Self::Token(_) | Self::Revoked = self {
            let is_forger = self == Self::Token(TokenError::Signature);
            response.extensions_mut().insert(Stranger { is_forger });
        }
        response
    }
}

impl From<AuthError> for CallFailure {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Token(error) => Self::Token(error),
            AuthError::Revoked => Self::Revoked,
            AuthError::ClockDoubted(_) | AuthError::Read(_) => Self::Unavailable,
        }
    }
}

impl From<LogError> for CallFailure {
    fn from(_: LogError) -> Self {
        Self::Unavailable
    }
}

impl From<SendError> for CallFailure {
    fn from(_: SendError) -> Self {
        Self::Unavailable
    }
}
