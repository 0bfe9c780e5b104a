//! A vendor of push in memory.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::{
    lock,
    pushes::{PushEnd, Pushes},
    service::{Service, Weather},
};
use crate::{process::Life, trace::note};
use towncrier::{
    message::{Device, Provider},
    push::vendor::{Notice, Outcome, VENDOR_TIMEOUT, Vendor},
};

/// The devices of one call.
const DEVICES_MAX: usize = 2;

/// A vendor as one process sees it.
pub(in super::super) struct SimVendor {
    provider: Provider,
    weather: Weather,
    pushes: Arc<Mutex<Pushes>>,
    life: Arc<Life>,
}

impl SimVendor {
    pub(super) fn new(
        provider: Provider,
        weather: Weather,
        pushes: Arc<Mutex<Pushes>>,
        life: Arc<Life>,
    ) -> Self {
        Self {
            provider,
            weather,
            pushes,
            life,
        }
    }

    async fn answer(&self, notice: &Notice, devices: &[Device]) -> Vec<Outcome> {
        self.weather.way().await;
        if self.life.is_dead() {
            return pending().await;
        }
        let service = self.weather.now();
        let (id, user) = (notice.id.to_string(), notice.user.as_str());
        let mut outcomes = Vec::new();
        for device in devices {
            let push = (&*id, user, &*device.token);
            let outcome = lock(&self.pushes).arrives(self.provider, push, service);
            note(format_args!("push {id} to {}: {outcome:?}", device.token));
            outcomes.push(outcome);
        }
        if service == Service::Mute {
            sleep(VENDOR_TIMEOUT).await;
            let lost = || Outcome::Later {
                retry_after: None,
                reason: "no answer".into(),
            };
            outcomes.fill_with(lost);
        } else {
            self.weather.way().await;
        }
        if self.life.is_dead() {
            return pending().await;
        }
        for (device, outcome) in devices.iter().zip(&outcomes) {
            let is_end = matches!(
                outcome,
                Outcome::Sent { .. } | Outcome::Gone { .. } | Outcome::Refused { .. }
            );
            lock(&self.pushes).answered(&id, &device.token, is_end);
        }
        outcomes
    }
}

impl Vendor for SimVendor {
    fn provider(&self) -> Provider {
        self.provider
    }

    fn devices_max(&self) -> usize {
        DEVICES_MAX
    }

    fn push<'a>(
        &'a self,
        notice: &'a Notice,
        devices: &'a [Device],
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.answer(notice, devices))
    }
}

impl Service {
    /// The vendor's answer about one device. `word` is its name for this push, or its reason.
    pub(super) fn outcome(self, word: String) -> (Outcome, Option<PushEnd>) {
        let later = |retry_after| Outcome::Later {
            retry_after,
            reason: "later".into(),
        };
        match self {
            Self::Up | Self::Slow | Self::Mute => {
                let end = PushEnd::Sent(word.clone());
                (Outcome::Sent { vendor_id: word }, Some(end))
            }
            Self::Down | Self::Failing => (later(None), None),
            Self::Busy => (later(Some(Duration::from_secs(20))), None),
            Self::Refusing => {
                let end = PushEnd::Failed(word.clone());
                (Outcome::Refused { reason: word }, Some(end))
            }
            Self::Forgetful => {
                let end = PushEnd::Failed(word.clone());
                (Outcome::Gone { reason: word }, Some(end))
            }
            Self::Locked => {
                let reason = "bad credentials".into();
                (Outcome::Credentials { reason }, None)
            }
        }
    }
}
