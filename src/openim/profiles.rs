//! `/user/get_users_info`: names and pictures, from the registration or else from the user's newest message to the caller.

use std::collections::HashSet;

use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::task::yield_now;

use super::{
    answer::success, body::Body, conversations::pair_id, failure::CallFailure, proto::UserInfo,
    routes::Calls,
};
use crate::{
    ids::{ConversationSeq, UserId},
    message::{OVERVIEW_MAX, StoredMessage},
};

/// The users of one answer: a peer for each conversation that an SDK knows.
const PROFILES_MAX: usize = OVERVIEW_MAX;
/// The users that are looked up before other connections of the thread have their turn.
const PROFILES_IN_A_ROW: usize = 16;

#[derive(Serialize)]
struct UsersInfo {
    #[serde(rename = "usersInfo")]
    users: Vec<UserInfo>,
}

impl Calls {
    /// An entry for every id that is asked for, once each.
    pub(super) async fn users_info(
        &self,
        caller: &UserId,
        body: &Body,
    ) -> Result<Response, CallFailure> {
        let ids = body.texts("userIDs")?;
        if ids.is_empty() {
            return Err(CallFailure::Required("userIDs"));
        }
        if ids.len() > PROFILES_MAX {
            return Err(CallFailure::TooMany("userIDs", PROFILES_MAX));
        }
        let mut asked = HashSet::new();
        let mut users = Vec::new();
        for id in ids {
            let user = UserId::new(id).map_err(|error| CallFailure::Id("userIDs", error))?;
            if asked.insert(id) {
                users.push(self.profile(caller, &user).await?);
            }
            if users.len() % PROFILES_IN_A_ROW == 0 {
                yield_now().await;
            }
        }
        Ok(success(UsersInfo { users }))
    }

    /// The part of a user that a caller sees. A registration's other fields, such as the phone number, are not for others.
    pub(super) async fn profile(
        &self,
        caller: &UserId,
        user: &UserId,
    ) -> Result<UserInfo, CallFailure> {
        let mut info = UserInfo {
            user_id: user.to_string(),
            ..UserInfo::default()
        };
        let registered = self.delivery.profile(user).await?;
        let registered = registered.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(Value::Object(registered)) = registered {
            let text = |name: &str| {
                let text = registered.get(name).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            };
            info.nickname = text("nickname");
            info.face_url = text("faceURL");
            info.ex = text("ex");
        }
        if info.nickname.is_empty()
            && info.face_url.is_empty()
            && let Some(message) = self.newest_message(caller, user).await?
        {
            info.nickname = message.sender_nickname;
            info.face_url = message.sender_face_url;
        }
        Ok(info)
    }

    /// The newest message of `sender` to the caller, if it is among the newest of their conversations.
    async fn newest_message(
        &self,
        caller: &UserId,
        sender: &UserId,
    ) -> Result<Option<StoredMessage>, CallFailure> {
        let is_theirs = |body: &Bytes| StoredMessage::from_bytes(body).send_id == sender.as_str();
        let mut newest: Option<StoredMessage> = None;
        for kind in ["sn_", "si_"] {
            let id = pair_id(kind, caller, sender);
            let all = ConversationSeq(u64::MAX);
            let read = self.delivery.newest_message(caller, &id, all, is_theirs);
            if let Some((_, body)) = read.await?.message {
                let message = StoredMessage::from_bytes(&body);
                newest = newest
                    .filter(|other| other.send_time >= message.send_time)
                    .or(Some(message));
            }
        }
        Ok(newest)
    }
}
