//! `/msg/trace`: the state of a message: the time it was accepted, its seq, and pending, sent, received, acked or expired
//! for each receiver and session; and what vendor push did.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{self, TraceRequest, Traced, TracedPush, TracedReceiver, TracedSession},
    call::App,
    error::Refusal,
};
use crate::{
    delivery::{Lookup, Trace, TracePage, TraceReceiver, TraceSession, TraceState},
    ids::{MessageId, UserId},
    push::{Seen, SeenFact, SeenState},
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
    Ok(bodies::answer(traced(&trace, app.seen.as_deref())))
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

fn traced<'a>(trace: &'a Trace, seen: Option<&Seen>) -> Traced<'a> {
    let id = trace.message_id;
    let receivers = trace.receivers.iter();
    Traced {
        server_msg_id: trace.message_id.to_string(),
        client_msg_id: &trace.client_message_id,
        send_id: &trace.sender,
        send_time: trace.send_time_ms,
        receivers_total: trace.receivers_total,
        receivers: receivers.map(|one| receiver(one, id, seen)).collect(),
    }
}

fn receiver<'a>(
    receiver: &'a TraceReceiver,
    message: MessageId,
    seen: Option<&Seen>,
) -> TracedReceiver<'a> {
    TracedReceiver {
        user_id: receiver.user.as_str(),
        seq: receiver.seq.0,
        state: name(&receiver.state),
        sessions: receiver.sessions.iter().map(session).collect(),
        push: seen.map(|seen| {
            let facts = seen.facts(message, &receiver.user).into_iter();
            facts.map(push).collect()
        }),
    }
}

fn push(fact: SeenFact) -> TracedPush {
    let mut traced = TracedPush {
        class: fact.class.name(),
        state: fact.state.name(),
        time: fact.time_ms,
        until: None,
        platform: None,
        device_id: None,
        proof: None,
        provider: None,
        device: None,
        vendor_id: None,
        reason: None,
    };
    if let Some(device) = fact.device {
        traced.provider = Some(device.provider.name());
        traced.device = Some(device.short.into());
    }
    match fact.state {
        SeenState::Served {
            platform,
            session,
            proof,
        } => {
            traced.platform = Some(platform.name());
            traced.device_id = Some(session.to_string());
            traced.proof = Some(proof);
        }
        SeenState::Waiting(until_ms) => traced.until = Some(until_ms),
        SeenState::Sent(id) => traced.vendor_id = Some(id.into()),
        SeenState::Retried(reason, until_ms) => {
            traced.until = Some(until_ms);
            traced.reason = Some(reason.into());
        }
        SeenState::Refused(reason) | SeenState::Gone(reason) => {
            traced.reason = Some(reason.into());
        }
        SeenState::DoNotDisturb | SeenState::Queued | SeenState::Expired => {}
    }
    traced
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
