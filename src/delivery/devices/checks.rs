//! The rules of a registration's fields. Everything here comes from an app, and so from anybody.

use super::{DeviceError, Registration, rows::DeviceKey};
use crate::{
    message::{
        DEVICE_APP_BYTES_MAX, DEVICE_LANG_BYTES_MAX, DEVICE_TOKEN_BYTES_MAX, Device, Provider,
        PushSubscription,
    },
    token::Claims,
};

/// The device of a registration, without the times and the hash of the user's token.
pub(super) fn device_of(
    registration: &Registration<'_>,
    claims: &Claims,
    webpush_hosts: &[String],
) -> Result<Device, DeviceError> {
    let (provider, token) = token_of(registration.provider, registration.token)?;
    if provider == Provider::WebPush {
        let subscription = PushSubscription::parse(&token);
        let is_allowed = subscription.is_ok_and(|one| one.is_at(webpush_hosts));
        if !is_allowed {
            let rule = "must have an endpoint at a service of push.webpush.hosts";
            return Err(DeviceError::Field("token", rule));
        }
    }
    if registration
        .platform
        .is_some_and(|platform| platform != claims.platform)
    {
        return Err(DeviceError::OtherPlatform);
    }
    let (app, lang) = (registration.app, registration.lang);
    check_text("app", app, DEVICE_APP_BYTES_MAX)?;
    check_text("lang", lang, DEVICE_LANG_BYTES_MAX)?;
    let is_of_tag = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !lang.bytes().all(is_of_tag) {
        return Err(DeviceError::Field(
            "lang",
            "must be a language tag such as zh-CN",
        ));
    }
    Ok(Device {
        provider,
        token,
        user: claims.user.clone(),
        platform: Some(claims.platform),
        app: app.to_owned(),
        lang: lang.to_owned(),
        token_hash: [0; 32],
        registered_at_ms: 0,
    })
}

/// The key of the device with this token.
pub(super) fn key_of(provider: &str, token: &str) -> Result<DeviceKey, DeviceError> {
    let (provider, token) = token_of(provider, token)?;
    Ok(DeviceKey::new(provider, &token))
}

/// The provider, and the vendor's token in the form in which it is kept.
fn token_of(provider: &str, token: &str) -> Result<(Provider, String), DeviceError> {
    let provider = Provider::from_name(provider).filter(|provider| !provider.is_by_alias());
    let provider = provider.ok_or(DeviceError::Provider)?;
    let rule = |rule| Err(DeviceError::Field("token", rule));
    if token.is_empty() {
        return rule("is required");
    }
    check_text("token", token, DEVICE_TOKEN_BYTES_MAX)?;
    let token = match provider {
        Provider::Apns
            if !token.len().is_multiple_of(2) || !token.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            return rule("must be a device token in hexadecimal");
        }
        Provider::Apns => token.to_ascii_lowercase(),
        Provider::Fcm if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return rule("must be a registration token, in visible ASCII characters");
        }
        Provider::WebPush => match PushSubscription::parse(token) {
            Ok(subscription) => subscription.to_json(),
            Err(wrong) => return rule(wrong),
        },
        _ if token.chars().any(char::is_control) => {
            return rule("must have no control characters");
        }
        _ => token.to_owned(),
    };
    Ok((provider, token))
}

fn check_text(name: &'static str, text: &str, bytes_max: usize) -> Result<(), DeviceError> {
    if text.len() > bytes_max {
        return Err(DeviceError::TooLong(name, bytes_max));
    }
    // A subscription's JSON may have line ends. It is read and written again.
    if name != "token" && text.chars().any(char::is_control) {
        return Err(DeviceError::Field(name, "must have no control characters"));
    }
    Ok(())
}
