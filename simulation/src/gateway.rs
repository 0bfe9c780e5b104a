//! One life of the gateway's process: all its rooms, on the simulated disk and network, in one set of tasks.
//!
//! Dropping it is the end of the process: none of its tasks runs again.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, task::LocalSet, time::sleep};

use super::{
    clock::SimClock,
    disk::SimDisk,
    network::Network,
    outside::{Outside, Sends},
    process::{Life, is_beside},
    store::SimHome,
    trace::{note, violated},
};
use towncrier::{
    clock::Clock,
    config::Config,
    delivery::Delivery,
    gateway::Base,
    log::embedded::{Directories, EmbeddedLog, OpenError, Workers},
    metrics::{ByKind, Metrics},
    reactor::{self, MailboxLimits, Parts, Stage},
    registry::Registry,
    webhooks::DeadLetters,
};

/// The setup of a run's gateway.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) mailbox: MailboxLimits,
    pub(super) lie: Option<Lie>,
}

/// A part that lies to the program. It proves that the simulation finds the fault that such a part makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// The gateway's disk reports a sync that did not happen. A log that answers before its sync does the same.
    Disk,
    /// A device's store moves its cursor before it keeps the message.
    Store,
}

/// The parts that outlive the process.
pub(super) struct Machine {
    pub(super) root: SimDisk,
    pub(super) segments: SimDisk,
    pub(super) state: SimHome,
    pub(super) clock: Arc<SimClock>,
    pub(super) network: Network,
}

pub(super) struct Gateway {
    tasks: LocalSet,
    pub(super) life: Arc<Life>,
    pub(super) log: Arc<EmbeddedLog>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    /// The pending entries at the start.
    begun: ByKind<u64>,
    /// One for each reactor. With several receivers on one sender, tokio would wake them in an order of its own.
    stages: Vec<watch::Sender<Stage>>,
    is_drained: Rc<Cell<bool>>,
    /// Vendor push and webhooks.
    sends: Sends,
}

impl Gateway {
    /// Starts the process: real recovery of the disk's content, then all tasks.
    pub(super) fn start(
        setup: &Setup,
        machine: &Machine,
        outside: &Outside,
        life: Arc<Life>,
    ) -> Result<Self, OpenError> {
        let Setup {
            config, mailbox, ..
        } = setup;
        let clock = machine.clock.for_process();
        let metrics = Arc::new(Metrics::new());
        let directories = Directories {
            root: Arc::new(machine.root.for_process(life.clone())),
            segments: Arc::new(machine.segments.for_process(life.clone())),
            state: Box::new(machine.state.for_process(life.clone())),
        };
        let (log, workers) = EmbeddedLog::open_in(
            &directories,
            &config.log,
            clock.clone(),
            metrics.clone(),
            aside,
        )?;
        let begun = log.pending();
        let base = Base::build(config, metrics, clock.clone(), log);
        let mut parts = base.parts(config, None);
        parts.mailbox = *mailbox;
        let sends = Sends::new(&base, config, &clock, outside, &life);
        let Base {
            log,
            registry,
            delivery,
            metrics,
            ..
        } = base;
        let stages = (0..config.listener.reactors).map(|_| watch::channel(Stage::Serving).0);
        let gateway = Self {
            tasks: LocalSet::new(),
            life: life.clone(),
            log,
            delivery,
            registry,
            clock,
            metrics,
            begun,
            stages: stages.collect(),
            is_drained: Rc::default(),
            sends,
        };
        gateway.run(machine, &parts, workers);
        Ok(gateway)
    }

    /// Spawns all tasks, and the task that shuts down in order when it is told to.
    fn run(&self, machine: &Machine, parts: &Parts, workers: Workers) {
        let listeners = machine.network.listen(self.stages.len(), self.life.clone());
        let serving: Vec<_> = (0..)
            .zip(listeners)
            .zip(&self.stages)
            .map(|((number, listener), stage)| {
                let serve = reactor::serve(number, listener, parts.clone(), stage.subscribe());
                self.tasks.spawn_local(serve)
            })
            .collect();
        let (writer, keeper) = workers.into_futures();
        let writing = writer.map(|writer| self.tasks.spawn_local(writer));
        let keeping = self.tasks.spawn_local(keeper);
        let sending = self.tasks.spawn_local(self.sends.run());
        let (log, is_drained) = (self.log.clone(), self.is_drained.clone());
        self.tasks.spawn_local(async move {
            for reactor in serving {
                if !matches!(reactor.await, Ok(Ok(()))) {
                    violated("P7", format_args!("a reactor ended by itself"));
                }
            }
            // A panic in it is already a violation.
            let _ = sending.await;
            log.close();
            // A panic in one of them is already a violation.
            let _ = keeping.await;
            if let Some(writing) = writing {
                let _ = writing.await;
            }
            is_drained.set(true);
        });
    }

    /// The books of this life are closed for each kind of entry: pending at the start + accepted = acked + expired + pending.
    pub(super) fn check_books(&self) {
        let text = self.metrics.handle().render();
        let pending = self.log.pending();
        let kinds = [
            ("message", self.begun.messages, pending.messages),
            ("marks", self.begun.marks, pending.marks),
        ];
        for (kind, begun, pending) in kinds {
            let [accepted, acked, expired] = ["accepted", "acked", "expired"].map(|name| {
                let line = format!("towncrier_messages_{name}_total{{kind=\"{kind}\"}} ");
                let value = text.lines().find_map(|text| text.strip_prefix(&*line));
                value.and_then(|value| value.parse().ok()).unwrap_or(0)
            });
            if begun + accepted != acked + expired + pending {
                violated(
                    "books",
                    format_args!(
                        "{kind}: {begun} were pending, {accepted} came, {acked} are acked, {expired} expired, {pending} are pending"
                    ),
                );
            }
        }
    }

    /// True once vendor push and webhooks run.
    pub(super) fn sends_outside(&self) -> bool {
        self.sends.is_running()
    }

    /// The events that the receiver of webhooks refused.
    pub(super) fn letters(&self) -> Option<Arc<DeadLetters>> {
        self.sends.letters()
    }

    /// Runs a task within the process; it dies with the process.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Shuts down in order; see [`Self::is_drained`].
    pub(super) fn drain(&self, period: Duration) {
        note(format_args!("drains over {period:?}"));
        self.delivery.start_draining();
        self.sends.stop();
        for stage in &self.stages {
            stage.send_replace(Stage::Draining(period));
        }
    }

    /// True if nothing is left to do: the process would exit now.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained.get()
    }

    /// Polls its tasks.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        // The set ends when all tasks have ended, which is no event.
        let _: Poll<()> = Pin::new(&mut self.tasks).poll(cx);
    }
}

/// Work that may wait for the disk runs on the same thread, a moment later. A look beside the process waits for nothing. Vendor push has
/// tasks outside the process's set, which ask as well; the disk of a dead process answers nothing.
fn aside(work: Box<dyn FnOnce() + Send>) {
    if is_beside() {
        return work();
    }
    let wait = Duration::from_millis(fastrand::u64(0..20));
    tokio::spawn(async move {
        sleep(wait).await;
        work();
    });
}
