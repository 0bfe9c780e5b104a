//! The meaning of an answer where a vendor has no words of its own.

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
        CallError::PrivateAddress => Outcome::refused(&reason),
        CallError::Timeout(_)
        | CallError::Resolve
        | CallError::SlowLookup
        | CallError::Connect(_)
        | CallError::Tls(_)
        | CallError::Cut => Outcome::later(None, &reason),
    }
}

/// The body of an answer; `None` if it has another form.
pub(super) fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Option<T> {
    serde_json::from_slice(answer.body()).ok()
}

/// The meaning of a success whose body has another form. A success without a body is one that cannot name the push, e.g.
/// because its body was too large. A body of another form comes from another system, e.g. a proxy.
pub(super) fn unnamed(answer: &Response<Bytes>) -> Outcome {
    match answer.body().is_empty() {
        true => Outcome::sent(""),
        false => Outcome::refused("an answer of another form"),
    }
}

/// The same outcome for each device of a call.
pub(super) fn for_each(outcome: Outcome, devices: usize) -> Vec<Outcome> {
    vec![outcome; devices]
}

/// The body of an answer as text, for a reason.
pub(super) fn text(answer: &Response<Bytes>) -> String {
    String::from_utf8_lossy(answer.body().get(..512).unwrap_or(answer.body())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_without_a_body_is_sent_and_one_with_another_body_is_not() {
        let empty = Response::new(Bytes::new());
        assert_eq!(unnamed(&empty), Outcome::sent(""));
        let page = Response::new(Bytes::from_static(b"<html>"));
        assert!(matches!(unnamed(&page), Outcome::Refused { .. }));
    }

    #[test]
    fn a_failure_without_a_body_means_what_its_status_says() {
        let status = |status| {
            let answer = Response::builder().status(status).body(Bytes::new());
            by_status(&answer.unwrap(), "")
        };
        for later in [429, 500, 503] {
            assert!(matches!(status(later), Outcome::Later { .. }), "{later}");
        }
        assert!(matches!(status(401), Outcome::Credentials { .. }));
        assert!(matches!(status(400), Outcome::Refused { .. }));
    }
}
