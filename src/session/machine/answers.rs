//! What a session does about its client's questions, and about the users that its client watches.

use super::{
    super::{
        Action, Answer, Messages, ToClient,
        hold::{AskKind, Hold},
        question::OpenQuestion,
        window::Window,
    },
    Turn,
};
use crate::{
    ids::{Platform, Seq, UserId},
    message::{Conversation, Entry},
};

impl Turn<'_> {
    pub(super) fn take_question(&mut self, question: OpenQuestion) {
        debug_assert!(self.session.is_listening(), "one question at a time");
        self.session.ask().question = Some(question);
    }

    pub(super) fn watch(&mut self, users: Vec<UserId>, unwatch: &[UserId]) {
        let wishes = self.session.ask();
        let watch = wishes.watch.get_or_insert_default();
        let named = watch.change(users, unwatch);
        if watch.is_empty() {
            wishes.watch = None;
        }
        if named.is_empty() {
            return self.send(ToClient::Presence(Vec::new()));
        }
        wishes.awaits_presence = true;
        self.actions.push(Action::Look(named));
    }

    pub(super) fn take_presence(&mut self, mut seen: Vec<(UserId, Vec<Platform>)>) {
        let wishes = self.session.ask();
        if let Some(watch) = &mut wishes.watch {
            watch.tell(&mut seen);
        }
        if std::mem::take(&mut wishes.awaits_presence) || !seen.is_empty() {
            self.send(ToClient::Presence(seen));
        }
    }

    /// Answers the pending `Fetch`, if the entries suffice.
    pub(super) fn take_history(&mut self, entries: Vec<Entry>) {
        let head = self.session.head;
        let Some(OpenQuestion::History(history)) = &mut self.session.ask().question else {
            return;
        };
        if let Some(answer) = history.take(entries, head) {
            self.answer(answer);
        }
    }

    pub(super) fn take_list(&mut self, conversations: Vec<Conversation>, is_end: bool) {
        self.session.reading = None;
        let Some(OpenQuestion::Conversations(request)) = &self.session.ask().question else {
            return;
        };
        let answer = request.answer(conversations, is_end);
        self.answer(answer);
    }

    pub(super) fn take_answer(&mut self, answer: Answer, shown: Option<Seq>) {
        self.session.reading = None;
        let now = self.scene.now;
        let wishes = self.session.ask();
        let before = wishes.hold;
        let mut is_read_awaited = false;
        if let (Some(hold), Some(OpenQuestion::Asked { kind, .. })) = (before, &wishes.question) {
            wishes.hold = hold.after(*kind, shown, now);
            is_read_awaited = wishes.hold.is_some() && *kind != AskKind::Other;
        }
        if let (Some(Hold::Overview(_)), Some(shown)) = (before, shown) {
            self.begin_anew(shown);
        }
        self.answer(ToClient::Answer(answer));
        if is_read_awaited {
            // The pong behind the answer shows that the client has read it.
            self.send(ToClient::Ping);
        }
    }

    /// The client has read everything that was sent before the latest [`ToClient::Ping`].
    pub(super) fn take_receipt(&mut self) {
        let now = self.scene.now;
        if let Some(wishes) = &mut self.session.wishes {
            let hold = wishes.hold.map(|hold| hold.read(now));
            // A wait for a question ends with a tick, which knows what follows.
            wishes.hold = hold.filter(|hold| !hold.is_settled(now));
        }
    }

    pub(super) fn take_newest(&mut self, messages: Messages) {
        self.session.reading = None;
        if !messages.is_empty() {
            self.send(ToClient::Newest(messages));
        }
    }

    /// The overview told the client of everything up to `shown`, and of nothing else. Nothing was sent before.
    pub(super) fn begin_anew(&mut self, shown: Seq) {
        let session = &mut *self.session;
        session.head = session.head.max(shown);
        if shown != session.window.sent() {
            session.window = Window::new(shown);
            self.actions.push(Action::Begin(shown));
        }
        self.catch_up();
    }

    pub(super) fn answer(&mut self, answer: ToClient) {
        self.session.ask().question = None;
        self.send(answer);
    }
}
