//! One run: carries out a schedule, and checks every promise after every step. Then all faults end, and every accepted
//! message must be everywhere it belongs.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::Context,
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    runtime::Builder,
    sync::Notify,
    task::{AbortHandle, LocalSet},
    time::{Instant, sleep_until},
};

use super::{
    clock::SimClock,
    device::Device,
    disk::SimDisk,
    gateway::{Gateway, Lie, Machine, Setup},
    model::Model,
    network::Network,
    outside::Outside,
    phone::Phone,
    schedule::{Death, Schedule, Timed},
    store::SimHome,
    trace::{self, is_violated, note},
};
use towncrier::{ids::Epoch, log::embedded::epoch_text, token::Tokens};

/// The epoch of the first log. Every later log has the next number.
const EPOCH: u64 = 0x5eed;
/// The base of each log is above all numbers that phones know from the one before.
const BASE_STEP: u32 = 100_000;

/// The base of a log, by its epoch: a message's number on a phone is this far above its seq.
pub(super) fn base_of(epoch: u64) -> u32 {
    (epoch - EPOCH) as u32 * BASE_STEP
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The hash of all events in order.
    pub hash: u64,
    /// The first broken promise, with the details.
    pub violation: Option<String>,
    /// The simulated time.
    pub lasted: Duration,
    /// The number of accepted sends.
    pub accepted: u64,
    /// The number of landed messages.
    pub landings: u64,
    /// The number of landed entries of read marks.
    pub marks: u64,
}

/// Carries out a schedule. With `is_printed` it prints the events to stderr.
pub fn run(schedule: &Schedule, is_printed: bool) -> Verdict {
    fastrand::seed(schedule.seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O always starts");
    let (lasted, accepted, landings, marks) = runtime.block_on(async {
        trace::begin(is_printed);
        let began = Instant::now();
        let world = World::new(schedule);
        let apps = LocalSet::new();
        let mut driver = pin!(apps.run_until(world.drive(&schedule.operations)));
        poll_fn(|cx| {
            world.poll_gateway(cx);
            driver.as_mut().poll(cx)
        })
        .await;
        world.gateway.take();
        let model = world.model.borrow();
        (began.elapsed(), model.accepted, model.landings, model.marks)
    });
    drop(runtime);
    let (hash, violation) = trace::end();
    Verdict {
        hash,
        violation,
        lasted,
        accepted,
        landings,
        marks,
    }
}

pub(super) struct World {
    pub(super) schedule: Schedule,
    pub(super) machine: Machine,
    pub(super) tokens: Tokens,
    pub(super) model: Rc<RefCell<Model>>,
    pub(super) devices: Vec<Rc<Device>>,
    pub(super) phones: Vec<Rc<Phone>>,
    /// The running apps, of devices and then of phones.
    pub(super) apps: RefCell<Vec<Option<AbortHandle>>>,
    pub(super) gateway: RefCell<Option<Gateway>>,
    pub(super) random: RefCell<Rng>,
    /// The death that was ordered for the running process within its disk's operations.
    pub(super) armed: Cell<Option<Death>>,
    /// The same for the process that starts next.
    pub(super) arms_next: Cell<Option<(u64, Death)>>,
    /// The time at which the gateway starts again, if it is down.
    pub(super) starts_at: Cell<Option<Instant>>,
    pub(super) died: Notify,
    /// The bit that is flipped at present.
    pub(super) flipped: RefCell<Option<(String, usize)>>,
    pub(super) epoch: Cell<u64>,
    pub(super) outside: Outside,
}

impl World {
    fn new(schedule: &Schedule) -> Self {
        let mut random = Rng::with_seed(schedule.seed);
        let clock = SimClock::new();
        let Setup { config, lie, .. } = &schedule.setup;
        let machine = Machine {
            root: SimDisk::new(random.fork()),
            segments: SimDisk::new(random.fork()),
            state: SimHome::new(),
            clock: clock.clone(),
            network: Network::new(
                random.fork(),
                schedule.owners.len() + schedule.phones.len(),
                schedule.way_bytes_max,
            ),
        };
        machine
            .segments
            .set_faults(|faults| faults.sync_lies = *lie == Some(Lie::Disk));
        let model = Model::new(config.sessions.policy, &config.log, clock);
        let devices = schedule.owners.iter().enumerate();
        let devices: Vec<_> = devices
            .map(|(number, owner)| {
                let lies = *lie == Some(Lie::Store);
                Rc::new(Device::new(number, owner.clone(), lies))
            })
            .collect();
        let phones = (devices.len()..).zip(&schedule.phones);
        let phones: Vec<_> = phones
            .map(|(number, owner)| Rc::new(Phone::new(number, *owner)))
            .collect();
        let world = Self {
            schedule: schedule.clone(),
            machine,
            tokens: Tokens::new(&config.auth),
            model: Rc::new(RefCell::new(model)),
            apps: RefCell::new(vec![None; devices.len() + phones.len()]),
            devices,
            phones,
            gateway: RefCell::default(),
            random: RefCell::new(random),
            armed: Cell::default(),
            arms_next: Cell::default(),
            starts_at: Cell::default(),
            died: Notify::new(),
            flipped: RefCell::default(),
            epoch: Cell::new(EPOCH),
            outside: Outside::new(config),
        };
        world.begin_log();
        world
    }

    /// A data directory without a log in it.
    pub(super) fn begin_log(&self) {
        let epoch = self.epoch.get();
        self.machine
            .root
            .put("epoch", epoch_text(Epoch(epoch), base_of(epoch)).as_bytes());
        self.model.borrow_mut().epoch = epoch;
    }

    /// Polls the gateway's tasks; handles its death if it died.
    fn poll_gateway(&self, cx: &mut Context<'_>) {
        let mut gateway = self.gateway.borrow_mut();
        let Some(running) = &mut *gateway else { return };
        running.poll(cx);
        let is_dead = running.life.is_dead();
        drop(gateway);
        if is_dead && let Some(death) = self.armed.take() {
            self.crash(death);
        }
    }

    /// Carries out the operations, then ends all faults and waits until everything has arrived.
    async fn drive(&self, operations: &[Timed]) {
        let began = Instant::now();
        self.start();
        for Timed { at, operation } in operations {
            self.wait_until(began + *at).await;
            note(format_args!("{operation:?}"));
            self.carry_out(operation).await;
            self.check();
            if is_violated() {
                return;
            }
        }
        self.come_to_rest().await;
    }

    /// Waits. A gateway that is due to start meanwhile starts.
    pub(super) async fn wait_until(&self, until: Instant) {
        loop {
            let next = [self.starts_at.get(), self.outside.next_look()];
            let next = next.into_iter().flatten().fold(until, Instant::min);
            tokio::select! {
                biased;
                () = sleep_until(next) => {}
                // The gateway died meanwhile.
                () = self.died.notified() => {}
            }
            self.look_outside();
            if self.starts_at.get().is_some_and(|at| at <= Instant::now()) {
                self.starts_at.set(None);
                self.start();
            } else if Instant::now() >= until {
                return;
            }
        }
    }

    pub(super) async fn wait(&self, time: Duration) {
        self.wait_until(Instant::now() + time).await;
    }

    pub(super) fn check(&self) {
        let gateway = self.gateway.borrow();
        let alive = gateway.as_ref().filter(|gateway| !gateway.life.is_dead());
        let model = &mut *self.model.borrow_mut();
        let users = self.schedule.users;
        match alive {
            // A damaged log may not know the heads of inboxes.
            Some(gateway) if gateway.log.damages().is_empty() => {
                let log = Some(&*gateway.log);
                gateway.life.beside(|| model.check(users, log));
            }
            _ => model.check(users, None),
        }
    }
}
