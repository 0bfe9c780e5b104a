//! `/user/get_users_online_status` and `/manager/get_users_online_status`: who is connected now, and on which platforms.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{self, PlatformPresence, PresenceRequest, UserPresence},
    call::App,
    error::Refusal,
};

/// Users of one question, OpenIM's number.
const USERS_MAX: usize = 200;

/// Presence of up to 200 users, in the order asked. Any good token may ask, as under OpenIM's `/user` spelling.
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
    let presences: Vec<_> = users.iter().map(|user| app.presence(user)).collect();
    Ok(bodies::answer(presences))
}

impl App {
    fn presence<'a>(&self, user: &'a str) -> UserPresence<'a> {
        // Several devices of one platform are one entry.
        let platforms: BTreeSet<_> = self
            .registry
            .presence(user)
            .into_iter()
            .map(|presence| presence.platform)
            .collect();
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
}
