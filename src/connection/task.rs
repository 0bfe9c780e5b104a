//! One connection's future. Its inputs are the socket, readable or writable, and wake-ups from the code that changed the
//! connection's state from outside (mailbox, sweep, an answer of the log). It has no timer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Handle,
    outbox::WRITE_BYTES_MAX,
    socket::{Socket, TURN_READ_BYTES},
};

/// A turn continues this many times after a `Fetch` or a full outbox interrupted its reading: up to eight small answers.
pub(super) const TURN_STEPS: usize = 8;

/// Runs one connection to its end. Dropping it ends the connection at once.
pub struct Task<S> {
    socket: Socket<S>,
    connection: Handle,
}

impl<S> Task<S> {
    pub(super) fn new(socket: Socket<S>, connection: Handle) -> Self {
        Self { socket, connection }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Task<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { socket, connection } = self.get_mut();
        let mut connection = connection.borrow_mut();
        connection.set_waker(cx.waker());
        connection.greet();
        connection.poll_login(cx);
        let rules = connection.rules();
        let mut left = TURN_READ_BYTES;
        let mut taken = 0;
        for _ in 0..TURN_STEPS {
            // A flooded outbox stops the reading. Once it is written, there may be bytes to read, and the socket needs a
            // waker.
            let was_listening = connection.is_listening();
            let was_read = was_listening
                && socket
                    .poll_read(cx, &rules, &mut left, |inbound| connection.hear(inbound))
                    .is_ready();
            if connection.is_over() {
                return Poll::Ready(());
            }
            let before = taken;
            let written = connection
                .outbox
                .poll_write(cx, &mut socket.stream, &mut taken);
            connection.note_written(taken - before);
            match written {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
            let may_read = connection.is_listening() && (was_read || !was_listening);
            let has_more = !connection.outbox.is_empty() || may_read;
            if connection.is_closing() && !has_more {
                return socket.poll_close(cx);
            }
            if !has_more {
                return Poll::Pending;
            }
            if left == 0 || taken >= WRITE_BYTES_MAX {
                break;
            }
        }
        // The next turn comes after the turns of all other connections, so a client that says much delays no other.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> Drop for Task<S> {
    fn drop(&mut self) {
        self.connection.borrow_mut().end();
    }
}
