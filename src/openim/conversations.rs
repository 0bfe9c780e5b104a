//! A user's conversations as OpenIM's SDKs describe them.
//!
//! Every list is whole, up to a bound: the version that an SDK sends is not looked at. Inserting a conversation that an SDK has
//! changes its settings only.

use std::collections::BTreeMap;

use axum::response::Response;
use serde::Serialize;
use tokio::task::yield_now;

use super::{
    answer::success,
    body::{Body, check_conversation},
    failure::CallFailure,
    proto::Conversation as Described,
    routes::Calls,
    settings::{is_pinned, is_silent},
};
use crate::{
    delivery::ReadLimit,
    ids::{ConversationSeq, Seq, UserId},
    message::{Conversation, Counting, OVERVIEW_MAX},
};

/// The version of every list. An SDK keeps it and sends it back.
const VERSION_ID: &str = "towncrier";
/// The number within that version. An SDK takes 0 for none.
const VERSION: u64 = 1;
/// The conversations that are looked up before other connections of the thread have their turn.
pub(super) const CONVERSATIONS_IN_A_ROW: usize = 16;

/// A list and its changes since an earlier version, of which there is none.
#[derive(Serialize)]
struct Incremental {
    #[serde(rename = "versionID")]
    version_id: &'static str,
    version: u64,
    full: bool,
    delete: [Described; 0],
    insert: Vec<Described>,
    update: [Described; 0],
}

#[derive(Serialize)]
struct DescribedConversations {
    conversations: Vec<Described>,
}

#[derive(Serialize)]
struct OneConversation {
    conversation: Described,
}

#[derive(Serialize)]
struct ConversationIds {
    #[serde(rename = "conversationIDs")]
    ids: Vec<String>,
}

#[derive(Serialize)]
struct ConversationSeqs {
    seqs: BTreeMap<String, SeqsOf>,
    #[serde(rename = "pinnedConversationIDs")]
    pinned: Vec<String>,
}

/// Heads and marks, as wire seqs.
#[derive(Serialize)]
struct SeqsOf {
    #[serde(rename = "maxSeq")]
    max: u64,
    #[serde(rename = "hasReadSeq")]
    read: u64,
    #[serde(rename = "maxSeqTime")]
    time_ms: u64,
}

impl Calls {
    /// The answer for a first login: all conversations are new.
    pub(super) async fn incremental(
        &self,
        user: &UserId,
        counting: Counting,
    ) -> Result<Response, CallFailure> {
        Ok(success(Incremental {
            version_id: VERSION_ID,
            version: VERSION,
            full: false,
            delete: [],
            insert: self.described(user, counting).await?,
            update: [],
        }))
    }

    pub(super) async fn all(
        &self,
        user: &UserId,
        counting: Counting,
    ) -> Result<Response, CallFailure> {
        let conversations = self.described(user, counting).await?;
        Ok(success(DescribedConversations { conversations }))
    }

    /// The ids of all conversations.
    pub(super) async fn ids(&self, user: &UserId) -> Result<Response, CallFailure> {
        let all = self.newest(user, OVERVIEW_MAX).await?.into_iter();
        let ids = all.map(|one| one.id.into()).collect();
        Ok(success(ConversationIds { ids }))
    }

    /// The ids of the conversations that the user has pinned.
    pub(super) async fn pinned(&self, user: &UserId) -> Result<Response, CallFailure> {
        let ids = self.ids_with(user, is_pinned).await?;
        Ok(success(ConversationIds { ids }))
    }

    /// The ids of the conversations whose messages the user does not want to be shown.
    pub(super) async fn silent(&self, user: &UserId) -> Result<Response, CallFailure> {
        let ids = self.ids_with(user, is_silent).await?;
        Ok(success(ConversationIds { ids }))
    }

    /// The conversations that the body lists.
    pub(super) async fn listed(
        &self,
        user: &UserId,
        body: &Body,
        counting: Counting,
    ) -> Result<Response, CallFailure> {
        let ids = body.texts("conversationIDs")?;
        let found = self.of_ids(user, &ids, counting).await?;
        let conversations = found.into_iter().map(|(_, described)| described).collect();
        Ok(success(DescribedConversations { conversations }))
    }

    /// The conversation that the body names.
    pub(super) async fn one(
        &self,
        user: &UserId,
        body: &Body,
        counting: Counting,
    ) -> Result<Response, CallFailure> {
        let id = body.text("conversationID")?;
        let found = self.of_ids(user, &[id], counting).await?;
        let (_, conversation) = found.into_iter().next().ok_or(CallFailure::Field(
            "conversationID",
            "a conversation of the user",
        ))?;
        Ok(success(OneConversation { conversation }))
    }

    /// Heads and marks of the conversations that the body lists, or of all.
    pub(super) async fn seqs(
        &self,
        user: &UserId,
        body: &Body,
        counting: Counting,
    ) -> Result<Response, CallFailure> {
        let ids = body.texts("conversationIDs")?;
        let conversations: Vec<_> = if ids.is_empty() {
            let all = self.newest(user, OVERVIEW_MAX).await?.into_iter();
            all.map(|one| counting.tell(one)).collect()
        } else {
            let found = self.of_ids(user, &ids, counting).await?;
            found.into_iter().filter_map(|(known, _)| known).collect()
        };
        let pinned = conversations.iter().filter(|one| is_pinned(one));
        let pinned = pinned.map(|one| one.id.to_string()).collect();
        let seqs = conversations.into_iter().map(|one| {
            let (head, read) = one.head_and_read();
            let seqs = SeqsOf {
                max: head.0,
                read: read.0,
                time_ms: one.last_time_ms,
            };
            (one.id.into(), seqs)
        });
        Ok(success(ConversationSeqs {
            seqs: seqs.collect(),
            pinned,
        }))
    }

    /// Up to `limit` of the user's conversations, those with the newest messages first.
    pub(super) async fn newest(
        &self,
        user: &UserId,
        limit: usize,
    ) -> Result<Vec<Conversation>, CallFailure> {
        if !self.delivery.has_conversations() {
            return Ok(Vec::new());
        }
        // One look at all of them. A look for each page would cost as much as this one.
        let page = self.delivery.conversations(user, Seq(u64::MAX), limit);
        Ok(page.wait().await?.conversations)
    }

    async fn described(
        &self,
        user: &UserId,
        counting: Counting,
    ) -> Result<Vec<Described>, CallFailure> {
        let all = self.newest(user, OVERVIEW_MAX).await?.into_iter();
        let all = all.map(|one| counting.tell(one));
        let described = all.filter_map(|one| describe(user, &one.id, Some(&one)));
        Ok(described.collect())
    }

    /// The conversation with this id, as the log knows it.
    pub(super) async fn conversation(
        &self,
        user: &UserId,
        id: &str,
    ) -> Result<Option<Conversation>, CallFailure> {
        // No entry is in this range, so none is read.
        let range = (ConversationSeq(1), ConversationSeq::ZERO);
        let limit = ReadLimit {
            messages: 1,
            bytes: 1,
        };
        let read = self.delivery.read_conversation(user, id, range, limit);
        Ok(read.wait().await?.conversation)
    }

    /// The conversations with these ids, in their order, each as the log knows it and as an SDK does. The log does not know a
    /// conversation that has had only online-only messages. It is described all the same: an SDK that was told such a message
    /// asks for it, and the JavaScript one fails without an answer. An id that is of no conversation of the user is left out.
    pub(super) async fn of_ids(
        &self,
        user: &UserId,
        ids: &[&str],
        counting: Counting,
    ) -> Result<Vec<(Option<Conversation>, Described)>, CallFailure> {
        if ids.len() > OVERVIEW_MAX {
            return Err(CallFailure::TooMany("conversationIDs", OVERVIEW_MAX));
        }
        let mut found = Vec::new();
        for (looked, id) in (1..).zip(ids) {
            check_conversation(id)?;
            let known = self.conversation(user, id).await?;
            let known = known.map(|known| counting.tell(known));
            if let Some(described) = describe(user, id, known.as_ref()) {
                found.push((known, described));
            }
            if looked % CONVERSATIONS_IN_A_ROW == 0 {
                yield_now().await;
            }
        }
        Ok(found)
    }
}

/// The id of the conversation of two users: `si_` or `sn_`, then the two ids sorted and joined by `_`.
pub(super) fn pair_id(kind: &str, one: &UserId, other: &UserId) -> String {
    let (low, high) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    format!("{kind}{low}_{high}")
}

/// The conversation with this id as an SDK describes it; `None` if the id is of no conversation of the user.
pub(super) fn describe(user: &UserId, id: &str, known: Option<&Conversation>) -> Option<Described> {
    let (kind, rest) = id.split_at_checked(3)?;
    let (conversation_type, peer, group) = match kind {
        "si_" => (1, peer_of(user, rest)?, ""),
        "sn_" => (4, peer_of(user, rest)?, ""),
        // A user is in the groups that the log knows.
        "sg_" if known.is_some() => (3, "", rest),
        _ => return None,
    };
    let settings = known.map(|known| known.settings).unwrap_or_default();
    // 0: the conversation begins at its first message.
    let first = known.and_then(Conversation::first_after_others);
    let min_seq = first.map_or(0, |first| i64::try_from(first.0).unwrap_or(i64::MAX));
    Some(Described {
        owner_user_id: user.to_string(),
        conversation_id: id.to_owned(),
        conversation_type,
        user_id: peer.to_owned(),
        group_id: group.to_owned(),
        is_pinned: settings.is_pinned,
        recv_msg_opt: settings.receive_option.number().into(),
        min_seq,
        ..Described::default()
    })
}

/// The other user of a pair of ids that are sorted and joined by `_`. The order decides when both halves could be the user's.
fn peer_of<'a>(user: &UserId, pair: &'a str) -> Option<&'a str> {
    let user = user.as_str();
    let behind = pair
        .strip_prefix(user)
        .and_then(|rest| rest.strip_prefix('_'));
    let before = pair
        .strip_suffix(user)
        .and_then(|rest| rest.strip_suffix('_'));
    let behind = behind.filter(|peer| *peer >= user);
    let before = before.filter(|peer| *peer <= user);
    behind.or(before).filter(|peer| UserId::new(peer).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_found_although_ids_contain_the_joint() {
        for (user, peer) in [
            ("u1", "oa"),
            ("u1", "u2"),
            ("a", "b_a"),
            ("a_b", "a"),
            ("a", "a"),
            ("u_1", "_"),
            ("me", "me_me"),
            ("b", "a_b"),
        ] {
            let (user, other) = (UserId::new(user).unwrap(), UserId::new(peer).unwrap());
            let id = pair_id("sn_", &user, &other);
            assert_eq!(peer_of(&user, &id[3..]), Some(peer), "{id}");
            assert_eq!(peer_of(&other, &id[3..]), Some(user.as_str()), "{id}");
        }
        let user = UserId::new("u1").unwrap();
        for other in ["", "u1", "u1_", "_u1", "a_b", "u1_a", "z_u1"] {
            assert_eq!(peer_of(&user, other), None, "{other}");
        }
    }
}
