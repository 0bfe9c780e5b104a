//! A device that gets pushes through a vendor's service, and its stored form.

use std::fmt;

use prost::Message as _;

use crate::ids::{Platform, UserId};

/// The longest vendor token in bytes. A Web Push subscription, the longest one, has some 600.
pub const DEVICE_TOKEN_BYTES_MAX: usize = 4096;
/// The longest name of an app in bytes, such as a bundle id.
pub const DEVICE_APP_BYTES_MAX: usize = 128;
/// The longest tag of a language in bytes (RFC 5646 section 4.4.1).
pub const DEVICE_LANG_BYTES_MAX: usize = 35;

/// A vendor's service, or the caller's own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// Getui, which addresses a user by an alias.
    Getui = 1,
    /// JPush, which addresses a user by an alias.
    JPush = 2,
    /// Apple's service.
    Apns = 3,
    /// Google's service.
    Fcm = 4,
    /// A browser's service (RFC 8030).
    WebPush = 5,
    /// The generic provider: a service of the operator's.
    Http = 6,
}

impl Provider {
    /// Every provider, by number.
    pub const ALL: [Self; 6] = [
        Self::Getui,
        Self::JPush,
        Self::Apns,
        Self::Fcm,
        Self::WebPush,
        Self::Http,
    ];

    /// Its name, as callers and the configuration spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Getui => "getui",
            Self::JPush => "jpush",
            Self::Apns => "apns",
            Self::Fcm => "fcm",
            Self::WebPush => "webpush",
            Self::Http => "http",
        }
    }

    /// The provider with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Its number in stored rows. Numbers are final.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The provider with this number; `None` for one of a later version.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// True if the vendor knows a user by the user's id. Then nothing registers, and every user has one device there.
    pub fn is_by_alias(self) -> bool {
        matches!(self, Self::Getui | Self::JPush)
    }
}

/// A device of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// The service that reaches it.
    pub provider: Provider,
    /// The vendor's name for the device: a device token, a subscription as JSON, or the user's id as an alias.
    pub token: String,
    /// The user who registered it last.
    pub user: UserId,
    /// The platform of the token with which it was registered; `None` for a device by alias.
    pub platform: Option<Platform>,
    /// The app that registered it; may be empty.
    pub app: String,
    /// The language of its titles as a tag, e.g. `zh-CN`; may be empty.
    pub lang: String,
    /// The SHA-256 of the user's token with which it was registered. A logout with this token removes the device.
    pub token_hash: [u8; 32],
    /// The time of its registration, Unix ms.
    pub registered_at_ms: u64,
}

/// The stored form of a device. Numbers are final, and a reader passes over fields that it does not know.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredDevice {
    #[prost(uint32, tag = "1")]
    provider: u32,
    #[prost(string, tag = "2")]
    token: String,
    #[prost(uint32, tag = "3")]
    platform: u32,
    #[prost(string, tag = "4")]
    app: String,
    #[prost(string, tag = "5")]
    lang: String,
    #[prost(bytes = "bytes", tag = "6")]
    token_hash: bytes::Bytes,
    #[prost(uint64, tag = "7")]
    registered_at_ms: u64,
}

impl Device {
    /// The device of a user at a vendor that addresses users by an alias.
    pub fn of_alias(provider: Provider, user: &UserId) -> Self {
        Self {
            provider,
            token: user.to_string(),
            user: user.clone(),
            platform: None,
            app: String::new(),
            lang: String::new(),
            token_hash: [0; 32],
            registered_at_ms: 0,
        }
    }

    /// The stored form, without the user.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = StoredDevice {
            provider: self.provider.number(),
            token: self.token.clone(),
            platform: self.platform.map_or(0, Platform::number),
            app: self.app.clone(),
            lang: self.lang.clone(),
            token_hash: bytes::Bytes::copy_from_slice(&self.token_hash),
            registered_at_ms: self.registered_at_ms,
        };
        stored.encode_to_vec()
    }

    /// Reads the stored form of a device of this user; `None` for bytes of another form, or a provider of a later version.
    pub fn from_bytes(user: &UserId, bytes: &[u8]) -> Option<Self> {
        let stored = StoredDevice::decode(bytes).ok()?;
        Some(Self {
            provider: Provider::from_number(stored.provider)?,
            token: stored.token,
            user: user.clone(),
            platform: Platform::from_number(stored.platform).ok(),
            app: stored.app,
            lang: stored.lang,
            token_hash: (&*stored.token_hash).try_into().ok()?,
            registered_at_ms: stored.registered_at_ms,
        })
    }
}

impl fmt::Debug for Device {
    /// Never prints a vendor's token: whoever has it may push to the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("provider", &self.provider)
            .field("user", &self.user)
            .field("platform", &self.platform)
            .field("app", &self.app)
            .field("lang", &self.lang)
            .field("registered_at_ms", &self.registered_at_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(user: &UserId) -> Device {
        Device {
            provider: Provider::Fcm,
            token: "a vendor's token".into(),
            user: user.clone(),
            platform: Some(Platform::Android),
            app: "com.example.oa".into(),
            lang: "zh-CN".into(),
            token_hash: [7; 32],
            registered_at_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn a_device_reads_back_as_it_was_stored_also_with_fields_of_a_later_version() {
        let user = UserId::new("u1").unwrap();
        let device = device(&user);
        let mut bytes = device.to_bytes();
        assert_eq!(Device::from_bytes(&user, &bytes), Some(device.clone()));
        bytes.extend(b"\xfa\x01\x04next"); // Field 31, four bytes.
        assert_eq!(Device::from_bytes(&user, &bytes), Some(device.clone()));
        let by_alias = Device::of_alias(Provider::JPush, &user);
        let read = Device::from_bytes(&user, &by_alias.to_bytes());
        assert_eq!(read, Some(by_alias));
    }

    #[test]
    fn bytes_that_are_no_device_are_none_and_cause_no_panic() {
        let user = UserId::new("u1").unwrap();
        let bytes = device(&user).to_bytes();
        for end in 0..bytes.len() {
            let _ = Device::from_bytes(&user, &bytes[..end]);
        }
        for wrong in [&b""[..], b"\xff", b"\x08\x63"] {
            assert_eq!(Device::from_bytes(&user, wrong), None);
        }
    }

    #[test]
    fn no_print_of_a_device_has_its_tokens() {
        let text = format!("{:?}", device(&UserId::new("u1").unwrap()));
        assert!(!text.contains("vendor") && !text.contains("[7"), "{text}");
    }

    #[test]
    fn a_provider_has_one_name_and_one_number() {
        for provider in Provider::ALL {
            assert_eq!(Provider::from_name(provider.name()), Some(provider));
            assert_eq!(Provider::from_number(provider.number()), Some(provider));
        }
        assert_eq!(Provider::from_name("APNS"), None);
        assert_eq!(Provider::from_number(0), None);
    }
}
