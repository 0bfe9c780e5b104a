//! The rooms that both ports stand on, put together: for the program, for a simulated gateway, for a test's.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::Config,
    delivery::Delivery,
    devices,
    door::tls::Tls,
    erase::Eraser,
    log::Log,
    metrics::Metrics,
    openim,
    push::{PushForgetter, PushRoom, vendor::Vendor},
    reactor::Parts,
    registry::{Departures, Registry},
    token::Tokens,
    webhooks::HookForgetter,
};

/// The rooms that both ports stand on, put together.
pub struct Base<L: ?Sized> {
    /// The log. It announces its commits to the registry's sessions.
    pub log: Arc<L>,
    /// The same log, whatever its type is.
    shared: Arc<dyn Log>,
    /// The sessions that are online.
    pub registry: Arc<Registry>,
    /// The operations on both.
    pub delivery: Arc<Delivery>,
    /// The tokens that both ports accept.
    pub tokens: Arc<Tokens>,
    /// The metrics of all rooms.
    pub metrics: Arc<Metrics>,
}

impl<L: Log> Base<L> {
    /// Puts the rooms together on these parts: a clock, and a log with the same clock and metrics.
    pub fn build(config: &Config, metrics: Arc<Metrics>, clock: Arc<Clock>, log: L) -> Self {
        let log = Arc::new(log);
        let shared: Arc<dyn Log> = log.clone();
        Self::over(config, metrics, clock, log, shared)
    }
}

impl<L: ?Sized> Base<L> {
    /// Puts the rooms together on this log, once as its own type and once as any log.
    pub(super) fn over(
        config: &Config,
        metrics: Arc<Metrics>,
        clock: Arc<Clock>,
        log: Arc<L>,
        shared: Arc<dyn Log>,
    ) -> Self {
        let mut registry = Registry::new(&config.sessions, metrics.clone());
        if config.push.is_on() {
            let departures = Departures::new(clock.clone(), config.push.after);
            registry = registry.noting(departures);
        }
        let registry = Arc::new(registry);
        let tokens = Arc::new(Tokens::new(&config.auth));
        let mut delivery = Delivery::new(
            shared.clone(),
            registry.clone(),
            tokens.clone(),
            clock,
            metrics.clone(),
            &config.push,
        );
        if config.push.is_on() {
            delivery = delivery.with_proofs();
        }
        Self {
            log,
            shared,
            registry,
            delivery: Arc::new(delivery),
            tokens,
            metrics,
        }
    }

    /// The parts of its reactors: both client protocols, the calls for devices, and OpenIM's REST calls, where they are on.
    pub fn parts(&self, config: &Config, tls: Option<Tls>) -> Parts {
        let mut rest = devices::rest(self.delivery.clone());
        if config.openim.enabled {
            rest = rest.and(openim::rest(self.delivery.clone()));
        }
        Parts::new(
            config,
            tls,
            self.delivery.clone(),
            self.registry.clone(),
            self.metrics.clone(),
        )
        .with_rest(rest)
    }

    /// The eraser of users, in these rooms where they run.
    pub fn eraser(&self, push: Option<PushForgetter>, hooks: Option<HookForgetter>) -> Eraser {
        Eraser::new(self.shared.clone(), self.delivery.clone(), push, hooks)
    }

    /// Vendor push by these vendors; `None` without a vendor.
    pub fn push(&self, config: &Config, vendors: Vec<Arc<dyn Vendor>>) -> Option<PushRoom> {
        (!vendors.is_empty()).then(|| {
            PushRoom::new(
                &config.push,
                vendors,
                self.shared.clone(),
                self.registry.clone(),
                self.delivery.clone(),
                &self.metrics,
            )
        })
    }
}
