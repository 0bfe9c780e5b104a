//! The two rows of a device in the table of devices.
//!
//! | key | value |
//! |---|---|
//! | `t`, device key | the user to whom the vendor's token belongs |
//! | `u`, user, `\0`, device key | the device |
//!
//! A device key is the SHA-256 of the provider and of what names the device there. So a key is short, and both rows are found
//! by a look at one key.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{
    ids::UserId,
    log::{RowChange, RowTable},
    message::{Device, Provider, PushSubscription},
};

/// The devices of a user that are read: as many as any configuration allows.
pub(super) const DEVICES_READ_MAX: usize = 256;

/// Names a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceKey([u8; 32]);

impl DeviceKey {
    /// The key of a device.
    pub(super) fn of(device: &Device) -> Self {
        Self::new(device.provider, &device.token)
    }

    /// The key of the device with this vendor's token. A browser's subscription is named by its address: its keys may change.
    pub(super) fn new(provider: Provider, token: &str) -> Self {
        let subscription = (provider == Provider::WebPush).then(|| PushSubscription::parse(token));
        let endpoint = subscription.and_then(Result::ok).map(|one| one.endpoint);
        let name = endpoint.as_deref().unwrap_or(token);
        let digest = Sha256::new()
            .chain_update([provider.number() as u8])
            .chain_update(name);
        Self(digest.finalize().into())
    }

    /// The key of the row that names the user.
    pub(super) fn by_token(&self) -> Vec<u8> {
        [b"t", &self.0[..]].concat()
    }

    /// The key of the row that has the device.
    fn by_user(&self, user: &UserId) -> Vec<u8> {
        [&of_user(user), &self.0[..]].concat()
    }
}

/// The beginning of the keys of a user's devices.
pub(super) fn of_user(user: &UserId) -> Vec<u8> {
    [b"u", user.as_str().as_bytes(), b"\0"].concat()
}

/// The device of a user in a row. A row of a later version that does not read is none.
pub(super) fn of_row(user: &UserId, row: &[u8]) -> Option<Device> {
    Device::from_bytes(user, row)
}

/// The user in a row.
pub(super) fn owner_of_row(row: &[u8]) -> Option<UserId> {
    UserId::new(std::str::from_utf8(row).ok()?).ok()
}

/// The changes that write a device.
pub(super) fn put(device: &Device) -> [RowChange; 2] {
    let user = Bytes::copy_from_slice(device.user.as_str().as_bytes());
    changes(device, Some((user, device.to_bytes().into())))
}

/// The changes that remove a device.
pub(super) fn removal(device: &Device) -> [RowChange; 2] {
    changes(device, None)
}

fn changes(device: &Device, values: Option<(Bytes, Bytes)>) -> [RowChange; 2] {
    let key = DeviceKey::of(device);
    let (by_token, by_user) = values.unzip();
    let change = |key: Vec<u8>, value| RowChange {
        table: RowTable::Devices,
        key: key.into(),
        value,
    };
    [
        change(key.by_token(), by_token),
        change(key.by_user(&device.user), by_user),
    ]
}
