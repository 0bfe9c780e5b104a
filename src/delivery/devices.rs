//! The devices for push: users register them, and logouts, users, administrators and vendors remove them.
//!
//! A vendor's token belongs to the user who registered it last. So a device has two rows: one by the token, which names the user, and
//! one by the user, which has the device. Both change together. Changes of the same user or token are made one after the other: each look
//! at the rows sees the change before. All others go on at the same time, and share syncs of the log. Each is made in a task of its own:
//! a caller that goes away leaves no half change.
//!
//! - `checks.rs`: what a registration may contain; `pace.rs`: how often a user may change devices
//! - `rows.rs`: the two rows of a device

mod checks;
mod pace;
mod rows;

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash},
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, MutexGuard, oneshot};

use self::{
    pace::ChangePace,
    rows::{DEVICES_READ_MAX, DeviceKey, of_row, of_user, owner_of_row, put, removal},
};
use super::{AuthError, Delivery, SendError, send::durable};
use crate::{
    ids::{Platform, SessionKey, UserId},
    log::{AppendError, Log, LogError, RowChange, RowTable},
    message::{Device, Provider},
    metrics::{DeviceOutcome, Metrics},
    token::Claims,
};

/// A device that is registered again in the same way is written again after this time, so that a device in use is not the oldest.
const REFRESH_MS: u64 = 24 * 3_600_000;
/// The counters of changes. Users share them: a change of one seems to be one of the others, and costs their readers a look.
const VERSIONS: usize = 4096;
/// The locks of changes. Users and tokens share them: now and then a change waits for one of another user.
const CHANGE_LOCKS: usize = 256;

/// A registration as an app sends it.
#[derive(Debug, Clone, Default)]
pub struct Registration<'a> {
    /// The name of the provider.
    pub provider: &'a str,
    /// The vendor's token.
    pub token: &'a str,
    /// The platform; it must be the platform of the user's token.
    pub platform: Option<Platform>,
    /// The app; may be empty.
    pub app: &'a str,
    /// The language as a tag; may be empty.
    pub lang: &'a str,
}

/// Why a device was not registered or removed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device has such a provider, or devices of this one register nowhere.
    #[error(
        "provider must be apns, fcm, webpush or http: devices of getui and jpush register at the vendor only"
    )]
    Provider,
    /// A field has no form that it may have.
    #[error("{0} {1}")]
    Field(&'static str, &'static str),
    /// A field is longer than it may be, in bytes.
    #[error("{0} has more than {1} bytes")]
    TooLong(&'static str, usize),
    /// The platform is not that of the user's token.
    #[error("platform must be the platform of the token")]
    OtherPlatform,
    /// The user changes devices too often.
    #[error("the user has changed devices too often: try again in a minute")]
    TooOften,
    /// The user's token is not good any more.
    #[error(transparent)]
    Token(#[from] AuthError),
    /// The log did not take the change.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl From<LogError> for DeviceError {
    fn from(error: LogError) -> Self {
        Self::Send(error.into())
    }
}

/// The devices of all users.
pub(super) struct Devices {
    log: Arc<dyn Log>,
    metrics: Arc<Metrics>,
    per_user_max: usize,
    /// The services at which a Web Push subscription may be.
    webpush_hosts: Vec<String>,
    /// A change holds the locks of its users and its token.
    changing: Box<[Mutex<()>]>,
    pace: ChangePace,
    versions: Box<[AtomicU64]>,
    /// The same in every process: users who share a counter cost a look, and nothing else.
    hasher: BuildHasherDefault<DefaultHasher>,
    /// The public key of Web Push, once it is known.
    webpush_key: OnceLock<String>,
}

/// The devices that a change touches, and what each is counted as.
type Change = Vec<(Device, DeviceOutcome)>;

impl Devices {
    /// No device yet. A user has at most `per_user_max`.
    pub(super) fn new(
        log: Arc<dyn Log>,
        metrics: Arc<Metrics>,
        per_user_max: usize,
        webpush_hosts: Vec<String>,
    ) -> Arc<Self> {
        let versions = (0..VERSIONS).map(|_| AtomicU64::new(0));
        Arc::new(Self {
            log,
            metrics,
            per_user_max,
            webpush_hosts,
            changing: (0..CHANGE_LOCKS).map(|_| Mutex::default()).collect(),
            pace: ChangePace::default(),
            versions: versions.collect(),
            hasher: BuildHasherDefault::default(),
            webpush_key: OnceLock::new(),
        })
    }

    fn version(&self, user: &UserId) -> &AtomicU64 {
        let hash = self.hasher.hash_one(user) as usize;
        &self.versions[hash % VERSIONS]
    }

    /// The devices of a user, those registered first before the others.
    async fn of(&self, user: &UserId) -> Result<Vec<Device>, LogError> {
        let prefix = of_user(user);
        let rows = self
            .log
            .rows(RowTable::Devices, &prefix, &[], DEVICES_READ_MAX);
        let rows = rows.wait().await?.into_iter();
        let mut devices: Vec<_> = rows.filter_map(|(_, row)| of_row(user, &row)).collect();
        devices.sort_by_key(|device| device.registered_at_ms);
        Ok(devices)
    }

    /// The user to whom a vendor's token belongs.
    async fn owner(&self, key: &DeviceKey) -> Result<Option<UserId>, LogError> {
        let rows = self.log.rows(RowTable::Devices, &key.by_token(), &[], 1);
        let row = rows.wait().await?.into_iter().next();
        Ok(row.and_then(|(_, owner)| owner_of_row(&owner)))
    }

    /// Waits until no other change touches the user, the token, or the token's owner, who would have to give it up.
    async fn hold(
        &self,
        user: &UserId,
        key: Option<&DeviceKey>,
    ) -> Result<Vec<MutexGuard<'_, ()>>, LogError> {
        let mut places = BTreeSet::from([self.lock_of(user)]);
        places.extend(key.map(|key| self.lock_of(&key.by_token())));
        loop {
            let mut held = Vec::with_capacity(places.len());
            // Ascending, so that no two changes wait for each other.
            for place in &places {
                held.push(self.changing[*place].lock().await);
            }
            let owner = match key {
                Some(key) => self.owner(key).await?,
                None => None,
            };
            let is_held = owner.is_none_or(|owner| !places.insert(self.lock_of(&owner)));
            if is_held {
                return Ok(held);
            }
        }
    }

    fn lock_of(&self, of: &(impl Hash + ?Sized)) -> usize {
        self.hasher.hash_one(of) as usize % CHANGE_LOCKS
    }

    /// Makes a change in a task of its own. `change` is called when no other change of this user and this token is under way.
    /// Returns its result.
    async fn change<T, E, F>(
        self: &Arc<Self>,
        user: UserId,
        key: Option<DeviceKey>,
        change: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SendError> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send,
    {
        let (sender, result) = oneshot::channel();
        let devices = Arc::clone(self);
        tokio::spawn(async move {
            let order = devices.hold(&user, key.as_ref()).await;
            // A caller who has gone while others made their changes needs none.
            if sender.is_closed() {
                return;
            }
            let result = match &order {
                Ok(_) => change(Arc::clone(&devices)).await,
                Err(error) => Err(SendError::from(error.clone()).into()),
            };
            drop(sender.send(result));
        });
        let unknown = || Err(SendError::from(AppendError::OutcomeUnknown).into());
        result.await.unwrap_or_else(|_| unknown())
    }

    /// Writes the rows of a change, and counts it.
    async fn write(&self, rows: Vec<RowChange>, change: Change) -> Result<(), SendError> {
        if rows.is_empty() {
            return Ok(());
        }
        let written = durable(self.log.put_rows(rows)?).await;
        for (device, _) in &change {
            // A reader finds the rows of this change from now on, or those of a later one.
            self.version(&device.user).fetch_add(1, Release);
        }
        written?;
        for (device, outcome) in change {
            self.metrics.device(device.provider.name(), outcome);
        }
        Ok(())
    }

    /// Puts a device among those of its user.
    async fn put(&self, device: Device) -> Result<(), SendError> {
        let key = DeviceKey::of(&device);
        let (mut rows, mut change) = (Vec::new(), Vec::new());
        let mut others = self.of(&device.user).await?;
        others.retain(|other| DeviceKey::of(other) != key);
        let too_many = (others.len() + 1).saturating_sub(self.per_user_max);
        for oldest in others.drain(..too_many) {
            rows.extend(removal(&oldest));
            change.push((oldest, DeviceOutcome::Displaced));
        }
        if let Some(owner) = self.owner(&key).await?
            && owner != device.user
        {
            let before = Device {
                user: owner,
                ..device.clone()
            };
            rows.extend(removal(&before));
            change.push((before, DeviceOutcome::Moved));
        }
        rows.extend(put(&device));
        change.push((device, DeviceOutcome::Registered));
        self.write(rows, change).await
    }

    /// Removes the devices of a user for which `is_meant` is true. Returns their number.
    async fn remove(
        &self,
        user: &UserId,
        outcome: DeviceOutcome,
        is_meant: impl Fn(&Device) -> bool,
    ) -> Result<usize, SendError> {
        let (mut rows, mut change) = (Vec::new(), Vec::new());
        for device in self.of(user).await?.into_iter().filter(is_meant) {
            rows.extend(removal(&device));
            change.push((device, outcome));
        }
        let removed = change.len();
        self.write(rows, change).await?;
        Ok(removed)
    }
}

impl Delivery {
    /// The devices of a user, those registered first before the others. Cancel safe: it only reads.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>, LogError> {
        self.devices.of(user).await
    }

    /// A number that changes with the devices of a user. It may also change with those of another user.
    pub fn devices_version(&self, user: &UserId) -> u64 {
        self.devices.version(user).load(Acquire)
    }

    /// The public key that pages need for a subscription, in base64url; `None` while the gateway has none.
    pub fn webpush_key(&self) -> Option<&str> {
        self.devices.webpush_key.get().map(String::as_str)
    }

    /// Gives pages this public key from now on. Only the first key counts.
    pub fn offer_webpush_key(&self, key: String) {
        let _ = self.devices.webpush_key.set(key);
    }

    /// Registers a device of the user of `claims`, who proved them with `token`, durably. A device that was another user's is this user's
    /// from now on. Not cancel safe: after a drop the device may be registered or not. A repeat does no harm.
    pub async fn register_device(
        &self,
        claims: &Claims,
        token: &str,
        registration: &Registration<'_>,
    ) -> Result<(), DeviceError> {
        let registered = self.check_and_put(claims, token, registration).await;
        if registered.is_err() {
            let provider = Provider::from_name(registration.provider);
            let provider = provider.map_or("unknown", Provider::name);
            self.devices
                .metrics
                .device(provider, DeviceOutcome::Refused);
        }
        registered
    }

    async fn check_and_put(
        &self,
        claims: &Claims,
        token: &str,
        registration: &Registration<'_>,
    ) -> Result<(), DeviceError> {
        let now_ms = self.clock.now_ms();
        let mut device = checks::device_of(registration, claims, &self.devices.webpush_hosts)?;
        device.token_hash = Sha256::digest(token).into();
        device.registered_at_ms = now_ms;
        self.check_device_change()?;
        let known = self.devices.of(&claims.user).await?;
        let is_same = |known: &Device| {
            let age_ms = now_ms.saturating_sub(known.registered_at_ms);
            let registered_at_ms = device.registered_at_ms;
            let known = Device {
                registered_at_ms,
                ..known.clone()
            };
            known == device && age_ms < REFRESH_MS
        };
        if known.iter().any(is_same) {
            let provider = device.provider.name();
            self.devices
                .metrics
                .device(provider, DeviceOutcome::Unchanged);
            return Ok(());
        }
        self.take_a_turn(&claims.user)?;
        let (user, platform) = (claims.user.clone(), claims.platform);
        let key = DeviceKey::of(&device);
        let issued_at_ms = claims.issued_at_ms;
        let change = async move |devices: Arc<Devices>| {
            // A logout revokes the token before it removes devices, so one of the two sees the other.
            let times = devices.log.token_times(&device.user, platform);
            let times = times.wait().await?;
            if issued_at_ms < times.revoked_before_ms {
                return Err(AuthError::Revoked.into());
            }
            Ok(devices.put(device).await?)
        };
        self.devices.change(user, Some(key), change).await
    }

    /// Removes the user's device with this vendor's token, durably. Returns false if the user has no such device. Not cancel safe:
    /// after a drop the device may be removed or not. A repeat does no harm.
    pub async fn remove_device(
        &self,
        user: &UserId,
        provider: &str,
        token: &str,
    ) -> Result<bool, DeviceError> {
        let key = checks::key_of(provider, token)?;
        self.check_device_change()?;
        self.take_a_turn(user)?;
        let removed = self.remove_devices_of(user, DeviceOutcome::Removed, move |device| {
            DeviceKey::of(device) == key
        });
        Ok(removed.await? > 0)
    }

    /// Removes all devices of a user, durably. Returns their number. Not cancel safe: after a drop they may be removed or not. A repeat
    /// does no harm.
    pub async fn remove_devices(&self, user: &UserId) -> Result<usize, SendError> {
        self.remove_devices_of(user, DeviceOutcome::Removed, |_| true)
            .await
    }

    /// Removes a device that its vendor does not know any more, unless it was registered again meanwhile. Not cancel safe: after a
    /// drop the device may be removed or not. A repeat does no harm.
    pub async fn remove_gone_device(&self, gone: Device) -> Result<(), SendError> {
        let user = gone.user.clone();
        let removed =
            self.remove_devices_of(&user, DeviceOutcome::Gone, move |device| *device == gone);
        removed.await.map(drop)
    }

    /// Removes the devices that were registered in the login of an OpenIM session. Not cancel safe: after a drop they may be removed or
    /// not. A repeat does no harm.
    pub async fn remove_devices_of_login(&self, session: &SessionKey) -> Result<(), SendError> {
        if !session.is_openim() {
            return Ok(());
        }
        let (platform, login) = (session.platform, Arc::clone(&session.device));
        let is_meant = move |device: &Device| {
            device.platform == Some(platform)
                && SessionKey::openim_device(&device.token_hash) == login
        };
        let removed = self.remove_devices_of(&session.user, DeviceOutcome::LoggedOut, is_meant);
        removed.await.map(drop)
    }

    /// Removes the devices of a user on a platform.
    pub(super) async fn remove_devices_on(
        &self,
        user: &UserId,
        platform: Platform,
    ) -> Result<(), SendError> {
        let removed = self.remove_devices_of(user, DeviceOutcome::LoggedOut, move |device| {
            device.platform == Some(platform)
        });
        removed.await.map(drop)
    }

    pub(super) async fn remove_devices_of(
        &self,
        user: &UserId,
        outcome: DeviceOutcome,
        is_meant: impl Fn(&Device) -> bool + Send + Sync + 'static,
    ) -> Result<usize, SendError> {
        let of = user.clone();
        let change =
            async move |devices: Arc<Devices>| devices.remove(&of, outcome, is_meant).await;
        self.devices.change(user.clone(), None, change).await
    }

    fn check_device_change(&self) -> Result<(), SendError> {
        match self.is_draining.load(Relaxed) {
            true => Err(SendError::Draining),
            false => Ok(()),
        }
    }

    fn take_a_turn(&self, user: &UserId) -> Result<(), DeviceError> {
        match self.devices.pace.take(user) {
            true => Ok(()),
            false => Err(DeviceError::TooOften),
        }
    }
}
