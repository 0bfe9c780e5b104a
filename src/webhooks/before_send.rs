//! The question before each send: another system may allow it, change its content, or refuse it.
//!
//! The admin port asks on its own runtime. At most [`QUESTIONS_MAX`] questions are under way; the time for a place among them
//! is a part of the time for the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::http::Uri;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{sync::Semaphore, time::timeout};

use super::event::EVENT_RECEIVERS_MAX;
use crate::{
    clock::Clock,
    config::OnFailure,
    ids::UserId,
    message::StoredMessage,
    metrics::{AskOutcome, Metrics},
    outbound::{Outbound, WebhookSecrets, iso_8601},
};

/// The questions at once. With an answer in 20 ms that is more than the gateway takes of sends.
pub const QUESTIONS_MAX: usize = 256;
/// The errCodes that an answer may give. Any other becomes the first.
const REFUSAL_CODES: std::ops::RangeInclusive<i64> = 40301..=40399;
/// The longest sentence of an answer that the caller gets, in bytes.
const REFUSAL_TEXT_BYTES_MAX: usize = 200;

/// Asks the other system.
pub struct BeforeSendHook {
    pub(super) outbound: Outbound,
    pub(super) url: Uri,
    pub(super) secrets: WebhookSecrets,
    pub(super) timeout: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) places: Semaphore,
    pub(super) clock: Arc<Clock>,
    pub(super) metrics: Arc<Metrics>,
    /// True while there are no usable answers, so that this is said once.
    pub(super) is_away: AtomicBool,
}

/// A send as the other system sees it.
#[derive(Debug)]
pub struct SendQuestion<'a> {
    /// The message, before it has ids and times of the server.
    pub message: &'a StoredMessage,
    /// The receivers; `None` for everyone.
    pub receivers: Option<&'a [UserId]>,
    /// True if the message is for sessions online, and not stored.
    pub is_online_only: bool,
}

/// The other system's word on a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Send it unchanged.
    Allowed,
    /// Send it with this content, once it is checked.
    Changed(Bytes),
    /// Refuse it.
    Refused {
        /// 40301–40399.
        code: u16,
        /// A sentence for the caller.
        text: String,
    },
    /// There is no usable answer, and the configuration refuses such a send.
    Unanswered,
}

#[derive(Serialize)]
struct AskedSend<'a> {
    r#type: &'static str,
    timestamp: String,
    data: AskedSendData<'a>,
}

#[derive(Serialize)]
struct AskedSendData<'a> {
    client_msg_id: &'a str,
    send_id: &'a str,
    group_id: &'a str,
    session_type: i32,
    content_type: i32,
    content: &'a RawValue,
    ex: &'a str,
    is_online_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    receivers: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver_count: Option<usize>,
    to_everyone: bool,
}

#[derive(Deserialize)]
struct RulingAnswer {
    allow: bool,
    #[serde(default)]
    content: Option<Box<RawValue>>,
    #[serde(default, rename = "errCode")]
    code: Option<i64>,
    #[serde(default, rename = "errMsg")]
    text: Option<String>,
}

impl BeforeSendHook {
    /// Asks, and waits for the answer for as long as configured. Cancel safe: the other system may have been asked.
    pub async fn ask(&self, question: &SendQuestion<'_>) -> Ruling {
        let begun = Instant::now();
        let answer = timeout(self.timeout, self.answer(question)).await;
        let ruling = answer.unwrap_or_else(|_| Err("no answer in time".into()));
        let (ruling, outcome) = match ruling {
            Ok(ruling @ Ruling::Changed(_)) => (ruling, AskOutcome::Changed),
            Ok(ruling @ Ruling::Refused { .. }) => (ruling, AskOutcome::Refused),
            Ok(ruling) => (ruling, AskOutcome::Allowed),
            Err(reason) => {
                if !self.is_away.swap(true, Relaxed) {
                    tracing::warn!(
                        reason,
                        "before_send gives no usable answer: webhooks.before_send.on_failure decides"
                    );
                }
                let ruling = match self.on_failure {
                    OnFailure::Allow => Ruling::Allowed,
                    OnFailure::Refuse => Ruling::Unanswered,
                };
                (ruling, AskOutcome::Failed)
            }
        };
        if outcome != AskOutcome::Failed && self.is_away.swap(false, Relaxed) {
            tracing::info!("before_send answers again");
        }
        self.metrics.asked(outcome, begun.elapsed().as_secs_f64());
        ruling
    }

    async fn answer(&self, question: &SendQuestion<'_>) -> Result<Ruling, String> {
        let _place = self.places.acquire().await.map_err(|e| e.to_string())?;
        let now_ms = self.clock.now_ms();
        let body = body(question, now_ms).map_err(|error| error.to_string())?;
        let id = format!("ask_{:032x}", fastrand::u128(..));
        let request = self.secrets.post(&self.url, &id, now_ms / 1000, body);
        let answer = self.outbound.call(request, self.timeout).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("HTTP {}", answer.status().as_u16()));
        }
        read(answer.body())
    }
}

fn body(question: &SendQuestion<'_>, now_ms: u64) -> Result<Bytes, serde_json::Error> {
    let SendQuestion {
        message, receivers, ..
    } = question;
    let listed = receivers.filter(|receivers| receivers.len() <= EVENT_RECEIVERS_MAX);
    let body = AskedSend {
        r#type: "before_send",
        timestamp: iso_8601(now_ms),
        data: AskedSendData {
            client_msg_id: &message.client_msg_id,
            send_id: &message.send_id,
            group_id: &message.group_id,
            session_type: message.session_type,
            content_type: message.content_type,
            content: serde_json::from_slice(&message.content)?,
            ex: &message.ex,
            is_online_only: question.is_online_only,
            receivers: listed.map(|listed| listed.iter().map(UserId::as_str).collect()),
            receiver_count: receivers.filter(|_| listed.is_none()).map(<[_]>::len),
            to_everyone: receivers.is_none(),
        },
    };
    Ok(serde_json::to_vec(&body)?.into())
}

/// Reads an answer's body. An error quotes nothing of it: the body may hold the content of a message.
fn read(body: &[u8]) -> Result<Ruling, String> {
    let answer: RulingAnswer = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("not the JSON asked for, from line {line} column {column} on")
    })?;
    Ok(match answer {
        RulingAnswer {
            allow: false,
            code,
            text,
            ..
        } => {
            let code = code.filter(|code| REFUSAL_CODES.contains(code));
            let code = code.unwrap_or(*REFUSAL_CODES.start());
            let mut text = text.unwrap_or_default();
            text.truncate(text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX));
            if text.is_empty() {
                text = "the send was refused".into();
            }
            Ruling::Refused {
                code: u16::try_from(code).unwrap_or(40301),
                text,
            }
        }
        RulingAnswer {
            content: Some(content),
            ..
        } if content.get() != "null" => Ruling::Changed(content.get().as_bytes().to_vec().into()),
        RulingAnswer { .. } => Ruling::Allowed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_allows_changes_or_refuses() {
        assert_eq!(read(br#"{"allow":true}"#), Ok(Ruling::Allowed));
        assert_eq!(
            read(br#"{"allow":true,"content":null}"#),
            Ok(Ruling::Allowed)
        );
        let changed = read(br#"{"allow":true,"content":{"text":"x"}}"#);
        assert_eq!(changed, Ok(Ruling::Changed(r#"{"text":"x"}"#.into())));
        let refused = |code, text: &str| {
            Ok(Ruling::Refused {
                code,
                text: text.into(),
            })
        };
        let answer = br#"{"allow":false,"content":{"text":"x"},"errCode":40317,"errMsg":"no"}"#;
        assert_eq!(read(answer), refused(40317, "no"));
        for code in [
            "",
            r#","errCode":0"#,
            r#","errCode":40300"#,
            r#","errCode":40400"#,
        ] {
            let answer = format!(r#"{{"allow":false{code}}}"#);
            assert_eq!(
                read(answer.as_bytes()),
                refused(40301, "the send was refused")
            );
        }
    }

    #[test]
    fn anything_else_is_no_answer() {
        for body in ["", "{}", "true", r#"{"allow":"yes"}"#, "<html>"] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_error_quotes_nothing_of_an_answer() {
        for body in [
            r#"{"allow":"s3cret"}"#,
            r#"{"allow":false,"errCode":"s3cret"}"#,
            r#""s3cret""#,
        ] {
            let reason = read(body.as_bytes()).expect_err(body);
            assert!(!reason.contains("s3cret"), "{reason}");
        }
    }

    #[test]
    fn a_sentence_is_cut_to_its_bound() {
        let long = "ä".repeat(REFUSAL_TEXT_BYTES_MAX);
        let answer = format!(r#"{{"allow":false,"errMsg":"{long}"}}"#);
        let Ok(Ruling::Refused { text, .. }) = read(answer.as_bytes()) else {
            panic!("it is a refusal");
        };
        assert_eq!(text.len(), REFUSAL_TEXT_BYTES_MAX);
    }

    #[test]
    fn a_question_names_receivers_up_to_a_number_and_then_counts_them() {
        let message = StoredMessage {
            content: r#"{"text":"hello"}"#.into(),
            ..StoredMessage::default()
        };
        let asked = |receivers: Option<&[UserId]>| -> serde_json::Value {
            let question = SendQuestion {
                message: &message,
                receivers,
                is_online_only: false,
            };
            serde_json::from_slice(&body(&question, 0).unwrap()).unwrap()
        };
        let user = UserId::new("u").unwrap();
        let few = asked(Some(std::slice::from_ref(&user)));
        assert_eq!(few["data"]["receivers"], serde_json::json!(["u"]));
        assert_eq!(few["data"]["content"]["text"], "hello");
        assert_eq!(few["timestamp"], "1970-01-01T00:00:00.000Z");
        let many = asked(Some(&vec![user; EVENT_RECEIVERS_MAX + 1]));
        assert_eq!(many["data"]["receiver_count"], EVENT_RECEIVERS_MAX + 1);
        assert!(many["data"].get("receivers").is_none());
        assert_eq!(asked(None)["data"]["to_everyone"], true);
    }
}
