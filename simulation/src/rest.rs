//! The end of a run: no more faults, and every accepted message must arrive where it belongs.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    disk::Faults,
    model::user_id,
    schedule::{Death, Loss},
    store::Fate,
    trace::{is_violated, note, violated},
    world::World,
};
use towncrier::{ids::SessionKey, log::Log, registry::Policy};

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
        let running: Vec<_> = all.clone().filter(|device| self.is_open(*device)).collect();
        self.expect_caught_up(&running).await;
        for device in all {
            (0..self.devices.len()).for_each(|other| self.close(other));
            self.wait(Duration::from_secs(1)).await;
            self.open(device);
            self.expect_caught_up(&[device]).await;
            if !self.is_caught_up(device) {
                violated("P5", format_args!("device {device} was sent away"));
            }
            if is_violated() {
                return;
            }
        }
        self.check_books();
        self.crash(Death {
            power: Some(Loss::Anything),
            state: Fate::Kept,
            has_flip: false,
            down: Duration::ZERO,
        });
        self.wait(Duration::from_secs(1)).await;
        self.check();
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
            if Instant::now() > deadline {
                let position = self.devices[*late].inbox.borrow().position;
                let head = self.model.borrow().head(self.devices[*late].owner.user);
                return violated(
                    "P5",
                    format_args!("device {late} stays at {position:?} of {head}"),
                );
            }
            self.wait(Duration::from_secs(1)).await;
        }
    }

    /// True if a device has landed every message, the gateway knows that it is online, and it has acked.
    fn is_caught_up(&self, number: usize) -> bool {
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
    }

    /// Accepted = landed + pending + expired, for each device and for the gateway's own counters.
    fn check_books(&self) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else {
            return violated("P7", format_args!("the gateway is down"));
        };
        let mut pending = 0;
        for user in 0..self.schedule.users {
            let Ok(inbox) = gateway.log.inbox(&user_id(user)).blocking_wait() else {
                continue;
            };
            let is_read_by_somebody = self.devices.iter().any(|device| device.owner.user == user);
            if !is_read_by_somebody {
                pending += inbox.head.0 + 1 - inbox.first.0;
            }
        }
        let shown = gateway.log.pending();
        if shown != pending {
            violated(
                "books",
                format_args!("{shown} are said to be pending, {pending} are"),
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
                if !inbox.landed.contains_key(&at) && !inbox.gone.contains_key(&at) {
                    violated(
                        "P5",
                        format_args!("device {} has nothing at {at:?}", device.number),
                    );
                }
            }
        }
    }
}
