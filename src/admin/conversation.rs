//! `/conversation/list`, `/conversation/mark_read`: a user's conversations and what the user has read of them, for the user and for
//! administrators.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{self, ConversationsListed, ListConversations, ListedConversation, MarkRead, Nothing},
    call::App,
    error::Refusal,
    json,
};
use crate::{
    ids::Seq,
    message::{Conversation, ReadMark},
};

/// The conversations of one page if the caller sets no number.
const PAGE_DEFAULT: usize = 100;
/// The most conversations of one page, as for a client.
const CONVERSATIONS_MAX: usize = 500;

/// The conversations of a user, those with the newest messages first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: ListConversations<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let user = body.user_id.required_user("userID")?;
    app.check_user(&call, &user)?;
    app.check_conversations()?;
    let before = body.before_seq.filter(|seq| *seq != 0).unwrap_or(u64::MAX);
    let limit = body.limit.filter(|limit| *limit != 0);
    let limit = limit.unwrap_or(PAGE_DEFAULT).min(CONVERSATIONS_MAX);
    let page = app.delivery.conversations(&user, Seq(before), limit);
    let page = app.answered(page.wait()).await?;
    Ok(bodies::answer(ConversationsListed {
        list: page.conversations.iter().map(listed).collect(),
        end: page.is_end,
    }))
}

/// Moves a user's mark in a conversation forward, durably. It reaches the user's sessions.
pub(super) async fn mark_read(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: MarkRead<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let user = body.user_id.required_user("userID")?;
    let conversation_id = body
        .conversation_id
        .required_conversation("conversationID")?;
    let mark = ReadMark {
        conversation_id: conversation_id.to_owned(),
        conversation_seq: json::required(body.conversation_seq, "conversationSeq")?,
        ..ReadMark::default()
    };
    call.note.user(&user);
    call.note.ids([conversation_id]);
    app.check_user(&call, &user)?;
    app.check_conversations()?;
    app.confirmed(app.delivery.mark_read(&user, None, vec![mark]))
        .await?;
    Ok(bodies::answer(Nothing {}))
}

impl App {
    /// `Ok` if the log keeps conversations.
    pub(super) fn check_conversations(&self) -> Result<(), Refusal> {
        match self.delivery.has_conversations() {
            true => Ok(()),
            false => Err(Refusal::NoConversations),
        }
    }
}

fn listed(conversation: &Conversation) -> ListedConversation<'_> {
    ListedConversation {
        conversation_id: &conversation.id,
        head: conversation.head.0,
        first: conversation.first.0,
        mark: conversation.mark.0,
        unread: conversation.unread,
        last_time_ms: conversation.last_time_ms,
        last_seq: conversation.last_seq.0,
    }
}
