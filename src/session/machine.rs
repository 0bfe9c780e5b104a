//! The session itself: a cursor on an inbox, limited by a window.
//!
//! Every event ends with the same check: is there an entry above what was sent, is there room to send it, and is no read
//! under way? Then the session reads. So there is no "replaying" and no "live" state that could disagree with the log.
//!
//! - `answers.rs`: what it does about its client's questions
//! - `tick.rs`: what it does as time passes

mod answers;
mod tick;

use std::time::Duration;

use super::{
    Action, Event, FromClient, Gap, GapReason, Kicked, Limits, Manner, Moment, ReadOrder, Reason,
    Scene, SessionFault, ToClient,
    action::Messages,
    question::{History, OpenQuestion},
    window::{AheadOfSent, RECEIPT_TIMEOUT, Window},
    wishes::Wishes,
};
use crate::{
    ids::{Epoch, Seq},
    message::{Content, Entry, Live},
};

/// An open session, from `Connected` to its close.
#[derive(Debug)]
pub struct Session {
    /// The epoch of the log that the session is a cursor on.
    epoch: Epoch,
    window: Window,
    /// The highest seq known to be in the inbox.
    head: Seq,
    /// The head at connect, until `CaughtUp` was sent.
    backlog: Option<Seq>,
    /// The read under way.
    reading: Option<BacklogRead>,
    /// The client's wishes that are not fulfilled yet. Boxed, because idle sessions have none.
    wishes: Option<Box<Wishes>>,
    /// The time of the client's last frame.
    heard: Moment,
    /// True if the log has what read marks and conversations need.
    has_conversations: bool,
    manner: Manner,
    is_closed: bool,
}

/// The purpose of the read under way.
#[derive(Debug, Clone, Copy)]
enum BacklogRead {
    /// Push the entries after this seq.
    Push(Seq),
    /// Answer the pending question.
    Answer,
    /// Show the client the newest messages.
    Newest,
}

impl Session {
    pub(super) fn new(
        (epoch, cursor, head): (Epoch, Seq, Seq),
        backlog: Option<Seq>,
        has_conversations: bool,
        manner: Manner,
        now: Moment,
    ) -> Self {
        Self {
            epoch,
            window: Window::new(cursor),
            head,
            backlog,
            reading: None,
            wishes: None,
            heard: now,
            has_conversations,
            manner,
            is_closed: false,
        }
    }

    /// The epoch of the log that the session is a cursor on.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The manner in which its client takes pushes.
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// True if the session takes the client's next frame. It takes none while a question waits for its answer, or too many
    /// read marks wait for the log. So a flood of frames waits in the client's socket.
    pub fn is_listening(&self) -> bool {
        let wishes = self.wishes.as_ref();
        wishes.is_none_or(|wishes| wishes.take_more())
    }

    /// True if no message of the inbox may be sent: the client has not asked where it stands, or the answer to that is on its way.
    fn is_holding(&self) -> bool {
        let wishes = self.wishes.as_ref();
        wishes.is_some_and(|wishes| wishes.hold_pushes())
    }

    /// The place of a new wish.
    pub(super) fn ask(&mut self) -> &mut Wishes {
        self.wishes.get_or_insert_default()
    }

    /// True if the session sends no message before its client's next ack.
    pub fn is_window_full(&self, limits: &Limits) -> bool {
        self.window.room(limits) == 0
    }

    /// Handles one event. Perform the actions in their order.
    pub fn handle(&mut self, event: Event, scene: Scene, limits: &Limits) -> Vec<Action> {
        if self.is_closed {
            return Vec::new();
        }
        let receipts;
        let limits = if self.manner == Manner::Acks {
            limits
        } else {
            receipts = Limits {
                resend_after: RECEIPT_TIMEOUT,
                ..*limits
            };
            &receipts
        };
        let mut turn = Turn {
            session: self,
            scene,
            limits,
            actions: Vec::new(),
        };
        turn.take(event);
        turn.mark();
        turn.read_on();
        turn.actions
    }
}

/// The handling of one event.
struct Turn<'a> {
    session: &'a mut Session,
    scene: Scene,
    limits: &'a Limits,
    actions: Vec<Action>,
}

impl Turn<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Said(said) => self.take_said(said),
            Event::Heard => self.session.heard = self.scene.now,
            Event::Live(live) => self.take_live(live),
            Event::Head(seq) => self.session.head = self.session.head.max(seq),
            Event::Read(entries) => self.take_read(entries),
            Event::ReadNothing(first) => self.take_nothing(first),
            Event::Listed {
                conversations,
                is_end,
            } => self.take_list(conversations, is_end),
            Event::Answered { answer, shown } => self.take_answer(answer, shown),
            Event::Newest(messages) => self.take_newest(messages),
            Event::Looked(seen) => self.take_presence(seen),
            Event::Marked => self.session.ask().marks.arrive(self.scene.now),
            Event::Failed(fault) => self.fail(fault),
            Event::Room => {}
            Event::Tick(condition) => self.tick(condition),
            Event::Replaced => self.kick(Kicked::Replaced, Reason::Replaced),
            Event::LoggedOut => self.kick(Kicked::LoggedOut, Reason::LoggedOut),
            Event::Drain(after) => self.drain(after),
        }
    }

    fn take_said(&mut self, said: FromClient) {
        self.session.heard = self.scene.now;
        match said {
            FromClient::Connect(_) => self.close(Reason::Protocol("a second Connect")),
            FromClient::Ack(seq) => self.take_ack(seq),
            FromClient::Received(seq) => {
                self.take_ack(seq);
                self.take_receipt();
            }
            FromClient::Resend(after) => self.session.window.rewind_to(after),
            FromClient::Fetch(fetch) => {
                self.take_question(OpenQuestion::History(History::new(fetch)))
            }
            FromClient::Ping(nonce) => self.actions.push(Action::Pong(nonce)),
            FromClient::Read(_) | FromClient::Conversations(_)
                if !self.session.has_conversations =>
            {
                self.close(Reason::UNKNOWN_FRAME);
            }
            FromClient::Read(marks) => self.session.ask().marks.add(marks),
            FromClient::Conversations(request) => {
                self.take_question(OpenQuestion::Conversations(request.bounded()));
            }
            FromClient::Ask(question) => {
                self.take_question(OpenQuestion::asked(question));
            }
            FromClient::Watch { users, unwatch } => self.watch(users, &unwatch),
            FromClient::Background(is_background) => {
                self.actions.push(Action::Background(is_background));
            }
            FromClient::LogOut => self.close(Reason::Left),
            FromClient::Nothing => {}
        }
    }

    fn take_ack(&mut self, seq: Seq) {
        match self.session.window.ack(seq, self.scene.now, self.limits) {
            Ok(0) => {}
            Ok(advanced) => self.actions.push(Action::StoreAck { seq, advanced }),
            Err(AheadOfSent) => self.close(Reason::Protocol("an ack above what was sent")),
        }
    }

    fn take_live(&mut self, live: Live) {
        let epoch = live.message.epoch();
        if epoch.is_some_and(|epoch| epoch != self.session.epoch) {
            return self.fail(SessionFault::EpochOver);
        }
        let (seq, window) = (live.numbers.seq, &mut self.session.window);
        if seq == Seq::ZERO {
            // An online-only message is not in the inbox, so there is no second chance.
            if self.scene.has_room {
                self.send(ToClient::Live(live));
            }
            return;
        }
        // In order: only `sent + 1` is pushed. No gap: a message that is not pushed has raised the head, and was readable before
        // it came (`Consumer::take`). So `read_on`, which follows each event, reads it once there is room. A message from before
        // the session was open is not above the head of its resume point, or the session looks the head up
        // (`connection/login.rs`). It does so as well when the mailbox dropped a message (`reactor/mailbox.rs`).
        self.session.head = self.session.head.max(seq);
        // Marks have to be looked up for a client that takes each for all of its conversation (`connection/replay.rs`).
        let sifts_marks =
            self.session.manner == Manner::Sifts && !live.message.origin().marks.is_empty();
        let is_next = seq == window.sent().next() && !sifts_marks;
        let has_room = self.scene.has_room && window.room(self.limits) > 0;
        if is_next && has_room && !self.session.is_holding() {
            let window = &mut self.session.window;
            window.push(seq, self.scene.now, self.limits);
            self.send(ToClient::Live(live));
            self.catch_up();
        }
    }

    fn take_read(&mut self, entries: Vec<Entry>) {
        match self.session.reading.take() {
            Some(BacklogRead::Push(after)) if after <= self.session.window.sent() => {
                self.push(entries)
            }
            // A rewind happened while the read was under way. The read no longer brings the next entries.
            Some(BacklogRead::Push(_) | BacklogRead::Newest) | None => {}
            Some(BacklogRead::Answer) => self.take_history(entries),
        }
    }

    /// The read found no entry: it began at the head, or everything after it has expired.
    fn take_nothing(&mut self, first: Seq) {
        match self.session.reading.take() {
            Some(BacklogRead::Push(after)) if after <= self.session.window.sent() => {
                let sent = self.session.window.sent();
                if first > sent.next() {
                    self.skip(first.previous());
                } else if after == sent {
                    // The read was ordered because an entry is above, and retention did not remove that entry: the log is
                    // short. A read from below `sent` proves nothing, because live messages were pushed meanwhile.
                    self.close(Reason::LogShort);
                }
            }
            Some(BacklogRead::Push(_) | BacklogRead::Newest) | None => {}
            Some(BacklogRead::Answer) => self.take_history(Vec::new()),
        }
    }

    /// Pushes those of the entries that come next, in runs between the gaps.
    fn push(&mut self, entries: Vec<Entry>) {
        let mut run = Messages::new();
        let mut room = self.session.window.room(self.limits);
        for entry in entries {
            let next = self.session.window.sent().0 + run.len() as u64 + 1;
            let seq = entry.numbers.seq;
            if seq.0 < next {
                continue;
            }
            if seq.0 > next {
                self.push_run(&mut run);
                self.skip(seq.previous());
            }
            match entry.content {
                Content::Message(_) | Content::Marks(_) if room == 0 => break,
                Content::Message(body) | Content::Marks(body) => {
                    room -= 1;
                    run.push((entry.numbers, body));
                }
                Content::Removed => {
                    self.push_run(&mut run);
                    self.skip(seq);
                }
            }
        }
        self.push_run(&mut run);
    }

    fn push_run(&mut self, run: &mut Messages) {
        let Some((numbers, _)) = run.last() else {
            return;
        };
        let last = numbers.seq;
        let window = &mut self.session.window;
        let highest = window.highest();
        let resent = run
            .iter()
            .take_while(|(numbers, _)| numbers.seq <= highest)
            .count();
        window.push(last, self.scene.now, self.limits);
        window.note_replayed(run.iter().map(|(_, body)| body.len()).sum());
        let head = &mut self.session.head;
        *head = (*head).max(last);
        let messages = std::mem::take(run);
        let singly_to = self.session.wishes.as_ref().and_then(|one| one.singly_to);
        if singly_to.is_some_and(|to| messages[0].0.seq <= to) {
            debug_assert_eq!(resent, 0, "nothing is sent twice to a client that sifts");
            for message in messages {
                let messages = vec![message];
                self.send(ToClient::Push { messages, resent });
            }
        } else {
            self.send(ToClient::Push { messages, resent });
        }
        self.catch_up();
    }

    fn skip(&mut self, to: Seq) {
        let from = self.session.window.skip(to);
        self.session.head = self.session.head.max(to);
        // Adjacent ranges that are announced together make one gap.
        if let Some(Action::Send(ToClient::Gap(last))) = self.actions.last_mut()
            && last.to.next() == from
        {
            last.to = to;
        } else {
            let reason = GapReason::Expired;
            self.send(ToClient::Gap(Gap { from, to, reason }));
        }
        self.catch_up();
    }

    /// Tells the client, once, that the backlog present at connect was sent.
    fn catch_up(&mut self) {
        let sent = self.session.window.sent();
        if self.session.backlog.is_some_and(|head| sent >= head) {
            self.session.backlog = None;
            self.send(ToClient::CaughtUp(sent));
        }
    }

    fn kick(&mut self, kicked: Kicked, reason: Reason) {
        self.send(ToClient::Kicked(kicked));
        self.close(reason);
    }

    fn drain(&mut self, after: Duration) {
        self.send(ToClient::Draining(after));
        self.close(Reason::Unavailable(after));
    }

    fn send(&mut self, what: ToClient) {
        self.actions.push(Action::Send(what));
    }

    fn fail(&mut self, fault: SessionFault) {
        self.close(fault.reason(self.scene.random));
    }

    fn close(&mut self, reason: Reason) {
        self.actions.push(Action::Close(reason));
        self.session.is_closed = true;
    }

    /// Gives the log the read marks that are due, and lets go of wishes that are fulfilled.
    fn mark(&mut self) {
        let Some(wishes) = &mut self.session.wishes else {
            return;
        };
        if self.session.is_closed {
            return;
        }
        if let Some(marks) = wishes.marks.due(self.scene.now) {
            self.actions.push(Action::Mark(marks));
        } else if wishes.is_over(self.scene.now) {
            self.session.wishes = None;
        }
    }

    /// Orders the next read, if one is wanted and possible. A question goes first. The session takes no further question
    /// before pushes had their turn.
    fn read_on(&mut self) {
        let session = &mut *self.session;
        if session.is_closed || session.reading.is_some() || !self.scene.has_room {
            return;
        }
        let sent = session.window.sent();
        let is_holding = session.is_holding();
        let wishes = session.wishes.as_mut();
        let needs_newest = wishes.as_ref().is_some_and(|wishes| wishes.needs_newest);
        let question = wishes.and_then(|wishes| wishes.question.as_mut());
        let (reading, action) = match question {
            Some(OpenQuestion::History(history)) => {
                let order = history.order(session.head);
                (BacklogRead::Answer, Action::Read(order))
            }
            Some(OpenQuestion::Conversations(request)) => {
                (BacklogRead::Answer, Action::List(*request))
            }
            Some(OpenQuestion::Asked { question, .. }) => {
                let Some(question) = question.take() else {
                    return;
                };
                (BacklogRead::Answer, Action::Ask { question, sent })
            }
            None if needs_newest => {
                session.ask().needs_newest = false;
                (BacklogRead::Newest, Action::ReadNewest(sent))
            }
            None => {
                let after = sent;
                let messages = session.window.room(self.limits);
                if after >= session.head || messages == 0 || is_holding {
                    return;
                }
                let order = ReadOrder { after, messages };
                (BacklogRead::Push(after), Action::Read(order))
            }
        };
        session.reading = Some(reading);
        self.actions.push(action);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::ReadMark, session::Condition};

    const LIMITS: Limits = Limits {
        window: 4,
        replayed_bytes_max: 1000,
        resend_after: Duration::from_secs(5),
        heartbeat: Duration::from_secs(30),
        stall_timeout: Duration::from_secs(20),
        starts_at_head: false,
    };

    #[test]
    fn wishes_take_memory_until_they_are_fulfilled() {
        let (inbox, opened) = ((Epoch(7), Seq::ZERO, Seq::ZERO), Moment(0));
        let mut session = Session::new(inbox, None, true, Manner::Acks, opened);
        let mut handle = |event, ms| {
            let scene = Scene {
                now: Moment(ms),
                has_room: true,
                is_flushed: true,
                random: || 0.5,
            };
            session.handle(event, scene, &LIMITS);
            session.wishes.is_some()
        };
        let mark = ReadMark {
            conversation_id: "a".into(),
            conversation_seq: 1,
            ..ReadMark::default()
        };
        assert!(handle(Event::Said(FromClient::Read(vec![mark])), 0));
        assert!(handle(Event::Marked, 100));
        assert!(handle(Event::Tick(Condition::default()), 1000));
        assert!(!handle(Event::Tick(Condition::default()), 1100));
        assert!(!handle(Event::Said(FromClient::Read(Vec::new())), 1200));
    }
}
