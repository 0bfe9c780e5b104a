//! The notification accounts: registered users with a mark in the profile, in whose name OA notifications are sent.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use tokio::task::yield_now;

use super::{
    super::{bodies::Nothing, call::App, error::Refusal},
    bodies::{AddNotifier, Notifier, NotifiersFound, SearchNotifiers, UpdateNotifier, answer},
    error::V3Refusal,
    profile::{StoredProfile, level},
};
use crate::ids::UserId;

/// The longest page of a search: 300 KB of JSON.
const PAGE_MAX: usize = 1000;
/// The profiles that a search reads before other requests of the admin port have their turn.
const ACCOUNTS_IN_A_ROW: usize = 64;

/// Registers a notification account. Without `userID` it gets one of ten digits.
pub(super) async fn add_notification_account(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: AddNotifier<'_> = call.json()?;
    let user = match body.user_id.optional_id("userID")? {
        Some(_) => body.user_id.required_user("userID")?,
        None => {
            let digits = format!("{:010}", fastrand::u64(..10_000_000_000));
            UserId::new(&digits).map_err(|error| Refusal::Id("userID", error))?
        }
    };
    let nickname = body.nickname.required("nickName")?;
    if ![0, level::NOTIFIER].contains(&body.level.unwrap_or_default()) {
        return Err(Refusal::Rule("appMangerLevel must be 3, a notification account").into());
    }
    let mut profile = StoredProfile::new(app.delivery.now_ms());
    profile.set_nickname(nickname);
    profile.set_face_url(&body.face_url);
    profile.mark_as_notifier();
    call.note.user(&user);
    let _order = app.profiles.write().await;
    if app.profile(&user).await?.is_some() {
        return Err(V3Refusal::IdUsed);
    }
    app.store_profile(user.clone(), &profile).await?;
    Ok(answer(notifier(&user, &profile)))
}

/// Changes the given names of a notification account. An empty one stays as it was.
pub(super) async fn update_notification_account(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: UpdateNotifier<'_> = call.json()?;
    let user = body.user_id.required_user("userID")?;
    call.note.user(&user);
    let _order = app.profiles.write().await;
    let mut profile = app.registered(&user).await?;
    if !profile.is_notifier() {
        return Err(Refusal::Rule("userID is no notification account").into());
    }
    if !body.nickname.is_empty() {
        profile.set_nickname(&body.nickname);
    }
    if !body.face_url.is_empty() {
        profile.set_face_url(&body.face_url);
    }
    app.store_profile(user, &profile).await?;
    Ok(answer(Nothing {}))
}

/// The notification accounts whose id or name contains the keyword, by id. Reads the profiles of all users, a few at a time.
pub(super) async fn search_notification_account(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: SearchNotifiers<'_> = call.json()?;
    let pagination = body.pagination.ok_or(Refusal::Required("pagination"))?;
    let page = pagination.page_number.filter(|number| *number > 0);
    let page = page.ok_or(Refusal::Required("pagination.pageNumber"))?;
    let length = pagination.show_number.filter(|number| *number > 0);
    let length = length.ok_or(Refusal::Required("pagination.showNumber"))?;
    let length = length.min(PAGE_MAX);
    let skipped = (page - 1).saturating_mul(length);
    let keyword = &*body.keyword;
    let mut total = 0;
    let mut found = Vec::new();
    let mut users = app.answered(app.delivery.users()).await?;
    users.sort_unstable();
    for (read, user) in (1..).zip(&users) {
        if read % ACCOUNTS_IN_A_ROW == 0 {
            yield_now().await;
        }
        let Some(profile) = app.profile(user).await?.filter(StoredProfile::is_notifier) else {
            continue;
        };
        if !user.as_str().contains(keyword) && !profile.nickname().contains(keyword) {
            continue;
        }
        if total >= skipped && found.len() < length {
            found.push(notifier(user, &profile));
        }
        total += 1;
    }
    Ok(answer(NotifiersFound {
        total,
        accounts: found,
    }))
}

fn notifier(user: &UserId, profile: &StoredProfile) -> Notifier {
    Notifier {
        user_id: user.to_string(),
        nickname: profile.nickname().to_owned(),
        face_url: profile.face_url().to_owned(),
        level: level::NOTIFIER,
    }
}
