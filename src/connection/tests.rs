//! One connection over a pipe in memory: the protocol seen from outside, limits, deadlines and ends. The test moves the
//! clock.
//!
//! This file has the bench that the tests share. Each file below holds one promise:
//!
//! - `backlog.rs`: a session gets every entry in order, from the log or live
//! - `end.rs`: each end of a connection, with its close code
//! - `epoch.rs`: a log that lost its entries
//! - `read_state.rs`: read marks reach all sessions, conversations are listed
//! - `manners.rs`: clients that ask where they stand before they take pushes
//! - `login.rs`: from `Connect` to `Connected`, or to a refusal
//! - `size.rs`: the bounds of a frame, of the outbox and of an idle connection
//! - `slow_client.rs`: a client that reads little delays nobody and loses nothing
//! - `violation.rs`: input that breaks the protocol
//! - `wire.rs`: the bytes on the wire, for every size of write
//! - `json_lines.rs`: a second protocol; `words.rs`: a third one; `fixture.rs`: the rooms below, and the client

mod backlog;
mod end;
mod epoch;
pub(crate) mod fixture;
mod json_lines;
mod login;
mod manners;
mod read_state;
mod size;
mod slow_client;
mod violation;
mod wire;
mod words;

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::{JoinHandle, LocalSet, spawn_local, yield_now},
    time::advance,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as WsMessage, protocol::Role},
};

use self::fixture::{Client, Said, World};
use super::{replay::READS_IN_A_ROW, state::LINGER, *};
use crate::{
    config,
    ids::{Platform, Seq, SessionKey, UserId},
    log::{
        AppendError, Cause, Log as _, LogError,
        tests::memory::{Answering, EPOCH, Fault},
    },
    message::{Message, Numbers},
    protocol::towncrier_v1::{
        TowncrierV1,
        proto::{Ack, Connect, Fetch, Ping, Resend, client_frame, gap, kicked, server_frame::Body},
    },
    registry::Item,
};

/// Keeps posts until the test delivers them, as a reactor's mailbox does.
#[derive(Default)]
struct Posts(Mutex<Vec<(ConnectionId, Item)>>);

impl Mailbox for Posts {
    fn post(&self, to: ConnectionId, item: Item) {
        self.0.lock().unwrap().push((to, item));
    }
}

/// A gateway of one thread without a reactor. The test controls time, items and pipes.
struct Bench {
    world: World,
    context: Rc<Context>,
    posts: Arc<Posts>,
    connections: Vec<Handle>,
}

const ROOMY: OutboxLimits = OutboxLimits {
    frames_max: 512,
    bytes_max: 256 * 1024,
};

impl Bench {
    fn new() -> Self {
        Self::with(&config::Sessions::default(), ROOMY)
    }

    fn with(sessions: &config::Sessions, outbox: OutboxLimits) -> Self {
        let world = World::new(sessions);
        let posts = Arc::new(Posts::default());
        Self {
            context: world.context(Arc::clone(&posts) as Arc<dyn Mailbox>, outbox),
            world,
            posts,
            connections: Vec::new(),
        }
    }

    /// A connection over a pipe that holds `pipe_bytes`, before `Connect`.
    async fn open(&mut self, pipe_bytes: usize) -> (Client<DuplexStream>, JoinHandle<()>) {
        let (socket, task) = self.open_with(Box::new(TowncrierV1), pipe_bytes).await;
        (Client(socket), task)
    }

    /// The same with any protocol.
    async fn open_with(
        &mut self,
        codec: Box<dyn Codec>,
        pipe_bytes: usize,
    ) -> (WebSocketStream<DuplexStream>, JoinHandle<()>) {
        let (ours, theirs) = duplex(pipe_bytes);
        let id = ConnectionId(self.connections.len() as u64);
        let deadline = self.context.now().plus(Duration::from_secs(10));
        let context = Rc::clone(&self.context);
        let arrival = self.world.arrival();
        let (handle, task) = open(context, id, codec, ours, Vec::new(), deadline, arrival);
        self.connections.push(handle);
        let socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        (socket, spawn_local(task))
    }

    /// A session of "u" on the web, up to its `Connected`.
    async fn log_in(&mut self) -> Client<DuplexStream> {
        self.log_in_with(self.world.connect("u", Platform::Web), 1 << 20)
            .await
    }

    async fn log_in_with(&mut self, connect: Connect, pipe_bytes: usize) -> Client<DuplexStream> {
        let (mut client, _) = self.open(pipe_bytes).await;
        client.say(client_frame::Body::Connect(connect)).await;
        let body = client.hear_frame().await;
        assert!(matches!(body, Body::Connected(_)), "{body:?}");
        client
    }

    /// The same as [`Self::log_in`] with an empty inbox: `CaughtUp` has come, too.
    async fn log_in_live(&mut self) -> Client<DuplexStream> {
        let mut client = self.log_in().await;
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
        client
    }

    fn send(&self, content: &[u8]) {
        self.world.send("u", content);
        self.hand_out();
    }

    fn hand_out(&self) {
        let posts = std::mem::take(&mut *self.posts.0.lock().unwrap());
        for (to, item) in posts {
            self.connections[to.0 as usize].borrow_mut().take(item);
        }
    }

    async fn let_pass(&self, seconds: u64) {
        advance(Duration::from_secs(seconds)).await;
        let now = self.context.now();
        for handle in &self.connections {
            handle.borrow_mut().tick(now);
        }
    }

    /// The close code of a connection whose first message is `first`.
    async fn close_of(&mut self, first: WsMessage) -> u16 {
        let (mut client, _) = self.open(1 << 20).await;
        client.say_raw(first).await;
        client.hear_close().await
    }
}

/// Runs a test on one thread with a clock that only the test moves.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Runs all tasks until they are idle. Bounded: a task that never becomes idle fails its test in another way.
async fn rest() {
    for _ in 0..200 {
        yield_now().await;
    }
}

fn ack(seq: u64) -> client_frame::Body {
    client_frame::Body::Ack(Ack { seq })
}

fn web(user: &str) -> SessionKey {
    SessionKey {
        user: UserId::new(user).unwrap(),
        platform: Platform::Web,
        device: "".into(),
    }
}
