//! Fuzzing of a reactor and its connection with a client's bytes.

use std::{
    cell::RefCell,
    future::pending,
    io,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Runtime,
    sync::{Notify, watch},
    task::{LocalSet, spawn_local},
    time::Instant,
};
use tokio_tungstenite::tungstenite::{
    self,
    protocol::{Role, WebSocket, WebSocketConfig},
};
use towncrier::{
    clock::Clock,
    config::Config,
    door::ClientSource,
    gateway::Base,
    ids::{Platform, Seq, UserId},
    log::{Append, Log as _},
    message::StoredMessage,
    protocol::{
        Codec as _,
        towncrier_v1::{
            TowncrierV1,
            proto::{ClientFrame, Connect, ServerFrame, client_frame},
        },
    },
    reactor::{self, Parts, Stage},
};
use towncrier_websocket::{
    Reader, Received, Rules, Side,
    frame::{BINARY, CLOSE, FIN, PONG, masked, put_header},
    handshake,
};

use super::Input;
use crate::{
    clock::SimClock,
    memory::{MemoryLog, Rows},
    short_life::append,
};

/// The key of RFC 6455's own handshake.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

thread_local! {
    /// Made once, because its metrics take longer to make than one run. Each run gets a new log.
    static GATEWAY: Gateway = Gateway::new();
}

struct Gateway {
    runtime: Runtime,
    config: Config,
    base: Base<MemoryLog>,
    clock: Arc<Clock>,
}

impl Gateway {
    fn new() -> Self {
        let runtime = super::runtime();
        let _entered = runtime.enter();
        let mut config = Config::default();
        config.listener.inbox = false;
        config.listener.memory_bytes_max = u64::MAX;
        config.listener.outbox_frames_max = 8;
        config.listener.outbox_bytes_max = 4096;
        let clock = SimClock::new().for_process();
        let base = Base::build(&config, Arc::default(), clock.clone(), MemoryLog::default());
        Self {
            base,
            config,
            clock,
            runtime,
        }
    }

    fn append(&self, user: &UserId, content: &'static [u8]) {
        let message = StoredMessage {
            content: content.into(),
            ..StoredMessage::default()
        };
        let pending = self.base.log.append(Append {
            body: message.to_bytes(),
            receivers: vec![user.clone()],
            ..append(self.clock.now_ms(), None, "", 0)
        });
        drop(pending.expect("it takes all"));
    }
}

/// A client's socket. It gives its first bytes at once, waits for the answer, gives and takes `step` bytes at a time, and then ends.
struct Wire {
    input: Vec<u8>,
    read: usize,
    /// The bytes of the first read.
    first: usize,
    step: usize,
    /// The reader that waits for the answer.
    reader: Option<Waker>,
    output: Rc<RefCell<Vec<u8>>>,
    ended: Rc<Notify>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read >= self.first && self.output.borrow().is_empty() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = self.first.saturating_sub(self.read).max(self.step);
        let rest = &self.input[self.read..];
        let now = &rest[..most.min(rest.len()).min(buffer.remaining())];
        buffer.put_slice(now);
        self.read += now.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = self.step.min(bytes.len());
        self.output.borrow_mut().extend_from_slice(&bytes[..count]);
        self.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

/// A port to which one client comes.
struct Port(RefCell<Option<Wire>>);

impl ClientSource for Port {
    type Stream = Wire;

    async fn accept(&self) -> io::Result<(Wire, IpAddr)> {
        let wire = self.0.take();
        match wire {
            Some(wire) => Ok((wire, IpAddr::from([127, 0, 0, 1]))),
            None => pending().await,
        }
    }
}

/// The first byte of `data` sets the way of reading; the rest is what the client says. For every input: the answer consists
/// of whole frames with at most one close, at the end; the connection ends with its stream; and our reader accepts nothing
/// that tungstenite would refuse.
pub fn websocket(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    // Reads are 1 byte to 16 KiB; the client is logged in or not; some bytes come together with the handshake.
    let step = 1 << (how & 0xf).min(14);
    let (is_in, is_early) = (how & 0x10 != 0, how & 0x20 != 0);
    compare(input.0, step);
    GATEWAY.with(|gateway| converse(gateway, input.0, step, is_in, is_early));
}

fn converse(gateway: &Gateway, bytes: &[u8], step: usize, is_in: bool, is_early: bool) {
    let user = UserId::new("u").expect("an id");
    *gateway.base.log.rows() = Rows::default();
    for content in [&b"one"[..], b"two", &[b'3'; 300]] {
        gateway.append(&user, content);
    }
    let deleted = gateway.base.log.delete(user.clone(), vec![Seq(2)]);
    drop(deleted.expect("it takes all"));
    let mut says = Vec::new();
    if is_in {
        let now_ms = gateway.clock.now_ms();
        let connect = client_frame::Body::Connect(Connect {
            token: gateway
                .base
                .tokens
                .issue(&user, Platform::Web, now_ms)
                .token,
            ..Connect::default()
        });
        let connect = ClientFrame {
            body: Some(connect),
        };
        says = masked(FIN | BINARY, &connect.encode_to_vec(), [0; 4]);
    }
    says.extend_from_slice(bytes);
    let mut input = handshake::request("a", "/ws", KEY, "towncrier.v1");
    let first = input.len() + if is_early { says.len() / 2 } else { 0 };
    input.extend(says);
    let (output, ended) = (Rc::default(), Rc::new(Notify::new()));
    let wire = Wire {
        input,
        read: 0,
        first,
        step,
        reader: None,
        output: Rc::clone(&output),
        ended: Rc::clone(&ended),
    };
    let Base {
        delivery,
        registry,
        metrics,
        ..
    } = &gateway.base;
    let parts = Parts::new(
        &gateway.config,
        None,
        delivery.clone(),
        registry.clone(),
        metrics.clone(),
    );
    let (stage, stages) = watch::channel(Stage::Serving);
    let living = LocalSet::new();
    let life = living.run_until(async {
        let began = Instant::now();
        let port = Port(RefCell::new(Some(wire)));
        let serving = spawn_local(reactor::serve(0, port, parts, stages));
        ended.notified().await;
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "the connection outlives its stream"
        );
        stage.send_replace(Stage::Stopping);
        serving.await.expect("no panic").expect("no panic");
    });
    gateway.runtime.block_on(life);
    drop(living);
    assert_eq!(registry.sessions(), 0);
    check(&output.borrow());
}

/// The answer to the handshake, and whole frames. Writing them again gives the same bytes, so each is unfragmented and has
/// the shortest header. A close is the last of them.
fn check(output: &[u8]) {
    let answer = handshake::read_answer(output, KEY).expect("a good handshake is accepted");
    let frames = &output[answer.expect("a whole answer")..];
    let (mut left, mut again) = (frames, Vec::new());
    let rules = Rules {
        from: Side::Server,
        takes_text: false,
        message_bytes_max: 1 << 20,
    };
    let mut reader = Reader::default();
    let mut is_closed = false;
    while let Some(message) = reader.next(&mut left, &rules).expect("a server's") {
        assert!(!is_closed, "{message:?} after the close");
        let (opcode, payload) = match message {
            Received::Binary(payload) => {
                ServerFrame::decode(&payload[..]).expect("a frame of ours");
                (BINARY, payload.to_vec())
            }
            Received::Pong(payload) => (PONG, payload.to_vec()),
            Received::Close(close) => {
                is_closed = true;
                let code = close.iter().flat_map(|close| close.code.to_be_bytes());
                let text = close.iter().flat_map(|close| close.text.bytes());
                (CLOSE, code.chain(text).collect())
            }
            other => panic!("{other:?} is nothing that a gateway says"),
        };
        put_header(&mut again, FIN | opcode, payload.len(), None);
        again.extend(payload);
    }
    assert_eq!(again, frames, "whole frames, as short as they can be");
}

/// Our reader accepts a prefix of everything that tungstenite accepts, because tungstenite is laxer.
fn compare(bytes: &[u8], step: usize) {
    let rules = TowncrierV1.rules();
    let config = WebSocketConfig::default()
        .max_message_size(Some(rules.message_bytes_max))
        .max_frame_size(Some(rules.message_bytes_max));
    let both = Both { input: bytes };
    let mut theirs = WebSocket::from_raw_socket(both, Role::Server, Some(config));
    let mut ours = Reader::default();
    for mut piece in bytes.chunks(step) {
        loop {
            let message = match ours.next(&mut piece, &rules) {
                Ok(None) => break,
                Ok(Some(message)) => message,
                Err(_) => return,
            };
            match (message, theirs.read()) {
                (Received::Binary(ours), Ok(tungstenite::Message::Binary(theirs)))
                | (Received::Ping(ours), Ok(tungstenite::Message::Ping(theirs)))
                | (Received::Pong(ours), Ok(tungstenite::Message::Pong(theirs))) => {
                    assert_eq!(ours, theirs);
                }
                (Received::Close(ours), Ok(tungstenite::Message::Close(theirs))) => {
                    let ours = ours.map(|close| close.code);
                    let theirs = theirs.map(|close| close.code.into());
                    // Code 1014 is registered (bad gateway), but tungstenite does not know it.
                    let is_newer = (ours, theirs) == (Some(1014), Some(1002));
                    return assert!(ours == theirs || is_newer, "{ours:?}, {theirs:?}");
                }
                (ours, theirs) => panic!("{ours:?} where tungstenite reads {theirs:?}"),
            }
        }
        assert!(piece.is_empty());
    }
}

/// A stream for tungstenite that has input and refuses output.
struct Both<'a> {
    input: &'a [u8],
}

impl io::Read for Both<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl io::Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
