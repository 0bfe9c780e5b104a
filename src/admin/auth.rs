//! `/auth/…`: issues tokens for the secret, parses tokens, and lets an administrator revoke them.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{
        self, LoggedOut, LogoutRequest, Operation, Profile, TokenIssued, TokenParsed, TokenRequest,
    },
    call::{App, TokenlessCall},
    error::Refusal,
    json,
};
use crate::ids::{Platform, UserId};

/// The largest profile of a user. The log keeps it as long as the user exists.
pub(super) const PROFILE_BYTES_MAX: usize = 8 * 1024;

/// Issues a token for the secret. The user need not be registered, as in OpenIM.
pub(super) async fn user_token(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.anonymous(request).await?;
    let (user, platform) = app.applicant(&call)?;
    app.issue(&user, platform).await
}

/// Makes a user known, durably, and issues a token.
pub(super) async fn user_register(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.anonymous(request).await?;
    let (user, platform) = app.applicant(&call)?;
    let profile: Profile<'_> = json::parse(&call.body)?;
    let profile = serde_json::to_vec(&profile).expect("strings and integers are always JSON");
    if profile.len() > PROFILE_BYTES_MAX {
        return Err(Refusal::TooLarge {
            what: "the profile",
            max: PROFILE_BYTES_MAX,
        });
    }
    let registered = async {
        let _order = app.profiles.read().await;
        app.delivery.register(user.clone(), profile.into()).await
    };
    app.confirmed(registered).await?;
    app.issue(&user, platform).await
}

/// Returns a token's user, platform and expiry. A bad token gets HTTP 200 with errCode 1001, as in OpenIM.
pub(super) async fn parse_token(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.user(request).await.map_err(|refusal| match refusal {
        Refusal::Token(_) => Refusal::TokenUnparsed,
        other => other,
    })?;
    let body: Operation<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    Ok(bodies::answer(TokenParsed {
        user_id: call.caller.user.as_str(),
        platform: call.caller.platform.name(),
        expires_at_s: call.caller.expires_at_s,
    }))
}

/// Revokes every token of (user, platform) issued until now, durably, and closes the user's connections on that platform.
pub(super) async fn force_logout(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await.map_err(|refusal| match refusal {
        Refusal::NotAuthorized => Refusal::NotPermitted,
        other => other,
    })?;
    let body: LogoutRequest<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let platform = required_platform(body.platform)?;
    let user = body.from_user_id.required_user("fromUserID")?;
    call.note.user(&user);
    call.note.platform(platform);
    let connections = app.confirmed(app.delivery.log_out(user, platform)).await?;
    Ok(bodies::answer(LoggedOut { connections }))
}

impl App {
    /// The user and platform that a token is asked for, after the secret was checked.
    fn applicant(&self, call: &TokenlessCall) -> Result<(UserId, Platform), Refusal> {
        let body: TokenRequest<'_> = json::parse(&call.body)?;
        let secret = body.secret.required("secret")?;
        body.operation_id.required("operationID")?;
        let platform = required_platform(body.platform)?;
        let user = body.user_id.required_user("userID")?;
        call.note.user(&user);
        call.note.platform(platform);
        self.check_secret(&call.note, secret)?;
        Ok((user, platform))
    }

    async fn issue(&self, user: &UserId, platform: Platform) -> Result<Response, Refusal> {
        let issued = self.delivery.issue_token(user, platform);
        let issued = self.answered(issued).await?;
        Ok(bodies::answer(TokenIssued {
            user_id: user.as_str(),
            token: &issued.token,
            expired_time: issued.expires_at_s,
        }))
    }
}

fn required_platform(number: Option<u32>) -> Result<Platform, Refusal> {
    let number = json::required(number, "platform")?;
    Platform::from_number(number).map_err(|error| Refusal::Id("platform", error))
}
