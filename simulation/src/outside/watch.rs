//! Looks at the gateway between its steps, registers devices, and waits at the end for all that the other systems are owed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{PROVIDERS, Service, lock};
use crate::{
    model::{SLACK_MS, at_once, user_id},
    trace::{note, violated},
    world::World,
};
use towncrier::{
    config::DeviceClass,
    delivery::Registration,
    ids::{MessageId, Platform},
    log::{Log as _, RowTable, SessionBegin, session_row_key},
};

/// The interval of looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// The same while nothing is to be decided.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// After this time without a fault both rooms have begun in a log.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);
/// A gateway's clock that is further from the truth dates and expires messages wrongly, ms.
const CLOCK_MS_MAX: u64 = 2_000;
/// The time after a logout before its devices are registered again.
const LOGOUT_TAKES: Duration = Duration::from_secs(30);
/// The prefix of the rows that say how far the receiver was told of a session, in the form of a begin; see `src/webhooks/rows.rs`. A
/// session of which no event came may have begun there.
const TOLD_PREFIX: &[u8] = b"webhooks/told/";
/// The longest time until the other systems have what they are owed: the longest pauses of a vendor and of a receiver, some times over.
const OWED_WITHIN: Duration = Duration::from_secs(40 * 60);

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
            let phones: BTreeSet<_> = self
                .phones
                .iter()
                .filter_map(|phone| {
                    Some((phone.owner.user, DeviceClass::of(phone.owner.platform)?))
                })
                .collect();
            let (users, excused_ms) = (self.schedule.users, outside.excused_ms.get());
            gateway.life.beside(|| {
                outside
                    .pushes()
                    .look(&model, &gateway.log, users, settled, excused_ms, &phones);
            });
            self.register_devices();
        }
        let mut events = outside.events();
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

    /// The other systems are well again. Waits until they have all that they are owed.
    pub(in super::super) async fn expect_told(&self) {
        let outside = &self.outside;
        if outside.looks_at.get().is_none() {
            return;
        }
        outside.vendors.iter().for_each(|vendor| vendor.clear());
        outside.receiver.clear();
        let deadline = Instant::now() + OWED_WITHIN;
        loop {
            self.wait(Duration::from_secs(1)).await;
            let Some(owed) = self.owed() else { break };
            if Instant::now() > deadline {
                return violated("owed", format_args!("{owed}"));
            }
            if outside.events().dead() > 0 {
                self.send_letters_again();
            }
        }
        note(format_args!("pushes: {:?}", outside.pushes().counts()));
    }

    fn send_letters_again(&self) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else { return };
        let Some(letters) = gateway.letters() else {
            return;
        };
        gateway.spawn(async move {
            // A failure is tried again a second later.
            let _ = letters.send_again(None).await;
        });
    }

    /// Anything that another system is owed.
    fn owed(&self) -> Option<String> {
        let outside = &self.outside;
        if outside
            .well_since
            .get()
            .is_none_or(|since| since.elapsed() < BEGINS_WITHIN)
        {
            return Some("the gateway is not well".into());
        }
        let model = self.model.borrow();
        if outside.has_push
            && let Some(owed) = outside.pushes().owed(&model)
        {
            return Some(owed);
        }
        if !outside.has_webhooks {
            return None;
        }
        let events = outside.events();
        if events.dead() > 0 {
            return Some(format!("{} dead letters", events.dead()));
        }
        let excused_ms = outside.excused_ms.get();
        for user in 0..self.schedule.users {
            for (seq, id, at_ms) in model.messages_of(user) {
                let receiver = (user_id(user).to_string(), seq);
                let is_told = events
                    .accepted
                    .get(id)
                    .is_some_and(|told| told.contains(&receiver));
                let is_lost = events.lost.iter().any(|(kind, from_ms, to_ms)| {
                    kind == "message.accepted"
                        && (from_ms.saturating_sub(SLACK_MS)..=to_ms + SLACK_MS).contains(&at_ms)
                        && (model.may_be_gone(user, model.epoch, seq) || events.is_excused)
                });
                if !is_told && !is_lost && at_ms > excused_ms {
                    return Some(format!("no event tells {id} at {receiver:?}"));
                }
            }
        }
        if outside.has_push {
            let pushes = outside.pushes();
            let untold = pushes.words().find(|word| !events.pushes.contains(*word));
            if let Some(untold) = untold {
                return Some(format!("no event tells {untold}"));
            }
        }
        drop(events);
        self.untold_ack()
    }

    /// A session whose receiver was not told of its last ack.
    fn untold_ack(&self) -> Option<String> {
        let events = self.outside.events();
        if events.is_excused {
            return None;
        }
        let gateway = self.gateway.borrow();
        let gateway = gateway.as_ref()?;
        gateway.life.beside(|| {
            for user in 0..self.schedule.users {
                let id = user_id(user);
                for (key, row) in at_once(gateway.log.sessions(&id)).unwrap_or_default() {
                    let name = (
                        id.to_string(),
                        u64::from(key.platform.number()),
                        key.device.to_string(),
                    );
                    let told = events.acked.get(&name).copied();
                    // Rows of OpenIM's sessions end sooner.
                    if told.is_none() && key.is_openim() {
                        continue;
                    }
                    let begun = [SessionBegin::PREFIX, TOLD_PREFIX].map(|prefix| {
                        let begin_key = session_row_key(prefix, &key);
                        let rows = gateway.log.rows(RowTable::Consumers, &begin_key, b"", 1);
                        let rows = at_once(rows).unwrap_or_default().into_iter();
                        let mut rows = rows.filter(|(key, _)| key[..] == begin_key[..]);
                        let begun = rows.find_map(|(_, value)| SessionBegin::read(&value));
                        begun.map_or(0, |begun| begun.cursor.0)
                    });
                    let begun = begun[0].max(begun[1]);
                    if told.unwrap_or(begun) != row.cursor.0 {
                        return Some(format!("{name:?} is at {row:?}, told: {told:?}"));
                    }
                }
            }
            None
        })
    }

    /// No event told a message that was never accepted. Call it after a look at the whole log.
    pub(in super::super) fn expect_only_accepted(&self) {
        let model = self.model.borrow();
        let mut letters = model.letters.values();
        if letters.any(|letter| letter.unknown > 0 || letter.open > 0) {
            return;
        }
        for id in self.outside.events().accepted.keys() {
            let mut letters = model.letters.values();
            let is_known = letters.any(|letter| letter.messages.contains_key(id));
            if !is_known {
                violated("webhooks", format_args!("{id} was told and never accepted"));
            }
            if id.parse::<MessageId>().is_err() {
                violated("webhooks", format_args!("{id} is no id"));
            }
        }
    }
}
