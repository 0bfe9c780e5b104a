//! One client's WebSocket after the HTTP upgrade: bytes to events, actions to bytes, until it ends.
//!
//! Promises: an error of a connection, or a panic in its task, ends this connection alone. The reactor's own tasks call
//! into connections as well: the hand-out of items, the sweep and the drain. A panic there ends the reactor's thread, and
//! so the gateway. The memory of a connection is bounded: one outbox, one read of the log, one answer.
//! `docs/measured.md#sessions` has the memory of an idle one. Leaves to others: the protocol's decisions (`session`), the
//! ticks of time (`reactor/sweep.rs`), the source of items (`reactor/mailbox.rs`).
//!
//! - `task.rs`: the future: read, act, write
//! - `state.rs`: the state of a connection between two polls; `state/head.rs`: it looks up the head of the inbox;
//!   `state/pace.rs`: the pace of its client
//! - `life.rs`: the states of its life; each owns its guards
//! - `login.rs`: from `Connect` to a registered session, waiting for the log where it answers later
//! - `replay.rs`: reads of the log, answered at once or beside the task
//! - `read_state.rs`: lists of conversations and read marks, in the same way
//! - `ask.rs`: the questions of OpenIM's v3 protocol, in the same way
//! - `outbox.rs`: frames that wait for the socket, and their writing
//! - `socket.rs`: the stream, and its reading
//! - `tally.rs`: the counts of a connection, for its one line in the stderr log

mod ask;
mod life;
mod login;
mod outbox;
mod read_state;
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

use self::socket::Socket;
pub use self::{login::refusal, outbox::OutboxLimits, state::Connection, task::Task};
use crate::{
    delivery::Delivery,
    door::Arrival,
    ids::{ConnectionId, Platform, UserId},
    metrics::Metrics,
    protocol::Codec,
    registry::{Mailbox, Registry},
    session::{Limits, Moment},
};

/// The state that all connections of a reactor share.
pub struct Context {
    /// Checks tokens, reads the log, takes acks.
    pub delivery: Arc<Delivery>,
    /// Knows the sessions that are online.
    pub registry: Arc<Registry>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The mailbox to which the registry posts items for these connections.
    pub mailbox: Arc<dyn Mailbox>,
    /// The limits of every session.
    pub session: Limits,
    /// The most that may wait for one socket.
    pub outbox: OutboxLimits,
    /// The origin of [`Moment`]s.
    pub started: tokio::time::Instant,
    /// The total time in which this thread should have run but did not. It is not counted against the clients.
    pub stood_still: Cell<Duration>,
    /// The empty device, shared by all sessions that have none.
    pub no_device: Arc<str>,
}

impl Context {
    /// The time now by tokio's clock, less the time in which the thread did not run.
    pub fn now(&self) -> Moment {
        let passed = self.started.elapsed();
        Moment::default().plus(passed.saturating_sub(self.stood_still.get()))
    }

    /// The users, each with the platforms on which it is connected, ascending.
    fn look(&self, users: Vec<UserId>) -> Vec<(UserId, Vec<Platform>)> {
        let look = |user: UserId| {
            let presence = self.registry.presence(user.as_str());
            let mut platforms: Vec<_> = presence.iter().map(|seen| seen.platform).collect();
            platforms.sort_unstable();
            platforms.dedup();
            (user, platforms)
        };
        users.into_iter().map(look).collect()
    }

    /// The thread did not run for this long: a paused process, a virtual machine that moved, a debugger. All deadlines of
    /// clients move by this time, because the frames that arrived meanwhile are still to be read.
    pub fn stand_still(&self, time: Duration) {
        self.stood_still.set(self.stood_still.get() + time);
    }

    /// The seconds from the start of this thread until this time, in Unix seconds. No change of the wall clock after this call
    /// moves them.
    fn seconds_until(&self, time_s: u64) -> u32 {
        let left_ms = time_s
            .saturating_mul(1000)
            .saturating_sub(self.delivery.now_ms());
        let ends = self.started.elapsed() + Duration::from_millis(left_ms);
        u32::try_from(ends.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }

    /// True if so many seconds have passed since the start of this thread. The time in which it stood still counts, too.
    fn has_passed(&self, seconds: u32, now: Moment) -> bool {
        let passed = now.plus(self.stood_still.get()).since(Moment::default());
        passed >= Duration::from_secs(seconds.into())
    }
}

/// A number of sessions that can be sent nothing now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FullSessions {
    /// The sessions whose outbox is full.
    pub outboxes: u32,
    /// The sessions that get no message before their next ack.
    pub windows: u32,
}

/// A connection, as its task and the other tasks of its thread share it. A connection whose task is gone ignores everything.
pub type Handle = Rc<RefCell<Connection>>;

/// Makes a connection from an upgraded stream whose client speaks `codec`'s protocol. `rest` holds the bytes read beyond
/// the upgrade. The client has to send `Connect` by `deadline`, and until then it counts as an `arrival`. Spawn the task on
/// this thread.
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
    (connection, task)
}

#[cfg(test)]
pub(crate) mod tests;
