//! The end of a run: no more faults, and every accepted message must arrive where it belongs.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    disk::Faults,
    model::{listed, user_id},
    schedule::{Death, Loss, reading_random},
    settle::ALL,
    store::Fate,
    trace::{is_violated, note, violated},
    world::World,
};
use towncrier::{
    ids::{Seq, SessionKey},
    log::{Conversation, Log},
    message::Content,
    metrics::ByKind,
    registry::Policy,
};

/// The longest time for devices to return and catch up once all faults have ended: the silence of one and a half
/// heartbeats, the longest wait before a reconnect, and a resend or two.
const REST: Duration = Duration::from_secs(240);

impl World {
    /// Ends all faults. First every running device catches up, then every other. Every accepted message is where it
    /// belongs, also after one more power cut.
    pub(super) async fn come_to_rest(&self) {
        note(format_args!("no more faults"));
        self.machine.network.heal();
        self.machine
            .segments
            .set_faults(|faults| *faults = Faults::default());
        self.machine.clock.sleep(10_000);
        self.arms_next.take();
        if let Some(gateway) = &*self.gateway.borrow() {
            gateway.life.end_after(0);
        }
        self.wait(Duration::from_secs(10)).await;
        self.restart_if_refusing();
        self.wait(Duration::from_secs(1)).await;
        let all = 0..self.devices.len();
        let running = 0..self.devices.len() + self.phones.len();
        let running: Vec<_> = running.filter(|device| self.is_open(*device)).collect();
        self.expect_caught_up(&running).await;
        let mut random = reading_random(self.schedule.seed);
        for device in all.clone() {
            self.expect_alone_caught_up(device).await;
            if is_violated() {
                return;
            }
            if random.bool() {
                self.read(device, random.usize(..4), 0);
                self.expect_caught_up(&[device]).await;
            }
        }
        for phone in &self.phones {
            self.expect_alone_caught_up(phone.number).await;
            self.expect_count(phone).await;
            self.expect_history(phone).await;
            if is_violated() {
                return;
            }
        }
        // Later devices may have made marks.
        for device in all {
            if self.difference(device).is_some() {
                self.expect_alone_caught_up(device).await;
            }
        }
        self.expect_told().await;
        if is_violated() {
            return;
        }
        self.check_books();
        self.expect_new_device_counts(random.usize(..self.devices.len()))
            .await;
        if is_violated() {
            return;
        }
        self.crash(Death {
            power: Some(Loss::Anything),
            state: Fate::Kept,
            has_flip: false,
            down: Duration::ZERO,
        });
        self.wait(Duration::from_secs(1)).await;
        self.check();
        self.expect_only_accepted();
    }

    /// Opens this device and no other, and waits until it has everything.
    async fn expect_alone_caught_up(&self, device: usize) {
        (0..self.devices.len() + self.phones.len()).for_each(|other| self.close(other));
        self.wait(Duration::from_secs(1)).await;
        self.open(device);
        self.expect_caught_up(&[device]).await;
        if !self.is_caught_up(device) {
            violated("P5", format_args!("device {device} was sent away"));
        }
    }

    /// A new installation of the app shows as unread what the gateway counts, unless messages expire meanwhile. All devices of
    /// its user have the same marks.
    async fn expect_new_device_counts(&self, device: usize) {
        self.devices[device].reinstall();
        self.expect_alone_caught_up(device).await;
        let user = self.devices[device].owner.user;
        let list = self.listed(user);
        let unread: u64 = list.iter().map(|listed| listed.unread).sum();
        let shown = self.devices[device].unread();
        let is_kept = self.schedule.setup.config.log.retention > REST * 10;
        if shown != unread && is_kept {
            violated(
                "unread",
                format_args!("new device {device} shows {shown} as unread: {list:?}"),
            );
        }
        for (device, of) in self.devices.iter().enumerate() {
            if of.owner.user == user
                && let Some(difference) = self.difference(device)
            {
                violated("marks", format_args!("device {device} has {difference}"));
            }
        }
    }

    /// The conversations of a user, as the gateway lists them.
    pub(super) fn listed(&self, user: usize) -> Vec<Conversation> {
        let gateway = self.gateway.borrow();
        gateway.as_ref().map_or_else(Vec::new, |gateway| {
            gateway.life.beside(|| listed(&gateway.log, user))
        })
    }

    /// The difference between the conversations of a device and of the gateway, if there is one.
    fn difference(&self, device: usize) -> Option<String> {
        let device = &self.devices[device];
        device.difference(&self.listed(device.owner.user))
    }

    /// Waits until these devices have everything, except devices that are sent away meanwhile.
    async fn expect_caught_up(&self, devices: &[usize]) {
        let deadline = Instant::now() + REST;
        loop {
            let late = devices
                .iter()
                .find(|device| self.is_open(**device) && !self.is_caught_up(**device));
            let Some(late) = late else { return };
            if is_violated() {
                return;
            }
            if let Some(phone) = self.phone(*late)
                && Instant::now() > deadline
            {
                let lacks = self.phone_lacks(phone);
                return violated("P5", format_args!("phone {late} lacks {lacks:?}"));
            }
            if Instant::now() > deadline {
                let position = self.devices[*late].inbox.borrow().position;
                let head = self.model.borrow().head(self.devices[*late].owner.user);
                let difference = self.difference(*late);
                return violated(
                    "P5",
                    format_args!("device {late} stays at {position:?} of {head}: {difference:?}"),
                );
            }
            self.wait(Duration::from_secs(1)).await;
        }
    }

    /// True if a device has landed every message, the gateway knows that it is online, it has acked, and its conversations are
    /// the gateway's.
    fn is_caught_up(&self, number: usize) -> bool {
        if let Some(phone) = self.phone(number) {
            return self.phone_lacks(phone).is_none();
        }
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else {
            return false;
        };
        let device = &self.devices[number];
        let user = user_id(device.owner.user);
        let Ok(inbox) = gateway.log.inbox(&user).blocking_wait() else {
            return false;
        };
        let position = device.inbox.borrow().position;
        let connected = device.connected.borrow();
        let is_present = connected.as_ref().is_some_and(|connected| {
            let present = gateway.registry.presence(user.as_str());
            present
                .iter()
                .any(|present| present.connection.to_string() == connected.id)
        });
        let policy = Policy::from_number(self.schedule.setup.config.sessions.policy);
        let id = if policy == Some(Policy::Everyone) {
            device.owner.id.as_str()
        } else {
            ""
        };
        let key = SessionKey {
            user,
            platform: device.owner.platform,
            device: id.into(),
        };
        let is_acked = matches!(gateway.log.enter(&key).blocking_wait(), Ok(point) if point.stored.is_some_and(|row| row.cursor == inbox.head));
        is_present
            && is_acked
            && (position.epoch, position.cursor) == (self.epoch.get(), inbox.head.0)
            && self.difference(number).is_none()
    }

    /// Accepted = landed + pending + expired, for each device, and for the gateway's own counters of each kind of entry.
    fn check_books(&self) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else {
            return violated("P7", format_args!("the gateway is down"));
        };
        gateway.check_books();
        let mut pending = ByKind::default();
        for user in 0..self.schedule.users {
            let is_read_by_somebody = self.devices.iter().any(|device| device.owner.user == user)
                || self.phones.iter().any(|phone| phone.owner.user == user);
            if is_read_by_somebody {
                continue;
            }
            let Ok(read) = gateway.log.read_blocking(&user_id(user), Seq::ZERO, ALL) else {
                continue;
            };
            for entry in read.entries {
                match entry.content {
                    Content::Marks(_) => pending.marks += 1,
                    Content::Message(_) | Content::Removed => pending.messages += 1,
                }
            }
        }
        let shown = gateway.log.pending();
        if shown != pending {
            violated(
                "books",
                format_args!("{shown:?} are said to be pending, {pending:?} are"),
            );
        }
        for device in &self.devices {
            let inbox = device.inbox.borrow();
            let epoch = self.epoch.get();
            let Some(begin) = inbox.began.get(&epoch) else {
                continue;
            };
            let head = self.model.borrow().head(device.owner.user);
            for seq in begin + 1..=head {
                let at = (epoch, seq);
                let has_landed = inbox.landed.contains_key(&at) || inbox.marks.contains(&at);
                if !has_landed && !inbox.gone.contains_key(&at) {
                    violated(
                        "P5",
                        format_args!("device {} has nothing at {at:?}", device.number),
                    );
                }
            }
        }
    }
}
