//! Requests and answers of `/webhook/dead_letters` and `/webhook/send_again`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::admin::{json, text::Text};

/// Asks for events that the receiver of webhooks refused.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID"]))]
pub(in crate::admin) struct ListDeadLetters<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// Only letters with a higher number: the number of the last one of the page before. 0 or absent: from the oldest on.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) after: Option<u64>,
    /// The number of letters wanted: 20 when absent or 0, at most 100.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) limit: Option<usize>,
}

/// A page of refused events.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct DeadLettersListed {
    /// The number of letters on all pages.
    pub(in crate::admin) total: usize,
    /// By number, ascending.
    pub(in crate::admin) list: Vec<ListedDeadLetter>,
}

/// One refused event.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct ListedDeadLetter {
    /// The letter's number.
    pub(in crate::admin) number: u64,
    /// The event's id, the same at each repeat.
    #[serde(rename = "eventID")]
    pub(in crate::admin) event_id: String,
    #[serde(rename = "type")]
    pub(in crate::admin) kind: String,
    /// The receiver's last answer.
    pub(in crate::admin) reason: String,
    /// The time of the last refusal, Unix ms.
    #[serde(rename = "refusedTime")]
    pub(in crate::admin) refused_time: u64,
    /// The whole event, as it was sent.
    pub(in crate::admin) event: Box<RawValue>,
}

/// Sends refused events again: those with these numbers, or all.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID"]))]
pub(in crate::admin) struct SendDeadLetters<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// The numbers of the letters, at most 1000. Unknown ones are passed over.
    #[serde(default, deserialize_with = "json::integers")]
    pub(in crate::admin) numbers: Option<Vec<u64>>,
    /// True: all letters.
    #[serde(default)]
    pub(in crate::admin) all: Option<bool>,
}

/// The outcome.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct SentDeadLetters {
    /// The number of letters that are sent again.
    pub(in crate::admin) sent: usize,
}
