//! Looks at the gateway between its steps, and registers devices.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{PROVIDERS, Service, lock, look::LookAtGateway};
use crate::{
    model::user_id,
    trace::{note, violated},
    world::World,
};
use towncrier::{
    delivery::Registration,
    ids::Platform,
    log::Log as _,
    message::{ReceiveOption, SettingsChange},
};

/// The interval of looks.
const INTERVAL: Duration = Duration::from_millis(250);
/// The same while nothing is to be decided.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// After this time without a fault both rooms have begun in a log.
pub(super) const BEGINS_WITHIN: Duration = Duration::from_secs(5);
/// A gateway's clock that is further from the truth dates and expires messages wrongly, ms.
const CLOCK_MS_MAX: u64 = 2_000;
/// The time after a logout before its devices are registered again.
const LOGOUT_TAKES: Duration = Duration::from_secs(30);

impl World {
    /// A process begins, or does not.
    pub(in super::super) fn outside_starts(&self, is_damaged: bool) {
        let outside = &self.outside;
        outside.life.set(outside.life.get() + 1);
        outside.pushes().starts(self.machine.clock.now_ms());
        outside.registering.borrow_mut().clear();
        self.disturb();
        if is_damaged {
            self.excuse();
        }
    }

    /// The process has ended.
    pub(in super::super) fn outside_ends(&self) {
        self.outside.pushes().ends();
        self.disturb();
    }

    /// Another log begins.
    pub(in super::super) fn outside_begins(&self) {
        self.outside.pushes().begin();
        self.outside.events().begin();
        self.outside.has_begun.set(false);
        self.outside.registering.borrow_mut().clear();
    }

    /// The gateway cannot do all its work now.
    pub(in super::super) fn disturb(&self) {
        self.outside.well_since.set(None);
        self.outside.pushes().is_unwell();
    }

    /// Nothing is promised for messages up to now.
    fn excuse(&self) {
        let now_ms = self.machine.clock.now_ms();
        self.outside.excused_ms.set(now_ms + 1_000);
        self.outside.pushes().excuse();
        self.outside.events().is_excused = true;
    }

    /// A system is like this for some time.
    pub(in super::super) fn set_system(&self, system: usize, service: Service, time: Duration) {
        match self.outside.vendors.get(system) {
            Some(vendor) => vendor.set(service, time),
            None => self.outside.receiver.set(service, time),
        }
    }

    /// All systems are away for hours.
    pub(in super::super) async fn be_away(&self, time: Duration) {
        (0..=PROVIDERS.len()).for_each(|system| self.set_system(system, Service::Down, time));
        self.wait(time).await;
    }

    /// A user wants no push of a conversation, or does again.
    pub(in super::super) fn silence(&self, user: usize, conversation: usize, is_silent: bool) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else { return };
        let known = self.model.borrow();
        let Some((id, _)) = known.conversations.any((known.epoch, user), conversation) else {
            return;
        };
        self.outside.pushes().wishes.asks(user, &id);
        let change = SettingsChange {
            conversation_id: id.clone(),
            receive_option: Some(match (is_silent, conversation % 2) {
                (false, _) => ReceiveOption::Notify,
                (true, 0) => ReceiveOption::Unwanted,
                (true, _) => ReceiveOption::Silent,
            }),
            ..SettingsChange::default()
        };
        let (delivery, clock) = (gateway.delivery.clone(), gateway.clock.clone());
        let (pushes, life) = (Arc::clone(&self.outside.pushes), gateway.life.clone());
        let (epoch, model) = (self.epoch.get(), self.model.clone());
        gateway.spawn(async move {
            let changed = delivery.change_settings(&user_id(user), vec![change]).await;
            note(format_args!(
                "{id} of user {user} is silent, {is_silent}: {changed:?}"
            ));
            if changed.is_ok() && !life.is_dead() && model.borrow().epoch == epoch {
                lock(&pushes)
                    .wishes
                    .has(user, &id, is_silent, clock.now_ms());
            }
        });
    }

    /// A user logs out on a platform: the devices are registered no longer.
    pub(in super::super) fn outside_logs_out(&self, user: usize, platform: Platform) {
        let outside = &self.outside;
        for device in &self.devices {
            if device.owner.user == user && device.owner.platform == platform {
                let token = self.vendor_token(device.number);
                outside.pushes().forgets(&token);
                outside.registering.borrow_mut().insert(device.number);
            }
        }
        outside
            .registers_at
            .set(Some(Instant::now() + LOGOUT_TAKES));
    }

    /// The vendor's token of a device: a new one each time that the vendor forgets one.
    fn vendor_token(&self, device: usize) -> String {
        let user = user_id(self.devices[device].owner.user);
        let pushes = self.outside.pushes();
        let mut tokens = (0..).map(|version| format!("{user}.{device}.{version}"));
        let token = tokens.find(|token| !pushes.is_gone(token));
        token.unwrap_or_default()
    }

    /// Looks at the gateway, if it is time.
    pub(in super::super) fn look_outside(&self) {
        let outside = &self.outside;
        let now = Instant::now();
        if outside.looks_at.get().is_none_or(|at| now < at) {
            return;
        }
        let is_idle = outside.has_begun.get() && !outside.pushes().has_cases();
        let interval = if is_idle { IDLE_INTERVAL } else { INTERVAL };
        outside.looks_at.set(Some(now + interval));
        let gateway = self.gateway.borrow();
        let gateway = gateway.as_ref().filter(|gateway| !gateway.life.is_dead());
        let Some(gateway) = gateway else {
            return self.disturb();
        };
        let faults = self.machine.segments.faults();
        let is_damaged = !gateway.log.damages().is_empty() || self.flipped.borrow().is_some();
        let wrong_ms = gateway.clock.now_ms().abs_diff(self.machine.clock.now_ms());
        if is_damaged || wrong_ms > CLOCK_MS_MAX {
            self.excuse();
        }
        let is_well = gateway.log.check_writable().is_ok()
            && gateway.sends_outside()
            && !is_damaged
            && wrong_ms <= CLOCK_MS_MAX
            && !faults.is_full
            && !faults.sync_fails;
        if !is_well {
            return self.disturb();
        }
        let since = outside.well_since.get().unwrap_or(now);
        outside.well_since.set(Some(since));
        let settled = now - since;
        if !outside.has_begun.get() {
            if settled < BEGINS_WITHIN {
                let now_ms = self.machine.clock.now_ms();
                outside.excused_ms.set(now_ms + 1_000);
                return;
            }
            outside.has_begun.set(true);
        }
        let model = self.model.borrow();
        if outside.has_push {
            let look = LookAtGateway {
                model: &model,
                gateway,
                users: self.schedule.users,
                settled,
                excused_ms: outside.excused_ms.get(),
                now,
                now_ms: gateway.clock.now_ms(),
            };
            gateway.life.beside(|| outside.pushes().look(&look));
            self.register_devices();
        }
        let mut events = outside.events();
        outside
            .pushes()
            .judge_order(std::mem::take(&mut events.push_ends));
        for (user, from, to) in std::mem::take(&mut events.expired) {
            let user = user.strip_prefix('u').and_then(|user| user.parse().ok());
            let mut gone = (from..=to)
                .filter(|seq| user.is_none_or(|user| !model.may_be_gone(user, model.epoch, *seq)));
            if let Some(seq) = gone.next() {
                violated(
                    "webhooks",
                    format_args!("{seq} of {user:?} is announced as expired"),
                );
            }
        }
    }

    /// Registers the devices that are not registered, in the running process.
    fn register_devices(&self) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else { return };
        let outside = &self.outside;
        if let Some(at) = outside.registers_at.get() {
            if Instant::now() < at {
                return;
            }
            outside.registers_at.set(None);
            outside.registering.borrow_mut().clear();
        }
        for device in &self.devices {
            let token = self.vendor_token(device.number);
            let is_known = outside.pushes().registered.contains_key(&token);
            if is_known || !outside.registering.borrow_mut().insert(device.number) {
                continue;
            }
            let owner = (device.owner.user, device.owner.platform);
            let user_token = self.token(owner.0, owner.1);
            let provider = PROVIDERS[device.number % PROVIDERS.len()];
            let (delivery, life) = (gateway.delivery.clone(), gateway.life.clone());
            let (pushes, clock) = (Arc::clone(&outside.pushes), self.machine.clock.clone());
            let (epoch, model) = (self.epoch.get(), self.model.clone());
            gateway.spawn(async move {
                let Ok(claims) = delivery.authenticate(&user_token).await else {
                    return;
                };
                let registration = Registration {
                    provider: provider.name(),
                    token: &token,
                    ..Registration::default()
                };
                let done = delivery.register_device(&claims, &user_token, &registration);
                let done = done.await;
                note(format_args!("{token} is registered: {done:?}"));
                if done.is_ok() && !life.is_dead() && model.borrow().epoch == epoch {
                    lock(&pushes).registers(&token, owner, clock.now_ms());
                }
            });
        }
        // One that failed is tried again later.
        if outside.registers_at.get().is_none() {
            let all = self.devices.iter().map(|device| device.number);
            let is_missing = all
                .map(|device| self.vendor_token(device))
                .any(|token| !outside.pushes().registered.contains_key(&token));
            if is_missing {
                outside
                    .registers_at
                    .set(Some(Instant::now() + LOGOUT_TAKES));
            }
        }
    }
}
