//! A receiver of webhooks in memory.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::{
    events::Events,
    lock,
    service::{Service, Weather},
};
use crate::{process::Life, trace::note};
use towncrier::webhooks::{HookReceiver, HookReply};

/// The time after which the gateway waits no longer for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The receiver as one process sees it.
pub(in super::super) struct SimReceiver {
    weather: Weather,
    events: Arc<Mutex<Events>>,
    life: Arc<Life>,
}

impl SimReceiver {
    pub(super) fn new(weather: Weather, events: Arc<Mutex<Events>>, life: Arc<Life>) -> Self {
        Self {
            weather,
            events,
            life,
        }
    }

    async fn answer(&self, id: &str, body: &Bytes) -> HookReply {
        let silence = || HookReply::Silence("no answer".into());
        self.weather.way().await;
        if self.life.is_dead() {
            return pending().await;
        }
        let service = self.weather.now();
        if service == Service::Down {
            return silence();
        }
        let reply = match service {
            Service::Up | Service::Slow | Service::Mute => HookReply::Status(200, None),
            Service::Busy => HookReply::Status(429, Some(Duration::from_secs(20))),
            Service::Refusing => HookReply::Status(400, None),
            _ => HookReply::Status(503, None),
        };
        note(format_args!("request {id}: {reply:?}, {service:?}"));
        lock(&self.events).arrives(id, body, &reply);
        if service == Service::Mute {
            sleep(TIMEOUT).await;
            return silence();
        }
        self.weather.way().await;
        if self.life.is_dead() {
            return pending().await;
        }
        reply
    }
}

impl HookReceiver for SimReceiver {
    fn take<'a>(&'a self, id: &'a str, _: u64, body: &'a Bytes) -> BoxFuture<'a, HookReply> {
        Box::pin(self.answer(id, body))
    }
}
