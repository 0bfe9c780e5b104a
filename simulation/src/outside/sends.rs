//! Vendor push and webhooks of one life of the process, as the gateway runs them. They have no threads here.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::Outside;
use crate::process::Life;
use towncrier::{
    clock::Clock,
    config::Config,
    gateway::Base,
    log::{Log, embedded::EmbeddedLog},
    push::PushRoom,
    threads::watched,
    webhooks::{DeadLetters, HookSources, PushEvents, WebhooksRoom},
};

/// The pause before a log is read again that could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// The rooms end within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

pub(in super::super) struct Sends {
    push: RefCell<Option<PushRoom>>,
    webhooks: RefCell<Option<ClosedWebhooks>>,
    stop: watch::Sender<bool>,
    state: Rc<SendsState>,
}

/// The parts from which webhooks begin.
struct ClosedWebhooks {
    config: Config,
    sources: HookSources,
    receiver: Arc<super::SimReceiver>,
}

#[derive(Default)]
struct SendsState {
    is_running: Cell<bool>,
    letters: RefCell<Option<Arc<DeadLetters>>>,
}

impl Sends {
    pub(in super::super) fn new(
        base: &Base<EmbeddedLog>,
        config: &Config,
        clock: &Arc<Clock>,
        outside: &Outside,
        life: &Arc<Life>,
    ) -> Self {
        let push = outside.has_push.then(|| outside.vendors(life));
        let push = push.and_then(|vendors| base.push(config, vendors));
        let webhooks = outside.has_webhooks.then(|| {
            base.delivery.keep_begins();
            ClosedWebhooks {
                config: config.clone(),
                sources: HookSources {
                    log: base.log.clone() as Arc<dyn Log>,
                    registry: base.registry.clone(),
                    clock: clock.clone(),
                    metrics: base.metrics.clone(),
                },
                receiver: outside.receiver(life),
            }
        });
        Self {
            push: RefCell::new(push),
            webhooks: RefCell::new(webhooks),
            stop: watch::channel(false).0,
            state: Rc::default(),
        }
    }

    /// Runs both until they are stopped. Call it once.
    pub(in super::super) fn run(&self) -> impl Future<Output = ()> + use<> {
        let (push, webhooks) = (self.push.take(), self.webhooks.take());
        let (stopped, state) = (self.stop.subscribe(), self.state.clone());
        async move {
            let mut events = PushEvents::default();
            let mut room = None;
            if let Some(webhooks) = webhooks {
                let Some(opened) = webhooks.open(&stopped).await else {
                    return;
                };
                events = opened.push_events();
                state.letters.replace(Some(opened.letters()));
                room = Some(opened);
            }
            state.is_running.set(true);
            let (pulse, _watched) = watched("webhooks");
            let hooks = async {
                if let Some(room) = room {
                    room.run(&pulse, stopped.clone()).await;
                }
            };
            let pushes = async {
                if let Some(push) = push {
                    let (pulse, _watched) = watched("push");
                    push.telling(&events).run(pulse, stopped.clone()).await;
                }
            };
            let mut order = stopped.clone();
            let run = async { tokio::join!(hooks, pushes) };
            tokio::pin!(run);
            tokio::select! {
                biased;
                _ = &mut run => return,
                _ = order.wait_for(|is_over| *is_over) => {}
            }
            let _ = timeout(ENDS_WITHIN, run).await;
        }
    }

    pub(in super::super) fn stop(&self) {
        self.state.is_running.set(false);
        self.stop.send_replace(true);
    }

    pub(in super::super) fn is_running(&self) -> bool {
        self.state.is_running.get()
    }

    pub(in super::super) fn letters(&self) -> Option<Arc<DeadLetters>> {
        self.state.letters.borrow().clone()
    }
}

impl ClosedWebhooks {
    async fn open(&self, stopped: &watch::Receiver<bool>) -> Option<WebhooksRoom> {
        while !*stopped.borrow() {
            let (sources, receiver) = (self.sources.clone(), self.receiver.clone());
            match WebhooksRoom::open(&self.config, sources, receiver).await {
                Ok(room) => return Some(room),
                Err(_) => sleep(RETRY).await,
            }
        }
        None
    }
}
