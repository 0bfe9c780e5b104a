//! `/auth/…`: tokens for administrators and users, and their end.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    super::{bodies::Nothing, call::App, error::Refusal, json},
    bodies::{
        AdminTokenRequest, ForceLogoutRequest, ParseTokenRequest, ParsedV3, TokenV3,
        UserTokenRequest, answer,
    },
    error::V3Refusal,
};
use crate::ids::{Platform, UserId};

/// Issues an administrator's token for the secret.
pub(super) async fn get_admin_token(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.anonymous(request).await?;
    let body: AdminTokenRequest<'_> = json::parse(&call.body)?;
    let secret = body.secret.required("secret")?;
    let user = body.user_id.required_user("userID")?;
    call.note.user(&user);
    app.check_secret(&call.note, secret)?;
    if !app.administers(&user) {
        return Err(Refusal::Rule("userID is no administrator of admin.user_ids").into());
    }
    app.issue_v3(&user, Platform::Admin).await
}

/// Issues a token for a registered user, for an administrator.
pub(super) async fn get_user_token(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: UserTokenRequest<'_> = call.json()?;
    let platform = platform(body.platform_id)?;
    let user = body.user_id.required_user("userID")?;
    call.note.user(&user);
    call.note.platform(platform);
    if platform == Platform::Admin || app.administers(&user) {
        return Err(V3Refusal::NotPermitted(
            "an administrator's token comes from /auth/get_admin_token",
        ));
    }
    if app.registered(&user).await?.is_notifier() {
        return Err(Refusal::Rule("a notification account has no tokens").into());
    }
    app.issue_v3(&user, platform).await
}

/// Returns the user, platform and expiry of the token in the body.
pub(super) async fn parse_token(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.anonymous(request).await?;
    let body: ParseTokenRequest<'_> = json::parse(&call.body)?;
    let token = body.token.required("token")?;
    let claims = app.answered(app.delivery.authenticate(token)).await?;
    Ok(answer(ParsedV3 {
        user_id: claims.user.as_str(),
        platform_id: claims.platform.number(),
        expires_at_s: claims.expires_at_s,
    }))
}

/// Revokes every token of (user, platform) issued until now, durably, and closes the user's connections on that platform.
pub(super) async fn force_logout(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, V3Refusal> {
    let call = app.admin(request).await?;
    let body: ForceLogoutRequest<'_> = call.json()?;
    let platform = platform(body.platform_id)?;
    let user = body.user_id.required_user("userID")?;
    call.note.user(&user);
    call.note.platform(platform);
    app.confirmed(app.delivery.log_out(user, platform)).await?;
    Ok(answer(Nothing {}))
}

impl App {
    async fn issue_v3(&self, user: &UserId, platform: Platform) -> Result<Response, V3Refusal> {
        let issued = self.delivery.issue_token(user, platform);
        let issued = self.answered(issued).await?;
        let now_s = self.delivery.now_ms() / 1000;
        Ok(answer(TokenV3 {
            token: &issued.token,
            lifetime_s: issued.expires_at_s.saturating_sub(now_s),
        }))
    }
}

fn platform(number: Option<u32>) -> Result<Platform, Refusal> {
    let number = json::required(number, "platformID")?;
    Platform::from_number(number).map_err(|error| Refusal::Id("platformID", error))
}
