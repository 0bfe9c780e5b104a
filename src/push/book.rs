//! The devices of users, for the decisions and the workers: a bounded memory of the log's rows.
//!
//! Nearly every message goes to a user without a device. So the answer "none" is remembered as well, and costs no look at the log.

use std::{collections::HashMap, mem::take, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::{
    config::DeviceClass,
    delivery::{Delivery, LogError},
    ids::{Platform, UserId},
    message::{Device, Provider},
};

/// The users that are remembered in one generation; the one before is kept as well. Some 20 MB where nobody has a device: the users of
/// 20 s at 9,000 messages a second.
const KNOWN_USERS_MAX: usize = 131_072;

/// Devices of users, as far as their vendors are configured.
pub(super) struct DeviceBook {
    delivery: Arc<Delivery>,
    providers: Vec<Provider>,
    present: HashMap<UserId, Known>,
    before: HashMap<UserId, Known>,
}

#[derive(Clone)]
struct Known {
    /// The state of the user's devices at the time of the look.
    version: u64,
    devices: Arc<[Device]>,
}

/// The class of a device; of its provider, if its platform has none.
pub(super) fn class_of(device: &Device) -> DeviceClass {
    let class = device.platform.and_then(DeviceClass::of);
    class.unwrap_or(match device.provider {
        Provider::WebPush => DeviceClass::Web,
        _ => DeviceClass::Mobile,
    })
}

/// The name of a device in tasks: a digest of the vendor's token.
pub(super) fn digest_of(device: &Device) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(device.token.as_bytes()).into();
    *digest.first_chunk().expect("32 bytes begin with 16")
}

/// True if the device's badge shows a number, or may do so: nobody knows the devices behind an alias.
pub(super) fn has_badge(device: &Device) -> bool {
    matches!(device.platform, Some(Platform::Ios | Platform::IPad))
        || device.provider == Provider::Apns
        || device.provider.is_by_alias()
}

impl DeviceBook {
    /// The devices of these providers.
    pub(super) fn new(delivery: Arc<Delivery>, providers: Vec<Provider>) -> Self {
        Self {
            delivery,
            providers,
            present: HashMap::new(),
            before: HashMap::new(),
        }
    }

    /// The devices of a user. Vendors that address users by an alias have one of every user. Cancel safe: it only reads.
    pub(super) async fn devices(&mut self, user: &UserId) -> Result<Arc<[Device]>, LogError> {
        let version = self.delivery.devices_version(user);
        let known = self.present.get(user).or_else(|| self.before.get(user));
        if let Some(known) = known.filter(|known| known.version == version) {
            let known = known.clone();
            if !self.present.contains_key(user) {
                self.remember(user, known.clone());
            }
            return Ok(known.devices);
        }
        let mut devices = self.delivery.devices(user).await?;
        devices.retain(|device| self.providers.contains(&device.provider));
        let by_alias = self
            .providers
            .iter()
            .copied()
            .filter(|one| one.is_by_alias());
        devices.extend(by_alias.map(|provider| Device::of_alias(provider, user)));
        let devices: Arc<[Device]> = devices.into();
        let known = Known {
            version,
            devices: Arc::clone(&devices),
        };
        self.remember(user, known);
        Ok(devices)
    }

    /// Forgets all users. Devices that are registered at other gateways from now on are seen.
    pub(super) fn clear(&mut self) {
        self.present.clear();
        self.before.clear();
    }

    fn remember(&mut self, user: &UserId, known: Known) {
        if self.present.len() >= KNOWN_USERS_MAX {
            self.before = take(&mut self.present);
        }
        self.present.insert(user.clone(), known);
    }
}
