//! The beginning of every handler: check the token, then read the body. A refusal of the token comes before the body is
//! read.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::RwLock;

use super::{
    access::Access,
    administrators::{Administrators, SetupError},
    audit::Note,
    error::{Refusal, TokenFault},
    json,
    outcomes::Outcomes,
};
use crate::{
    config::Config,
    delivery::{Cause, Delivery, LogError, SendError},
    erase::Eraser,
    ids::UserId,
    metrics::Metrics,
    pages::Page,
    push::Seen,
    threads::Watch,
    token::Claims,
    webhooks::Hooks,
};

/// The bytes that are read and dropped from a body that is too large. If a connection is closed with unread bytes, it is
/// reset, and the caller sees the reset instead of the 413.
const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The rooms that the admin API uses.
pub struct Rooms {
    /// Sends, logs out, reads, issues tokens, and knows the sessions that are online.
    pub delivery: Arc<Delivery>,
    /// Counts requests, and is rendered at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Knows if every thread runs.
    pub watch: Arc<Watch>,
    /// Knows what became of the latest pushes; `None`: no vendor is configured.
    pub seen: Option<Arc<Seen>>,
    /// The question before each send, and the events that a receiver refused, where there are webhooks.
    pub hooks: Hooks,
    /// Erases users.
    pub eraser: Eraser,
}

/// The state that all handlers share.
pub(super) struct App {
    pub(super) delivery: Arc<Delivery>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) watch: Arc<Watch>,
    pub(super) seen: Option<Arc<Seen>>,
    pub(super) hooks: Hooks,
    pub(super) eraser: Eraser,
    /// The outcomes of recent sends, by operationID.
    pub(super) outcomes: Outcomes,
    /// The document of `/openapi.json`.
    pub(super) openapi: Bytes,
    /// The page at `/console/`.
    pub(super) console: Page,
    /// The configuration in force, secrets masked.
    pub(super) settings: Value,
    pub(super) batch_max: usize,
    pub(super) content_bytes_max: usize,
    /// The longest time for a body to arrive, and then the longest time for delivery.
    pub(super) request_timeout: Duration,
    /// Orders changes of profiles. A registration that looks at nothing reads; a change that depends on the profile before
    /// writes.
    pub(super) profiles: RwLock<()>,
    pub(super) administrators: Administrators,
    /// A digest of the secret, so that comparing takes the same time for any length; `None` when no secret is set: then no
    /// secret is right.
    secret: Option<[u8; 32]>,
    body_bytes_max: usize,
}

/// One request whose token was good and whose body has arrived.
pub(super) struct Call {
    pub(super) caller: Claims,
    access: Access,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Takes what the audit log tells about the call.
    pub(super) note: Note,
}

/// One request that needs no token, whose body has arrived.
pub(super) struct TokenlessCall {
    pub(super) body: Bytes,
    /// The same as a call's.
    pub(super) note: Note,
}

impl App {
    /// `openapi` is the document of `/openapi.json`. It describes the handlers, and each handler needs this type, so the
    /// caller makes it.
    pub(super) fn new(config: &Config, rooms: Rooms, openapi: Bytes) -> Result<Self, SetupError> {
        Ok(Self {
            delivery: rooms.delivery,
            metrics: rooms.metrics,
            watch: rooms.watch,
            seen: rooms.seen,
            hooks: rooms.hooks,
            eraser: rooms.eraser,
            outcomes: Outcomes::default(),
            openapi,
            console: Page::console(),
            settings: serde_json::to_value(config).expect("a configuration is JSON"),
            batch_max: config.admin.batch_max,
            content_bytes_max: config.delivery.message_bytes_max,
            request_timeout: config.admin.request_timeout,
            profiles: RwLock::new(()),
            administrators: Administrators::new(&config.admin)?,
            secret: Some(&config.auth.secret)
                .filter(|secret| !secret.is_empty())
                .map(|secret| Sha256::digest(secret).into()),
            body_bytes_max: config.admin.body_bytes_max,
        })
    }

    /// A call that only an administrator with the route's role may make.
    pub(super) async fn admin(&self, request: Request) -> Result<Call, Refusal> {
        let role = Access::of(&request).role();
        self.authorized(request, |caller| {
            self.administrators.check(&caller.user, role)
        })
        .await
    }

    /// A call that any good token may make. An administrator needs the route's role, if it has one.
    pub(super) async fn user(&self, request: Request) -> Result<Call, Refusal> {
        let role = Access::of(&request).role();
        self.authorized(request, |caller| {
            if role.is_some() && self.administers(&caller.user) {
                self.administrators.check(&caller.user, role)
            } else {
                Ok(())
            }
        })
        .await
    }

    /// A call for which `check` looks at the token's claims before the body is read.
    async fn authorized(
        &self,
        request: Request,
        check: impl FnOnce(&Claims) -> Result<(), Refusal>,
    ) -> Result<Call, Refusal> {
        let caller = self.caller(request.headers()).await?;
        let (access, note) = (Access::of(&request), Note::of(&request));
        // Acts of users on their own things are no administrator's.
        if self.administers(&caller.user) || matches!(access, Access::Admin(_)) {
            note.caller(&caller.user);
        }
        check(&caller)?;
        let (parts, body) = request.into_parts();
        let body = self.read(&parts.headers, body).await?;
        Ok(Call {
            caller,
            access,
            headers: parts.headers,
            body,
            note,
        })
    }

    /// The body of a call that needs no token.
    pub(super) async fn anonymous(&self, request: Request) -> Result<TokenlessCall, Refusal> {
        let note = Note::of(&request);
        let (parts, body) = request.into_parts();
        let body = self.read(&parts.headers, body).await?;
        Ok(TokenlessCall { body, note })
    }

    /// The claims of the token in the header `token`.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Claims, Refusal> {
        let token = headers
            .get("token")
            .and_then(|token| token.to_str().ok())
            .ok_or(Refusal::Token(TokenFault::Missing))?;
        self.answered(self.delivery.authenticate(token)).await
    }

    /// True if this user is an administrator, with any role. The platform of its token does not matter, as in OpenIM.
    pub(super) fn administers(&self, user: &UserId) -> bool {
        self.administrators.contains(user)
    }

    /// Waits for an append. A queued append cannot be taken back. So if the wait ends first, the outcome is unknown, and
    /// the caller is told so.
    pub(super) async fn confirmed<T>(
        &self,
        appended: impl Future<Output = Result<T, SendError>>,
    ) -> Result<T, Refusal> {
        let appended = tokio::time::timeout(self.request_timeout, appended).await;
        Ok(appended.map_err(|_| Refusal::Unconfirmed)??)
    }

    /// Waits for the answer to a question. A disk that does not answer then keeps neither the caller nor its connection.
    pub(super) async fn answered<T, E>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Refusal>
    where
        Refusal: From<E>,
    {
        let answer = tokio::time::timeout(self.request_timeout, answer).await;
        let late = || LogError::new(Cause::ReadFailed, "the log did not answer in time");
        Ok(answer.map_err(|_| late())??)
    }

    /// `Ok` if the call may be about this user: the caller itself, or anybody for an administrator with the route's role.
    pub(super) fn check_user(&self, call: &Call, user: &UserId) -> Result<(), Refusal> {
        if call.caller.user == *user {
            return Ok(());
        }
        self.administrators
            .check(&call.caller.user, call.access.role())
    }

    /// Compares with `auth.secret` in constant time, and notes that the secret is right.
    pub(super) fn check_secret(&self, note: &Note, secret: &str) -> Result<(), Refusal> {
        let given: [u8; 32] = Sha256::digest(secret).into();
        let is_right = self.secret.is_some_and(|right| right.ct_eq(&given).into());
        if is_right {
            note.secret();
            Ok(())
        } else {
            Err(Refusal::Secret)
        }
    }

    /// The whole body, within `admin.body_bytes_max` and `admin.request_timeout`.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
        let max = self.body_bytes_max;
        let is_announced_too_large = body.size_hint().lower() > max as u64;
        if is_announced_too_large && headers.contains_key(header::EXPECT) {
            // The caller waits for our answer before it sends the body. A refusal now leaves nothing unread.
            return Err(Refusal::TooLarge {
                what: "the body",
                max,
            });
        }
        tokio::time::timeout(self.request_timeout, collect(body, max))
            .await
            .map_err(|_| Refusal::BodySlow)?
    }
}

async fn collect(mut body: Body, max: usize) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        // Trailers are not used here.
        let Ok(data) = frame.map_err(|_| Refusal::BodyLost)?.into_data() else {
            continue;
        };
        read += data.len();
        if read > max {
            rest.clear();
            if read > max.saturating_add(DISCARDED_BYTES_MAX) {
                break;
            }
        } else if first.is_empty() {
            // Most bodies come in one piece. Such a body is not copied.
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    match read {
        _ if read > max => Err(Refusal::TooLarge {
            what: "the body",
            max,
        }),
        _ if rest.is_empty() => Ok(first),
        _ => Ok(rest.freeze()),
    }
}

impl Call {
    /// The body as JSON. The result borrows from this call.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Refusal> {
        json::parse(&self.body)
    }
}
