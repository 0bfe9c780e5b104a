//! The admin API on a log in memory, for tests and fuzzing. The log fails on demand.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    call::{App, Rooms},
    openapi, routes,
};
use crate::{
    clock::{Clock, fixture::Manual},
    config::{self, Config},
    delivery::Delivery,
    ids::{Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, AppendError, Inbox, Log, Lookup, Patience, Pending, ReadError, ReadLimit, Receipt,
        Refusing, SessionRow, Stored, TokenTimes,
    },
    metrics::Metrics,
    registry::Registry,
    token::Tokens,
    watch::Watch,
};

/// The way in which the log fails from now on.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The log refuses every append at once.
    Refuse(AppendError),
    /// The writer refuses every append.
    FailLater(AppendError),
    /// The writer never answers.
    Hang,
    /// The writer ends without an answer.
    Vanish,
    /// Reads fail.
    Read(ReadError),
    /// `inbox` panics.
    Panic,
}

#[derive(Default)]
pub(super) struct MemoryLog {
    rows: Mutex<Rows>,
}

#[derive(Default)]
pub(super) struct Rows {
    pub(super) fault: Option<Fault>,
    pub(super) appends: Vec<Append>,
    pub(super) profiles: BTreeMap<UserId, Bytes>,
    pub(super) sessions: BTreeMap<SessionKey, SessionRow>,
    receipts: Vec<([u8; 16], Receipt)>,
    inboxes: BTreeMap<UserId, Vec<Option<Bytes>>>,
    tokens: BTreeMap<(UserId, Platform), TokenTimes>,
    pub(super) hanging: Vec<Box<dyn std::any::Any + Send>>,
}

impl MemoryLog {
    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.rows().fault = Some(fault);
    }

    fn answer<T: Send + 'static>(
        &self,
        make: impl FnOnce(&mut Rows) -> Result<T, AppendError>,
    ) -> Result<Pending<T>, AppendError> {
        let (answer, pending) = oneshot::channel();
        let mut rows = self.rows();
        match rows.fault.clone() {
            Some(Fault::Refuse(error)) => return Err(error),
            Some(Fault::FailLater(error)) => drop(answer.send(Err(error))),
            Some(Fault::Hang) => rows.hanging.push(Box::new(answer)),
            Some(Fault::Vanish) => drop(answer),
            _ => drop(answer.send(make(&mut rows))),
        }
        Ok(pending)
    }

    fn check_readable(&self) -> Result<(), ReadError> {
        match &self.rows().fault {
            Some(Fault::Read(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl Rows {
    fn append(&mut self, append: Append) -> Result<Receipt, AppendError> {
        let first = self.receipts.iter().find(|(_, receipt)| {
            receipt.sender == append.sender && receipt.client_message_id == append.client_message_id
        });
        if let Some((fingerprint, receipt)) = first {
            return match *fingerprint == append.fingerprint {
                true => Ok(receipt.clone()),
                false => Err(AppendError::KeyReused),
            };
        }
        let mut placed = Vec::new();
        for user in &append.receivers {
            let inbox = self.inboxes.entry(user.clone()).or_default();
            inbox.push(Some(append.body.clone()));
            placed.push((user.clone(), Seq(inbox.len() as u64)));
        }
        let receipt = Receipt {
            message_id: append.message_id,
            sender: append.sender.clone(),
            client_message_id: append.client_message_id.clone(),
            send_time_ms: append.send_time_ms,
            placed: placed.into(),
        };
        self.receipts.push((append.fingerprint, receipt.clone()));
        self.appends.push(append);
        Ok(receipt)
    }
}

impl Log for MemoryLog {
    fn epoch(&self) -> Epoch {
        Epoch(7)
    }

    fn append(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        self.answer(|rows| rows.append(append))
    }

    fn inbox(&self, user: &UserId) -> Result<Inbox, ReadError> {
        assert!(
            !matches!(self.rows().fault, Some(Fault::Panic)),
            "the test asked for this panic"
        );
        self.check_readable()?;
        let head = self.rows().inboxes.get(user).map_or(0, Vec::len) as u64;
        Ok(Inbox {
            head: Seq(head),
            first: Seq(1),
        })
    }

    fn read(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
        _: Patience,
    ) -> Result<Vec<Stored>, ReadError> {
        self.check_readable()?;
        let rows = self.rows();
        let inbox = rows.inboxes.get(user).map_or(&[][..], |inbox| inbox);
        let mut bytes_left = limit.bytes;
        let mut stored: Vec<Stored> = Vec::new();
        for (place, body) in inbox
            .iter()
            .enumerate()
            .skip(after.0 as usize)
            .take(limit.messages)
        {
            let bytes = body.as_ref().map_or(0, Bytes::len);
            if bytes > bytes_left && !stored.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(bytes);
            stored.push(Stored {
                seq: Seq(place as u64 + 1),
                body: body.clone(),
            });
        }
        Ok(stored)
    }

    fn find(&self, lookup: Lookup<'_>) -> Result<Option<Receipt>, ReadError> {
        self.check_readable()?;
        let is_it = |receipt: &&Receipt| match lookup {
            Lookup::Id(id) => receipt.message_id == id,
            Lookup::Key {
                sender,
                client_message_id,
            } => &*receipt.sender == sender && &*receipt.client_message_id == client_message_id,
        };
        let rows = self.rows();
        Ok(rows
            .receipts
            .iter()
            .map(|(_, receipt)| receipt)
            .find(is_it)
            .cloned())
    }

    fn session(&self, key: &SessionKey) -> Result<Option<SessionRow>, ReadError> {
        Ok(self.rows().sessions.get(key).copied())
    }

    fn sessions(&self, user: &UserId) -> Result<Vec<(SessionKey, SessionRow)>, ReadError> {
        let rows = self.rows();
        let of_user = rows.sessions.iter().filter(|(key, _)| key.user == *user);
        Ok(of_user.map(|(key, row)| (key.clone(), *row)).collect())
    }

    fn store_cursor(&self, key: &SessionKey, row: SessionRow) -> Result<(), ReadError> {
        self.rows().sessions.insert(key.clone(), row);
        Ok(())
    }

    fn users(&self) -> Result<Vec<UserId>, ReadError> {
        let rows = self.rows();
        let mut users: Vec<_> = rows
            .inboxes
            .keys()
            .chain(rows.profiles.keys())
            .cloned()
            .collect();
        users.sort();
        users.dedup();
        Ok(users)
    }

    fn register(&self, user: UserId, profile: Bytes) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| {
            rows.profiles.insert(user, profile);
            Ok(())
        })
    }

    fn revoke(
        &self,
        user: UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| {
            rows.tokens
                .entry((user, platform))
                .or_default()
                .revoked_before_ms = before_ms;
            Ok(())
        })
    }

    fn token_times(&self, user: &UserId, platform: Platform) -> Result<TokenTimes, ReadError> {
        let rows = self.rows();
        let times = rows.tokens.get(&(user.clone(), platform));
        Ok(times.copied().unwrap_or_default())
    }

    fn note_token(
        &self,
        user: &UserId,
        platform: Platform,
        issued_at_ms: u64,
    ) -> Result<(), ReadError> {
        let mut rows = self.rows();
        let times = rows.tokens.entry((user.clone(), platform)).or_default();
        times.newest_ms = times.newest_ms.max(issued_at_ms);
        Ok(())
    }

    fn delete(&self, user: UserId, seqs: Vec<Seq>) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| {
            let inbox = rows.inboxes.entry(user).or_default();
            for seq in seqs {
                if let Some(place) = inbox.get_mut(seq.0 as usize - 1) {
                    *place = None;
                }
            }
            Ok(())
        })
    }

    fn check_writable(&self) -> Result<(), Refusing> {
        match &self.rows().fault {
            Some(Fault::Refuse(AppendError::Refusing(refusing))) => Err(refusing.clone()),
            _ => Ok(()),
        }
    }
}

/// A message id that no test creates.
pub(super) const UNKNOWN: MessageId = MessageId([0x5a; 16]);

pub(super) const ADMIN: &str = "openIM123456";
pub(super) const SECRET: &str = "tuoyun";
#[cfg(test)]
pub(super) use crate::clock::fixture::NOW_MS;

/// The API, and the rooms that it uses.
pub(super) struct Gateway {
    pub(super) router: Router,
    pub(super) log: Arc<MemoryLog>,
    pub(super) clock: Arc<Clock>,
    pub(super) machine: Arc<Manual>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) registry: Arc<Registry>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) watch: Arc<Watch>,
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
        let log = Arc::new(MemoryLog::default());
        let machine = Manual::new();
        let clock = machine.clock();
        let metrics = Arc::new(Metrics::new());
        let registry = Arc::new(Registry::new(
            &config::Sessions::default(),
            Arc::clone(&metrics),
        ));
        let tokens = Arc::new(Tokens::new(&auth_config()));
        let delivery = Arc::new(Delivery::new(
            Arc::clone(&log) as _,
            Arc::clone(&registry),
            Arc::clone(&tokens),
            Arc::clone(&clock),
        ));
        let mut gateway = Self {
            router: Router::new(),
            log,
            clock,
            machine,
            delivery,
            registry,
            tokens,
            metrics,
            watch: Arc::default(),
        };
        let app = App::new(&whole_config(config), gateway.rooms(), openapi::document());
        gateway.router = routes::router(Arc::new(app.unwrap()));
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
