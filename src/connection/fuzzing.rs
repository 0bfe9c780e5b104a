//! Fuzzing of a connection with a client's bytes.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context as Cx, Poll, Wake, Waker},
};

use prost::Message as _;
use tokio::io::ReadBuf;
use tokio_tungstenite::tungstenite::{
    self,
    protocol::{Role, WebSocket, WebSocketConfig},
};
use towncrier_websocket::{
    Message, Reader,
    frame::{BINARY, FIN, masked},
};

use super::{
    fixture::{Heard, World, frames},
    *,
};
use crate::{
    config,
    fuzzing::Input,
    ids::Platform,
    log::memory::Rows,
    protocol::{
        Codec as _,
        towncrier_v1::{
            TowncrierV1,
            proto::{ClientFrame, client_frame},
        },
    },
    registry::Item,
};

thread_local! {
    /// Made once, because its metrics take longer to make than one run. Each run gets a new log.
    static WORLD: World = World::new(&config::Sessions::default());
}

struct Nobody;

impl Mailbox for Nobody {
    fn post(&self, _: ConnectionId, _: Item) {}
}

/// A socket that gives and takes `step` bytes at a time, and then ends.
struct Wire<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
    step: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Cx<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.step.min(self.input.len()).min(buffer.remaining());
        let (now, later) = self.input.split_at(count);
        buffer.put_slice(now);
        self.input = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Cx<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = self.step.min(bytes.len());
        self.output.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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
    WORLD.with(|world| converse(world, input.0, step, is_in, is_early));
}

fn converse(world: &World, bytes: &[u8], step: usize, is_in: bool, is_early: bool) {
    *world.log.rows() = Rows::default();
    for content in [&b"one"[..], b"two", &[b'3'; 300]] {
        world.append("u", content);
    }
    world.delete("u", 2);
    let mut says = Vec::new();
    if is_in {
        let connect = client_frame::Body::Connect(world.connect("u", Platform::Web));
        let connect = ClientFrame {
            body: Some(connect),
        }
        .encode_to_vec();
        says = masked(FIN | BINARY, &connect, [0; 4]);
    }
    says.extend_from_slice(bytes);
    let early = if is_early { says.len() / 2 } else { 0 };
    let later = says.split_off(early);
    let mut output = Vec::new();
    let wire = Wire {
        input: &later,
        output: &mut output,
        step,
    };
    let context = world.context(
        Arc::new(Nobody),
        OutboxLimits {
            frames_max: 8,
            bytes_max: 4096,
        },
    );
    let deadline = context.now().plus(Duration::from_secs(3600));
    let (handle, mut task) = open(
        context,
        ConnectionId(1),
        Box::new(TowncrierV1),
        wire,
        says,
        deadline,
        world.arrival(),
    );
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Cx::from_waker(&waker);
    // A turn ends early when the client said much, and asks for the next turn.
    while Pin::new(&mut task).poll(&mut cx).is_pending() {
        assert!(woken.0.swap(false, Relaxed), "nothing is left to wait for");
    }
    drop(task);
    drop(handle);
    assert_eq!(world.registry.sessions(), 0);

    let heard = frames(&output);
    let closes = heard
        .iter()
        .filter(|h| matches!(h, Heard::Close(_)))
        .count();
    let is_last = matches!(heard.last(), Some(Heard::Close(_)));
    assert_eq!(closes, usize::from(is_last));
}

/// Remembers that a task asked for another turn.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
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
                (Message::Binary(ours), Ok(tungstenite::Message::Binary(theirs)))
                | (Message::Ping(ours), Ok(tungstenite::Message::Ping(theirs)))
                | (Message::Pong(ours), Ok(tungstenite::Message::Pong(theirs))) => {
                    assert_eq!(ours, theirs);
                }
                (Message::Close(ours), Ok(tungstenite::Message::Close(theirs))) => {
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
