//! The refusals in OpenIM v3's words: always HTTP 200, with v3's code, its name and the sentence.
//!
//! v3 has no codes for a disk that is full or an outcome that is not known. These refusals have 500, and their sentence begins
//! with v2's errCode. So does the sentence of a refusal by the system that is asked before each send.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    super::{
        bodies,
        error::{HttpAnswer, Refusal, TokenFault},
        guard::CountedStatus,
    },
    bodies::FailureV3,
};
use crate::{
    codes::{
        self, ARGS, Code, DUPLICATE_KEY, INTERNAL, NO_PERMISSION, NO_USER, NOT_FOUND, REGISTERED,
        TOKEN_KICKED,
    },
    delivery::{AppendError, SendError},
};

/// The reason for which a v3 request was not done.
#[derive(Debug)]
pub(in crate::admin) enum V3Refusal {
    /// A reason that v2's calls have as well.
    Common(Refusal),
    /// The header `operationID` is missing.
    NoOperation,
    /// The caller may not do this. The sentence says why.
    NotPermitted(&'static str),
    /// This user is not registered.
    NoUser(String),
    /// The sender of an OA notification is no notification account.
    NoNotifier,
    /// This user is registered already.
    Registered(String),
    /// The id of a new notification account is used already.
    IdUsed,
}

/// The answer in v3's form, as a function for the guard.
pub(in crate::admin) fn refuse(refusal: Refusal) -> Response {
    V3Refusal::from(refusal).into_response()
}

fn token(bad: TokenFault) -> (Code, Cow<'static, str>) {
    let error = match bad {
        TokenFault::Missing => return (ARGS, "the header token is required".into()),
        TokenFault::Revoked => return (TOKEN_KICKED, "the token was revoked".into()),
        TokenFault::Contents(error) => error,
    };
    (codes::of_token(error), error.to_string().into())
}

/// The code of a reason that v2's calls have as well. `answer` is v2's.
fn common(refusal: &Refusal, answer: &HttpAnswer) -> Code {
    match refusal {
        Refusal::NotAuthorized | Refusal::NotPermitted | Refusal::Secret | Refusal::Hook { .. } => {
            NO_PERMISSION
        }
        Refusal::Send(SendError::Append(AppendError::KeyReused)) => DUPLICATE_KEY,
        Refusal::NoMessage | Refusal::NoPath => NOT_FOUND,
        _ if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS => {
            INTERNAL
        }
        _ => ARGS,
    }
}

impl V3Refusal {
    /// v3's code, the sentence, and v2's answer where there is one.
    fn verdict(&self) -> (Code, Cow<'static, str>, Option<HttpAnswer>) {
        match self {
            Self::Common(refusal) => {
                let answer = refusal.verdict();
                let (code, sentence) = if let Refusal::Token(bad) = refusal {
                    token(*bad)
                } else {
                    let code = common(refusal, &answer);
                    let has_code = code == INTERNAL || matches!(refusal, Refusal::Hook { .. });
                    let sentence = if has_code {
                        format!("{}: {}", answer.code, answer.sentence)
                    } else {
                        answer.sentence.replace("recvIDList", "recvIDs")
                    };
                    (code, sentence.into())
                };
                (code, sentence, Some(answer))
            }
            Self::NoOperation => (ARGS, "the header operationID is required".into(), None),
            Self::NotPermitted(sentence) => (NO_PERMISSION, (*sentence).into(), None),
            Self::NoUser(user) => (NO_USER, format!("{user} is not registered").into(), None),
            Self::NoNotifier => (
                NO_USER,
                "sendID is no notification account: add it with /user/add_notification_account"
                    .into(),
                None,
            ),
            Self::Registered(user) => {
                let sentence = format!("{user} is registered already");
                (REGISTERED, sentence.into(), None)
            }
            Self::IdUsed => (DUPLICATE_KEY, "userID is used already".into(), None),
        }
    }
}

impl IntoResponse for V3Refusal {
    fn into_response(self) -> Response {
        if let Self::Common(refusal) = &self {
            refusal.report();
        }
        let ((code, name), sentence, answer) = self.verdict();
        let mut response = bodies::json(&FailureV3 {
            err_code: code,
            err_msg: name,
            err_dlt: &sentence,
        });
        let status = answer.as_ref().map(|answer| answer.status);
        let counted = CountedStatus(status.unwrap_or(StatusCode::BAD_REQUEST));
        response.extensions_mut().insert(counted);
        if matches!(self, Self::Common(Refusal::NoPath)) {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        if let Some(seconds) = answer.and_then(|answer| answer.retry_after_s) {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<Refusal> for V3Refusal {
    fn from(refusal: Refusal) -> Self {
        Self::Common(refusal)
    }
}
