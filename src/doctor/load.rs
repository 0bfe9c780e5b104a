//! The load of the trial: sessions, and callers that send to them, on the thread of the caller.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures_util::future::try_join_all;
use serde_json::value::RawValue;
use tokio::{
    sync::mpsc,
    task::spawn_local,
    time::{Instant, timeout_at},
};
use towncrier_client::{
    AdminClient, AdminError, Client, ClientEvent, MemoryStore, Options, Status,
    admin::{BatchReceivers, SendFields},
};

use super::Error;
use crate::{
    clock::Clock,
    config::Config,
    gateway::Gateway,
    ids::{Platform, UserId},
    token::Tokens,
};

/// The longest time until all sessions of the trial are connected, also on a busy machine.
const UP_AFTER_MAX: Duration = Duration::from_secs(30);
/// The content size of the load rig.
const TEXT_BYTES: usize = 400;
/// A text between two people.
const TEXT: i32 = 101;
const SINGLE: i32 = 1;

/// The size of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrialSize {
    /// Users, each with one session.
    pub(super) sessions: usize,
    /// Callers that each have one send under way.
    pub(super) callers: usize,
}

/// Connected sessions, and an administrator.
pub(super) struct TrialLoad {
    admin: AdminClient,
    token: String,
    sender: String,
    users: Vec<String>,
    content: Box<RawValue>,
    sent: Cell<u64>,
    landed: Rc<Cell<u64>>,
}

impl TrialLoad {
    /// Connects all sessions. Call it in a `LocalSet`: they live as long as it does.
    pub(super) async fn start(
        config: &Config,
        gateway: &Gateway,
        sessions: usize,
    ) -> Result<Self, Error> {
        let (tokens, now_ms) = (Tokens::new(&config.auth), Clock::system().now_ms());
        let token = |user: &str, platform| {
            let user = UserId::new(user).expect("a short text is an id");
            tokens.issue(&user, platform, now_ms).token
        };
        let sender = config.admin.user_ids[0].clone();
        let load = Self {
            admin: AdminClient::new(&format!("http://{}", gateway.admin_addr()))?,
            token: token(&sender, Platform::Admin),
            sender,
            users: (0..sessions)
                .map(|number| format!("doctor-{number}"))
                .collect(),
            content: content(),
            sent: Cell::new(0),
            landed: Rc::default(),
        };
        let url = format!("ws://{}/ws", gateway.client_addr());
        let (up, ups) = mpsc::channel(sessions);
        for user in &load.users {
            let options = Options {
                url: url.clone(),
                token: token(user, Platform::Web),
                device_id: String::new(),
                name: "doctor".into(),
            };
            spawn_local(session(options, up.clone(), load.landed.clone()));
        }
        wait_for(ups, sessions).await?;
        Ok(load)
    }

    /// Messages that landed so far.
    pub(super) fn landed(&self) -> u64 {
        self.landed.get()
    }

    /// Sends to `receivers` at a time, for this long, with this many callers. Each caller sends again as soon as its last
    /// send was answered.
    pub(super) async fn send(
        &self,
        receivers: usize,
        callers: usize,
        lasts: Duration,
    ) -> Result<(), AdminError> {
        let end = Instant::now() + lasts;
        let callers = (0..callers).map(|_| self.call_until(end, receivers));
        try_join_all(callers).await.map(drop)
    }

    async fn call_until(&self, end: Instant, receivers: usize) -> Result<(), AdminError> {
        while Instant::now() < end {
            let send = self.next_send();
            let first = fastrand::usize(..self.users.len());
            if receivers == 1 {
                let receiver = &self.users[first];
                self.admin.send(&self.token, &send, receiver).await?;
            } else {
                let others = self.users.iter().cycle().skip(first);
                let list: Vec<_> = others.take(receivers).cloned().collect();
                let receivers = BatchReceivers::List(&list);
                self.admin.send_batch(&self.token, &send, receivers).await?;
            }
        }
        Ok(())
    }

    /// The next send. It has a key, as careful callers use one.
    fn next_send(&self) -> SendFields {
        self.sent.set(self.sent.get() + 1);
        SendFields {
            operation_id: "doctor".into(),
            send_id: self.sender.clone(),
            client_msg_id: format!("doctor-{}", self.sent.get()),
            sender_nickname: String::new(),
            sender_face_url: String::new(),
            session_type: SINGLE,
            content_type: TEXT,
            content: self.content.clone(),
            is_online_only: false,
        }
    }
}

fn content() -> Box<RawValue> {
    let content = format!(r#"{{"text":"{}"}}"#, "x".repeat(TEXT_BYTES));
    RawValue::from_string(content).expect("this is JSON")
}

/// Lands messages until it is dropped.
async fn session(options: Options, up: mpsc::Sender<()>, landed: Rc<Cell<u64>>) {
    let on_event = |event| match event {
        ClientEvent::Status(Status::CaughtUp { .. }) => {
            // After a reconnect nobody counts any more.
            let _ = up.try_send(());
        }
        ClientEvent::Landed { messages, .. } => landed.set(landed.get() + messages.len() as u64),
        _ => {}
    };
    let mut client = Client::new(options, MemoryStore::default());
    client.run(on_event, std::future::pending()).await;
}

async fn wait_for(mut ups: mpsc::Receiver<()>, sessions: usize) -> Result<(), Error> {
    let end = Instant::now() + UP_AFTER_MAX;
    for connected in 0..sessions {
        if !matches!(timeout_at(end, ups.recv()).await, Ok(Some(()))) {
            return Err(Error::Sessions {
                connected,
                sessions,
            });
        }
    }
    Ok(())
}
