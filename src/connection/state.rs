//! The state of a connection between two polls of its task: its life and its outbox. With its socket it is the whole
//! connection.
//!
//! The task brings the client's frames. Other tasks of the thread bring items, ticks and the results of disk reads. Each
//! changes the state here, and wakes the task when there is something to write. So nothing queues in between.

use std::{
    cell::RefCell,
    mem::replace,
    ops::ControlFlow,
    rc::{Rc, Weak},
    task::{self, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::task::spawn_local;
use towncrier_websocket::{Close, Rules, frame};

use super::{
    Context,
    life::{End, Life, LoggingIn, Login, Open},
    login::{LOGIN_MAX, log_in, other_epoch, unanswered},
    outbox::Outbox,
    replay::{READS_IN_A_ROW, read},
    socket::Inbound,
    tally::Tally,
};
use crate::{
    delivery::{Inbox, LogAnswer, LogError},
    door::Arrival,
    ids::{ConnectionId, Seq},
    protocol::Codec,
    registry::Item,
    session::{Action, Event, FromClient, Moment, Reason, Scene, ToClient},
};

/// The time after the close frame to write the waiting frames, and for the client to end the stream. It is longer than a
/// round trip to any place. It is short, because a closed connection is of no use.
const LINGER: Duration = Duration::from_secs(5);

/// One connection, without its socket.
pub struct Connection {
    context: Rc<Context>,
    id: ConnectionId,
    /// A handle to itself, for the reads beside the task.
    me: Weak<RefCell<Self>>,
    /// Decodes the client's frames, and encodes what the session says.
    codec: Box<dyn Codec>,
    life: Life,
    pub(super) outbox: Outbox,
    /// The task's waker; set at its first poll.
    waker: Option<Waker>,
    /// The moment since which the socket has taken nothing although frames waited.
    stalled_since: Option<Moment>,
    /// The moment since which the outbox has had no room.
    full_since: Option<Moment>,
    opened: Moment,
    tally: Tally,
}

impl Connection {
    pub(super) fn new(
        context: Rc<Context>,
        id: ConnectionId,
        me: Weak<RefCell<Self>>,
        codec: Box<dyn Codec>,
        deadline: Moment,
        arrival: Arrival,
    ) -> Self {
        Self {
            opened: context.now(),
            context,
            id,
            me,
            codec,
            life: Life::Greeting { deadline, arrival },
            outbox: Outbox::default(),
            waker: None,
            stalled_since: None,
            full_since: None,
            tally: Tally::default(),
        }
    }

    /// The bounds of the client's messages.
    pub(super) fn rules(&self) -> Rules {
        self.codec.rules()
    }

    /// True if the task may read the next frame. It may not while a `Fetch` waits for its answer, or while a client that
    /// takes no answers asks for more.
    pub(super) fn is_listening(&self) -> bool {
        let is_flooded = self.outbox.is_flooded(self.context.outbox);
        match &self.life {
            Life::Greeting { .. } => !is_flooded,
            Life::Open(open) => open.session.is_listening() && !is_flooded,
            Life::LoggingIn { .. } | Life::Closing { .. } | Life::Over(_) => false,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.life, Life::Closing { .. })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.life, Life::Over(_))
    }

    pub(super) fn set_waker(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(old) => old.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    /// Handles an input from the socket. Breaks when the task should stop reading.
    pub(super) fn hear(&mut self, inbound: Inbound) -> ControlFlow<()> {
        match inbound {
            Inbound::Frame(bytes) => return self.take_frame(bytes),
            Inbound::Ping(answer) => {
                self.outbox.push(answer);
                self.happen(Event::Heard);
            }
            Inbound::Pong => self.happen(Event::Heard),
            Inbound::Violation(violation) => self.begin_close(self.codec.refuse(violation)),
            Inbound::Closed(answer) => {
                // After its close frame the client reads only the answer to it.
                self.outbox.discard_unbegun();
                self.outbox.push(answer);
                self.linger(None);
            }
            Inbound::Gone => self.life.end(),
        }
        self.listen_on()
    }

    fn listen_on(&self) -> ControlFlow<()> {
        if self.is_listening() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    fn take_frame(&mut self, bytes: Bytes) -> ControlFlow<()> {
        self.tally.received += 1;
        self.context.metrics.frames_received.increment(1);
        let said = match self.codec.decode(bytes) {
            Ok(said) => said,
            Err(reason) => {
                self.close(reason);
                return ControlFlow::Break(());
            }
        };
        let Life::Greeting { arrival, .. } = &self.life else {
            // A `Fetch` of a few bytes asks for many, so the task counts the `Fetch`es that it reads in a row.
            let is_fetch = matches!(said, FromClient::Fetch(_));
            self.happen(Event::Said(said));
            return if is_fetch {
                ControlFlow::Break(())
            } else {
                self.listen_on()
            };
        };
        let login = match said {
            FromClient::Connect(connect) => log_in(&self.context, self.id, arrival, connect),
            _ => Err(Reason::Protocol("the first frame must be Connect")),
        };
        match login {
            Ok(login) => self.begin_login(login),
            Err(reason) => self.close(reason),
        }
        self.listen_on()
    }

    fn begin_login(&mut self, login: LoggingIn) {
        let Life::Greeting { arrival, .. } = replace(&mut self.life, Life::Over(End::default()))
        else {
            unreachable!("a login follows a greeting");
        };
        self.life = Life::LoggingIn {
            deadline: self.context.now().plus(LOGIN_MAX),
            arrival,
            login,
            has_missed: false,
        };
        // Most logins end here, because the log answers at once.
        let waker = self.waker.clone().expect("the task that reads was polled");
        self.poll_login(&mut task::Context::from_waker(&waker));
    }

    /// Goes on with the login, if one is under way.
    pub(super) fn poll_login(&mut self, cx: &mut task::Context<'_>) {
        let Life::LoggingIn {
            login, has_missed, ..
        } = &mut self.life
        else {
            return;
        };
        let has_missed = *has_missed;
        match login.as_mut().poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(login)) => {
                self.open(login);
                if has_missed {
                    self.look_up_head();
                }
            }
            Poll::Ready(Err(reason)) => self.close(reason),
        }
    }

    fn open(&mut self, login: Login) {
        self.life = Life::Open(login.open);
        let read = self.act(login.actions, false);
        debug_assert!(read.is_none(), "a session that opens reads nothing");
        self.happen(Event::Room);
    }

    /// Handles one item from the mailbox.
    pub fn take(&mut self, item: Item) {
        if let Life::LoggingIn { has_missed, .. } = &mut self.life {
            match item {
                Item::Live(_) => *has_missed = true,
                // The client gets no frame before `Connected`, so only the close tells it.
                Item::Replaced => self.close(Reason::Replaced),
                Item::LoggedOut => self.close(Reason::LoggedOut),
            }
            return self.wake();
        }
        match item {
            Item::Live(live) if !self.life.is_in(live.message.epoch()) => {
                self.close(other_epoch());
            }
            Item::Live(live) => self.happen(Event::Live(live)),
            Item::Replaced => self.happen(Event::Replaced),
            Item::LoggedOut => self.happen(Event::LoggedOut),
        }
        self.wake();
    }

    /// Handles the answer of a disk read.
    pub(super) fn take_event(&mut self, event: Event) {
        self.happen(event);
        // Wake the task even if nothing is to be written: after a `Fetch` the socket may be read again.
        self.wake_task();
    }

    /// The mailbox dropped live items. Looks up the head of the inbox.
    pub fn look_up_head(&mut self) {
        if let Life::LoggingIn { has_missed, .. } = &mut self.life {
            *has_missed = true;
        }
        let Life::Open(open) = &self.life else {
            return;
        };
        match self.context.delivery.inbox(&open.registered.key.user) {
            LogAnswer::Now(inbox) => self.take_head(inbox),
            later => {
                let me = self.me.clone();
                spawn_local(async move {
                    let inbox = later.wait().await;
                    // The connection may be gone by then.
                    if let Some(me) = me.upgrade() {
                        me.borrow_mut().take_head(inbox);
                    }
                });
            }
        }
    }

    fn take_head(&mut self, inbox: Result<Inbox, LogError>) {
        // If this failed, the read that would follow fails as well, and reports the reason.
        let Ok(inbox) = inbox else {
            return;
        };
        if self.life.is_in(Some(inbox.epoch)) {
            self.happen(Event::Head(inbox.head));
        } else {
            self.close(other_epoch());
        }
        self.wake();
    }

    /// Time passed. Checks heartbeat, resends, stalls and deadlines.
    pub fn tick(&mut self, now: Moment) {
        let is_overdue = |since: Option<Moment>| {
            since.is_some_and(|since| now.since(since) >= self.context.stall_timeout)
        };
        let is_stalled = is_overdue(self.stalled_since) || is_overdue(self.full_since);
        match self.life {
            Life::Greeting { deadline, .. } if now >= deadline => {
                self.close(Reason::ConnectTimeout);
            }
            Life::LoggingIn { deadline, .. } if now >= deadline => self.close(unanswered()),
            Life::Open(_) if is_stalled => {
                // The dropped frames would be sent again after the client's return.
                self.outbox.discard_unbegun();
                self.close(Reason::SlowConsumer);
            }
            Life::Open(Open { token_ends_s, .. })
                if self.context.has_passed(token_ends_s.into(), now) =>
            {
                self.close(Reason::Unauthorized("the token has expired"));
            }
            Life::Open(_) => {
                if !self.is_listening() {
                    // The connection does not read now, so the silence is not the client's fault.
                    self.happen(Event::Heard);
                }
                self.happen(Event::Tick);
            }
            Life::Closing { deadline, .. } if now >= deadline => {
                self.life.end();
                self.wake_task();
            }
            Life::Greeting { .. }
            | Life::LoggingIn { .. }
            | Life::Closing { .. }
            | Life::Over(_) => {}
        }
        self.wake();
    }

    /// Tells the client to return after `after`, and closes.
    pub fn drain(&mut self, after: Duration) {
        match self.life {
            Life::Greeting { .. } | Life::LoggingIn { .. } => {
                self.close(Reason::Unavailable(after));
            }
            Life::Open(_) => self.happen(Event::Drain(after)),
            Life::Closing { .. } | Life::Over(_) => {}
        }
        self.wake();
    }

    /// The socket took `bytes`. Updates the times of stalls, and tells the session if the outbox has room.
    pub(super) fn note_written(&mut self, bytes: usize) {
        if bytes > 0 {
            self.tally.bytes_sent += bytes as u64;
            self.context.metrics.bytes_sent.increment(bytes as u64);
        }
        if bytes > 0 || self.outbox.is_empty() {
            self.stalled_since = None;
        }
        if !self.outbox.is_empty() && self.stalled_since.is_none() {
            self.stalled_since = Some(self.context.now());
        }
        if self.outbox.has_room(self.context.outbox) {
            self.full_since = None;
            self.happen(Event::Room);
        }
        if !self.outbox.has_room(self.context.outbox) && self.full_since.is_none() {
            self.full_since = Some(self.context.now());
        }
    }

    /// Gives an event to the session, and performs its actions; also the actions that follow from reads answered at once.
    fn happen(&mut self, event: Event) {
        let mut next = Some(event);
        for reads in 0.. {
            let Some(event) = next.take() else {
                return;
            };
            let scene = Scene {
                now: self.context.now(),
                has_room: self.outbox.has_room(self.context.outbox),
                is_flushed: self.outbox.is_empty(),
            };
            let Life::Open(open) = &mut self.life else {
                return;
            };
            let actions = open.session.handle(event, scene, &self.context.session);
            next = self.act(actions, reads < READS_IN_A_ROW);
        }
    }

    /// Performs the session's actions. If a read was ordered and answered at once, returns its answer.
    fn act(&mut self, actions: Vec<Action>, may_read_now: bool) -> Option<Event> {
        let mut answer = None;
        for action in actions {
            // A close is the last action.
            let Life::Open(Open {
                registered, epoch, ..
            }) = &self.life
            else {
                return None;
            };
            match action {
                Action::Send(what) => self.send(what),
                Action::Pong(nonce) => {
                    let server_time_ms = self.context.delivery.now_ms();
                    self.send(ToClient::Pong {
                        nonce,
                        server_time_ms,
                    });
                }
                Action::Begin(cursor) => {
                    // If the cursor is not stored, the effect is the same as below.
                    let _ = self.context.delivery.begin(&registered.key, *epoch, cursor);
                }
                Action::StoreAck { seq, advanced } => {
                    self.tally.acked += advanced;
                    // A replaced connection no longer speaks for the session: its cursor may belong to another store. If a
                    // cursor is not stored, the session begins at its older cursor after a reconnect, and its client gets
                    // messages again. A session without an older cursor begins as `delivery.new_session` says: with "head",
                    // a client that does not send a cursor of its own then misses messages.
                    if registered.holds() {
                        let _ = self.context.delivery.ack(&registered.key, *epoch, seq);
                    }
                }
                Action::Read(order) => {
                    let me = self.me.clone();
                    let take = move |event| {
                        // The connection may be gone by then.
                        if let Some(me) = me.upgrade() {
                            me.borrow_mut().take_event(event);
                        }
                    };
                    let inbox = (&registered.key.user, *epoch);
                    answer = read(&self.context, inbox, order, may_read_now, take);
                }
                Action::Close(reason) => self.close(reason),
            }
        }
        answer
    }

    /// Encodes what the session says and puts the frames into the outbox.
    fn send(&mut self, what: ToClient) {
        match &what {
            ToClient::Live(live) => self.count_pushed(live.seq, 1, 0),
            ToClient::Push { messages, resent } => {
                let last = messages.last().map_or(Seq::ZERO, |(seq, _)| *seq);
                self.count_pushed(last, messages.len(), *resent);
            }
            _ => {}
        }
        let Life::Open(Open { registered, .. }) = &self.life else {
            return;
        };
        let outbox = &mut self.outbox;
        self.codec
            .encode(&registered.key.user, what, &mut |frame| outbox.push(frame));
    }

    fn count_pushed(&mut self, last: Seq, pushed: usize, resent: usize) {
        self.tally.pushed += pushed as u64;
        self.tally.resent += resent as u64;
        self.context.metrics.pushed.increment(pushed as u64);
        self.context.metrics.resent.increment(resent as u64);
        if last > Seq::ZERO
            && let Life::Open(open) = &self.life
        {
            self.context.delivery.sent(&open.registered.key, last);
        }
    }

    fn close(&mut self, reason: Reason) {
        self.begin_close(self.codec.close(reason));
    }

    /// Puts the close frame behind the waiting frames. No frame follows it.
    fn begin_close(&mut self, close: Close) {
        self.outbox.push(frame::close(close.code, &close.text));
        self.context.metrics.closed(close.code);
        self.linger(Some(close.code));
    }

    /// Sets the deadline for the waiting frames to leave and for the client to end the stream.
    fn linger(&mut self, code: Option<u16>) {
        let deadline = self.context.now().plus(LINGER);
        self.life.close(deadline, code);
    }

    /// The task is gone, for any reason.
    pub(super) fn end(&mut self) {
        self.life.end();
        let lasted = self.context.now().since(self.opened);
        if let Life::Over(end) = &self.life {
            self.tally.log(self.id, end, lasted);
        }
    }

    /// Wakes the task if there is something to write.
    fn wake(&self) {
        if !self.outbox.is_empty() {
            self.wake_task();
        }
    }

    fn wake_task(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
