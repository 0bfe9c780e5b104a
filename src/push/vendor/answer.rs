//! What an answer means where a vendor has no words of its own.

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde::de::DeserializeOwned;

use super::notice::Outcome;
use crate::outbound::{CallError, retry_after};

/// The meaning of an answer by its status alone.
pub(super) fn by_status(answer: &Response<Bytes>, words: &str) -> Outcome {
    let status = answer.status();
    let reason = match words {
        "" => status.to_string(),
        words => format!("{}: {words}", status.as_u16()),
    };
    match status {
        status if status.is_success() => Outcome::sent(""),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::credentials(&reason),
        StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::gone(&reason),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Outcome::later(retry_after(answer.headers()), &reason)
        }
        status if status.is_server_error() => {
            Outcome::later(retry_after(answer.headers()), &reason)
        }
        _ => Outcome::refused(&reason),
    }
}

/// The meaning of a call without an answer.
pub(super) fn by_failure(error: &CallError) -> Outcome {
    let reason = error.to_string();
    match error {
        // The same call would end in the same way.
        CallError::PrivateAddress | CallError::AnswerTooLarge(_) => Outcome::refused(&reason),
        CallError::Timeout(_)
        | CallError::Resolve
        | CallError::Connect(_)
        | CallError::Tls(_)
        | CallError::Cut => Outcome::later(None, &reason),
    }
}

/// The body of an answer; `None` if it has another form.
pub(super) fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Option<T> {
    serde_json::from_slice(answer.body()).ok()
}

/// The same outcome for each device of a call.
pub(super) fn for_each(outcome: Outcome, devices: usize) -> Vec<Outcome> {
    vec![outcome; devices]
}

/// The body of an answer as text, for a reason.
pub(super) fn text(answer: &Response<Bytes>) -> String {
    String::from_utf8_lossy(answer.body().get(..512).unwrap_or(answer.body())).into_owned()
}
