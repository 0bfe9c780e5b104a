//! Honest clients, and the delays that they notice: from the moment a send is due to its landing. The schedule waits for no
//! client.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use towncrier_client::{
    ClientConnection, Tcp, Trust,
    proto::{Ack, Connect, client_frame, server_frame::Body},
};

use crate::support::{Gateway, WEB, admin::Admin, notice, within};

/// The callers of the admin API. Each has one request at a time.
const CALLERS: u64 = 8;

/// Sessions that land and ack their pushes.
pub(super) struct Honest {
    origin: Instant,
    sessions: JoinSet<()>,
    landings: UnboundedReceiver<Duration>,
    admin: Admin,
}

/// The delays of some time.
pub(super) struct Spell {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Honest {
    /// Starts `count` sessions, one user each.
    pub(super) async fn begin(gateway: &Gateway, trust: Option<&Trust>, count: usize) -> Self {
        let origin = Instant::now();
        let (landed, landings) = unbounded_channel();
        let mut admin = gateway.admin().await;
        let mut sessions = JoinSet::new();
        for number in 0..count {
            let token = admin.token(&name(number), WEB).await;
            let clients = gateway.place().clients;
            let mut connection = match trust {
                None => ClientConnection::open(&format!("ws://{clients}/ws")).await,
                Some(trust) => {
                    let url = format!("wss://{clients}/ws");
                    ClientConnection::open_trusting(&Tcp, &url, trust).await
                }
            }
            .unwrap();
            let connect = Connect {
                token,
                ..Connect::default()
            };
            let connect = client_frame::Body::Connect(connect);
            connection.send(connect).await.unwrap();
            let connected = within("Connected", connection.receive()).await.unwrap();
            assert!(matches!(connected, Body::Connected(_)), "{connected:?}");
            sessions.spawn(land(connection, origin, landed.clone()));
        }
        Self {
            origin,
            sessions,
            landings,
            admin,
        }
    }

    /// Sends `per_second` for as long as `lasting`, and waits until each message has landed.
    pub(super) async fn spell(&mut self, per_second: u32, lasting: Duration) -> Spell {
        let interval = Duration::from_secs(1) / per_second;
        let count = lasting.div_duration_f64(interval) as u64;
        let begin = tokio::time::Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let mut admin = self.admin.another();
            let (origin, sessions) = (self.origin, self.sessions.len());
            callers.spawn(async move {
                for number in (caller..count).step_by(CALLERS as usize) {
                    let due = begin + interval * number as u32;
                    tokio::time::sleep_until(due).await;
                    let due = due.into_std() - origin;
                    let to = name(number as usize % sessions);
                    admin.send(&notice(&to, &due.as_micros().to_string())).await;
                }
            });
        }
        while let Some(called) = callers.join_next().await {
            called.unwrap();
        }
        let mut landings = Vec::new();
        while landings.len() < count as usize {
            let landed = within("an honest message", self.landings.recv()).await;
            landings.push(landed.expect("the sessions are there"));
        }
        landings.sort_unstable();
        Spell {
            p50: landings[landings.len() / 2],
            p99: landings[landings.len() * 99 / 100],
        }
    }

    /// The number of sessions that are still connected.
    pub(super) fn left(&mut self) -> usize {
        assert!(self.sessions.try_join_next().is_none(), "a session ended");
        self.sessions.len()
    }
}

fn name(number: usize) -> String {
    format!("honest-{number:03}")
}

/// Lands pushes, in order and once, and acks them.
async fn land(
    mut connection: ClientConnection,
    origin: Instant,
    landed: UnboundedSender<Duration>,
) {
    let mut cursor = 0;
    loop {
        let Body::Push(push) = connection.receive().await.unwrap() else {
            continue;
        };
        for message in push.messages {
            assert_eq!(message.seq, cursor + 1);
            cursor = message.seq;
            let content: Value = serde_json::from_slice(&message.content).unwrap();
            let due: u64 = content["text"].as_str().unwrap().parse().unwrap();
            let waited = origin.elapsed() - Duration::from_micros(due);
            let _ = landed.send(waited);
        }
        let ack = client_frame::Body::Ack(Ack { seq: cursor });
        connection.send(ack).await.unwrap();
    }
}
