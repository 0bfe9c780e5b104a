//! From an admitted client to a connection of this thread.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context as Cx, Poll},
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    task::{AbortHandle, spawn_local},
    time::Instant,
};

use super::{
    Stage,
    table::{ConnectionTable, Seat},
};
use crate::{
    connection::{self, Context, Task},
    door::{Admitted, Arrival, ClientHost, Permit, Stream},
    protocol::Codec,
};

/// Starts the connections of one reactor.
pub(super) struct ReactorHost {
    pub(super) context: Rc<Context>,
    pub(super) table: Rc<ConnectionTable>,
    pub(super) stage: watch::Receiver<Stage>,
}

impl ClientHost for ReactorHost {
    fn is_serving(&self) -> bool {
        *self.stage.borrow() == Stage::Serving
    }

    async fn refuse(&self, codec: &dyn Codec, arrival: &Arrival) -> Option<Bytes> {
        connection::refusal(&self.context, codec, arrival).await
    }

    fn let_in<S: Stream>(&self, client: Admitted<S>) -> AbortHandle {
        let id = self.table.next_id();
        let left = client
            .connected_by
            .saturating_duration_since(Instant::now());
        let (handle, task) = connection::open(
            Rc::clone(&self.context),
            id,
            client.codec,
            client.stream,
            client.rest,
            self.context.now().plus(left),
            client.arrival,
        );
        let seated = Seated {
            task,
            _seat: self.table.insert(id, handle),
            _permit: client.permit,
        };
        spawn_local(seated).abort_handle()
    }
}

/// A connection's task with everything that it holds as long as it lives. An `async` block would hold the task twice.
struct Seated<S> {
    task: Task<S>,
    _seat: Seat,
    _permit: Permit,
}

impl<S: Stream> Future for Seated<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        Pin::new(&mut self.get_mut().task).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_connections_future_stays_below_400_bytes() {
        // tokio adds about 100 bytes and rounds up to a multiple of 128: together 512.
        let size = size_of::<Seated<TcpStream>>();
        assert!(size < 400, "{size}");
    }
}
