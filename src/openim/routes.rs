//! The paths of the calls, and the first steps of every call: the caller's token, then the body.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Method},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{
    answer::{NoData, success},
    body::{Body, counting_of},
    failure::CallFailure,
    rate::ChangeRate,
};
use crate::{
    delivery::Delivery,
    door::Rest,
    ids::{SessionKey, UserId},
};

/// The longest time for a call. The SDKs wait as long.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The groups whose calls are served. `jssdk` has no others than those that are named below.
const GROUPS: [&str; 6] = ["user", "friend", "group", "conversation", "msg", "third"];
/// The calls of the JavaScript SDK alone.
const JSSDK: [&str; 2] = ["get_active_conversations", "get_conversations"];
/// The first words of the calls that only ask.
const QUESTIONS: [&str; 2] = ["get", "search"];
/// The words of the calls that ask for a change.
const CHANGES: [&str; 28] = [
    "accept", "add", "apply", "cancel", "clear", "create", "del", "delete", "dismiss", "import",
    "invite", "join", "kick", "modify", "mute", "pin", "process", "quit", "refuse", "remove",
    "respond", "response", "revoke", "send", "set", "transfer", "update", "upload",
];

/// The calls of a gateway, for its client port.
pub(crate) fn rest(delivery: Arc<Delivery>) -> Rest {
    let is_call = |method: &Method, path: &str| *method == Method::POST && name_of(path).is_some();
    Rest::new(router(delivery), is_call).for_sdks()
}

/// The calls as a router, which answers every path.
pub(super) fn router(delivery: Arc<Delivery>) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(Calls {
        delivery,
        changes: ChangeRate::new(),
    }))
}

/// The state that all calls share.
pub(super) struct Calls {
    pub(super) delivery: Arc<Delivery>,
    /// The rate of the changes that are made.
    pub(super) changes: ChangeRate,
}

/// Group and name of the call at `path`, which may begin with `/api`. Slashes around it are ignored, because an address that ends
/// in a slash makes two of them.
fn name_of(path: &str) -> Option<(&str, &str)> {
    let path = path.trim_matches('/');
    let path = path.strip_prefix("api/").unwrap_or(path);
    let (group, name) = path.trim_start_matches('/').split_once('/')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
    let is_known = match group {
        "jssdk" => JSSDK.contains(&name),
        _ => GROUPS.contains(&group) && !name.is_empty() && name.chars().all(is_name),
    };
    is_known.then_some((group, name))
}

/// True if the call asks for a change.
fn is_change(name: &str) -> bool {
    let mut words = name.split(['_', '-', '/']);
    let is_question = words
        .clone()
        .next()
        .is_some_and(|first| QUESTIONS.contains(&first));
    !is_question && words.any(|word| CHANGES.contains(&word))
}

async fn answer(State(calls): State<Arc<Calls>>, request: Request) -> Response {
    // A change that is under way when the time is over may still be made. Repeating it does no harm.
    let answered = timeout(CALL_TIMEOUT, calls.answer(request)).await;
    let answered = answered.unwrap_or(Err(CallFailure::Unavailable));
    answered.unwrap_or_else(CallFailure::into_response)
}

impl Calls {
    async fn answer(&self, request: Request) -> Result<Response, CallFailure> {
        let (parts, body) = request.into_parts();
        let (user, session) = &self.caller(&parts.headers).await?;
        let bytes = body.collect().await.map_err(|_| CallFailure::NoObject)?;
        let bytes: Bytes = bytes.to_bytes();
        let (group, name) = name_of(parts.uri.path()).ok_or(CallFailure::NotSupported)?;
        if group == "jssdk" {
            return self.jssdk(user, name, &parts.headers, bytes).await;
        }
        let body = &Body::parse(&bytes, user)?;
        let counting = counting_of(&parts.headers);
        match (group, name) {
            ("user", "get_users_info") => self.users_info(user, body).await,
            ("conversation", "get_incremental_conversations") => {
                self.incremental(user, counting).await
            }
            ("conversation", "get_all_conversations") => self.all(user, counting).await,
            ("conversation", "get_conversations") => self.listed(user, body, counting).await,
            ("conversation", "get_conversation") => self.one(user, body, counting).await,
            ("conversation", "get_full_conversation_ids") => self.ids(user).await,
            ("conversation", "get_not_notify_conversation_ids") => self.silent(user).await,
            ("conversation", "get_pinned_conversation_ids") => self.pinned(user).await,
            ("conversation", "set_conversations") => self.set(user, body).await,
            ("msg", "clear_conversation_msg") => self.clear(user, body).await,
            ("msg", "user_clear_all_msg") => self.clear_all(user, body).await,
            ("msg", "delete_msgs") => self.delete(user, body).await,
            ("msg", "get_conversations_has_read_and_max_seq") => {
                self.seqs(user, body, counting).await
            }
            (
                "msg",
                "mark_conversation_as_read" | "set_conversation_has_read_seq" | "mark_msgs_as_read",
            ) => self.mark((user, session), body).await,
            ("third", "fcm_update_token") => {
                self.update_fcm_token(user, &parts.headers, body).await
            }
            ("third", "set_app_badge") => self.set_badge(body),
            ("msg", "get_server_time") => Ok(success(ServerTime {
                now_ms: self.delivery.now_ms(),
            })),
            (_, name) if is_change(name) => Err(CallFailure::NotSupported),
            _ => Ok(success(NoData {})),
        }
    }

    /// The user of the token in the header `token`, and the session that has this token.
    async fn caller(&self, headers: &HeaderMap) -> Result<(UserId, SessionKey), CallFailure> {
        if !headers.contains_key("operationID") {
            return Err(CallFailure::Header("operationID"));
        }
        let token = headers.get("token").and_then(|token| token.to_str().ok());
        let token = token.filter(|token| !token.is_empty());
        let token = token.ok_or(CallFailure::Header("token"))?;
        let claims = self.delivery.authenticate(token).await?;
        let session = SessionKey {
            user: claims.user.clone(),
            platform: claims.platform,
            device: SessionKey::openim_device(&Sha256::digest(token).into()),
        };
        Ok((claims.user, session))
    }
}

/// The gateway's clock, Unix ms.
#[derive(Serialize)]
struct ServerTime {
    #[serde(rename = "serverTime")]
    now_ms: u64,
}
