//! The calls of the SDKs about push: a phone registers with Google's service, and says what its badge shows.

use axum::{http::HeaderMap, response::Response};

use super::{
    answer::{NoData, success},
    body::{Body, check_owner},
    failure::CallFailure,
    routes::Calls,
};
use crate::{
    delivery::{DeviceError, Registration},
    ids::{Platform, UserId},
};

impl Calls {
    /// Registers the caller's phone with its token of FCM. `expireTime` is not needed: Google says when a token is gone.
    pub(super) async fn update_fcm_token(
        &self,
        user: &UserId,
        headers: &HeaderMap,
        body: &Body,
    ) -> Result<Response, CallFailure> {
        check_owner("account", body.text("account")?, user)?;
        let platform = u32::try_from(body.number("platformID")?);
        let platform = platform
            .ok()
            .and_then(|one| Platform::from_number(one).ok());
        let platform = platform.ok_or(CallFailure::Field("platformID", "a platform"))?;
        let fcm_token = body.text("fcmToken")?;
        if fcm_token.is_empty() {
            return Err(CallFailure::Required("fcmToken"));
        }
        let token = headers.get("token").and_then(|token| token.to_str().ok());
        let token = token.unwrap_or_default();
        let claims = self.delivery.authenticate(token).await?;
        let registration = Registration {
            provider: "fcm",
            token: fcm_token,
            platform: Some(platform),
            ..Registration::default()
        };
        let registered = self
            .delivery
            .register_device(&claims, token, &registration)
            .await;
        registered?;
        Ok(success(NoData {}))
    }

    /// Takes note of the unread sum of the caller's app. Nothing is kept of it: a push shows the unread sum of the conversations here,
    /// which the app's marks lower.
    pub(super) fn set_badge(&self, body: &Body) -> Result<Response, CallFailure> {
        body.number("appUnreadCount")?;
        Ok(success(NoData {}))
    }
}

impl From<DeviceError> for CallFailure {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Token(error) => error.into(),
            DeviceError::Send(error) => error.into(),
            DeviceError::TooOften => Self::TooOften,
            error => Self::Device(error.to_string()),
        }
    }
}
