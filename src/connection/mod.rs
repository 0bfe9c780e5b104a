//! One client's WebSocket after the HTTP upgrade: bytes to events, actions to bytes, until it ends.
//!
//! Promises: a failure of one connection never leaves its task; what it holds is bounded (one outbox, one read of the
//! log, one `Fetch`); idle it costs about 1.5 KB. Leaves to others: what to do (`session`), when to look at the clock
//! (`reactor/sweep.rs`), where items come from (`reactor/mailbox.rs`).
//!
//! - `task.rs`: the future: read, act, write
//! - `state.rs`: what a connection is between two polls
//! - `login.rs`: from `Connect` to a registered session
//! - `replay.rs`: reads of the log, from memory at once, from disk beside the task
//! - `outbox.rs`: frames that wait for the socket
//! - `socket.rs`: the stream, read and written
//! - `tally.rs`: what a connection did, for the one line it leaves in the log

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "much of it is for tests"))]
#[expect(clippy::unwrap_used, reason = "a failure here is the test's")]
pub(crate) mod fixture;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod login;
mod outbox;
mod replay;
mod socket;
mod state;
mod tally;
mod task;

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::{outbox::OutboxLimits, task::Task};
use self::{socket::Socket, state::Connection};
use crate::{
    admission::Arrival,
    delivery::Delivery,
    ids::ConnectionId,
    metrics::Metrics,
    protocol::Codec,
    registry::{Item, Mailbox, Registry},
    session::{Limits, Moment},
};

/// What all connections of a reactor share.
pub struct Context {
    /// Says who a token stands for, reads the log, takes acks.
    pub delivery: Arc<Delivery>,
    /// Knows who is online.
    pub registry: Arc<Registry>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where the registry posts what is for these connections.
    pub mailbox: Arc<dyn Mailbox>,
    /// What every session is held to.
    pub session: Limits,
    /// How much may wait for one socket.
    pub outbox: OutboxLimits,
    /// How long a socket may take nothing, or an outbox stay full, before its connection is closed with 4502.
    pub stall_timeout: Duration,
    /// The origin of [`Moment`]s.
    pub started: tokio::time::Instant,
    /// Time in which this thread did not run although it should have. It is not held against the clients.
    pub stood_still: Cell<Duration>,
    /// The device of all sessions that have none.
    pub no_device: Arc<str>,
    /// Unix seconds at a moment: a sweep asks for each of its connections.
    pub unix: Cell<(Moment, u64)>,
}

impl Context {
    /// Now, by tokio's clock, less the time in which the thread stood still.
    pub fn now(&self) -> Moment {
        let passed = self.started.elapsed();
        Moment::default().plus(passed.saturating_sub(self.stood_still.get()))
    }

    /// The thread did not run for so long: a paused process, a virtual machine that moved, a debugger. All deadlines of clients
    /// come that much later, since what they said meanwhile is yet to be read.
    pub fn stand_still(&self, time: Duration) {
        self.stood_still.set(self.stood_still.get() + time);
    }

    /// Whether this time, Unix seconds, is over at `now`. Not while the clock that says so is doubted.
    fn has_passed(&self, time_s: u64, now: Moment) -> bool {
        let (mut moment, mut now_s) = self.unix.get();
        if moment != now {
            (moment, now_s) = (now, self.delivery.now_ms() / 1000);
            self.unix.set((moment, now_s));
        }
        now_s >= time_s && self.delivery.clock_doubt().is_none()
    }
}

/// A connection as its thread's other tasks reach it. Gone connections ignore everything.
#[derive(Clone)]
pub struct Handle(Rc<RefCell<Connection>>);

/// Makes a connection of an upgraded stream, whose client speaks `codec`'s protocol. `rest` is what was read beyond the upgrade;
/// `Connect` is due by `deadline`, and until then it is an `arrival`. Spawn the task on this thread.
pub fn open<S: AsyncRead + AsyncWrite + Unpin>(
    context: Rc<Context>,
    id: ConnectionId,
    codec: Box<dyn Codec>,
    stream: S,
    rest: Vec<u8>,
    deadline: Moment,
    arrival: Arrival,
) -> (Handle, Task<S>) {
    let connection = Rc::new_cyclic(|me: &Weak<RefCell<Connection>>| {
        RefCell::new(Connection::new(
            context,
            id,
            me.clone(),
            codec,
            deadline,
            arrival,
        ))
    });
    let task = Task::new(Socket::new(stream, rest), Rc::clone(&connection));
    (Handle(connection), task)
}

impl Handle {
    /// Takes one item out of the mailbox.
    pub fn take(&self, item: Item) {
        self.0.borrow_mut().take_item(item);
    }

    /// Live items were dropped: looks up how far the inbox reaches.
    pub fn look_up_head(&self) {
        self.0.borrow_mut().look_up_head();
    }

    /// Time passed: heartbeat, resends, stalls and deadlines.
    pub fn tick(&self, now: Moment) {
        self.0.borrow_mut().tick(now);
    }

    /// Tells the client to come back after `after`, and closes.
    pub fn drain(&self, after: Duration) {
        self.0.borrow_mut().drain(after);
    }
}

#[cfg(test)]
mod tests;
