//! `/msg/trace`: the state of a message: the time it was accepted, its seq, and pending, sent, received, acked or expired
//! for each receiver and session.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{self, TraceRequest, Traced, TracedReceiver, TracedSession},
    call::App,
    error::Refusal,
};
use crate::{
    delivery::{Lookup, Trace, TracePage, TraceReceiver, TraceSession, TraceState},
    ids::UserId,
};

/// The receivers of one page if the caller sets no number.
const PAGE_DEFAULT: usize = 100;
/// The most receivers of one page, because each costs a look at its cursors.
const PAGE_MAX: usize = 1000;

/// Traces one message.
pub(super) async fn trace(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: TraceRequest<'_> = call.json()?;
    let lookup = lookup(&body)?;
    let user = body.user_id.optional_id("userID")?;
    let page = TracePage {
        user: user
            .map(UserId::new)
            .transpose()
            .map_err(|error| Refusal::Id("userID", error))?,
        offset: body.offset.unwrap_or_default(),
        limit: body
            .limit
            .filter(|limit| *limit != 0)
            .unwrap_or(PAGE_DEFAULT)
            .min(PAGE_MAX),
    };
    let trace = app.answered(app.delivery.trace(lookup, page)).await?;
    let trace = trace.ok_or(Refusal::NoMessage)?;
    check_key(&body, &trace)?;
    Ok(bodies::answer(traced(&trace)))
}

fn lookup(body: &TraceRequest<'_>) -> Result<Lookup, Refusal> {
    if !body.server_msg_id.is_empty() {
        let id = body
            .server_msg_id
            .parse()
            .map_err(|error| Refusal::Id("serverMsgID", error))?;
        return Ok(Lookup::Id(id));
    }
    if body.client_msg_id.is_empty() && body.send_id.is_empty() {
        return Err(Refusal::Rule("give serverMsgID, or sendID and clientMsgID"));
    }
    Ok(Lookup::Key {
        sender: body.send_id.required_id("sendID")?.into(),
        client_message_id: body.client_msg_id.required_id("clientMsgID")?.into(),
    })
}

/// A caller that gives both ids must mean one message.
fn check_key(body: &TraceRequest<'_>, trace: &Trace) -> Result<(), Refusal> {
    let is_other = |given: &str, stored: &str| !given.is_empty() && given != stored;
    if is_other(&body.send_id, &trace.sender)
        || is_other(&body.client_msg_id, &trace.client_message_id)
    {
        return Err(Refusal::Rule(
            "serverMsgID is of a message with another sendID or clientMsgID",
        ));
    }
    Ok(())
}

fn traced(trace: &Trace) -> Traced<'_> {
    Traced {
        server_msg_id: trace.message_id.to_string(),
        client_msg_id: &trace.client_message_id,
        send_id: &trace.sender,
        send_time: trace.send_time_ms,
        receivers_total: trace.receivers_total,
        receivers: trace.receivers.iter().map(receiver).collect(),
    }
}

fn receiver(receiver: &TraceReceiver) -> TracedReceiver<'_> {
    TracedReceiver {
        user_id: receiver.user.as_str(),
        seq: receiver.seq.0,
        state: name(&receiver.state),
        sessions: receiver.sessions.iter().map(session).collect(),
    }
}

fn session(session: &TraceSession) -> TracedSession<'_> {
    TracedSession {
        platform: session.platform.name(),
        device_id: &session.device,
        state: name(&session.state),
        sent_time: session.sent_at_ms,
        acked_time: session.acked_at_ms,
    }
}

fn name(state: &TraceState) -> &'static str {
    match state {
        TraceState::Pending => "pending",
        TraceState::Sent => "sent",
        TraceState::Received => "received",
        TraceState::Acked => "acked",
        TraceState::Expired => "expired",
    }
}
