//! `/jssdk/…`: conversations with their peers, seqs and newest messages, for the SDK that has no store. It asks in protobuf; the newest of the
//! other SDKs ask the same in JSON, and get JSON.

use axum::{http::HeaderMap, response::Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message as _;
use tokio::task::yield_now;

use super::{
    answer::success,
    body::{Body, check_owner, counting_of, is_protobuf},
    conversations::{CONVERSATIONS_IN_A_ROW, describe},
    failure::CallFailure,
    proto::{
        Conversation as Described, ConversationMsg, ConversationsResp, GetActiveConversationsReq,
        GetConversationsReq, UserInfo,
    },
    routes::Calls,
    settings::is_pinned,
};
use crate::{
    ids::UserId,
    message::{Conversation, Counting, Numbers, OVERVIEW_MAX},
    protocol::{newest_as_json, newest_as_protobuf},
};

/// The conversations with the newest messages of one answer. The SDK asks for 20.
const ACTIVE_MAX: usize = 200;
/// The bytes of the newest messages of one answer. The conversations behind them come without: the SDK then shows them without a line
/// of text until they are opened.
const LAST_MESSAGES_BYTES_MAX: usize = 512 * 1024;

impl Calls {
    /// Answers the call with this name, in the form of the request: JSON, or protobuf in JSON as base64.
    pub(super) async fn jssdk(
        &self,
        user: &UserId,
        name: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, CallFailure> {
        let (is_protobuf, counting) = (is_protobuf(headers), counting_of(headers));
        let found = match name {
            "get_active_conversations" => {
                let count = active_count(user, is_protobuf, body)?;
                self.active(user, count, counting).await?
            }
            _ => {
                let ids = asked_ids(user, is_protobuf, body)?;
                let ids: Vec<_> = ids.iter().map(String::as_str).collect();
                self.of_ids(user, &ids, counting).await?
            }
        };
        let mut answer = ConversationsResp::default();
        let (mut newest, mut bytes) = (Vec::new(), 0);
        for (looked, (known, conversation)) in (1..).zip(found) {
            answer.unread_count += known.as_ref().map_or(0, |known| known.unread as i64);
            let message = self.newest_of(user, known.as_ref()).await?;
            bytes += message.as_ref().map_or(0, |(_, body)| body.len());
            newest.push(message.filter(|_| bytes <= LAST_MESSAGES_BYTES_MAX));
            let told = self.told(user, known, conversation).await?;
            answer.conversations.push(told);
            if looked % CONVERSATIONS_IN_A_ROW == 0 {
                yield_now().await;
            }
        }
        if is_protobuf {
            for (told, newest) in answer.conversations.iter_mut().zip(newest) {
                let newest = newest.map(|(numbers, body)| newest_as_protobuf(user, numbers, &body));
                told.last_msg = newest;
            }
            return Ok(success(BASE64_STANDARD.encode(answer.encode_to_vec())));
        }
        let mut answer = serde_json::to_value(answer).map_err(|_| CallFailure::Unavailable)?;
        for (at, newest) in newest.into_iter().enumerate() {
            let newest = newest.map(|(numbers, body)| newest_as_json(user, numbers, &body));
            answer["conversations"][at]["lastMsg"] = newest.into();
        }
        Ok(success(answer))
    }

    /// The newest message of a conversation, if it is among its newest entries. It has the number that the conversation tells.
    async fn newest_of(
        &self,
        user: &UserId,
        known: Option<&Conversation>,
    ) -> Result<Option<(Numbers, Bytes)>, CallFailure> {
        let Some(Conversation {
            id, head, bases, ..
        }) = known
        else {
            return Ok(None);
        };
        let read = self.delivery.newest_message(user, id, *head, |_| true);
        Ok(read.await?.message.map(|(mut numbers, body)| {
            numbers.base = bases.of(numbers.conversation_seq);
            (numbers, body)
        }))
    }

    /// The pinned conversations, and those with the newest messages. The SDK asks for few, and shows the pinned ones above the others.
    async fn active(
        &self,
        user: &UserId,
        count: usize,
        counting: Counting,
    ) -> Result<Vec<(Option<Conversation>, Described)>, CallFailure> {
        let mut newest = self.newest(user, OVERVIEW_MAX).await?;
        newest.sort_by_key(|one| !is_pinned(one));
        let newest = newest.into_iter().take(count);
        let described = newest.filter_map(|one| {
            let one = counting.tell(one);
            let described = describe(user, &one.id, Some(&one))?;
            Some((Some(one), described))
        });
        Ok(described.collect())
    }

    /// A conversation with its peer and its seqs.
    async fn told(
        &self,
        user: &UserId,
        known: Option<Conversation>,
        conversation: Described,
    ) -> Result<ConversationMsg, CallFailure> {
        let peer = match UserId::new(&conversation.user_id) {
            Ok(peer) => self.profile(user, &peer).await?,
            // A group.
            Err(_) => UserInfo::default(),
        };
        let (head, read) = known
            .as_ref()
            .map(Conversation::head_and_read)
            .unwrap_or_default();
        Ok(ConversationMsg {
            conversation: Some(conversation),
            last_msg: None,
            user: Some(peer),
            max_seq: head.0 as i64,
            read_seq: read.0 as i64,
        })
    }
}

/// The number of conversations that are asked for, at most [`ACTIVE_MAX`].
fn active_count(user: &UserId, is_protobuf: bool, bytes: Bytes) -> Result<usize, CallFailure> {
    let count = if is_protobuf {
        let asked =
            GetActiveConversationsReq::decode(bytes).map_err(|_| CallFailure::NoProtobuf)?;
        check_owner("ownerUserID", &asked.owner_user_id, user)?;
        let count = u64::try_from(asked.count);
        count.map_err(|_| CallFailure::Field("count", "a whole number"))?
    } else {
        Body::parse(&bytes, user)?.number("count")?
    };
    Ok(match usize::try_from(count) {
        Ok(count @ 1..ACTIVE_MAX) => count,
        _ => ACTIVE_MAX,
    })
}

/// The ids that are asked for.
fn asked_ids(user: &UserId, is_protobuf: bool, bytes: Bytes) -> Result<Vec<String>, CallFailure> {
    if is_protobuf {
        let asked = GetConversationsReq::decode(bytes).map_err(|_| CallFailure::NoProtobuf)?;
        check_owner("ownerUserID", &asked.owner_user_id, user)?;
        return Ok(asked.conversation_i_ds);
    }
    let body = Body::parse(&bytes, user)?;
    let ids = body.texts("conversationIDs")?.into_iter();
    Ok(ids.map(str::to_owned).collect())
}
