//! `/msg/newest_seq`, `/msg/pull_msg_by_seq`, `/msg/del_msg`: a user's log over HTTP, for the user and for administrators.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    bodies::{
        self, DeleteRequest, MsgData, NewestSeq, NewestSeqRequest, Nothing, PullRequest, Pulled,
        PulledOfflinePush, SeqBounds,
    },
    call::App,
    error::Refusal,
    json,
};
use crate::{
    delivery::ReadLimit,
    ids::{Seq, UserId},
    message::StoredMessage,
};

/// The most seqs of one request: as many as a client may `Fetch` at once.
const SEQS_MAX: usize = 500;

/// The most bytes of messages in one answer; base64 and JSON add a third. A larger answer is refused and not cut short,
/// because a missing entry means "not retained".
pub(super) const PULLED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// OpenIM's `msgFrom` of messages that the system sends.
const FROM_SYSTEM: i32 = 200;

/// The bounds of an inbox.
pub(super) async fn newest_seq(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: NewestSeqRequest<'_> = call.json()?;
    let req_identifier = json::required(body.req_identifier, "reqIdentifier")?;
    body.operation_id.required("operationID")?;
    let msg_incr = json::required(body.msg_incr, "msgIncr")?;
    let user = body.send_id.required_user("sendID")?;
    app.check_inbox_of(&call.caller, &user)?;
    let inbox = app.answered(app.delivery.inbox(&user).wait()).await?;
    Ok(bodies::json(&NewestSeq {
        err_code: 0,
        err_msg: "",
        msg_incr,
        req_identifier,
        data: SeqBounds {
            max_seq: inbox.head.0,
            min_seq: inbox.first.0,
        },
    }))
}

/// Messages by their seqs, ascending, each once. Entries that are not retained or were deleted are left out.
pub(super) async fn pull_msg_by_seq(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: PullRequest<'_> = call.json()?;
    let req_identifier = json::required(body.req_identifier, "reqIdentifier")?;
    body.operation_id.required("operationID")?;
    let user = body.send_id.required_user("sendID")?;
    app.check_inbox_of(&call.caller, &user)?;
    let seqs = seqs(body.seq_list.as_deref().unwrap_or_default())?;
    let data = app.answered(app.pull(&user, &seqs)).await?;
    Ok(bodies::json(&Pulled {
        err_code: 0,
        err_msg: "",
        req_identifier,
        data,
    }))
}

/// Deletes the messages of entries of an inbox, durably.
pub(super) async fn del_msg(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: DeleteRequest<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let user = body.user_id.required_user("userID")?;
    app.check_inbox_of(&call.caller, &user)?;
    let seqs = seqs(body.seq_list.as_deref().unwrap_or_default())?;
    if seqs.is_empty() {
        return Err(Refusal::Required("seqList"));
    }
    app.confirmed(app.delivery.delete(user, seqs.into_iter().collect()))
        .await?;
    Ok(bodies::answer(Nothing {}))
}

impl App {
    async fn pull(&self, user: &UserId, seqs: &BTreeSet<Seq>) -> Result<Vec<MsgData>, Refusal> {
        let head = self.delivery.inbox(user).wait().await?.head;
        let mut pulled = Vec::new();
        let mut bytes_left = PULLED_BYTES_MAX;
        let mut wanted = seqs.iter().copied().filter(|seq| *seq <= head).peekable();
        while let Some(first) = wanted.next() {
            // One read for each contiguous run, as long as its bytes fit a read.
            let mut last = first;
            while let Some(next) = wanted.next_if_eq(&last.next()) {
                last = next;
            }
            let mut after = first.previous();
            while after < last {
                let messages = (last.0 - after.0) as usize;
                let limit = ReadLimit {
                    messages,
                    bytes: bytes_left.max(1),
                };
                let read = self.delivery.replay(user, after, limit).wait().await?;
                let entries = read.entries;
                // The read begins at the first retained entry, so expired entries are skipped.
                let Some(newest) = entries.last() else { break };
                after = newest.numbers.seq;
                let wanted = entries.into_iter();
                for entry in wanted.filter(|entry| entry.numbers.seq <= last) {
                    let seq = entry.numbers.seq;
                    let Some(body) = entry.content.into_message() else {
                        continue;
                    };
                    bytes_left = bytes_left
                        .checked_sub(body.len())
                        .ok_or(Refusal::TooLarge {
                            what: "the answer",
                            max: PULLED_BYTES_MAX,
                        })?;
                    pulled.push(msg_data(seq, user, StoredMessage::from_bytes(&body)));
                }
            }
        }
        Ok(pulled)
    }
}

/// The requested seqs, each once, ascending.
fn seqs(list: &[u64]) -> Result<BTreeSet<Seq>, Refusal> {
    if list.len() > SEQS_MAX {
        return Err(Refusal::TooMany {
            what: "seqList",
            count: list.len(),
            max: SEQS_MAX,
        });
    }
    if list.contains(&0) {
        return Err(Refusal::Rule("seqList: seqs count from 1"));
    }
    Ok(list.iter().copied().map(Seq).collect())
}

fn msg_data(seq: Seq, user: &UserId, message: StoredMessage) -> MsgData {
    MsgData {
        send_id: message.send_id,
        recv_id: user.to_string(),
        group_id: message.group_id,
        client_msg_id: message.client_msg_id,
        server_msg_id: message.server_msg_id,
        sender_platform_id: message.sender_platform_id,
        sender_nickname: message.sender_nickname,
        sender_face_url: message.sender_face_url,
        session_type: message.session_type,
        msg_from: FROM_SYSTEM,
        content_type: message.content_type,
        content: BASE64_STANDARD.encode(&message.content),
        seq: seq.0,
        send_time: message.send_time,
        create_time: message.create_time,
        offline_push: message.offline_push.map(|push| PulledOfflinePush {
            title: push.title,
            desc: push.desc,
            ex: push.ex,
            ios_push_sound: push.ios_push_sound,
            ios_badge_count: push.ios_badge_count,
        }),
        ex: message.ex,
    }
}
