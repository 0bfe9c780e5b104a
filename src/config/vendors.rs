//! The sections of the vendors below `push`. A vendor is in use when its section has its first key.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::mask;
use crate::message::PUSH_SERVICES;

/// `push.getui`. No print shows a secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GetuiKeys {
    /// The app's id; empty: Getui is not in use.
    pub app_id: String,
    /// The app's key.
    pub app_key: String,
    /// The secret that signs for it.
    #[serde(serialize_with = "mask::mask")]
    pub master_secret: String,
    /// Getui's address, without a path.
    pub url: String,
}

/// `push.jpush`. No print shows a secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JpushKeys {
    /// The app's key; empty: JPush is not in use.
    pub app_key: String,
    /// The secret that belongs to it.
    #[serde(serialize_with = "mask::mask")]
    pub master_secret: String,
    /// JPush's address, without a path.
    pub url: String,
}

/// `push.apns`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApnsKeys {
    /// The key file (`AuthKey_….p8`); empty: APNs is not in use.
    pub key_file: PathBuf,
    /// The key's id.
    pub key_id: String,
    /// The id of the developer's team.
    pub team_id: String,
    /// The app's bundle id.
    pub topic: String,
    /// Apple's address, without a path.
    pub url: String,
}

/// `push.fcm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FcmKeys {
    /// The service account's file, in JSON; empty: FCM is not in use.
    pub service_account_file: PathBuf,
    /// The address that grants access tokens.
    pub token_url: String,
    /// Google's address for messages, without a path.
    pub url: String,
}

/// `push.webpush`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebPushKeys {
    /// A `mailto:` or https address at which a browser's service reaches the operator; empty: Web Push is not in use.
    pub subject: String,
    /// The hosts of the services that subscriptions may name; `*.` in front stands for all below.
    pub hosts: Vec<String>,
    /// A relay that gets the requests, with the service's host as the first part of their path; empty: none.
    pub url: String,
}

/// `push.http`. No print shows a secret.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpKeys {
    /// The address that gets the notices; empty: the generic provider is not in use.
    pub url: String,
    /// The secret that signs them: `whsec_` and base64.
    #[serde(serialize_with = "mask::mask")]
    pub secret: String,
}

impl Default for GetuiKeys {
    fn default() -> Self {
        Self {
            app_id: String::new(),
            app_key: String::new(),
            master_secret: String::new(),
            url: "https://restapi.getui.com".into(),
        }
    }
}

impl Default for JpushKeys {
    fn default() -> Self {
        Self {
            app_key: String::new(),
            master_secret: String::new(),
            url: "https://api.jpush.cn".into(),
        }
    }
}

impl Default for ApnsKeys {
    fn default() -> Self {
        Self {
            key_file: PathBuf::new(),
            key_id: String::new(),
            team_id: String::new(),
            topic: String::new(),
            url: "https://api.push.apple.com".into(),
        }
    }
}

impl Default for FcmKeys {
    fn default() -> Self {
        Self {
            service_account_file: PathBuf::new(),
            token_url: "https://oauth2.googleapis.com/token".into(),
            url: "https://fcm.googleapis.com".into(),
        }
    }
}

impl Default for WebPushKeys {
    fn default() -> Self {
        Self {
            subject: String::new(),
            hosts: PUSH_SERVICES.map(str::to_owned).into(),
            url: String::new(),
        }
    }
}

impl fmt::Debug for GetuiKeys {
    /// Never prints a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetuiKeys")
            .field("app_id", &self.app_id)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JpushKeys {
    /// Never prints a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JpushKeys")
            .field("app_key", &self.app_key)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpKeys {
    /// Never prints a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpKeys")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}
