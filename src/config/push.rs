//! The section `push`: pushes by the vendors' services to devices whose apps did not get a message otherwise.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    duration,
    vendors::{ApnsKeys, FcmKeys, GetuiKeys, HttpKeys, JpushKeys, WebPushKeys},
};
use crate::ids::Platform;

/// Vendor push.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// The time after the accept of a message at which the devices of a class get a push, unless a session of the class has acked it.
    #[serde(with = "duration")]
    pub after: Duration,
    /// The classes whose ack serves the other classes as well.
    pub unless_acked_on: Vec<DeviceClass>,
    /// The most decisions and tasks that wait. Above it the oldest tasks end as expired.
    pub tasks_max: usize,
    /// A task ends as expired when this much time has passed since its message was accepted.
    #[serde(with = "duration")]
    pub expire_after: Duration,
    /// True if a push has the text of its message.
    pub preview: bool,
    /// The most devices of a user. A further one takes the place of the one that was registered first.
    pub devices_per_user_max: usize,
    /// The title of a push whose request has none: by language, then by content type; `other` for all other types.
    pub titles: Titles,
    /// Getui.
    pub getui: GetuiKeys,
    /// JPush.
    pub jpush: JpushKeys,
    /// Apple's service.
    pub apns: ApnsKeys,
    /// Google's service.
    pub fcm: FcmKeys,
    /// The services of the browsers.
    pub webpush: WebPushKeys,
    /// The generic provider.
    pub http: HttpKeys,
}

/// Titles by language (`zh`, `en`), then by the number of the content type or [`OTHER_TITLE`].
pub type Titles = BTreeMap<String, BTreeMap<String, String>>;

/// The key of the title of all content types that have none of their own.
pub const OTHER_TITLE: &str = "other";

/// A class of devices. Each class is served by the acks of its own sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceClass {
    /// Phones and pads.
    Mobile,
    /// Windows, macOS, Linux.
    Pc,
    /// Browsers and mini programs.
    Web,
}

impl DeviceClass {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Mobile, Self::Pc, Self::Web];

    /// The class of a platform; `None` for administrators, who have no device.
    pub fn of(platform: Platform) -> Option<Self> {
        Some(match platform {
            Platform::Ios
            | Platform::Android
            | Platform::HarmonyOs
            | Platform::AndroidPad
            | Platform::IPad => Self::Mobile,
            Platform::Windows | Platform::Osx | Platform::Linux => Self::Pc,
            Platform::Web | Platform::MiniWeb => Self::Web,
            Platform::Admin => return None,
        })
    }

    /// Its name, as the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Pc => "pc",
            Self::Web => "web",
        }
    }
}

impl Default for Push {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(10),
            unless_acked_on: Vec::new(),
            tasks_max: 1_000_000,
            expire_after: Duration::from_secs(24 * 3600),
            preview: false,
            devices_per_user_max: 16,
            titles: titles(),
            getui: GetuiKeys::default(),
            jpush: JpushKeys::default(),
            apns: ApnsKeys::default(),
            fcm: FcmKeys::default(),
            webpush: WebPushKeys::default(),
            http: HttpKeys::default(),
        }
    }
}

impl Push {
    /// True if a vendor is in use.
    pub fn is_on(&self) -> bool {
        let first_keys = [
            !self.getui.app_id.is_empty(),
            !self.jpush.app_key.is_empty(),
            !self.apns.key_file.as_os_str().is_empty(),
            !self.fcm.service_account_file.as_os_str().is_empty(),
            !self.webpush.subject.is_empty(),
            !self.http.url.is_empty(),
        ];
        first_keys.contains(&true)
    }
}

fn titles() -> Titles {
    let zh = [
        ("101", "[文本]"),
        ("102", "[图片]"),
        ("103", "[语音]"),
        ("104", "[视频]"),
        ("105", "[文件]"),
        ("106", "[有人@你]"),
        ("1400", "[通知]"),
        (OTHER_TITLE, "您有一条新消息"),
    ];
    let en = [
        ("101", "[Text]"),
        ("102", "[Picture]"),
        ("103", "[Voice]"),
        ("104", "[Video]"),
        ("105", "[File]"),
        ("106", "[You were mentioned]"),
        ("1400", "[Notice]"),
        (OTHER_TITLE, "You have a new message"),
    ];
    let table = |rows: [(&str, &str); 8]| {
        let rows = rows.into_iter();
        rows.map(|(key, title)| (key.to_owned(), title.to_owned()))
            .collect()
    };
    BTreeMap::from([("zh".to_owned(), table(zh)), ("en".to_owned(), table(en))])
}
