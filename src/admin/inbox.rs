//! `/msg/newest_seq`, `/msg/del_msg`: the bounds of a user's inbox and deletions in it, for the user and for administrators.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{self, DeleteRequest, NewestSeq, NewestSeqRequest, Nothing, SeqBounds},
    call::App,
    error::Refusal,
    json,
};
use crate::ids::Seq;

/// The most seqs of one request: as many as a client may `Fetch` at once.
pub(super) const SEQS_MAX: usize = 500;

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
    app.check_user(&call, &user)?;
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

/// Deletes the messages of entries of an inbox, durably.
pub(super) async fn del_msg(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: DeleteRequest<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let user = body.user_id.required_user("userID")?;
    call.note.user(&user);
    app.check_user(&call, &user)?;
    let seqs = seqs(body.seq_list.as_deref().unwrap_or_default())?;
    if seqs.is_empty() {
        return Err(Refusal::Required("seqList"));
    }
    call.note.ids(seqs.iter().map(|seq| seq.0));
    app.confirmed(app.delivery.delete(user, seqs.into_iter().collect()))
        .await?;
    Ok(bodies::answer(Nothing {}))
}

/// The requested seqs, each once, ascending.
pub(super) fn seqs(list: &[u64]) -> Result<BTreeSet<Seq>, Refusal> {
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
