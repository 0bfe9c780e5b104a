//! `/msg/send_msg`, `/msg/batch_send_msg` and `/msg/send_business_notification`. A request is translated to v2's, and sent as
//! v2's.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    super::{
        batch::{self, BatchResult, BatchWords},
        bodies::{SendRequest, Sent},
        call::{App, Call},
        content::{ContentType, NOTIFICATION},
        error::Refusal,
    },
    bodies::{BatchSentV3, BusinessContent, BusinessRequest, SendV3, answer},
    content::{BUSINESS, stored},
    error::V3Refusal,
    version::operation_id,
};
use crate::message::StoredMessage;

/// The latest `sendTime`, Unix ms: the end of the year 9999.
const SEND_TIME_MS_MAX: i64 = 253_402_300_799_999;

/// Sends one message to one user.
pub(super) async fn send_msg(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: SendV3<'_> = call.json()?;
    let content = content(&call, &body)?;
    let send = into_v2(&call.headers, body, &content)?;
    let message = app.v3_message(&content, &send).await?;
    app.answer_send(&call.headers, &send.request, message).await
}

/// Sends one message to the users of `recvIDs`, or to everyone.
pub(super) async fn batch_send_msg(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: SendV3<'_> = call.json()?;
    let content = content(&call, &body)?;
    let send = into_v2(&call.headers, body, &content)?;
    let message = app.v3_message(&content, &send).await?;
    let batch = app.send_to_many(&call.headers, &send.request, message);
    let batch = batch.await?;
    Ok(match batch.result {
        BatchResult::Nobody => answer(BatchSentV3 {
            results: Vec::new(),
            failed: batch.failed,
            count: None,
        }),
        BatchResult::Counted(receipt) => answer(BatchSentV3 {
            results: Vec::new(),
            failed: batch.failed,
            count: Some(batch::counted(&receipt, &receipt.message_id.to_string())),
        }),
        BatchResult::Listed(receipt) => batch::answer(receipt, &batch.failed, &WORDS),
    })
}

const WORDS: BatchWords = BatchWords {
    head: r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"results":["#,
    failed: "failedUserIDs",
};

/// Sends an app's own notice to one user who is online now. It is not stored.
pub(super) async fn send_business_notification(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: BusinessRequest<'_> = call.json()?;
    body.send_user_id.required_id("sendUserID")?;
    body.recv_user_id.required_id("recvUserID")?;
    let content = serde_json::to_vec(&BusinessContent {
        key: &body.key,
        data: &body.data,
    });
    let content = Bytes::from(content.expect("strings are always JSON"));
    let request = SendRequest {
        operation_id: operation(&call.headers)?.into(),
        send_id: body.send_user_id,
        recv_id: body.recv_user_id,
        client_msg_id: body.client_msg_id,
        content: Some(raw(&content)?),
        content_type: Some(BUSINESS.number),
        session_type: Some(1),
        is_online_only: Some(true),
        ..SendRequest::default()
    };
    let known = |_| Some(&BUSINESS as &'static ContentType);
    let message = app.message_of(known, &content, &request)?;
    app.answer_send(&call.headers, &request, message).await
}

/// A request in v2's form, and the time that the caller gave.
struct Translated<'a> {
    request: SendRequest<'a>,
    /// Unix ms; 0 if the caller gave none.
    create_time_ms: i64,
}

/// The content in v2's form.
fn content(call: &Call, body: &SendV3<'_>) -> Result<Bytes, Refusal> {
    let content = body.content.ok_or(Refusal::Required("content"))?;
    let number = super::super::json::required(body.content_type, "contentType")?;
    stored(&call.body, content.get(), number)
}

fn into_v2<'a>(
    headers: &'a HeaderMap,
    body: SendV3<'a>,
    content: &'a Bytes,
) -> Result<Translated<'a>, Refusal> {
    if body.session_type == Some(2) {
        return Err(Refusal::Rule(
            "sessionType 2 does not exist in OpenIM v3: 1 single, 3 group, 4 notification",
        ));
    }
    let create_time_ms = body.send_time_ms.unwrap_or_default();
    if !(0..=SEND_TIME_MS_MAX).contains(&create_time_ms) {
        return Err(Refusal::Rule("sendTime must be Unix ms"));
    }
    let request = SendRequest {
        operation_id: operation(headers)?.into(),
        send_id: body.send_id,
        recv_id: body.recv_id,
        recv_id_list: body.recv_ids,
        is_send_all: body.is_send_all,
        group_id: body.group_id,
        client_msg_id: body.client_msg_id,
        sender_nickname: body.sender_nickname,
        sender_face_url: body.sender_face_url,
        sender_platform_id: body.sender_platform_id,
        content: Some(raw(content)?),
        content_type: body.content_type,
        session_type: body.session_type,
        is_online_only: body.is_online_only,
        offline_push: body.offline_push,
        not_offline_push: body.not_offline_push,
        ex: body.ex,
    };
    Ok(Translated {
        request,
        create_time_ms,
    })
}

fn operation(headers: &HeaderMap) -> Result<&str, Refusal> {
    operation_id(headers).ok_or(Refusal::Required("operationID"))
}

fn raw(content: &Bytes) -> Result<&RawValue, Refusal> {
    serde_json::from_slice(content).map_err(Refusal::Json)
}

impl App {
    /// Checks everything in a send except its receivers, and makes the message.
    async fn v3_message(
        &self,
        content: &Bytes,
        send: &Translated<'_>,
    ) -> Result<StoredMessage, V3Refusal> {
        let mut message = self.message(content, &send.request)?;
        message.create_time = send.create_time_ms;
        if message.content_type == NOTIFICATION {
            let sender = send.request.send_id.required_user("sendID")?;
            let may_notify = self.administers(&sender)
                || self
                    .profile(&sender)
                    .await?
                    .is_some_and(|profile| profile.is_notifier());
            if !may_notify {
                return Err(V3Refusal::NoNotifier);
            }
        }
        Ok(message)
    }

    async fn answer_send(
        &self,
        headers: &HeaderMap,
        request: &SendRequest<'_>,
        message: StoredMessage,
    ) -> Result<Response, V3Refusal> {
        let receipt = self.send_to_one(headers, request, message).await?;
        Ok(answer(Sent {
            server_msg_id: &receipt.message_id.to_string(),
            client_msg_id: &receipt.client_message_id,
            send_time: receipt.send_time_ms,
        }))
    }
}
