//! The identifiers that all rooms use: users, platforms, sessions, connections, messages, sequence numbers.
//!
//! Each type checks its bounds and knows its printed form. No value outside the bounds can be built. Leaves to others: the
//! things that the ids refer to.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// The longest user id, device id and client message id, in bytes: `docs/architecture.md#identifiers`.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text or number is no id. The text tells the caller the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The id is empty.
    #[error("is empty")]
    Empty,
    /// More than [`ID_BYTES_MAX`] bytes.
    #[error("is {0} bytes long, at most 64 are allowed")]
    TooLong(usize),
    /// The id contains a control character.
    #[error("contains a control character")]
    Control,
    /// No platform has this number or name.
    #[error("is not a known platform")]
    Platform,
    /// Not 32 hexadecimal digits.
    #[error("is not 32 hexadecimal digits")]
    MessageId,
}

/// Checks the rule that user ids, device ids and client message ids share: 1–64 bytes, no control characters.
pub fn check_id(text: &str) -> Result<(), IdError> {
    match text {
        "" => Err(IdError::Empty),
        _ if text.len() > ID_BYTES_MAX => Err(IdError::TooLong(text.len())),
        _ if text.chars().any(char::is_control) => Err(IdError::Control),
        _ => Ok(()),
    }
}

/// A user: 1–64 bytes of UTF-8 without control characters. Cheap to clone; the bytes are shared.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks the text and makes an id of it.
    pub fn new(text: &str) -> Result<Self, IdError> {
        check_id(text)?;
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A class of devices, with OpenIM's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Platform {
    Ios = 1,
    Android = 2,
    Windows = 3,
    Osx = 4,
    Web = 5,
    MiniWeb = 6,
    Linux = 7,
    AndroidPad = 8,
    IPad = 9,
    Admin = 10,
    HarmonyOs = 11,
}

impl Platform {
    /// Every platform, by number.
    pub const ALL: [Self; 11] = [
        Self::Ios,
        Self::Android,
        Self::Windows,
        Self::Osx,
        Self::Web,
        Self::MiniWeb,
        Self::Linux,
        Self::AndroidPad,
        Self::IPad,
        Self::Admin,
        Self::HarmonyOs,
    ];

    /// The platform with OpenIM's number.
    pub fn from_number(number: u32) -> Result<Self, IdError> {
        Self::ALL
            .into_iter()
            .find(|p| p.number() == number)
            .ok_or(IdError::Platform)
    }

    /// OpenIM's number.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// OpenIM's name, as the `Platform` claim of a token has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ios => "IOS",
            Self::Android => "Android",
            Self::Windows => "Windows",
            Self::Osx => "OSX",
            Self::Web => "Web",
            Self::MiniWeb => "MiniWeb",
            Self::Linux => "Linux",
            Self::AndroidPad => "AndroidPad",
            Self::IPad => "IPad",
            Self::Admin => "Admin",
            Self::HarmonyOs => "HarmonyOS",
        }
    }
}

impl FromStr for Platform {
    type Err = IdError;

    /// Reads a name in any case (`web`, `IOS`) or a number. OpenIM's `APad` is Android's pad.
    fn from_str(text: &str) -> Result<Self, IdError> {
        if let Ok(number) = text.parse() {
            return Self::from_number(number);
        }
        if text.eq_ignore_ascii_case("APad") {
            return Ok(Self::AndroidPad);
        }
        Self::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(text))
            .ok_or(IdError::Platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The key of a session: one user on one platform, and on one device if the login policy allows several.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The user of the session.
    pub user: UserId,
    /// The class of its device.
    pub platform: Platform,
    /// The device's id. Empty unless the policy allows several devices, or the session is an OpenIM client's. At most 64 bytes.
    pub device: Arc<str>,
}

/// The first bytes of the device of an OpenIM session. No client can choose such a device, because of the control character.
const OPENIM_DEVICE: &str = "v3\u{1f}";

impl SessionKey {
    /// The device of an OpenIM session, whose token has this SHA-256: it is told apart by the token, not by a device id.
    pub fn openim_device(token_sha256: &[u8; 32]) -> Arc<str> {
        let first = token_sha256.first_chunk().expect("32 bytes hold 8");
        format!("{OPENIM_DEVICE}{:016x}", u64::from_be_bytes(*first)).into()
    }

    /// True for an OpenIM session. It is forgotten when it has neither logged in nor acked for `log.retention`: each new token is
    /// another one.
    pub fn is_openim(&self) -> bool {
        self.device.starts_with(OPENIM_DEVICE)
    }
}

/// The number of an entry in a user's inbox: from 1, without gaps, assigned at append. 0 means before the first entry, and
/// marks online-only messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The next seq.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The previous seq; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an entry in its receiver's conversation: from 1, without gaps, assigned at append together with the [`Seq`]. 0
/// means before the first message, and marks entries that are in no conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ConversationSeq(pub u64);

impl ConversationSeq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);

    /// The next conversation seq.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The previous conversation seq; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The number of a message in its conversation as OpenIM's v3 clients count it: the conversation seq, and the base of the epoch in
/// which the message was stored. It ascends within a conversation, with a hole where an epoch begins. 0 means before the first
/// message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct WireSeq(pub u64);

impl WireSeq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);

    /// The next wire seq.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The previous wire seq; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Identifies one log from its creation on. A new log after a loss or a restore has another epoch. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// One connection of this process: the reactor's number in the top 16 bits, a counter below. Never reused within the
/// process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A gateway of a fleet. The store gives each number once, and a gateway that comes back has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(pub u64);

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The order of the sessions that had one place: the newest has the highest. 0 where a single gateway orders them by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Fence(pub u64);

impl Fence {
    /// The fence of a session at the only gateway of its log.
    pub const NONE: Self = Self(0);
}

/// The server's message id: a UUIDv7, printed as 32 lowercase hex digits, so ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// A new id for a message accepted at `time_ms` (Unix ms).
    pub fn new(time_ms: u64) -> Self {
        let random = fastrand::u128(..).to_le_bytes();
        let random = random.first_chunk().expect("16 bytes hold 10");
        Self(
            uuid::Builder::from_unix_timestamp_millis(time_ms, random)
                .into_uuid()
                .into_bytes(),
        )
    }

    /// The time at which the message was accepted, Unix ms.
    pub fn time_ms(&self) -> u64 {
        self.0[..6]
            .iter()
            .fold(0, |time, byte| time << 8 | u64::from(*byte))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_canonical = text.len() == 32
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let uuid = uuid::Uuid::try_parse(text)
            .ok()
            .filter(|_| is_canonical)
            .ok_or(IdError::MessageId)?;
        Ok(Self(uuid.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_1_to_64_bytes_without_control_characters() {
        assert!(UserId::new("18712345678").is_ok());
        assert!(UserId::new(&"x".repeat(64)).is_ok());
        assert_eq!(UserId::new(""), Err(IdError::Empty));
        assert_eq!(UserId::new(&"x".repeat(65)), Err(IdError::TooLong(65)));
        assert_eq!(UserId::new("a\nb"), Err(IdError::Control));
        assert_eq!(UserId::new("a\u{85}b"), Err(IdError::Control));
    }

    #[test]
    fn the_device_of_an_openim_session_is_its_tokens_and_none_that_a_client_can_choose() {
        let digest = std::array::from_fn(|at| at as u8);
        let device = SessionKey::openim_device(&digest);
        assert_eq!(&*device, "v3\u{1f}0001020304050607");
        assert_eq!(check_id(&device), Err(IdError::Control));
        let key = |device| SessionKey {
            user: UserId::new("u").unwrap(),
            platform: Platform::Ios,
            device,
        };
        assert!(key(device).is_openim());
        for other in ["", "v3", "v3:0001020304050607"] {
            assert!(!key(other.into()).is_openim());
        }
    }

    #[test]
    fn platforms_read_their_own_names_and_numbers() {
        for platform in Platform::ALL {
            assert_eq!(platform.name().parse(), Ok(platform));
            assert_eq!(platform.number().to_string().parse(), Ok(platform));
        }
        assert_eq!("12".parse::<Platform>(), Err(IdError::Platform));
    }

    #[test]
    fn message_ids_round_trip_and_carry_their_time() {
        let id = MessageId::new(1_645_697_804_432);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.time_ms(), 1_645_697_804_432);
        assert_eq!("018F".parse::<MessageId>(), Err(IdError::MessageId));
    }
}
