//! The WebSocket under a connection: tungstenite's protocol checks, driven by hand over a buffer of the thread.
//!
//! tungstenite reads, and answers pings and closes; it never writes to the stream. What it wants sent comes out as whole
//! frames and joins the outbox like any other, so a control frame cannot get into the middle of a data frame. An idle
//! connection keeps no buffer but tungstenite's of 128 bytes.
//! Measured: 1.4 KB a session instead of tungstenite's 5.5 KB with small buffers, and 8 µs a push instead of 10.4.

use std::{
    cell::Cell,
    io::{self, IoSlice, Read, Write},
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::outbox::{Outbox, SLICES_MAX};
use crate::wire::{
    close::Close,
    frame::{FRAME_BYTES_MAX, Frame},
};

/// tungstenite's buffer of a connection: enough for an ack or a ping.
const IDLE_BYTES: usize = 128;
/// Bytes that one read of a stream may bring. Larger frames are put together by tungstenite.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    /// What all connections of a thread read into, one after the other; taken out while in use.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What comes in.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A binary frame.
    Frame(Bytes),
    /// A ping or pong: a sign of life.
    Control,
    /// What tungstenite answers to the last ping: one whole frame to be sent.
    Reply(Frame),
    /// The client broke RFC 6455 or a limit. Nothing more can be read.
    Violation(Close),
    /// The client sent a close frame; this is the answer. Nothing more comes.
    Closed(Option<Frame>),
    /// The stream ended or failed. Nothing more comes, and nothing can be sent.
    Gone,
}

pub(super) struct Socket<S> {
    stream: S,
    context: WebSocketContext,
    /// Bytes that were read from the stream and not looked at, because the taker had enough.
    rest: Vec<u8>,
    /// Whether the taker had enough, so that frames may be left in `context` and `rest`.
    is_interrupted: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `rest` is what was read of the stream beyond the handshake.
    pub(super) fn new(stream: S, rest: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(IDLE_BYTES)
            // Whatever tungstenite has to send comes out at once.
            .write_buffer_size(0)
            .max_write_buffer_size(1024)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        Self {
            stream,
            context: WebSocketContext::new(Role::Server, Some(config)),
            is_interrupted: !rest.is_empty(),
            rest,
        }
    }

    /// Gives what comes in to `take`, until the stream has nothing (pending), or `take` breaks or has got one of the
    /// three last things (ready).
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Inbound) -> ControlFlow<()>,
    ) -> Poll<()> {
        if self.is_interrupted {
            let rest = std::mem::take(&mut self.rest);
            if self.parse(&rest, &mut take).is_break() {
                return Poll::Ready(());
            }
        }
        let mut buffer = READ_BUFFER.take();
        buffer.resize(READ_BYTES, 0);
        let outcome = loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    if self.parse(read.filled(), &mut take).is_break() {
                        break Poll::Ready(());
                    }
                }
                Poll::Ready(_) => {
                    let _ = take(Inbound::Gone);
                    break Poll::Ready(());
                }
            }
        };
        READ_BUFFER.set(buffer);
        outcome
    }

    /// Gives the frames in `input` to `take`; keeps what is left when it breaks.
    fn parse(
        &mut self,
        input: &[u8],
        take: &mut impl FnMut(Inbound) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut pipe = Pipe {
            input,
            output: BytesMut::new(),
        };
        self.is_interrupted = true;
        // tungstenite would use the buffer of a large frame again, and so keep it for good: 64 KiB for one frame of that
        // size, 400 bytes for every `Connect`. As long as somebody holds the frame it takes a new, small one.
        let mut large = Bytes::new();
        loop {
            let message = self.context.read(&mut pipe);
            if let Ok(Message::Binary(bytes)) = &message
                && bytes.len() > IDLE_BYTES
            {
                large = bytes.clone();
            }
            let mut reply = pipe.take_output();
            let inbound = match message {
                Ok(Message::Binary(bytes)) => Inbound::Frame(bytes),
                Ok(Message::Ping(_) | Message::Pong(_)) => Inbound::Control,
                // Reading on writes the answer, and then says that the connection is closed.
                Ok(Message::Close(_)) => continue,
                Err(Error::ConnectionClosed) => Inbound::Closed(reply.take()),
                Ok(Message::Text(_) | Message::Frame(_)) | Err(Error::Utf8(_)) => {
                    Inbound::Violation(Close::TextFrame)
                }
                Err(Error::Capacity(_)) => Inbound::Violation(Close::TooLarge),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    debug_assert!(pipe.input.is_empty(), "all bytes are used up");
                    self.is_interrupted = false;
                    drop(large);
                    return reply.map_or(ControlFlow::Continue(()), |r| take(Inbound::Reply(r)));
                }
                Err(_) => Inbound::Violation(Close::Protocol("not WebSocket as RFC 6455 has it")),
            };
            let is_last = matches!(inbound, Inbound::Violation(_) | Inbound::Closed(_));
            if let Some(reply) = reply {
                // Whether that is enough is asked again just below.
                let _ = take(Inbound::Reply(reply));
            }
            if take(inbound).is_break() || is_last {
                self.rest = pipe.input.to_vec();
                return ControlFlow::Break(());
            }
        }
    }

    /// Writes what waits; how many bytes the stream took is added to `taken`. Ready when nothing waits any more.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        taken: &mut usize,
    ) -> Poll<io::Result<()>> {
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = outbox.slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            let bytes = ready!(stream.poll_write_vectored(cx, &slices[..count]))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outbox.advance(bytes);
            *taken += bytes;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// After the close frame: ends our direction, then reads until the client ends its own. Closing with bytes unread
    /// would reset the connection, and the client might never see the close frame.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Repeating it on a stream that is shut down does nothing.
        if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut buffer = READ_BUFFER.take();
        buffer.resize(READ_BYTES, 0);
        let outcome = loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => break Poll::Ready(()),
            }
        };
        READ_BUFFER.set(buffer);
        outcome
    }
}

/// A close frame: RFC 6455 section 5.5.1, the code in two bytes and then the reason.
pub(super) fn close_frame(close: Close) -> Frame {
    const FIN_CLOSE: u8 = 0x88;
    let text = close.text();
    let mut frame = BytesMut::with_capacity(4 + text.len());
    frame.put_u8(FIN_CLOSE);
    frame.put_u8(2 + u8::try_from(text.len()).expect("reasons are at most 123 bytes"));
    frame.put_u16(close.code());
    frame.put_slice(text.as_bytes());
    whole(frame.freeze())
}

fn whole(head: Bytes) -> Frame {
    Frame {
        head,
        body: Bytes::new(),
    }
}

/// What tungstenite takes for the stream: it reads what is at hand, and what it writes is kept.
struct Pipe<'a> {
    input: &'a [u8],
    output: BytesMut,
}

impl Pipe<'_> {
    fn take_output(&mut self) -> Option<Frame> {
        (!self.output.is_empty()).then(|| whole(self.output.split().freeze()))
    }
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.put_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
