//! `/manager/send_msg` and `/msg/manage_send_msg`: one message for one user. Also the checks that batches share.
//!
//! The checks have OpenIM's order, but the token comes first: shape of the request, content type, content, session type and
//! receiver. A send reaches `delivery` only after all of them passed.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use bytes::Bytes;

use super::{
    administrators::SendToAll,
    bodies::{self, OfflinePushInfo, Operation, OperationStatus, SendRequest, Sent},
    call::{App, Call},
    content::{self, ContentType},
    error::Refusal,
    fingerprint::fingerprint,
    json,
    outcomes::SendingStatus,
    shape,
};
use crate::{
    delivery::{AppendError, Receipt, Receivers, Send, SendError},
    ids::{self, Platform},
    message::{EXTRA_BYTES_MAX, OfflinePush, StoredMessage},
};

/// The `sessionType`s of groups. The others are 1, single, and 4, notification.
pub(super) const GROUPS: [i32; 2] = [2, 3];

/// Sends one message to one user.
pub(super) async fn send_msg(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: SendRequest<'_> = call.json()?;
    let message = app.message(&call.body, &body)?;
    let receipt = app.send_to_one(&call, &body, message).await?;
    Ok(bodies::answer(Sent {
        server_msg_id: &receipt.message_id.to_string(),
        client_msg_id: &receipt.client_message_id,
        send_time: receipt.send_time_ms,
    }))
}

/// The outcome of the newest send with this operationID.
pub(super) async fn check_msg_is_send_success(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: Operation<'_> = call.json()?;
    let outcome = app.outcomes.of(body.operation_id.required("operationID")?);
    Ok(bodies::json(&OperationStatus {
        err_code: 0,
        err_msg: "",
        status: outcome as u8,
    }))
}

impl App {
    /// Checks everything in a send except its receivers, and makes the message. The content borrows from `request`.
    pub(super) fn message(
        &self,
        request: &Bytes,
        body: &SendRequest<'_>,
    ) -> Result<StoredMessage, Refusal> {
        self.message_of(content::content_type, request, body)
    }

    /// The same with other content types: `known` finds one by its number.
    pub(super) fn message_of(
        &self,
        known: impl FnOnce(i32) -> Option<&'static ContentType>,
        request: &Bytes,
        body: &SendRequest<'_>,
    ) -> Result<StoredMessage, Refusal> {
        body.operation_id.required("operationID")?;
        let send_id = body.send_id.required_id("sendID")?;
        let group_id = body.group_id.optional_id("groupID")?;
        let content = body.content.ok_or(Refusal::Required("content"))?.get();
        let content_type = json::required(body.content_type, "contentType")?;
        let session_type = json::required(body.session_type, "sessionType")?;
        if !content.starts_with('{') {
            return Err(Refusal::Rule("content must be a JSON object"));
        }
        let known = known(content_type).ok_or(Refusal::ContentType)?;
        if content.len() > self.content_bytes_max {
            return Err(Refusal::TooLarge {
                what: "content",
                max: self.content_bytes_max,
            });
        }
        shape::check(known.fields, content).map_err(Refusal::Content)?;
        check_extras(body)?;
        Ok(StoredMessage {
            send_id: send_id.to_owned(),
            group_id: group_id.unwrap_or_default().to_owned(),
            sender_platform_id: sender_platform(body.sender_platform_id)?,
            sender_nickname: body.sender_nickname.to_string(),
            sender_face_url: body.sender_face_url.to_string(),
            session_type: match content_type {
                content::NOTIFICATION => 4,
                _ => session_type,
            },
            content_type,
            content: request.slice_ref(content.as_bytes()),
            offline_push: body.offline_push.as_ref().map(offline_push),
            no_push: body.not_offline_push.unwrap_or_default(),
            ex: body.ex.to_string(),
            // Delivery gives the send its ids and times.
            server_msg_id: String::new(),
            client_msg_id: String::new(),
            send_time: 0,
            create_time: 0,
            marks: Vec::new(),
        })
    }

    /// Sends a checked message to `recvID`, and waits until it is durable.
    pub(super) async fn send_to_one(
        &self,
        call: &Call,
        body: &SendRequest<'_>,
        message: StoredMessage,
    ) -> Result<Receipt, Refusal> {
        match message.session_type {
            1 | 4 => {}
            2 | 3 => return Err(Refusal::GroupSend),
            _ => return Err(Refusal::SessionType),
        }
        let list = body.recv_id_list.as_deref().unwrap_or_default();
        if !list.is_empty() || body.is_send_all == Some(true) {
            return Err(Refusal::Rule(
                "send_msg reaches recvID alone: recvIDList and isSendAll are for batch_send_msg",
            ));
        }
        if body.recv_id.is_empty() {
            return Err(Refusal::NullString("recvID"));
        }
        let receivers = Receivers::List(vec![body.recv_id.required_user("recvID")?]);
        let receipt = self.deliver(call, body, message, receivers).await?;
        self.outcomes.note(&body.operation_id, SendingStatus::Done);
        Ok(receipt)
    }

    /// Hands a checked message to `delivery` and waits until it is durable.
    pub(super) async fn deliver(
        &self,
        call: &Call,
        body: &SendRequest<'_>,
        message: StoredMessage,
        receivers: Receivers,
    ) -> Result<Receipt, Refusal> {
        call.note.send(&message.send_id, &receivers);
        let key = idempotency_key(&call.headers, body)?;
        let caller = &call.caller.user;
        let to_all = match &receivers {
            Receivers::List(list) => {
                self.administrators.charge(caller, list.len() as u64)?;
                None
            }
            Receivers::Everyone => self.administrators.send_to_all(caller)?,
        };
        let is_online_only =
            body.is_online_only.unwrap_or_default() || message.content_type == content::TYPING;
        let mut send = Send {
            message,
            fingerprint: [0; 16],
            receivers,
            is_online_only,
        };
        // The digest is compared only when a key repeats, so a send without a key needs none.
        if let Some(key) = key {
            send.fingerprint = fingerprint(&send);
            send.message.client_msg_id = key.into_owned();
        }
        self.outcomes
            .note(&body.operation_id, SendingStatus::Sending);
        let sent = match self.check_with_hook(&mut send).await {
            Ok(()) => self.confirmed(self.charged(send, to_all)).await,
            Err(refusal) => Err(refusal),
        };
        match &sent {
            // Nobody knows: the message may be there, or come yet.
            Err(
                Refusal::Unconfirmed
                | Refusal::Send(SendError::Append(AppendError::OutcomeUnknown)),
            ) => self
                .outcomes
                .note(&body.operation_id, SendingStatus::Unknown),
            Err(_) => self
                .outcomes
                .note(&body.operation_id, SendingStatus::Failed),
            Ok(receipt) => {
                call.note.sent(receipt);
            }
        }
        sent
    }

    /// Sends. A limited send to everyone is charged at its end, also if its caller went away before.
    async fn charged(&self, send: Send, to_all: Option<SendToAll>) -> Result<Receipt, SendError> {
        let Some(to_all) = to_all else {
            return self.delivery.send(send).await;
        };
        let delivery = Arc::clone(&self.delivery);
        let work = tokio::spawn(async move {
            let sent = delivery.send(send).await;
            if let Ok(receipt) = &sent {
                to_all.sent(receipt.receivers);
            }
            sent
        });
        let unknown = |_| Err(AppendError::OutcomeUnknown.into());
        work.await.unwrap_or_else(unknown)
    }
}

/// The caller's id for the message: `clientMsgID` of the body or the header `Idempotency-Key`.
fn idempotency_key<'a>(
    headers: &'a HeaderMap,
    body: &'a SendRequest<'_>,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    let in_body = body.client_msg_id.optional_id("clientMsgID")?;
    let mut in_headers = headers.get_all("idempotency-key").iter();
    let Some(header) = in_headers.next() else {
        return Ok(in_body.map(Into::into));
    };
    if in_headers.any(|other| other != header) {
        return Err(Refusal::Rule("two headers Idempotency-Key differ"));
    }
    let in_header = std::str::from_utf8(header.as_bytes())
        .map_err(|_| Refusal::Rule("Idempotency-Key is not UTF-8"))?;
    let in_header = unquoted(in_header);
    ids::check_id(&in_header).map_err(|error| Refusal::Id("Idempotency-Key", error))?;
    match in_body {
        Some(in_body) if in_body != in_header => {
            Err(Refusal::Rule("clientMsgID and Idempotency-Key differ"))
        }
        _ => Ok(Some(in_header)),
    }
}

/// The value of a string of RFC 8941 section 3.3.3, without its quotes and parameters; any other header value unchanged.
fn unquoted(value: &str) -> Cow<'_, str> {
    let mut inside = String::new();
    let mut chars = value.chars();
    if chars.next() == Some('"') {
        while let Some(char) = chars.next() {
            match char {
                '"' if matches!(chars.as_str().trim_start().chars().next(), None | Some(';')) => {
                    return inside.into();
                }
                '"' => break,
                '\\' => inside.extend(chars.next()),
                char => inside.push(char),
            }
        }
    }
    value.into()
}

fn check_extras(body: &SendRequest<'_>) -> Result<(), Refusal> {
    let push = body.offline_push.as_ref().map_or(0, |push| {
        push.title.len() + push.desc.len() + push.ex.len() + push.ios_push_sound.len()
    });
    let extras = body.sender_nickname.len() + body.sender_face_url.len() + body.ex.len() + push;
    if extras > EXTRA_BYTES_MAX {
        return Err(Refusal::TooLarge {
            what: "senderNickname, senderFaceURL, ex and offlinePushInfo together",
            max: EXTRA_BYTES_MAX,
        });
    }
    Ok(())
}

/// The sender's platform; 0 if the caller gives none.
fn sender_platform(number: Option<u32>) -> Result<i32, Refusal> {
    let given = number.filter(|number| *number != 0);
    let platform = given.map(Platform::from_number).transpose();
    let platform = platform.map_err(|error| Refusal::Id("senderPlatformID", error))?;
    Ok(platform.map_or(0, |platform| platform.number() as i32))
}

fn offline_push(info: &OfflinePushInfo<'_>) -> OfflinePush {
    OfflinePush {
        title: info.title.to_string(),
        desc: info.desc.to_string(),
        ex: info.ex.to_string(),
        ios_push_sound: info.ios_push_sound.to_string(),
        ios_badge_count: info.ios_badge_count.unwrap_or_default(),
    }
}
