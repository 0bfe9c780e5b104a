//! The verdict on a login, and the other texts: JSON in text messages, or in the HTTP answer. Pure.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    codes::{self, Code},
    session::{BadToken, Reason},
};

/// The verdict on a good login.
pub(super) fn welcome() -> Bytes {
    verdict((0, ""))
}

/// The verdict on a login that is refused.
pub(super) fn refusal(reason: Reason) -> Bytes {
    verdict(error(reason))
}

/// The verdict on a login whose query lacks something.
pub(super) fn mistaken() -> Bytes {
    verdict(codes::ARGS)
}

fn verdict((code, name): Code) -> Bytes {
    let verdict = json!({ "errCode": code, "errMsg": name, "errDlt": "" });
    verdict.to_string().into()
}

/// The code and name of OpenIM's error for a login that is refused. SDKs stop at 1501 to 1507, and try again after others.
fn error(reason: Reason) -> Code {
    match reason {
        Reason::Unauthorized(BadToken::Expired) => codes::TOKEN_EXPIRED,
        Reason::Unauthorized(BadToken::Revoked) | Reason::LoggedOut | Reason::Replaced => {
            codes::TOKEN_KICKED
        }
        Reason::Unauthorized(_) => codes::TOKEN_INVALID,
        Reason::TooManySessions | Reason::Unavailable(_) => codes::CONNECTIONS,
        _ => codes::INTERNAL,
    }
}

#[derive(Deserialize)]
struct Ping<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// The answer to a text message: a pong, if it is a ping. The SDKs send no other text.
pub(super) fn pong(text: &[u8]) -> Option<Bytes> {
    let ping: Ping<'_> = serde_json::from_slice(text).ok()?;
    let pong = match (ping.kind, ping.body) {
        ("ping", None) => r#"{"type":"pong"}"#.to_owned(),
        ("ping", Some(body)) => format!(r#"{{"type":"pong","body":{body}}}"#),
        _ => return None,
    };
    Some(pong.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ping_gets_a_pong_with_its_body() {
        let pong = |text: &str| {
            pong(text.as_bytes()).map(|pong| str::from_utf8(&pong).unwrap().to_owned())
        };
        assert_eq!(pong(r#"{"type":"ping"}"#).unwrap(), r#"{"type":"pong"}"#);
        let with_body = r#"{"body": "a\"b" , "type": "ping"}"#;
        assert_eq!(pong(with_body).unwrap(), r#"{"type":"pong","body":"a\"b"}"#);
        for other in [
            "",
            "ping",
            "{}",
            r#"{"type":"pong"}"#,
            r#"{"type":1}"#,
            "[[[",
        ] {
            assert_eq!(pong(other), None, "{other}");
        }
    }

    #[test]
    fn sdks_stop_at_a_bad_token_and_return_after_the_rest() {
        let code = |reason| {
            let verdict: serde_json::Value = serde_json::from_slice(&refusal(reason)).unwrap();
            verdict["errCode"].as_i64().unwrap()
        };
        assert_eq!(code(Reason::Unauthorized(BadToken::Expired)), 1501);
        assert_eq!(code(Reason::Unauthorized(BadToken::Invalid)), 1502);
        assert_eq!(code(Reason::Unauthorized(BadToken::Revoked)), 1506);
        for retried in [
            Reason::Unavailable(std::time::Duration::ZERO),
            Reason::TooManySessions,
            Reason::LogUnreadable,
        ] {
            assert!(!(1501..=1507).contains(&code(retried)));
        }
        assert_eq!(
            mistaken(),
            r#"{"errCode":1001,"errDlt":"","errMsg":"ArgsError"}"#
        );
        assert_eq!(welcome(), r#"{"errCode":0,"errDlt":"","errMsg":""}"#);
    }
}
