//! `/user/…` and `/msg/get_server_time`: registrations, profiles and presence.

use std::{collections::HashSet, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures_util::future::try_join_all;

use super::{
    super::{bodies::Nothing, call::App, error::Refusal, presence::USERS_MAX, text::Text},
    bodies::{
        AccountCheckRequest, AccountStatus, AccountsChecked, NewUser, OnlineStatus, PlatformOnline,
        RegisterUsers, ServerTimeData, UpdateUserInfo, UserIds, UserInfo, UsersInfoData, answer,
    },
    error::V3Refusal,
    profile::{StoredProfile, level},
};
use crate::{delivery::SeenSession, ids::UserId};

/// The most users of one registration, check or question: each costs a record or a look at a row.
pub(super) const ACCOUNTS_MAX: usize = 1000;

/// Registers users that are not registered yet.
pub(super) async fn user_register(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: RegisterUsers<'_> = call.json()?;
    let given = bounded("users", body.users.as_deref(), ACCOUNTS_MAX)?;
    let create_time_ms = app.delivery.now_ms();
    let mut seen = HashSet::with_capacity(given.len());
    let mut users = Vec::with_capacity(given.len());
    for new in given {
        let user = new.user_id.required_user("userID")?;
        if !seen.insert(user.clone()) {
            return Err(Refusal::Rule("a userID stands twice in users").into());
        }
        users.push((user, profile_of(new, create_time_ms).to_bytes()?));
    }
    call.note.users(users.iter().map(|(user, _)| user));
    let _order = app.profiles.write().await;
    for (user, _) in &users {
        if app.profile(user).await?.is_some() {
            return Err(V3Refusal::Registered(user.to_string()));
        }
    }
    let users = users.into_iter();
    let registered = users.map(|(user, profile)| app.delivery.register(user, profile));
    app.confirmed(try_join_all(registered)).await?;
    Ok(answer(Nothing {}))
}

fn profile_of(new: &NewUser<'_>, create_time_ms: u64) -> StoredProfile {
    let mut profile = StoredProfile::new(create_time_ms);
    profile.set_nickname(&new.nickname);
    profile.set_face_url(&new.face_url);
    profile.set_ex(&new.ex);
    profile
}

/// Changes the given fields of a profile: a user's own, or anybody's for an administrator.
pub(super) async fn update_user_info_ex(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.user(request).await?;
    let body: UpdateUserInfo<'_> = call.json()?;
    let new = body.user_info.ok_or(Refusal::Required("userInfo"))?;
    let user = new.user_id.required_user("userInfo.userID")?;
    call.note.user(&user);
    app.check_user(&call, &user)?;
    let _order = app.profiles.write().await;
    let mut profile = app.registered(&user).await?;
    if let Some(nickname) = new.nickname {
        profile.set_nickname(&nickname);
    }
    if let Some(face_url) = new.face_url {
        profile.set_face_url(&face_url);
    }
    if let Some(ex) = new.ex {
        profile.set_ex(&ex);
    }
    app.store_profile(user, &profile).await?;
    Ok(answer(Nothing {}))
}

/// Says which users are registered, in the order asked.
pub(super) async fn account_check(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: AccountCheckRequest<'_> = call.json()?;
    let ids = body.check_user_ids.as_deref();
    let users = users("checkUserIDs", ids, ACCOUNTS_MAX)?;
    let mut results = Vec::with_capacity(users.len());
    for user in &users {
        results.push(AccountStatus {
            user_id: user.as_str(),
            account_status: app.profile(user).await?.is_some().into(),
        });
    }
    Ok(answer(AccountsChecked { results }))
}

/// The profiles of those given users that are registered, in the order asked. Any good token may ask, as in OpenIM.
pub(super) async fn get_users_info(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.user(request).await?;
    let body: UserIds<'_> = call.json()?;
    let users = users("userIDs", body.user_ids.as_deref(), ACCOUNTS_MAX)?;
    let mut infos = Vec::with_capacity(users.len());
    for user in &users {
        if let Some(profile) = app.profile(user).await? {
            infos.push(app.user_info(user, &profile));
        }
    }
    Ok(answer(UsersInfoData { users_info: infos }))
}

/// The presence of up to 200 users, in the order asked, for an administrator.
pub(super) async fn get_users_online_status(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: UserIds<'_> = call.json()?;
    let users = users("userIDs", body.user_ids.as_deref(), USERS_MAX)?;
    let seen = app.delivery.presence(users.clone()).await;
    let seen = seen.map_err(Refusal::Read)?;
    let statuses = users.iter().zip(seen);
    let statuses = statuses.map(|(user, sessions)| online_status(user, sessions));
    let statuses: Vec<_> = statuses.collect();
    Ok(answer(statuses))
}

/// The gateway's clock.
pub(super) async fn get_server_time(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    app.user(request).await?;
    Ok(answer(ServerTimeData {
        server_time_ms: app.delivery.now_ms(),
    }))
}

impl App {
    fn user_info(&self, user: &UserId, profile: &StoredProfile) -> UserInfo {
        UserInfo {
            user_id: user.to_string(),
            nickname: profile.nickname().to_owned(),
            face_url: profile.face_url().to_owned(),
            ex: profile.ex().to_owned(),
            create_time_ms: profile.create_time_ms(),
            level: if self.administers(user) {
                level::ADMIN
            } else if profile.is_notifier() {
                level::NOTIFIER
            } else {
                level::USER
            },
        }
    }
}

fn online_status(user: &UserId, sessions: Vec<SeenSession>) -> OnlineStatus<'_> {
    let platforms: Vec<_> = sessions
        .into_iter()
        .map(|SeenSession { presence, .. }| PlatformOnline {
            platform_id: presence.platform.number(),
            connection_id: presence.connection.to_string(),
        })
        .collect();
    OnlineStatus {
        user_id: user.as_str(),
        status: (!platforms.is_empty()).into(),
        platforms,
    }
}

/// A list that must not be empty and not too long.
fn bounded<'a, T>(
    what: &'static str,
    list: Option<&'a [T]>,
    max: usize,
) -> Result<&'a [T], Refusal> {
    match list {
        None | Some([]) => Err(Refusal::Required(what)),
        Some(list) if list.len() > max => Err(Refusal::TooMany {
            what,
            count: list.len(),
            max,
        }),
        Some(list) => Ok(list),
    }
}

/// The users of such a list.
fn users(
    what: &'static str,
    list: Option<&[Text<'_>]>,
    max: usize,
) -> Result<Vec<UserId>, Refusal> {
    let list = bounded(what, list, max)?.iter();
    list.map(|user| user.required_user(what)).collect()
}
