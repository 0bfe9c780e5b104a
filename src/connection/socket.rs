//! The stream under a connection: reads it into a buffer of the thread, so an idle connection keeps no buffer. The outbox
//! writes to it.

use std::{
    cell::Cell,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use towncrier_websocket::{Frame, Reader, Received, Rules, Violation, frame};

/// The most bytes read from one client before other connections have their turn: 300 of the smallest frames, a tenth of a
/// millisecond. An honest client sends a tenth of this at once. The reader assembles larger frames over several turns.
pub(super) const TURN_READ_BYTES: usize = 2 * 1024;

thread_local! {
    /// The read buffer that all connections of a thread share, one after the other. It is taken out while in use.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An input from the stream.
#[derive(Debug)]
pub(super) enum Inbound {
    /// The payload of a message: binary, or text if the protocol's rules allow it.
    Frame { payload: Bytes, is_text: bool },
    /// A ping, with the pong to send back.
    Ping(Frame),
    /// A pong. It counts as a sign of life.
    Pong,
    /// The client broke RFC 6455 or a limit. Nothing more can be read.
    Violation(Violation),
    /// The client sent a close frame; this is the answer to it. Nothing more comes.
    Closed(Frame),
    /// The stream ended or failed. Nothing more comes, and nothing can be sent.
    Gone,
}

pub(super) struct Socket<S> {
    pub(super) stream: S,
    reader: Reader,
    /// Bytes that were read from the stream but not parsed, because `take` broke off.
    rest: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `rest` holds the bytes read from the stream beyond the handshake.
    pub(super) fn new(stream: S, rest: Vec<u8>) -> Self {
        Self {
            stream,
            reader: Reader::default(),
            rest,
        }
    }

    /// Gives each input to `take`. Pending when the stream has no more bytes. Ready when `left` bytes were read, when
    /// `take` breaks, or after one of the last three variants of [`Inbound`]. Subtracts the bytes read from `left`.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        rules: &Rules,
        left: &mut usize,
        mut take: impl FnMut(Inbound) -> ControlFlow<()>,
    ) -> Poll<()> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            if self.parse(&rest, rules, &mut take).is_break() {
                return Poll::Ready(());
            }
        }
        with_buffer(|buffer| {
            while *left > 0 {
                let bytes = ready!(poll_fill(&mut self.stream, cx, &mut buffer[..*left]));
                if bytes == 0 {
                    let _ = take(Inbound::Gone);
                    break;
                }
                *left -= bytes;
                if self.parse(&buffer[..bytes], rules, &mut take).is_break() {
                    break;
                }
            }
            Poll::Ready(())
        })
    }

    /// Gives the frames in `input` to `take`. If `take` breaks, keeps the bytes that are left.
    fn parse(
        &mut self,
        mut input: &[u8],
        rules: &Rules,
        take: &mut impl FnMut(Inbound) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        loop {
            let inbound = match self.reader.next(&mut input, rules) {
                Ok(None) => return ControlFlow::Continue(()),
                Ok(Some(Received::Binary(payload))) => Inbound::Frame {
                    payload,
                    is_text: false,
                },
                Ok(Some(Received::Text(payload))) => Inbound::Frame {
                    payload,
                    is_text: true,
                },
                Ok(Some(Received::Ping(payload))) => Inbound::Ping(frame::pong(&payload)),
                Ok(Some(Received::Pong(_))) => Inbound::Pong,
                Ok(Some(Received::Close(close))) => {
                    Inbound::Closed(frame::closed(close.map(|close| close.code)))
                }
                Err(violation) => Inbound::Violation(violation),
            };
            let is_last = matches!(inbound, Inbound::Violation(_) | Inbound::Closed(_));
            if take(inbound).is_break() || is_last {
                self.rest = input.to_vec();
                return ControlFlow::Break(());
            }
        }
    }

    /// After the close frame: ends our direction, then reads until the client ends its own. A close of the socket with
    /// unread bytes would reset the connection, and the client might never see the close frame.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A second shutdown of the same stream does nothing.
        if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        with_buffer(|buffer| {
            while ready!(poll_fill(&mut self.stream, cx, buffer)) > 0 {}
            Poll::Ready(())
        })
    }
}

/// Runs `read` with the thread's buffer.
fn with_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = READ_BUFFER.take();
    buffer.resize(TURN_READ_BYTES, 0);
    let outcome = read(&mut buffer);
    READ_BUFFER.set(buffer);
    outcome
}

/// Reads from the stream into `buffer`. Returns the number of bytes; 0 when the stream ended or failed.
fn poll_fill(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<usize> {
    let mut read = ReadBuf::new(buffer);
    let outcome = ready!(Pin::new(stream).poll_read(cx, &mut read));
    Poll::Ready(outcome.map_or(0, |()| read.filled().len()))
}
