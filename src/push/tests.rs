//! Vendor push on a log in memory, with a vendor that keeps what it sees. Time stands still between the steps.
//!
//! - this file: the gateway and the vendor of these tests
//! - `table.rs`: the decision table, and what the vendor sees in each of its cases
//! - `crashes.rs`: crashes before, at and after the vendor's answer
//! - `erasures.rs`: no push of before an erasure
//! - `ends.rs`: the vendor's answers, and how tasks end

mod crashes;
mod ends;
mod erasures;
mod table;

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;

use super::{
    decider::DeciderStep,
    vendor::{Notice, Outcome},
    *,
};
use crate::{
    clock::{Clock, Machine},
    config::{Config, DeviceClass},
    delivery::{Receivers, Registration, Send},
    gateway::Base,
    ids::{ConnectionId, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    log::{RowTable, SessionRow, tests::memory::MemoryLog},
    message::{Device, Provider, StoredMessage},
    registry::{Departures, Item, Mailbox},
};

const START_MS: u64 = 1_790_000_000_000;
/// `push.after`.
const AFTER_MS: u64 = 10_000;
const NONE: [&str; 0] = [];
const MOBILE: DeviceClass = DeviceClass::Mobile;

/// A machine whose time a test sets.
struct Hands(AtomicU64);

impl Machine for Arc<Hands> {
    fn wall_ms(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn boot_ms(&self) -> u64 {
        self.0.load(Relaxed) - START_MS + 1000
    }

    fn boot_id(&self) -> u128 {
        1
    }
}

struct Nobody;

impl Mailbox for Nobody {
    fn post(&self, _: ConnectionId, _: Item) {}
}

/// The calls that a vendor sees, and its answers.
#[derive(Default)]
struct Stand {
    seen: Mutex<Vec<(Notice, Vec<String>)>>,
    /// The next answers; afterwards it takes everything.
    answers: Mutex<VecDeque<Outcome>>,
}

struct StandVendor(Provider, Arc<Stand>);

impl Vendor for StandVendor {
    fn provider(&self) -> Provider {
        self.0
    }

    fn devices_max(&self) -> usize {
        100
    }

    fn push<'a>(
        &'a self,
        notice: &'a Notice,
        devices: &'a [Device],
    ) -> BoxFuture<'a, Vec<Outcome>> {
        let tokens = devices.iter().map(|device| device.token.clone());
        let seen = (notice.clone(), tokens.collect());
        self.1.seen.lock().unwrap().push(seen);
        let mut answers = self.1.answers.lock().unwrap();
        let sent = || Outcome::Sent {
            vendor_id: "v1".into(),
        };
        let outcomes = devices.iter();
        let outcomes = outcomes.map(|_| answers.pop_front().unwrap_or_else(sent));
        let outcomes: Vec<_> = outcomes.collect();
        Box::pin(async move { outcomes })
    }
}

/// A gateway with one vendor, and the user `u`.
struct Bench {
    config: Config,
    hands: Arc<Hands>,
    base: Base<MemoryLog>,
    registry: Arc<Registry>,
    room: PushRoom,
    work: PushWork,
    stand: Arc<Stand>,
    provider: Provider,
    connections: u64,
}

fn user() -> UserId {
    UserId::new("u").unwrap()
}

fn key(platform: Platform) -> SessionKey {
    SessionKey {
        user: user(),
        platform,
        device: "".into(),
    }
}

fn openim_key(platform: Platform) -> SessionKey {
    SessionKey {
        device: SessionKey::openim_device(&[7; 32]),
        ..key(platform)
    }
}

impl Bench {
    /// A gateway that has run for a while.
    async fn new() -> Self {
        Self::with(Provider::Http, |_| {}).await
    }

    async fn with(provider: Provider, change: impl FnOnce(&mut config::Push)) -> Self {
        let mut config = Config::default();
        config.auth.token_key = "a key of more than 16 bytes".into();
        config.push.http.url = "http://127.0.0.1:9/".into();
        change(&mut config.push);
        let hands = Arc::new(Hands(START_MS.into()));
        let base = Base::build(&config, Arc::default(), clock(&hands), MemoryLog::default());
        let stand = Arc::new(Stand::default());
        let vendor: Arc<dyn Vendor> = Arc::new(StandVendor(provider, Arc::clone(&stand)));
        let room = base.push(&config, vec![vendor]).unwrap();
        let mut bench = Self {
            config,
            hands,
            registry: Arc::clone(&base.registry),
            base,
            work: room.work(TurnNumber::ALWAYS),
            room,
            stand,
            provider,
            connections: 0,
        };
        bench.start().await;
        bench.pass(AFTER_MS);
        bench
    }

    /// The same, where `u` has one device.
    async fn with_phone() -> Self {
        let bench = Self::new().await;
        bench.register(Platform::Ios, "phone", "en").await;
        bench
    }

    async fn start(&mut self) {
        let now_ms = self.now_ms();
        self.work.decider.start(now_ms).await.unwrap();
    }

    fn now_ms(&self) -> u64 {
        self.base.delivery.now_ms()
    }

    fn pass(&self, ms: u64) {
        self.hands.0.fetch_add(ms, Relaxed);
    }

    /// Kills the process, and starts another one on the same log. No client is back.
    async fn crash(&mut self) {
        let departures = Departures::new(clock(&self.hands), self.config.push.after);
        let registry = Registry::new(&self.config.sessions, Arc::default());
        self.registry = Arc::new(registry.noting(departures));
        self.base.delivery = self.another_delivery();
        let vendor = StandVendor(self.provider, Arc::clone(&self.stand));
        self.room = PushRoom::new(
            &self.config.push,
            vec![Arc::new(vendor)],
            Arc::clone(&self.base.log) as Arc<dyn Log>,
            Arc::clone(&self.registry),
            Arc::clone(&self.base.delivery),
            &self.base.metrics,
        );
        self.work = self.room.work(TurnNumber::ALWAYS);
        self.start().await;
    }

    /// The rooms below of another start, or of another gateway on the same log.
    fn another_delivery(&self) -> Arc<Delivery> {
        let delivery = Delivery::new(
            Arc::clone(&self.base.log) as Arc<dyn Log>,
            Arc::clone(&self.registry),
            Arc::clone(&self.base.tokens),
            clock(&self.hands),
            Arc::clone(&self.base.metrics),
            &self.config.push,
        );
        Arc::new(delivery.with_proofs())
    }

    async fn register(&self, platform: Platform, token: &str, lang: &str) {
        let delivery = &self.base.delivery;
        let issued = delivery.issue_token(&user(), platform).await.unwrap();
        let claims = delivery.authenticate(&issued.token).await.unwrap();
        let registration = Registration {
            provider: self.provider.name(),
            token,
            lang,
            ..Registration::default()
        };
        let registered = delivery.register_device(&claims, &issued.token, &registration);
        registered.await.unwrap();
    }

    /// A session that was never seen connects, and begins behind this message.
    fn begin_at(&mut self, key: &SessionKey, seq: Seq) {
        let epoch = self.base.log.inbox(&user()).blocking_wait().unwrap().epoch;
        self.base.delivery.note_begin(key, epoch, seq, true);
        self.base
            .delivery
            .begin(key, epoch, Fence::NONE, seq)
            .unwrap();
        self.connect(key);
    }

    fn connect(&mut self, key: &SessionKey) -> ConnectionId {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let mailbox: Arc<dyn Mailbox> = Arc::new(Nobody);
        let now_ms = self.now_ms();
        self.registry.register(key, id, &mailbox, now_ms).unwrap();
        id
    }

    fn ack(&self, key: &SessionKey, seq: Seq) {
        let row = SessionRow {
            cursor: seq,
            acked_at_ms: self.now_ms(),
        };
        let inbox = self.base.log.inbox(&user()).blocking_wait().unwrap();
        self.base
            .log
            .store_cursor(key, inbox.epoch, Fence::NONE, row)
            .unwrap();
    }

    async fn send_with(&self, change: impl FnOnce(&mut Send)) -> (MessageId, Seq) {
        let mut send = Send {
            message: StoredMessage {
                send_id: "oa".into(),
                session_type: 1,
                content_type: 101,
                content: r#"{"text":"hello"}"#.into(),
                ..StoredMessage::default()
            },
            fingerprint: [0; 16],
            receivers: Receivers::List(vec![user()]),
            is_online_only: false,
        };
        change(&mut send);
        let receipt = self.base.delivery.send(send).await.unwrap();
        (receipt.message_id, receipt.entries[0].1.seq)
    }

    async fn send(&self) -> (MessageId, Seq) {
        self.send_with(|_| {}).await
    }

    /// Makes the decisions that can be made now.
    async fn decide(&mut self) {
        loop {
            let now_ms = self.now_ms();
            let decider = &mut self.work.decider;
            let feed = decider.take_feed(now_ms).await.unwrap();
            let due = decider.decide_due(now_ms).await.unwrap();
            if feed != DeciderStep::Done && due != DeciderStep::Done {
                return;
            }
        }
    }

    /// Makes the calls that can be made now, and returns their number.
    async fn call(&mut self) -> usize {
        let mut made = 0;
        loop {
            let now_ms = self.now_ms();
            let worker = &mut self.work.workers[0];
            worker.wake();
            worker.fill(now_ms).await.unwrap();
            let calls = worker.next(now_ms).await;
            if calls.is_empty() {
                worker.flush().await.unwrap();
                return made;
            }
            for call in calls {
                made += 1;
                let vendor = worker.vendor();
                let outcomes = call.make(&*vendor).await;
                worker.take(call, outcomes, now_ms, 1.0).await;
            }
        }
    }

    async fn decide_and_call(&mut self) {
        self.decide().await;
        self.call().await;
    }

    /// Half a second passes, and then the vendor is asked for what is decided.
    async fn soon(&mut self) {
        self.pass(500);
        self.decide_and_call().await;
    }

    /// The deadline of all messages passes.
    async fn later(&mut self) {
        self.pass(AFTER_MS);
        self.decide_and_call().await;
    }

    fn answer(&self, outcome: Outcome) {
        self.stand.answers.lock().unwrap().push_back(outcome);
    }

    /// The notices that the vendor got since the last call.
    fn notices(&self) -> Vec<(Notice, Vec<String>)> {
        std::mem::take(&mut *self.stand.seen.lock().unwrap())
    }

    /// The tokens that the vendor got since the last call, for this message and no other.
    fn pushed(&self, message: MessageId) -> Vec<String> {
        let mut tokens = Vec::new();
        for (notice, devices) in self.notices() {
            assert_eq!(notice.id, message);
            tokens.extend(devices);
        }
        tokens.sort();
        tokens
    }

    fn states(&self, message: MessageId) -> Vec<(DeviceClass, &'static str)> {
        let facts = self.room.seen.facts(message, &user());
        let states = facts.iter().map(|fact| (fact.class, fact.state.name()));
        states.collect()
    }

    fn tells(&self, metric: &str) -> bool {
        let text = self.base.metrics.render();
        text.lines().any(|line| line == metric)
    }

    /// The number of rows of vendor push in the log.
    fn rows(&self) -> usize {
        let log = Arc::clone(&self.base.log) as Arc<dyn Log>;
        let rows = log.rows(RowTable::PushTasks, b"", b"", 1000);
        rows.blocking_wait().unwrap().len()
    }
}

fn clock(hands: &Arc<Hands>) -> Arc<Clock> {
    let proof = Duration::from_secs(1);
    Arc::new(Clock::new(Box::new(Arc::clone(hands)), proof))
}
