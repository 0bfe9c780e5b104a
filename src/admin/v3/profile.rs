//! A user's profile as the log keeps it: the JSON object that a registration of either version stored. Fields that v3 does not
//! know are kept.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    super::{auth::PROFILE_BYTES_MAX, call::App, error::Refusal},
    error::V3Refusal,
};
use crate::ids::UserId;

/// OpenIM's numbers in `appMangerLevel`, spelled as in OpenIM.
pub(super) mod level {
    /// Everybody else.
    pub(in super::super) const USER: u32 = 1;
    /// An administrator of the configuration.
    pub(in super::super) const ADMIN: u32 = 2;
    /// A notification account.
    pub(in super::super) const NOTIFIER: u32 = 3;
}

/// The key of the mark of a notification account.
const LEVEL: &str = "appMangerLevel";
/// The key of the time of the registration, Unix ms.
const CREATE_TIME: &str = "createTime";

/// The profile of a registered user.
#[derive(Default)]
pub(super) struct StoredProfile(Map<String, Value>);

impl StoredProfile {
    /// A profile that begins at this Unix ms.
    pub(super) fn new(create_time_ms: u64) -> Self {
        Self(Map::from_iter([(
            CREATE_TIME.to_owned(),
            create_time_ms.into(),
        )]))
    }

    /// Reads a stored profile. The log keeps any bytes; those that are no object are an empty profile.
    fn read(bytes: &[u8]) -> Self {
        Self(serde_json::from_slice(bytes).unwrap_or_default())
    }

    pub(super) fn nickname(&self) -> &str {
        self.text("nickname")
    }

    pub(super) fn face_url(&self) -> &str {
        self.text("faceURL")
    }

    pub(super) fn ex(&self) -> &str {
        self.text("ex")
    }

    /// The time of the registration, Unix ms; 0 where it was v2's.
    pub(super) fn create_time_ms(&self) -> u64 {
        let time = self.0.get(CREATE_TIME).and_then(Value::as_u64);
        time.unwrap_or_default()
    }

    pub(super) fn is_notifier(&self) -> bool {
        self.0.get(LEVEL).and_then(Value::as_u64) == Some(level::NOTIFIER.into())
    }

    pub(super) fn mark_as_notifier(&mut self) {
        self.0.insert(LEVEL.to_owned(), level::NOTIFIER.into());
    }

    pub(super) fn set_nickname(&mut self, text: &str) {
        self.set("nickname", text);
    }

    pub(super) fn set_face_url(&mut self, text: &str) {
        self.set("faceURL", text);
    }

    pub(super) fn set_ex(&mut self, text: &str) {
        self.set("ex", text);
    }

    /// The bytes for the log.
    pub(super) fn to_bytes(&self) -> Result<Bytes, Refusal> {
        let bytes = serde_json::to_vec(&self.0).expect("a map of JSON is JSON");
        if bytes.len() > PROFILE_BYTES_MAX {
            return Err(Refusal::TooLarge {
                what: "the profile",
                max: PROFILE_BYTES_MAX,
            });
        }
        Ok(bytes.into())
    }

    fn text(&self, key: &str) -> &str {
        let text = self.0.get(key).and_then(Value::as_str);
        text.unwrap_or_default()
    }

    fn set(&mut self, key: &str, text: &str) {
        self.0.insert(key.to_owned(), text.into());
    }
}

impl App {
    /// The user's profile; `None` for a user who is not registered.
    pub(super) async fn profile(&self, user: &UserId) -> Result<Option<StoredProfile>, Refusal> {
        let stored = self.answered(self.delivery.profile(user)).await?;
        Ok(stored.map(|bytes| StoredProfile::read(&bytes)))
    }

    /// The profile of a user who must be registered.
    pub(super) async fn registered(&self, user: &UserId) -> Result<StoredProfile, V3Refusal> {
        let profile = self.profile(user).await?;
        profile.ok_or_else(|| V3Refusal::NoUser(user.to_string()))
    }

    /// Stores the user's profile, durably.
    pub(super) async fn store_profile(
        &self,
        user: UserId,
        profile: &StoredProfile,
    ) -> Result<(), Refusal> {
        let bytes = profile.to_bytes()?;
        self.confirmed(self.delivery.register(user, bytes)).await
    }
}
