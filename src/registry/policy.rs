//! The login policies 0–5 (`docs/protocol.md#login-policy`): which session a newer login replaces.
//!
//! A policy gives each user a number of places, and gives each session one of them. A newer session replaces the older
//! session in its place. Policy 0 has a place for every platform and device.

use crate::ids::{Platform, SessionKey};

/// A login policy, by OpenIM's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// 0: no session is replaced; one platform may have several devices, told apart by their ids.
    Everyone,
    /// 1: one session per platform.
    OnePerPlatform,
    /// 2: one session per user.
    OnePerUser,
    /// 3: the web session beside one other session.
    WebBesideOther,
    /// 4: one session per class of platforms.
    OnePerClass,
    /// 5: the PC session beside one other session.
    PcBesideOther,
}

/// OpenIM's classes of platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Mobile,
    Pc,
    Pad,
    Web,
    Admin,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Pc => "pc",
            Self::Pad => "pad",
            Self::Web => "web",
            Self::Admin => "admin",
        }
    }
}

fn class(platform: Platform) -> Class {
    match platform {
        Platform::Ios | Platform::Android | Platform::HarmonyOs => Class::Mobile,
        Platform::Windows | Platform::Osx | Platform::Linux => Class::Pc,
        Platform::AndroidPad | Platform::IPad => Class::Pad,
        Platform::Web | Platform::MiniWeb => Class::Web,
        Platform::Admin => Class::Admin,
    }
}

impl Policy {
    /// The policy with OpenIM's number.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Everyone,
            1 => Self::OnePerPlatform,
            2 => Self::OnePerUser,
            3 => Self::WebBesideOther,
            4 => Self::OnePerClass,
            5 => Self::PcBesideOther,
            _ => return None,
        })
    }

    /// True if the policy tells sessions of one platform apart by their device. Otherwise a session's device is empty.
    pub fn tells_devices_apart(self) -> bool {
        self == Self::Everyone
    }

    /// The place of a session among those of its user, as text that all gateways share. A session replaces the one with the same
    /// place.
    pub fn place_key(self, platform: Platform, device: &str) -> Box<str> {
        let number = platform.number();
        let either =
            |is_first: bool, first: &str, other: &str| if is_first { first } else { other }.into();
        match self {
            Self::Everyone => format!("{number}:{device}").into(),
            Self::OnePerPlatform => number.to_string().into(),
            Self::OnePerUser => "*".into(),
            Self::WebBesideOther => either(class(platform) == Class::Web, "web", "other"),
            Self::OnePerClass => class(platform).name().into(),
            Self::PcBesideOther => either(class(platform) == Class::Pc, "pc", "other"),
        }
    }

    /// True if a session of `newer` takes the place of `older`. Both belong to one user.
    pub fn replaces(self, newer: &SessionKey, older: (Platform, &str)) -> bool {
        let (platform, device) = older;
        let is_same =
            |class_of: fn(Platform) -> bool| class_of(newer.platform) == class_of(platform);
        match self {
            Self::Everyone => newer.platform == platform && *newer.device == *device,
            Self::OnePerPlatform => newer.platform == platform,
            Self::OnePerUser => true,
            Self::WebBesideOther => is_same(|platform| class(platform) == Class::Web),
            Self::OnePerClass => class(newer.platform) == class(platform),
            Self::PcBesideOther => is_same(|platform| class(platform) == Class::Pc),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    /// The other platforms, each already connected, that a session on `newer` replaces.
    fn replaced(policy: u8, newer: Platform) -> Vec<u32> {
        let policy = Policy::from_number(policy).unwrap();
        let newer = SessionKey {
            user: UserId::new("u").unwrap(),
            platform: newer,
            device: "".into(),
        };
        let is_replaced = |older: &Platform| policy.replaces(&newer, (*older, ""));
        let replaced = Platform::ALL.into_iter().filter(is_replaced);
        replaced.map(Platform::number).collect()
    }

    #[test]
    fn each_policy_replaces_whom_the_table_says() {
        use Platform::*;
        let all: Vec<u32> = (1..=11).collect();
        let not_web = vec![1, 2, 3, 4, 7, 8, 9, 10, 11];
        let not_pc = vec![1, 2, 5, 6, 8, 9, 10, 11];
        let table = [
            (0, Ios, vec![1]),
            (0, Web, vec![5]),
            (1, Ios, vec![1]),
            (1, Android, vec![2]),
            (1, Web, vec![5]),
            (1, Admin, vec![10]),
            (2, Ios, all.clone()),
            (2, Web, all),
            (3, Web, vec![5, 6]),
            (3, MiniWeb, vec![5, 6]),
            (3, Ios, not_web.clone()),
            (3, Windows, not_web.clone()),
            (3, Admin, not_web),
            (4, Ios, vec![1, 2, 11]),
            (4, HarmonyOs, vec![1, 2, 11]),
            (4, Windows, vec![3, 4, 7]),
            (4, Linux, vec![3, 4, 7]),
            (4, IPad, vec![8, 9]),
            (4, MiniWeb, vec![5, 6]),
            (4, Admin, vec![10]),
            (5, Osx, vec![3, 4, 7]),
            (5, Linux, vec![3, 4, 7]),
            (5, Ios, not_pc.clone()),
            (5, Web, not_pc.clone()),
            (5, IPad, not_pc),
        ];
        for (policy, newer, expected) in table {
            assert_eq!(
                replaced(policy, newer),
                expected,
                "policy {policy}, {newer}"
            );
        }
        assert_eq!(Policy::from_number(6), None);
    }

    #[test]
    fn a_session_replaces_those_with_its_place_and_no_others() {
        let session = |platform, device: &str| SessionKey {
            user: UserId::new("u").unwrap(),
            platform,
            device: device.into(),
        };
        for policy in (0..=5).map(|number| Policy::from_number(number).unwrap()) {
            let place = |of: &SessionKey| policy.place_key(of.platform, &of.device);
            for newer in Platform::ALL {
                for (older, device) in Platform::ALL
                    .into_iter()
                    .zip(["a", "b"].into_iter().cycle())
                {
                    let (newer, older) = (session(newer, "a"), session(older, device));
                    let replaces = policy.replaces(&newer, (older.platform, &older.device));
                    assert_eq!(
                        place(&newer) == place(&older),
                        replaces,
                        "{policy:?} {newer:?} {older:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn policy_0_tells_devices_of_a_platform_apart() {
        let phone = |device: &str| SessionKey {
            user: UserId::new("u").unwrap(),
            platform: Platform::Ios,
            device: device.into(),
        };
        let replaces = |older| Policy::Everyone.replaces(&phone("a"), older);
        assert!(replaces((Platform::Ios, "a")));
        assert!(!replaces((Platform::Ios, "b")));
        assert!(!replaces((Platform::Android, "a")));
    }
}
