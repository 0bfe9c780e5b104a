//! `/user/get_users_online_status` and `/manager/get_users_online_status`: the presence of given users, with their
//! platforms; `/user/get_online_users`: the users that are online.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{
        self, OnlineRequest, OnlineSession, OnlineUser, OnlineUsers, PlatformPresence,
        PresenceRequest, UserPresence,
    },
    call::App,
    error::Refusal,
};
use crate::{
    delivery::SeenSession,
    ids::{Platform, UserId},
};

/// The most users of one request, OpenIM's number.
pub(super) const USERS_MAX: usize = 200;
/// The length of a list of users if the caller sets none.
const ONLINE_DEFAULT: usize = 100;
/// The longest list of users: 300 KB of JSON.
const ONLINE_MAX: usize = 1000;

/// The presence of up to 200 users, in the order asked. Any user may ask, as with OpenIM's `/user` spelling.
pub(super) async fn get_users_online_status(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await?;
    let body: PresenceRequest<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let users = body.user_id_list.as_deref().unwrap_or_default();
    match users.len() {
        0 => return Err(Refusal::Required("userIDList")),
        count if count > USERS_MAX => {
            return Err(Refusal::TooMany {
                what: "userIDList",
                count,
                max: USERS_MAX,
            });
        }
        _ => {}
    }
    // A text that is no user id is never online.
    let ids: Vec<_> = users.iter().map(|user| UserId::new(user)).collect();
    let known = ids.iter().flatten().cloned().collect();
    let mut seen = app.delivery.presence(known).await?.into_iter();
    let presences = users.iter().zip(&ids).map(|(user, id)| {
        let sessions = id.as_ref().ok().and_then(|_| seen.next());
        presence(user, &sessions.unwrap_or_default())
    });
    let presences: Vec<_> = presences.collect();
    Ok(bodies::answer(presences))
}

/// Users that are online now, for an administrator.
pub(super) async fn get_online_users(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: OnlineRequest<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let platform = body
        .platform
        .filter(|number| *number != 0)
        .map(Platform::from_number)
        .transpose()
        .map_err(|error| Refusal::Id("platform", error))?;
    let limit = body.limit.filter(|limit| *limit != 0);
    let limit = limit.unwrap_or(ONLINE_DEFAULT).min(ONLINE_MAX);
    let (sessions_total, users) = app.delivery.online(platform, limit).await?;
    Ok(bodies::answer(OnlineUsers {
        sessions_total,
        users: users.into_iter().map(online).collect(),
    }))
}

fn online((user, sessions): (UserId, Vec<SeenSession>)) -> OnlineUser {
    let session = |SeenSession { presence, gateway }| OnlineSession {
        platform: presence.platform.name(),
        platform_id: presence.platform as u32,
        device_id: presence.device.as_ref().into(),
        connected_time: presence.since_ms,
        gateway_id: gateway.map(|gateway| gateway.0),
        address: presence.address.map(|address| address.to_string()),
    };
    OnlineUser {
        user_id: user.as_str().into(),
        sessions: sessions.into_iter().map(session).collect(),
    }
}

fn presence<'a>(user: &'a str, sessions: &[SeenSession]) -> UserPresence<'a> {
    // Several devices of one platform make one entry.
    let platforms: BTreeSet<_> = sessions.iter().map(|seen| seen.presence.platform).collect();
    UserPresence {
        user_id: user,
        status: if platforms.is_empty() {
            "offline"
        } else {
            "online"
        },
        platforms: platforms
            .into_iter()
            .map(|platform| PlatformPresence {
                platform: platform.name(),
                status: "online",
            })
            .collect(),
    }
}
