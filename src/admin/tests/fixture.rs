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
    webhooks::Hooks,
};

/// A message id that no test makes.
pub(in crate::admin) const UNKNOWN: MessageId = MessageId([0x5a; 16]);

pub(in crate::admin) const ADMIN: &str = "openIM123456";
pub(in crate::admin) const SECRET: &str = "tuoyun";
pub(in crate::admin) use crate::clock::tests::manual::NOW_MS;

/// The API, and the rooms that it uses.
pub(in crate::admin) struct Gateway {
    pub(in crate::admin) router: Router,
    base: Base<MemoryLog>,
    pub(in crate::admin) clock: Arc<Clock>,
    pub(in crate::admin) machine: Arc<Manual>,
    pub(in crate::admin) watch: Arc<Watch>,
}

/// The rooms are reached as if they were fields.
impl Deref for Gateway {
    type Target = Base<MemoryLog>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

pub(in crate::admin) fn admin_config() -> config::Admin {
    config::Admin {
        listen: ([127, 0, 0, 1], 0).into(),
        body_bytes_max: 128 * 1024,
        batch_max: 10,
        request_timeout: Duration::from_secs(30),
        ..config::Admin::default()
    }
}

pub(in crate::admin) fn auth_config() -> config::Auth {
    config::Auth {
        secret: SECRET.into(),
        token_key: "open_im_server".into(),
        ..config::Auth::default()
    }
}

/// This admin section with the defaults of all others.
pub(in crate::admin) fn whole_config(admin: &config::Admin) -> Config {
    Config {
        admin: admin.clone(),
        auth: auth_config(),
        ..Config::default()
    }
}

impl Gateway {
    pub(in crate::admin) fn new() -> Self {
        Self::with(&admin_config())
    }

    pub(in crate::admin) fn with(config: &config::Admin) -> Self {
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

    pub(in crate::admin) fn rooms(&self) -> Rooms {
        Rooms {
            delivery: Arc::clone(&self.delivery),
            metrics: Arc::clone(&self.metrics),
            watch: Arc::clone(&self.watch),
            seen: None,
            hooks: Hooks::default(),
            eraser: self.base.eraser(None, None),
        }
    }

    pub(in crate::admin) fn token(&self, user: &str) -> String {
        let user = UserId::new(user).unwrap();
        let now_ms = self.clock.now_ms();
        self.tokens.issue(&user, Platform::Web, now_ms).token
    }
}
