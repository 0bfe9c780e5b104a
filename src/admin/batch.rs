//! `/manager/batch_send_msg` and `/msg/batch_send_msg`: one message for many users or for all, in one group commit.

use std::{collections::HashSet, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;

use super::{
    bodies::{self, BatchSent, SendRequest, Sent, SentTo, SentToMany},
    call::{App, Call},
    error::Refusal,
    outcomes::SendingStatus,
    send::GROUPS,
};
use crate::{
    delivery::{Receipt, Receivers},
    ids::UserId,
    message::StoredMessage,
};

/// The receivers in one piece of the answer: about 64 KB. An answer about many users is never whole in memory.
const RESULTS_PER_PIECE: usize = 512;

/// Sends one message to the users of `recvIDList`, or to everyone.
pub(super) async fn batch_send_msg(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: SendRequest<'_> = call.json()?;
    let message = app.message(&call.body, &body)?;
    let batch = app.send_to_many(&call, &body, message).await?;
    Ok(match batch.result {
        BatchResult::Nobody => bodies::answer(BatchSent {
            results: Vec::new(),
            failed: batch.failed,
            count: None,
        }),
        BatchResult::Counted(receipt) => bodies::answer(BatchSent {
            results: Vec::new(),
            failed: batch.failed,
            count: Some(counted(&receipt, &receipt.message_id.to_string())),
        }),
        BatchResult::Listed(receipt) => answer(receipt, &batch.failed, &WORDS),
    })
}

/// The text around the results of a batch, in one version's words.
pub(super) struct BatchWords {
    /// Everything before the first result.
    pub(super) head: &'static str,
    /// The key of the list of failed names.
    pub(super) failed: &'static str,
}

const WORDS: BatchWords = BatchWords {
    head: r#"{"errCode":0,"errMsg":"","data":{"resultList":["#,
    failed: "FailedIDList",
};

/// A batch that was sent.
pub(super) struct BatchCall<'a> {
    pub(super) result: BatchResult,
    /// The given names that are no ids, each once.
    pub(super) failed: Vec<&'a str>,
}

/// The receivers of a batch, as the answer names them.
pub(super) enum BatchResult {
    /// No given name was an id.
    Nobody,
    /// Every receiver.
    Listed(Receipt),
    /// Only their number: there are more than a batch may name.
    Counted(Receipt),
}

impl App {
    /// Sends a checked message to the users of `recvIDList`, or to everyone, and waits until it is durable.
    pub(super) async fn send_to_many<'a>(
        &self,
        call: &Call,
        body: &'a SendRequest<'_>,
        message: StoredMessage,
    ) -> Result<BatchCall<'a>, Refusal> {
        if !(1..=4).contains(&message.session_type) {
            return Err(Refusal::SessionType);
        }
        if GROUPS.contains(&message.session_type) && message.group_id.is_empty() {
            return Err(Refusal::NullString("groupID"));
        }
        let (receivers, failed) = self.receivers(body)?;
        let outcome = if failed.is_empty() {
            SendingStatus::Done
        } else {
            SendingStatus::Failed
        };
        let is_nobody = matches!(&receivers, Receivers::List(list) if list.is_empty());
        let result = if is_nobody {
            BatchResult::Nobody
        } else {
            let receipt = self.deliver(call, body, message, receivers).await?;
            let is_listed = receipt.entries.len() as u64 == receipt.receivers;
            if !is_listed || receipt.receivers > self.batch_max as u64 {
                BatchResult::Counted(receipt)
            } else {
                BatchResult::Listed(receipt)
            }
        };
        self.outcomes.note(&body.operation_id, outcome);
        Ok(BatchCall { result, failed })
    }

    /// The receivers, each once, and the given names that are no ids, each once.
    fn receivers<'a>(
        &self,
        body: &'a SendRequest<'_>,
    ) -> Result<(Receivers, Vec<&'a str>), Refusal> {
        let given = body.recv_id_list.as_deref().unwrap_or_default();
        if !body.recv_id.is_empty() {
            return Err(Refusal::Rule(
                "recvID is for send_msg: give recvIDList, or isSendAll",
            ));
        }
        if body.is_send_all.unwrap_or_default() {
            if !given.is_empty() {
                return Err(Refusal::Rule(
                    "isSendAll and recvIDList exclude each other: give one",
                ));
            }
            return Ok((Receivers::Everyone, Vec::new()));
        }
        if given.is_empty() {
            return Err(Refusal::NoReceivers);
        }
        let mut seen = HashSet::with_capacity(given.len());
        let (mut list, mut failed) = (Vec::with_capacity(given.len()), Vec::new());
        for name in given.iter().filter(|name| seen.insert(&***name)) {
            match UserId::new(name) {
                Ok(user) => list.push(user),
                Err(_) => failed.push(&**name),
            }
        }
        if list.len() > self.batch_max {
            return Err(Refusal::TooMany {
                what: "recvIDList",
                count: list.len(),
                max: self.batch_max,
            });
        }
        Ok((Receivers::List(list), failed))
    }
}

/// The result for more receivers than an answer lists. `server_msg_id` is the receipt's, printed.
pub(super) fn counted<'a>(receipt: &'a Receipt, server_msg_id: &'a str) -> SentToMany<'a> {
    SentToMany {
        sent: Sent {
            server_msg_id,
            client_msg_id: &receipt.client_message_id,
            send_time: receipt.send_time_ms,
        },
        receivers_total: receipt.receivers,
    }
}

/// The answer, written piece by piece as fast as the connection takes it.
pub(super) fn answer(receipt: Receipt, failed: &[&str], words: &BatchWords) -> Response {
    let failed = serde_json::to_string(failed).expect("strings are always JSON");
    let tail = format!("],\"{}\":{failed}}}}}", words.failed);
    let head = Bytes::from_static(words.head.as_bytes());
    let server_msg_id = receipt.message_id.to_string();
    let pieces = receipt.entries.len().div_ceil(RESULTS_PER_PIECE);
    let results = (0..pieces).map(move |piece| results(&receipt, &server_msg_id, piece).into());
    let whole = std::iter::once(head)
        .chain(results)
        .chain(std::iter::once(tail.into()));
    bodies::json_bytes(Body::from_stream(stream::iter(
        whole.map(Ok::<Bytes, std::convert::Infallible>),
    )))
}

/// The results of one piece, with the comma that separates it from the piece before.
fn results(receipt: &Receipt, server_msg_id: &str, piece: usize) -> Vec<u8> {
    let mut json = Vec::new();
    let start = piece * RESULTS_PER_PIECE;
    for (index, (user, _)) in receipt
        .entries
        .iter()
        .enumerate()
        .skip(start)
        .take(RESULTS_PER_PIECE)
    {
        if index > 0 {
            json.push(b',');
        }
        let result = SentTo {
            server_msg_id,
            client_msg_id: &receipt.client_message_id,
            send_time: receipt.send_time_ms,
            recv_id: user.as_str(),
        };
        serde_json::to_writer(&mut json, &result).expect("strings and integers are always JSON");
    }
    json
}
