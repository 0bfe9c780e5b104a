//! One connection over a pipe in memory: the protocol seen from outside, limits, deadlines and ends. The test moves the
//! clock.

pub(crate) mod fixture;
mod json_lines;
mod wire;

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
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
use super::*;
use crate::{
    config,
    ids::{Platform, Seq, SessionKey, UserId},
    log::{
        AppendError, Cause, Log as _, LogError,
        tests::memory::{Answering, EPOCH, Fault},
    },
    message::Message,
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

#[test]
fn a_session_gets_its_backlog_then_caught_up_then_live_messages() {
    run(async {
        let mut bench = Bench::new();
        for content in [b"1", b"2"] {
            bench.world.append("u", content);
        }
        let mut client = bench.log_in().await;
        let Body::Push(push) = client.hear_frame().await else {
            panic!("no backlog")
        };
        let seqs: Vec<u64> = push.messages.iter().map(|m| m.seq).collect();
        assert_eq!(seqs, [1, 2]);
        assert_eq!(push.messages[0].recv_id, "u");
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(c) if c.seq == 2));
        bench.send(b"3");
        assert_eq!(
            client.hear_messages(1).await,
            [(3, Bytes::from_static(b"3"))]
        );
        client.say(ack(3)).await;
        rest().await;
        assert_eq!(bench.world.log.cursor(&web("u")), Some(Seq(3)));
    });
}

#[test]
fn connected_tells_what_the_client_needs() {
    run(async {
        let mut bench = Bench::new();
        bench.world.append("u", b"1");
        let (mut client, _) = bench.open(1 << 20).await;
        let connect = bench.world.connect("u", Platform::Ios);
        client.say(client_frame::Body::Connect(connect)).await;
        let Body::Connected(connected) = client.hear_frame().await else {
            panic!("not Connected")
        };
        assert_eq!((connected.epoch, connected.cursor), (EPOCH, 0));
        assert_eq!((connected.head, connected.first), (1, 1));
        assert_eq!((connected.heartbeat_ms, connected.window), (30_000, 256));
        assert_eq!((connected.user_id.as_str(), connected.platform), ("u", 1));
        assert!(connected.server_time_ms > 0);
    });
}

#[test]
fn short_writes_and_pings_in_the_middle_of_frames_mix_nothing_up() {
    run(async {
        let mut bench = Bench::new();
        let contents: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 40 * usize::from(n) + 1]).collect();
        // With a pipe of 13 bytes every frame is written in many pieces, and read while it is written.
        let connect = bench.world.connect("u", Platform::Web);
        let client = bench.log_in_with(connect, 13).await;
        let (mut sink, mut stream) = client.0.split();
        let pinging = spawn_local(async move {
            for _ in 0..20 {
                sink.send(WsMessage::Ping(Bytes::from_static(b"are you there")))
                    .await
                    .unwrap();
            }
            sink
        });
        for content in &contents {
            bench.send(content);
            yield_now().await;
        }
        let (mut pongs, mut heard) = (0, Vec::new());
        while pongs < 20 || heard.len() < 20 {
            match stream.next().await.expect("goes on").expect("well formed") {
                WsMessage::Pong(data) => {
                    assert_eq!(&data[..], b"are you there");
                    pongs += 1;
                }
                WsMessage::Binary(bytes) => {
                    let frame: crate::protocol::towncrier_v1::proto::ServerFrame =
                        prost::Message::decode(bytes).unwrap();
                    if let Some(Body::Push(push)) = frame.body {
                        heard.extend(push.messages.into_iter().map(|m| m.content.to_vec()));
                    }
                }
                message => panic!("{message:?}"),
            }
        }
        assert_eq!(heard, contents);
        drop(pinging.await);
    });
}

#[test]
fn what_is_not_the_protocol_closes_with_its_code() {
    run(async {
        let mut bench = Bench::new();
        let say = |body| {
            let frame = crate::protocol::towncrier_v1::proto::ClientFrame { body: Some(body) };
            WsMessage::Binary(prost::Message::encode_to_vec(&frame).into())
        };
        let ping = say(client_frame::Body::Ping(Ping { nonce: 1 }));
        assert_eq!(bench.close_of(ping).await, 4400, "a frame before Connect");
        let empty = WsMessage::Binary(Bytes::new());
        assert_eq!(bench.close_of(empty).await, 4400, "an empty frame");
        let text = WsMessage::Text("hello".into());
        assert_eq!(bench.close_of(text).await, 1003, "a text frame");
        let large = WsMessage::Binary(vec![0; 64 * 1024 + 1].into());
        assert_eq!(bench.close_of(large).await, 1009, "a frame above 64 KiB");
        let connect = say(client_frame::Body::Connect(Connect::default()));
        assert_eq!(bench.close_of(connect).await, 4401, "no token");
    });
}

#[test]
fn random_and_truncated_frames_close_with_4400_and_hurt_nobody() {
    let seed =
        std::env::var("TOWNCRIER_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("TOWNCRIER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    run(async move {
        let mut bench = Bench::new();
        let mut other = bench.log_in_live().await;
        let connect = crate::protocol::towncrier_v1::proto::ClientFrame {
            body: Some(client_frame::Body::Connect(
                bench.world.connect("v", Platform::Ios),
            )),
        };
        let whole = prost::Message::encode_to_vec(&connect);
        for _ in 0..200 {
            let bytes: Vec<u8> = if rng.bool() {
                (0..rng.usize(..100)).map(|_| rng.u8(..)).collect()
            } else {
                whole[..rng.usize(..whole.len())].to_vec()
            };
            let code = bench.close_of(WsMessage::Binary(bytes.into())).await;
            assert!(code == 4400 || code == 4401, "{code}");
        }
        bench.send(b"1");
        assert_eq!(other.hear_messages(1).await.len(), 1);
    });
}

#[test]
fn random_bytes_instead_of_frames_end_the_connection() {
    run(async {
        let mut bench = Bench::new();
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (client, task) = bench.open(1 << 20).await;
            let mut pipe = client.0.into_inner();
            let bytes: Vec<u8> = (0..2000).map(|_| rng.u8(..)).collect();
            pipe.write_all(&bytes).await.unwrap();
            pipe.shutdown().await.unwrap();
            task.await.expect("ends without a panic");
        }
    });
}

#[test]
fn a_second_connect_and_an_ack_from_the_future_close_with_4400() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let connect = bench.world.connect("u", Platform::Web);
        client.say(client_frame::Body::Connect(connect)).await;
        assert_eq!(client.hear_close().await, 4400);
        let mut client = bench.log_in_live().await;
        client.say(ack(1)).await;
        assert_eq!(client.hear_close().await, 4400);
        assert_eq!(bench.world.registry.sessions(), 0);
    });
}

#[test]
fn what_a_damaged_log_may_have_forgotten_is_no_other_log_and_no_empty_inbox() {
    run(async {
        let mut bench = Bench::new();
        let ahead = Connect {
            epoch: EPOCH,
            cursor: Some(5),
            ..bench.world.connect("u", Platform::Web)
        };
        let fresh = bench.world.connect("u", Platform::Web);
        let damaged = LogError::new(Cause::Damaged, "it was damaged for a test");
        bench
            .world
            .log
            .fail(Fault::Refuse(AppendError::Refusing(damaged)));
        for connect in [ahead, fresh] {
            let (mut client, _) = bench.open(1 << 20).await;
            client.say(client_frame::Body::Connect(connect)).await;
            assert_eq!(client.hear_close().await, 1011);
            assert_eq!(bench.world.registry.sessions(), 0);
        }
    });
}

#[test]
fn a_revoked_token_and_one_session_too_many_are_refused() {
    run(async {
        let sessions = config::Sessions {
            policy: 0,
            per_user_max: 1,
            ..config::Sessions::default()
        };
        let mut bench = Bench::with(&sessions, ROOMY);
        let _first = bench.log_in().await;
        let (mut client, _) = bench.open(1 << 20).await;
        let connect = bench.world.connect("u", Platform::Ios);
        client
            .say(client_frame::Body::Connect(connect.clone()))
            .await;
        assert_eq!(client.hear_close().await, 4429);
        let user = UserId::new("u").unwrap();
        bench
            .world
            .log
            .revoke(user, Platform::Ios, u64::MAX)
            .unwrap();
        let (mut client, _) = bench.open(1 << 20).await;
        client.say(client_frame::Body::Connect(connect)).await;
        assert_eq!(client.hear_close().await, 4401);
        assert_eq!(bench.world.registry.sessions(), 1);
    });
}

#[test]
fn a_newer_login_replaces_the_older_one_which_learns_it() {
    run(async {
        let mut bench = Bench::new();
        let mut older = bench.log_in_live().await;
        let mut newer = bench.log_in_live().await;
        bench.hand_out();
        let Body::Kicked(kicked) = older.hear_frame().await else {
            panic!("not Kicked")
        };
        assert_eq!(kicked.reason(), kicked::Reason::Replaced);
        assert_eq!(older.hear_close().await, 4409);
        bench.send(b"1");
        assert_eq!(newer.hear_messages(1).await.len(), 1);
        assert_eq!(bench.world.registry.sessions(), 1);
    });
}

/// A client that sent its `Connect` to a log that answers later. The log holds its first answer.
async fn log_in_later(bench: &mut Bench) -> (Client<DuplexStream>, JoinHandle<()>) {
    bench.world.log.rows().answering = Answering::Held;
    let connect = bench.world.connect("u", Platform::Web);
    let (mut client, task) = bench.open(1 << 20).await;
    client.say(client_frame::Body::Connect(connect)).await;
    rest().await;
    (client, task)
}

/// The same, up to the answer about the resume point: the session is registered.
async fn register_later(bench: &mut Bench) -> (Client<DuplexStream>, JoinHandle<()>) {
    let before = bench.world.registry.sessions();
    let (client, task) = log_in_later(bench).await;
    assert_eq!(bench.world.registry.sessions(), before);
    assert_eq!(bench.world.log.release(), 1);
    rest().await;
    assert_eq!(bench.world.registry.sessions(), before + 1);
    (client, task)
}

#[test]
fn a_login_waits_for_the_log_and_delays_no_other_session() {
    run(async {
        let mut bench = Bench::new();
        let connect = bench.world.connect("another", Platform::Web);
        let mut another = bench.log_in_with(connect, 1 << 20).await;
        assert!(matches!(another.hear_frame().await, Body::CaughtUp(_)));
        let (mut client, _) = register_later(&mut bench).await;
        another
            .say(client_frame::Body::Ping(Ping { nonce: 5 }))
            .await;
        assert!(matches!(another.hear_frame().await, Body::Pong(pong) if pong.nonce == 5));
        assert_eq!(bench.world.log.release(), 1);
        assert!(matches!(client.hear_frame().await, Body::Connected(_)));
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
    });
}

#[test]
fn a_message_during_a_login_reaches_the_session() {
    run(async {
        for is_dropped in [false, true] {
            let mut bench = Bench::new();
            let (mut client, _) = register_later(&mut bench).await;
            // The held answer says that the inbox is empty.
            bench.send(b"1");
            if is_dropped {
                // The mailbox had no room for another one.
                bench.world.append("u", b"2");
                bench.connections[0].borrow_mut().look_up_head();
            }
            bench.world.log.rows().answering = Answering::Later;
            assert_eq!(bench.world.log.release(), 1);
            let Body::Connected(connected) = client.hear_frame().await else {
                panic!("not Connected")
            };
            assert_eq!(connected.head, 0);
            let count = 1 + usize::from(is_dropped);
            assert_eq!(client.hear_messages(count).await.len(), count);
        }
    });
}

#[test]
fn a_login_that_is_overtaken_ends_and_gives_its_place_back() {
    run(async {
        let mut bench = Bench::new();
        let (mut replaced, _) = register_later(&mut bench).await;
        bench.world.log.rows().answering = Answering::Now;
        let _newer = bench.log_in().await;
        bench.hand_out();
        assert_eq!(replaced.hear_close().await, 4409);
        assert_eq!(bench.world.registry.sessions(), 1);

        let mut bench = Bench::new();
        let (mut logged_out, _) = register_later(&mut bench).await;
        let user = UserId::new("u").unwrap();
        assert_eq!(bench.world.registry.log_out(&user, Platform::Web), 1);
        bench.hand_out();
        assert_eq!(logged_out.hear_close().await, 4410);

        let mut bench = Bench::new();
        let (mut drained, _) = register_later(&mut bench).await;
        bench.connections[0]
            .borrow_mut()
            .drain(Duration::from_millis(1500));
        assert_eq!(drained.hear().await, Said::Close(4503, "1500".into()));
        assert_eq!(bench.world.registry.sessions(), 0);

        let mut bench = Bench::new();
        let (_client, task) = register_later(&mut bench).await;
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(bench.world.registry.sessions(), 0);
    });
}

#[test]
fn a_login_that_the_log_does_not_answer_is_told_to_come_back() {
    run(async {
        for is_registered in [false, true] {
            let mut bench = Bench::new();
            let (mut client, _) = if is_registered {
                register_later(&mut bench).await
            } else {
                log_in_later(&mut bench).await
            };
            bench.let_pass(5).await;
            assert_eq!(client.hear_close().await, 4503);
            assert_eq!(bench.world.registry.sessions(), 0);
            // The answer comes too late.
            bench.world.log.release();
        }
    });
}

#[test]
fn a_login_that_a_revocation_overtook_is_refused_when_the_answer_comes() {
    run(async {
        let mut bench = Bench::new();
        let (mut client, _) = log_in_later(&mut bench).await;
        let user = UserId::new("u").unwrap();
        bench
            .world
            .log
            .revoke(user, Platform::Web, u64::MAX)
            .unwrap();
        bench.world.log.rows().answering = Answering::Later;
        assert_eq!(bench.world.log.release(), 1);
        assert_eq!(client.hear_close().await, 4401);
        assert_eq!(bench.world.registry.sessions(), 0);
    });
}

#[test]
fn a_close_waits_for_the_frame_that_is_half_written() {
    run(async {
        let mut bench = Bench::new();
        let connect = bench.world.connect("u", Platform::Web);
        let mut client = bench.log_in_with(connect, 64).await;
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
        bench.send(&[b'x'; 5000]);
        rest().await;
        let user = UserId::new("u").unwrap();
        assert_eq!(bench.world.registry.log_out(&user, Platform::Web), 1);
        bench.hand_out();
        assert_eq!(client.hear_messages(1).await[0].1.len(), 5000);
        assert!(matches!(client.hear_frame().await, Body::Kicked(_)));
        assert_eq!(client.hear_close().await, 4410);
    });
}

#[test]
fn a_clients_close_is_answered_and_nothing_follows_the_answer() {
    run(async {
        let mut bench = Bench::new();
        let (ours, mut theirs) = duplex(1 << 20);
        let deadline = bench.context.now().plus(Duration::from_secs(10));
        let (handle, task) = open(
            Rc::clone(&bench.context),
            ConnectionId(0),
            Box::new(TowncrierV1),
            ours,
            Vec::new(),
            deadline,
            bench.world.arrival(),
        );
        bench.connections.push(handle);
        let task = spawn_local(task);
        // Masked with zeros: a close with code 1000.
        theirs
            .write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])
            .await
            .unwrap();
        // A ping after the close, which must not be answered.
        theirs.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [0x88, 0x02, 0x03, 0xe8]);
        drop(theirs);
        task.await.unwrap();
    });
}

#[test]
fn a_client_that_never_reads_is_closed_with_4502_and_delays_nobody() {
    run(async {
        let small = OutboxLimits {
            frames_max: 8,
            bytes_max: 4096,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let mut stuck = bench.log_in_with(connect, 256).await;
        let connect = bench.world.connect("u", Platform::Ios);
        let mut other = bench.log_in_with(connect, 1 << 20).await;
        for n in 0..100 {
            bench.send(&[n; 300]);
            rest().await;
        }
        assert_eq!(other.hear_messages(100).await.len(), 100);
        other.say(ack(100)).await;
        rest().await;
        bench.let_pass(10).await;
        assert_eq!(bench.world.registry.sessions(), 2);
        bench.let_pass(11).await;
        assert_eq!(bench.world.registry.sessions(), 1);
        // The client reads at last: it gets the frame that was begun, then the close, and no other waiting frame.
        let mut messages = 0;
        let code = loop {
            match stuck.hear().await {
                Said::Close(code, _) => break code,
                Said::Frame(_) => messages += 1,
                said => panic!("{said:?}"),
            }
        };
        assert_eq!(code, 4502);
        assert!(messages < 10, "{messages}");
    });
}

#[test]
fn a_slow_client_gets_all_from_the_log_in_order() {
    run(async {
        let small = OutboxLimits {
            frames_max: 4,
            bytes_max: 1024,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let mut client = bench.log_in_with(connect, 100).await;
        for n in 0..200 {
            bench.send(&[n; 50]);
        }
        let messages = client.hear_messages(200).await;
        let seqs: Vec<u64> = messages.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=200).collect::<Vec<u64>>());
    });
}

#[test]
fn without_a_connect_or_a_sign_of_life_the_connection_ends() {
    run(async {
        let mut bench = Bench::new();
        let (mut mute, _) = bench.open(1 << 20).await;
        rest().await;
        bench.let_pass(10).await;
        assert_eq!(mute.hear_close().await, 4508);
        let mut silent = bench.log_in_live().await;
        bench.let_pass(60).await;
        silent.say_raw(WsMessage::Ping(Bytes::new())).await;
        assert_eq!(silent.hear().await, Said::Pong);
        bench.let_pass(75).await;
        silent
            .say(client_frame::Body::Ping(Ping { nonce: 5 }))
            .await;
        assert!(matches!(silent.hear_frame().await, Body::Pong(pong) if pong.nonce == 5));
        bench.let_pass(76).await;
        assert_eq!(silent.hear_close().await, 4501);
    });
}

#[test]
fn a_session_ends_with_its_token_but_not_by_a_doubted_clock() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let lifetime = config::Auth::default().token_lifetime;
        let (machine, clock) = (
            Arc::clone(&bench.world.machine),
            Arc::clone(&bench.world.clock),
        );
        machine.advance(lifetime.as_millis() as u64);
        machine.jump(-3_600_000);
        clock.observe();
        bench.let_pass(1).await;
        client
            .say(client_frame::Body::Ping(Ping { nonce: 5 }))
            .await;
        assert!(matches!(client.hear_frame().await, Body::Pong(pong) if pong.nonce == 5));
        machine.jump(3_600_000);
        clock.observe();
        bench.let_pass(1).await;
        assert_eq!(client.hear_close().await, 4401);
    });
}

#[test]
fn unacked_messages_come_again_and_after_five_rewinds_the_close() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.send(b"1");
        assert_eq!(client.hear_messages(1).await[0].0, 1);
        for wait in [5, 10, 20, 40, 60] {
            client
                .say(client_frame::Body::Ping(Ping { nonce: 0 }))
                .await;
            assert!(matches!(client.hear_frame().await, Body::Pong(_)));
            bench.let_pass(wait).await;
            assert_eq!(client.hear_messages(1).await[0].0, 1);
        }
        client
            .say(client_frame::Body::Ping(Ping { nonce: 0 }))
            .await;
        rest().await;
        bench.let_pass(60).await;
        assert_eq!(client.hear_close().await, 4500);
    });
}

#[test]
fn draining_tells_each_client_when_to_come_back() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let (mut greeting, task) = bench.open(1 << 20).await;
        for handle in &bench.connections {
            handle.borrow_mut().drain(Duration::from_millis(1500));
        }
        assert!(
            matches!(client.hear_frame().await, Body::Draining(d) if d.reconnect_after_ms == 1500)
        );
        assert_eq!(client.hear().await, Said::Close(4503, "1500".into()));
        assert_eq!(greeting.hear_close().await, 4503);
        assert_eq!(greeting.hear().await, Said::End);
        drop(greeting);
        task.await.unwrap();
    });
}

#[test]
fn a_client_that_ignores_the_close_is_cut_off() {
    run(async {
        let mut bench = Bench::new();
        let (client, task) = bench.open(1 << 20).await;
        rest().await;
        bench.let_pass(10).await;
        rest().await;
        assert!(!task.is_finished(), "it may still read its close frame");
        bench.let_pass(5).await;
        task.await.unwrap();
        drop(client);
    });
}

#[test]
fn what_is_not_in_memory_is_read_beside_the_task() {
    run(async {
        let mut bench = Bench::new();
        bench.world.log.rows().answering = Answering::Later;
        for n in 0..300_u16 {
            bench.world.append("u", &n.to_be_bytes());
        }
        let mut client = bench.log_in().await;
        assert_eq!(client.hear_messages(256).await.len(), 256);
        client.say(ack(256)).await;
        let rest_of_them = client.hear_messages(44).await;
        assert_eq!(rest_of_them.last().unwrap().0, 300);
    });
}

#[test]
fn frames_and_answers_stay_within_64_kib() {
    run(async {
        let mut bench = Bench::new();
        for n in 0..10 {
            bench.world.append("u", &[n; 30_000]);
        }
        let mut client = bench.log_in().await;
        let mut messages = 0;
        while messages < 10 {
            match client.hear_frame().await {
                Body::Push(push) => {
                    assert!(prost::Message::encoded_len(&push) <= 64 * 1024);
                    messages += push.messages.len();
                }
                body => panic!("{body:?}"),
            }
        }
    });
}

#[test]
fn history_comes_one_fetch_at_a_time_and_leaves_out_what_was_deleted() {
    run(async {
        for answering in [Answering::Now, Answering::Later] {
            let mut bench = Bench::new();
            for n in 0..600_u16 {
                bench.world.append("u", &n.to_be_bytes());
            }
            bench.world.log.rows().answering = answering;
            (301..=401).for_each(|seq| bench.world.delete("u", seq));
            let connect = Connect {
                epoch: EPOCH,
                cursor: Some(600),
                ..bench.world.connect("u", Platform::Web)
            };
            let mut client = bench.log_in_with(connect, 1 << 20).await;
            assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
            let asked = [
                (0, 0),
                (0, 1000),
                (300, 100),
                (599, 0),
                (600, 0),
                (u64::MAX, 5),
            ];
            for (request_id, (after_seq, limit)) in (0..).zip(asked) {
                let fetch = Fetch {
                    request_id,
                    after_seq,
                    limit,
                };
                client.say(client_frame::Body::Fetch(fetch)).await;
            }
            let expected = [
                (100, Some(1), false),
                // Fewer than asked for: a frame has room for 256 of the longest addresses.
                (252, Some(1), false),
                // All of the hundred asked for are deleted, so the session reads on.
                (99, Some(402), false),
                (1, Some(600), true),
                (0, None, true),
                (0, None, true),
            ];
            for (request_id, (count, first, end)) in (0..).zip(expected) {
                let Body::Fetched(fetched) = client.hear_frame().await else {
                    panic!("not Fetched")
                };
                assert_eq!(fetched.request_id, request_id);
                assert_eq!(fetched.messages.len(), count, "request {request_id}");
                assert_eq!(fetched.messages.first().map(|m| m.seq), first);
                assert_eq!(fetched.end, end, "request {request_id}");
            }
        }
    });
}

#[test]
fn deleted_places_are_announced_as_a_gap() {
    run(async {
        let mut bench = Bench::new();
        for content in [b"1", b"2", b"3"] {
            bench.world.append("u", content);
        }
        bench.world.delete("u", 2);
        let mut client = bench.log_in().await;
        assert_eq!(client.hear_messages(1).await[0].0, 1);
        let Body::Gap(gap) = client.hear_frame().await else {
            panic!("not a Gap")
        };
        assert_eq!(
            (gap.from_seq, gap.to_seq, gap.reason()),
            (2, 2, gap::Reason::Expired)
        );
        assert_eq!(client.hear_messages(1).await[0].0, 3);
    });
}

#[test]
fn a_resend_sends_again_from_the_hole() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        for content in [b"1", b"2", b"3"] {
            bench.send(content);
        }
        assert_eq!(client.hear_messages(3).await.len(), 3);
        client
            .say(client_frame::Body::Resend(Resend { after_seq: 1 }))
            .await;
        let again: Vec<u64> = client.hear_messages(2).await.iter().map(|m| m.0).collect();
        assert_eq!(again, [2, 3]);
    });
}

#[test]
fn messages_before_a_damage_arrive_and_then_the_close_says_so() {
    run(async {
        for answering in [Answering::Now, Answering::Later] {
            let mut bench = Bench::new();
            for n in 0..20 {
                bench.world.append("u", &[n]);
            }
            bench.world.log.fail(Fault::Damaged(Seq(14)));
            bench.world.log.rows().answering = answering;
            let mut client = bench.log_in().await;
            assert_eq!(client.hear_messages(13).await.len(), 13);
            let Said::Close(1011, text) = client.hear().await else {
                panic!("not closed with 1011")
            };
            assert!(text.contains("damaged"), "{text}");
        }
    });
}

#[test]
fn dropped_live_messages_are_found_by_looking_up_the_head() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        bench.world.send("u", b"1");
        bench.world.send("u", b"2");
        // The mailbox had no room for them.
        bench.posts.0.lock().unwrap().clear();
        bench.connections[0].borrow_mut().look_up_head();
        assert_eq!(client.hear_messages(2).await.len(), 2);
    });
}

#[test]
fn a_session_of_another_epoch_is_told_to_come_back_and_learns_it_there() {
    run(async {
        for way in ["live", "read", "head"] {
            for answering in [Answering::Now, Answering::Later] {
                let mut bench = Bench::new();
                bench.send(b"of the older epoch");
                let mut client = bench.log_in().await;
                assert_eq!(client.hear_messages(1).await.len(), 1);
                bench.world.log.rows().answering = answering;
                bench.world.log.lose_everything();
                match way {
                    "live" => bench.send(b"of the newer epoch"),
                    // The read that follows a resend.
                    "read" => {
                        client
                            .say(client_frame::Body::Resend(Resend { after_seq: 0 }))
                            .await
                    }
                    _ => bench.connections[0].borrow_mut().look_up_head(),
                }
                assert_eq!(client.hear_close().await, 4503, "{way}");
                let connect = Connect {
                    epoch: EPOCH,
                    cursor: Some(1),
                    ..bench.world.connect("u", Platform::Web)
                };
                let mut client = bench.log_in_with(connect, 1 << 20).await;
                let Body::Gap(gap) = client.hear_frame().await else {
                    panic!("not a Gap")
                };
                assert_eq!(gap.reason(), gap::Reason::EpochChanged);
            }
        }
    });
}

#[test]
fn an_ack_in_another_epoch_moves_no_cursor() {
    run(async {
        let mut bench = Bench::new();
        bench.send(b"1");
        let mut client = bench.log_in().await;
        assert_eq!(client.hear_messages(1).await.len(), 1);
        bench.world.log.lose_everything();
        client.say(ack(1)).await;
        rest().await;
        let key = SessionKey {
            user: UserId::new("u").unwrap(),
            platform: Platform::Web,
            device: "".into(),
        };
        assert_eq!(bench.world.log.cursor(&key), None);
    });
}

#[test]
fn online_only_messages_pass_the_sequence_by() {
    run(async {
        let mut bench = Bench::new();
        let mut client = bench.log_in_live().await;
        let message = Arc::new(Message::new(Bytes::new()));
        bench.world.registry.deliver("u", Seq::ZERO, &message);
        bench.hand_out();
        assert_eq!(client.hear_messages(1).await[0].0, 0);
        bench.send(b"1");
        assert_eq!(client.hear_messages(1).await[0].0, 1);
    });
}

#[test]
fn a_flood_of_pings_from_a_client_that_reads_nothing_is_not_answered_without_bound() {
    run(async {
        let small = OutboxLimits {
            frames_max: 8,
            bytes_max: 4096,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let client = bench.log_in_with(connect, 4096).await;
        let mut pipe = client.0.into_inner();
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        let mut written = 0;
        // Fills the pipe in both directions.
        while let Ok(Ok(())) =
            tokio::time::timeout(Duration::from_secs(1), pipe.write_all(&ping)).await
        {
            written += 1;
            assert!(written < 100_000, "the client is listened to for ever");
        }
        let waiting = bench.connections[0].borrow().outbox.frames.len();
        assert!(waiting <= 2 * small.frames_max + 1, "{waiting}");
    });
}

#[test]
fn a_flood_of_pings_that_is_read_late_is_answered_whole() {
    run(async {
        const PINGS: usize = 5000;
        let small = OutboxLimits {
            frames_max: 8,
            bytes_max: 4096,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        let connect = bench.world.connect("u", Platform::Web);
        let client = bench.log_in_with(connect, 4096).await;
        let (mut from, mut to) = tokio::io::split(client.0.into_inner());
        let sending = spawn_local(async move {
            for _ in 0..PINGS {
                let ping = [0x89, 0x80, 0, 0, 0, 0];
                to.write_all(&ping).await.unwrap();
            }
        });
        // Both pipes fill up before the client reads the first answer.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut pongs = vec![0; 2 * PINGS];
        let answered = from.read_exact(&mut pongs);
        let answered = tokio::time::timeout(Duration::from_secs(30), answered).await;
        assert!(answered.is_ok(), "the connection went to sleep");
        sending.await.unwrap();
    });
}

#[test]
fn an_idle_connection_is_small() {
    // With tokio's 256 bytes for the socket and about 150 in the registry, this makes 1.5 KB. The allocator rounds the
    // connection and the 24 bytes of its counters up to 448.
    assert!(
        size_of::<Connection>() <= 424,
        "{}",
        size_of::<Connection>()
    );
    assert!(size_of::<Task<tokio::net::TcpStream>>() <= 136);
}
