//! The refusals of the calls, each with its HTTP status and a sentence.

use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::json;
use crate::{
    delivery::{AuthError, DeviceError},
    door::Stranger,
    token::TokenError,
};

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceRefusal {
    /// The header `token` is missing.
    #[error("the header token is required")]
    NoToken,
    /// The token is not good.
    #[error("{0}")]
    Token(TokenError),
    /// The user was logged out.
    #[error("the token was revoked")]
    Revoked,
    /// The body is not the JSON of a device.
    #[error("the body must be a JSON object with provider, token, and perhaps platform, app, lang")]
    Body,
    /// There is no such platform.
    #[error("platform must be a number from 1 to 11")]
    Platform,
    /// The device breaks a rule.
    #[error("{0}")]
    Device(DeviceError),
    /// The log does not take or find anything now, or the clock is in doubt. The details are the operator's.
    #[error("try again later")]
    Unavailable,
}

/// The form of every refusal.
#[derive(Serialize)]
struct RefusalBody<'a> {
    #[serde(rename = "errCode")]
    code: u16,
    #[serde(rename = "errMsg")]
    sentence: &'a str,
}

impl DeviceRefusal {
    /// The HTTP status, and the seconds after which another try may help.
    fn status(&self) -> (StatusCode, Option<u16>) {
        match self {
            Self::NoToken | Self::Token(_) | Self::Revoked => (StatusCode::UNAUTHORIZED, None),
            Self::Device(DeviceError::TooOften) => (StatusCode::TOO_MANY_REQUESTS, Some(60)),
            Self::Body | Self::Platform | Self::Device(_) => (StatusCode::BAD_REQUEST, None),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Some(10)),
        }
    }
}

impl IntoResponse for DeviceRefusal {
    fn into_response(self) -> Response {
        let (status, wait_s) = self.status();
        let mut response = json(&RefusalBody {
            code: status.as_u16(),
            sentence: &self.to_string(),
        });
        *response.status_mut() = status;
        if let Some(wait_s) = wait_s {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(wait_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            let is_forger = matches!(self, Self::Token(TokenError::Signature));
            response.extensions_mut().insert(Stranger { is_forger });
        }
        response
    }
}

impl From<AuthError> for DeviceRefusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Token(error) => Self::Token(error),
            AuthError::Revoked => Self::Revoked,
            AuthError::ClockDoubted(_) | AuthError::Read(_) => Self::Unavailable,
        }
    }
}

impl From<DeviceError> for DeviceRefusal {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Token(error) => error.into(),
            DeviceError::Send(_) => Self::Unavailable,
            error => Self::Device(error),
        }
    }
}
