//! A client by the landing rule (`docs/protocol.md#landing`) that reconnects after every loss of its connection.
//!
//! Its store outlives its connections, as a real store outlives its process. A user would see the content of the store.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use towncrier::protocol::towncrier_v1::proto::{Connect, Message, server_frame::Body};

use super::{
    client::{Client, Heard},
    gateway::Whereabouts,
    within,
};

/// The store of a client.
#[derive(Debug, Default)]
pub(crate) struct Store {
    epoch: u64,
    cursor: u64,
    pub(crate) landed: Vec<Message>,
}

/// The client's answer to a push.
enum Landing {
    Ack(u64),
    Resend(u64),
}

impl Store {
    fn land(&mut self, messages: Vec<Message>) -> Landing {
        for message in messages {
            if message.seq > self.cursor + 1 {
                return Landing::Resend(self.cursor);
            }
            if message.seq == self.cursor + 1 {
                self.cursor = message.seq;
                // An entry of read marks is no message.
                if message.marks.is_empty() {
                    self.landed.push(message);
                }
            }
        }
        Landing::Ack(self.cursor)
    }
}

/// A running client.
pub(crate) struct Listener {
    store: Arc<Mutex<Store>>,
    cursor: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Starts listening with this token. Returns when the session is connected.
    pub(crate) async fn start(whereabouts: Whereabouts, token: String) -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let (moved, cursor) = watch::channel(0);
        let (connected, mut is_connected) = watch::channel(false);
        let task = tokio::spawn(listen(whereabouts, token, store.clone(), moved, connected));
        within("a listener's session", is_connected.wait_for(|is| *is))
            .await
            .expect("the listener runs");
        Self {
            store,
            cursor,
            task,
        }
    }

    /// Waits until everything up to `seq` has landed. Then stops and returns the landed messages.
    pub(crate) async fn landed(mut self, seq: u64) -> Vec<Message> {
        let landed = self.cursor.wait_for(|cursor| *cursor >= seq);
        if tokio::time::timeout(super::DEADLINE, landed).await.is_err() {
            // The ledger reports the missing messages one by one.
            eprintln!("a listener stands at {} of {seq}", *self.cursor.borrow());
        }
        self.task.abort();
        // Passes on a panic of the task.
        match (&mut self.task).await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => {}
        }
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut store.landed)
    }
}

async fn listen(
    mut whereabouts: Whereabouts,
    token: String,
    store: Arc<Mutex<Store>>,
    moved: watch::Sender<u64>,
    connected: watch::Sender<bool>,
) {
    loop {
        let Ok(place) = whereabouts
            .wait_for(Option::is_some)
            .await
            .map(|place| *place)
        else {
            return;
        };
        let Ok(mut client) = Client::dial(place.expect("waited for").clients).await else {
            // A real client waits longer.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let connect = {
            let store = store.lock().unwrap_or_else(PoisonError::into_inner);
            Connect {
                token: token.clone(),
                epoch: store.epoch,
                cursor: (store.epoch != 0).then_some(store.cursor),
                ..Connect::default()
            }
        };
        client.say_connect(connect).await;
        loop {
            // There is no deadline here, because a quiet user gets nothing for long.
            let landing = match client.hear_patiently().await {
                Heard::Frame(Body::Connected(welcome)) => {
                    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                    assert!(
                        [0, welcome.epoch].contains(&store.epoch),
                        "the log is another one"
                    );
                    store.epoch = welcome.epoch;
                    connected.send_replace(true);
                    continue;
                }
                Heard::Frame(Body::Push(push)) => {
                    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                    let landing = store.land(push.messages);
                    moved.send_replace(store.cursor);
                    landing
                }
                Heard::Frame(Body::CaughtUp(_) | Body::Draining(_)) => continue,
                Heard::Frame(other) => panic!("nothing was to expire or change: {other:?}"),
                Heard::Closed { code, reason } if code < 4500 => panic!("closed: {code} {reason}"),
                Heard::Closed { .. } | Heard::Lost => break,
            };
            match landing {
                Landing::Ack(seq) => client.ack(seq).await,
                Landing::Resend(after) => client.resend(after).await,
            }
        }
    }
}
