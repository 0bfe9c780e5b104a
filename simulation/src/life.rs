//! The starts and deaths of the gateway's process, and power cuts of its machine.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    gateway::{Gateway, Machine},
    process::Life,
    schedule::{Death, Loss},
    store::Fate,
    trace::{note, violated},
    world::World,
};
use towncrier::log::{Cause, Log, embedded::inspect::inspect_segments};

impl World {
    /// The gateway's process starts.
    pub(super) fn start(&self) {
        let life = Arc::<Life>::default();
        if let Some((operations, death)) = self.arms_next.take() {
            self.armed.set(Some(death));
            life.end_after(operations);
        }
        let faults = self.machine.segments.faults();
        let started = Gateway::start(
            &self.schedule.setup,
            &self.machine,
            &self.outside,
            life.clone(),
        );
        match started {
            Ok(gateway) => {
                self.outside_starts(!gateway.log.damages().is_empty());
                let is_well = gateway.log.check_writable().is_ok();
                note(format_args!(
                    "starts, writable: {is_well}, damages: {:?}",
                    gateway.log.damages()
                ));
                let model = &mut *self.model.borrow_mut();
                model.registry = Some(gateway.registry.clone());
                model.gateway_clock = Some(gateway.clock.clone());
                let is_whole = self.flipped.borrow().is_none() && !life.is_dead();
                // A full disk is temporary, and says nothing about the content of the log.
                let refused = gateway.log.check_writable().err();
                let is_full = refused.is_some_and(|error| error.cause == Cause::Full);
                if is_whole && !is_well && !is_full {
                    violated(
                        "P8",
                        format_args!(
                            "a log that is whole is refused: {:?}",
                            gateway.log.check_writable()
                        ),
                    );
                } else if is_whole {
                    life.beside(|| model.settle(self.schedule.users, &gateway.log));
                }
                *self.gateway.borrow_mut() = Some(gateway);
            }
            Err(_) if life.is_dead() => {
                let death = self.armed.take().expect("it was told to die");
                self.bury(death);
            }
            Err(error) if faults.is_full || faults.sync_fails => {
                note(format_args!("does not start: {error}"));
                self.starts_at
                    .set(Some(Instant::now() + Duration::from_secs(1)));
            }
            Err(error) => violated("P8", format_args!("the log does not open: {error}")),
        }
    }

    /// The process ends without a warning. In a power cut the machine ends with it.
    pub(super) fn crash(&self, death: Death) {
        let Some(gateway) = self.gateway.take() else {
            return;
        };
        note(format_args!("dies: {death:?}"));
        let log = &gateway.log;
        let is_well = log.check_writable().is_ok() && log.damages().is_empty();
        if is_well && !gateway.life.is_dead() {
            gateway.check_books();
        }
        self.armed.take();
        self.machine.network.hang_up(death.power.is_some());
        self.model.borrow_mut().registry = None;
        self.model.borrow_mut().gateway_clock = None;
        // Tasks that the process began beside its own set end a moment later.
        gateway.life.end();
        drop(gateway);
        self.outside_ends();
        self.bury(death);
    }

    /// Sets the state that a dead process, or a machine without power, leaves.
    pub(super) fn bury(&self, death: Death) {
        let Machine {
            root,
            segments,
            state,
            clock,
            ..
        } = &self.machine;
        {
            let random = &mut *self.random.borrow_mut();
            if let Some(loss) = death.power {
                let choose = &mut |ways| match loss {
                    Loss::Everything => 0,
                    Loss::Anything => random.usize(..ways),
                };
                root.cut_power(choose, true);
                segments.cut_power(choose, true);
                clock.reboot();
                clock.set_wrong(0);
            }
            state.crash(death.state, &mut |ways| random.usize(..ways));
        }
        segments.set_faults(|faults| faults.sync_fails = false);
        if let Some((file, bit)) = self.flipped.take() {
            note(format_args!("{file} is repaired"));
            segments.flip(&file, bit);
        }
        if death.has_flip {
            self.flip();
        }
        self.starts_at.set(Some(Instant::now() + death.down));
        self.died.notify_one();
    }

    /// Flips a bit in data that is known to be synced.
    fn flip(&self) {
        let segments = &self.machine.segments;
        let Ok(report) = inspect_segments(segments, &mut None) else {
            return;
        };
        let mut stretches = Vec::new();
        for name in segments.names() {
            let Some(base) = name
                .strip_suffix(".log")
                .and_then(|base| base.parse::<u64>().ok())
            else {
                continue;
            };
            let bytes = report
                .synced
                .saturating_sub(base)
                .min(segments.file_bytes(&name) as u64);
            if bytes > 0 {
                stretches.push((name, bytes as usize));
            }
        }
        let random = &mut *self.random.borrow_mut();
        if stretches.is_empty() {
            return;
        }
        let (name, bytes) = stretches.swap_remove(random.usize(..stretches.len()));
        let bit = random.usize(..bytes * 8);
        note(format_args!("{name} flips bit {bit}"));
        segments.flip(&name, bit);
        self.flipped.replace(Some((name, bit)));
    }

    pub(super) fn restart_if_refusing(&self) {
        let is_refusing = self
            .gateway
            .borrow()
            .as_ref()
            .is_some_and(|gateway| gateway.log.check_writable().is_err());
        let is_refusing = is_refusing || self.flipped.borrow().is_some();
        if is_refusing {
            self.crash(Death {
                power: None,
                state: Fate::Kept,
                has_flip: false,
                down: Duration::from_millis(100),
            });
        }
    }

    /// Shuts down in order and starts again.
    pub(super) async fn drain(&self, down: Duration) {
        let period = Duration::from_secs(3);
        self.disturb();
        match &*self.gateway.borrow() {
            Some(gateway) => gateway.drain(period),
            None => return,
        }
        // A lingering connection is cut after its grace.
        let deadline = Instant::now() + period + Duration::from_secs(20);
        loop {
            sleep(Duration::from_millis(100)).await;
            match &*self.gateway.borrow() {
                None => return,
                Some(gateway) if gateway.is_drained() => break,
                Some(_) if Instant::now() > deadline => {
                    return violated("drain", format_args!("it never ends"));
                }
                Some(_) => {}
            }
        }
        self.crash(Death {
            power: None,
            state: Fate::Kept,
            has_flip: false,
            down,
        });
    }
}
