//! The state of a connection between two polls of its task: its life and its outbox. With its socket it is the whole
//! connection.
//!
//! The task brings the client's frames. Other tasks of the thread bring items, ticks and the results of disk reads. Each
//! changes the state here, and wakes the task when there is something to write. So nothing queues in between.
//!
//! - `head.rs`: it looks up the head of the inbox, after it missed something
//! - `pace.rs`: the pace at which its client takes what it is sent

mod head;
mod pace;

use std::{
    cell::RefCell,
    ops::ControlFlow,
    rc::{Rc, Weak},
    task::{self, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use towncrier_websocket::{Close, Rules, frame};
use tracing::error;

use super::{
    Context, FullSessions,
    ask::{ask, read_newest},
    life::{Life, Login, Open},
    login::{log_in, log_out},
    outbox::Outbox,
    read_state::{list, mark},
    replay::{READS_IN_A_ROW, read},
    socket::Inbound,
    tally::Tally,
};
use crate::{
    door::Arrival,
    ids::{ConnectionId, Seq},
    protocol::Codec,
    registry::Item,
    session::{
        Action, Connect, Event, FromClient, Greeting, GreetingStep, Moment, Reason, Scene, ToClient,
    },
};

/// The time after the close frame to write the waiting frames, and for the client to end the stream. It is longer than a
/// round trip to any place. It is short, because a closed connection is of no use.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// One connection, without its socket.
pub struct Connection {
    context: Rc<Context>,
    id: ConnectionId,
    /// A handle to itself, for the reads beside the task.
    me: Weak<RefCell<Self>>,
    /// Decodes the client's frames, and encodes what the session says.
    codec: Box<dyn Codec>,
    pub(super) life: Life,
    pub(super) outbox: Outbox,
    /// The task's waker; set at its first poll.
    waker: Option<Waker>,
    /// The moment since which the socket has taken nothing although frames waited.
    stalled_since: Option<Moment>,
    /// The moment since which the outbox has had no room.
    pub(super) full_since: Option<Moment>,
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
            life: Life::Greeting {
                greeting: Greeting::new(deadline),
                arrival,
                login: None,
            },
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

    /// True if the task may read the next frame. It may not while a question waits for its answer, while too many read marks
    /// wait for the log, or while a client that takes no answers asks for more.
    pub(super) fn is_listening(&self) -> bool {
        let is_flooded = self.outbox.is_flooded(self.context.outbox);
        match &self.life {
            Life::Greeting { greeting, .. } => greeting.is_listening() && !is_flooded,
            Life::Open(open) => open.session.is_listening() && !is_flooded,
            Life::Closing { .. } | Life::Over(_) => false,
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
            Inbound::Frame { payload, is_text } => return self.take_frame(payload, is_text),
            Inbound::Ping(answer) => {
                self.outbox.push(answer);
                self.happen(Event::Heard);
            }
            Inbound::Pong => {
                let said = self.codec.pong();
                self.happen(said.map_or(Event::Heard, Event::Said));
                // Nothing follows a close frame.
                if let Some(frame) = self.codec.answers().filter(|_| !self.is_closing()) {
                    self.outbox.push(frame);
                }
            }
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

    fn take_frame(&mut self, payload: Bytes, is_text: bool) -> ControlFlow<()> {
        self.tally.received += 1;
        self.context.metrics.frames_received.increment(1);
        let said = self.codec.decode(payload, is_text);
        if let Some(frame) = self.codec.answers() {
            self.outbox.push(frame);
        }
        let said = match said {
            Ok(said) => said,
            Err(reason) => {
                self.close(reason);
                return ControlFlow::Break(());
            }
        };
        // A question of a few bytes asks for much, so the task counts the questions that it reads in a row.
        let is_question = matches!(
            said,
            FromClient::Fetch(_) | FromClient::Conversations(_) | FromClient::Ask(_)
        );
        if let (FromClient::LogOut, Life::Open(open)) = (&said, &self.life) {
            log_out(&self.context, &open.registered.key);
        }
        self.happen(Event::Said(said));
        if is_question {
            ControlFlow::Break(())
        } else {
            self.listen_on()
        }
    }

    /// Begins the login, if it came with the upgrade.
    pub(super) fn greet(&mut self) {
        if matches!(&self.life, Life::Greeting { greeting, .. } if greeting.is_listening())
            && let Some(connect) = self.codec.greet()
        {
            self.happen(Event::Said(FromClient::Connect(connect)));
        }
    }

    fn begin_login(&mut self, connect: Connect) {
        let Life::Greeting { arrival, login, .. } = &mut self.life else {
            unreachable!("only a greeting orders a login");
        };
        match log_in(&self.context, self.id, arrival, connect) {
            Ok(begun) => {
                *login = Some(begun);
                // Most logins end here, because the log answers at once.
                let waker = self.waker.clone().expect("the task that reads was polled");
                self.poll_login(&mut task::Context::from_waker(&waker));
            }
            Err(fault) => self.happen(Event::Failed(fault)),
        }
    }

    /// Goes on with the login, if one is under way.
    pub(super) fn poll_login(&mut self, cx: &mut task::Context<'_>) {
        let Life::Greeting {
            login: Some(login), ..
        } = &mut self.life
        else {
            return;
        };
        match login.as_mut().poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(login)) => self.open(login),
            Poll::Ready(Err(fault)) => self.happen(Event::Failed(fault)),
        }
    }

    fn open(&mut self, login: Login) {
        let has_missed =
            matches!(&self.life, Life::Greeting { greeting, .. } if greeting.has_missed());
        self.life = Life::Open(login.open);
        let read = self.act(login.actions, false);
        debug_assert!(read.is_none(), "a session that opens reads nothing");
        self.happen(Event::Room);
        if has_missed {
            self.look_up_head();
        }
    }

    /// Handles one item from the mailbox.
    pub fn take(&mut self, item: Item) {
        self.happen(match item {
            Item::Live(live) => Event::Live(live),
            Item::Head(epoch, head) => return self.hear_head(epoch, head),
            Item::Replaced => Event::Replaced,
            Item::LoggedOut => Event::LoggedOut,
        });
        self.wake();
    }

    /// Takes an event that comes later, beside the task.
    fn take_later(&self) -> impl FnOnce(Event) + 'static + use<> {
        let me = self.me.clone();
        move |event| {
            // The connection may be gone by then.
            if let Some(me) = me.upgrade() {
                me.borrow_mut().take_event(event);
            }
        }
    }

    /// Handles the answer of a disk read.
    pub(super) fn take_event(&mut self, event: Event) {
        self.happen(event);
        // Wake the task even if nothing is to be written: after an answer the socket may be read again.
        self.wake_task();
    }

    /// Time passed. Checks heartbeat, resends, stalls and deadlines.
    pub fn tick(&mut self, now: Moment) {
        let condition = self.condition(now);
        match self.life {
            Life::Closing { deadline, .. } if now >= deadline => {
                self.life.end();
                self.wake_task();
            }
            _ => self.happen(Event::Tick(condition)),
        }
        self.wake();
    }

    /// Tells the client to return after `after`, and closes.
    pub fn drain(&mut self, after: Duration) {
        self.happen(Event::Drain(after));
        self.wake();
    }

    /// Adds this connection to the sessions that can be sent nothing now.
    pub fn add_to(&self, full: &mut FullSessions) {
        if let Life::Open(open) = &self.life {
            full.outboxes += u32::from(self.full_since.is_some());
            full.windows += u32::from(open.session.is_window_full(&self.context.session));
        }
    }

    /// Gives an event to the session, and performs its actions; also the actions that follow from reads answered at once.
    /// Before the session, gives it to the greeting.
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
                random: fastrand::f64,
            };
            let open = match &mut self.life {
                Life::Open(open) => open,
                Life::Greeting { greeting, .. } => {
                    return match greeting.handle(event, scene) {
                        GreetingStep::Wait => {}
                        GreetingStep::LogIn(connect) => self.begin_login(connect),
                        GreetingStep::Close(reason) => self.close(reason),
                    };
                }
                Life::Closing { .. } | Life::Over(_) => return,
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
                session,
                registered,
                ..
            }) = &self.life
            else {
                return None;
            };
            let epoch = session.epoch();
            let inbox = (&registered.key.user, epoch);
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
                    if let Some(fence) = registered.fence() {
                        let delivery = &self.context.delivery;
                        let _ = delivery.begin(&registered.key, epoch, fence, cursor);
                    }
                }
                Action::StoreAck { seq, advanced } => {
                    self.tally.acked += advanced;
                    // A replaced connection no longer speaks for the session: its cursor may belong to another store. If a
                    // cursor is not stored, the session begins at its older cursor after a reconnect, and its client gets
                    // messages again. A session without an older cursor begins as `delivery.new_session` says: with "head",
                    // a client that does not send a cursor of its own then misses messages.
                    if let Some(fence) = registered.fence() {
                        let delivery = &self.context.delivery;
                        let _ = delivery.ack(&registered.key, epoch, fence, seq);
                    }
                }
                Action::Read(order) => {
                    let manner = session.manner();
                    let later = self.take_later();
                    answer = read(&self.context, inbox, order, manner, may_read_now, later);
                }
                // A replaced connection no longer speaks for the session. It is told soon, and waits for no answer.
                Action::List(_) | Action::Mark(_) | Action::Ask { .. } if !registered.holds() => {}
                Action::List(request) => {
                    answer = list(&self.context, inbox, request, self.take_later());
                }
                Action::Ask { question, sent } => {
                    let manner = session.manner();
                    let later = self.take_later();
                    let key = &registered.key;
                    ask(&self.context, (key, epoch), manner, (question, sent), later);
                }
                Action::ReadNewest(sent) => {
                    read_newest(&self.context, inbox, sent, self.take_later());
                }
                // The answer is known at once, and orders no further look.
                Action::Look(users) => {
                    let seen = self.context.look(users);
                    self.happen(Event::Looked(seen));
                }
                Action::Mark(marks) => mark(&self.context, inbox, marks, self.take_later()),
                Action::Background(is_background) => registered.set_background(is_background),
                Action::DropUnsent => self.outbox.discard_unbegun(),
                Action::Close(reason) => self.close(reason),
            }
        }
        answer
    }

    /// Encodes what the session says and puts the frames into the outbox.
    fn send(&mut self, what: ToClient) {
        match &what {
            ToClient::Live(live) => self.count_pushed(live.numbers.seq, 1, 0),
            ToClient::Push { messages, resent } => {
                let last = messages
                    .last()
                    .map_or(Seq::ZERO, |(numbers, _)| numbers.seq);
                self.count_pushed(last, messages.len(), *resent);
            }
            _ => {}
        }
        let Life::Open(Open { registered, .. }) = &self.life else {
            return;
        };
        let is_answer = matches!(what, ToClient::Answer(_));
        let outbox = &mut self.outbox;
        self.codec
            .encode(&registered.key.user, what, &mut |frame| outbox.push(frame));
        if is_answer {
            self.grant_time();
        }
    }

    fn count_pushed(&mut self, last: Seq, pushed: usize, resent: usize) {
        self.tally.pushed += pushed as u64;
        self.tally.resent += resent as u64;
        self.context.metrics.pushed.increment(pushed as u64);
        self.context.metrics.resent.increment(resent as u64);
        if last > Seq::ZERO
            && let Life::Open(open) = &self.life
        {
            self.context.delivery.pushed(&open.registered.key, last);
        }
    }

    fn close(&mut self, reason: Reason) {
        // The other failures of the log are logged where a read finds them.
        if let (Reason::LogShort, Life::Open(open)) = (reason, &self.life) {
            error!(user = %open.registered.key.user, "an inbox ends before its head: its sessions cannot go on");
        }
        if let Life::Greeting { .. } = self.life
            && let Some(frame) = self.codec.refuse_login(reason)
        {
            self.outbox.push(frame);
        }
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
