//! The admin API on a log in memory.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::Router;

use crate::admin::{Rooms, api};
use crate::{
    clock::{Clock, tests::manual::Manual},
    config::{self, Config},
    gateway::Base,
    ids::{MessageId, Platform, UserId},
    log::tests::memory::MemoryLog,
    threads::Watch,
};

/// A message id that no test makes.
pub(super) const UNKNOWN: MessageId = MessageId([0x5a; 16]);

pub(super) const ADMIN: &str = "openIM123456";
pub(super) const SECRET: &str = "tuoyun";
pub(super) use crate::clock::tests::manual::NOW_MS;

/// The API, and the rooms that it uses.
pub(super) struct Gateway {
    pub(super) router: Router,
    base: Base<MemoryLog>,
    pub(super) clock: Arc<Clock>,
    pub(super) machine: Arc<Manual>,
    pub(super) watch: Arc<Watch>,
}

/// The rooms are reached as if they were fields.
impl Deref for Gateway {
    type Target = Base<MemoryLog>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

pub(super) fn admin_config() -> config::Admin {
    config::Admin {
        listen: ([127, 0, 0, 1], 0).into(),
        body_bytes_max: 128 * 1024,
        batch_max: 10,
        request_timeout: Duration::from_secs(30),
        ..config::Admin::default()
    }
}

pub(super) fn auth_config() -> config::Auth {
    config::Auth {
        secret: SECRET.into(),
        token_key: "open_im_server".into(),
        ..config::Auth::default()
    }
}

/// This admin section with the defaults of all others.
pub(super) fn whole_config(admin: &config::Admin) -> Config {
    Config {
        admin: admin.clone(),
        auth: auth_config(),
        ..Config::default()
    }
}

impl Gateway {
    pub(super) fn new() -> Self {
        Self::with(&admin_config())
    }

    pub(super) fn with(config: &config::Admin) -> Self {
        let machine = Manual::new();
        let clock = machine.clock();
        let config = whole_config(config);
        let base = Base::build(&config, Arc::default(), clock.clone(), MemoryLog::default());
        let mut gateway = Self {
            router: Router::new(),
            base,
            clock,
            machine,
            watch: Arc::default(),
        };
        gateway.router = api(&config, gateway.rooms()).unwrap();
        gateway
    }

    pub(super) fn rooms(&self) -> Rooms {
        Rooms {
            delivery: Arc::clone(&self.delivery),
            registry: Arc::clone(&self.registry),
            metrics: Arc::clone(&self.metrics),
            watch: Arc::clone(&self.watch),
        }
    }

    pub(super) fn token(&self, user: &str) -> String {
        let user = UserId::new(user).unwrap();
        let now_ms = self.clock.now_ms();
        self.tokens.issue(&user, Platform::Web, now_ms).token
    }
}
