//! A phone: an app with a core of OpenIM's SDKs, over the simulated network. It speaks their frames.
//!
//! There are two cores: the Go core of phones, which has a store and sifts, and the JavaScript SDK's of a page, which forgets.
//!
//! A core answers a ping from its read loop, moves its numbers when it takes a message, and writes the rows later. So an app
//! that dies may have received more than it has: its next process asks for that again.
//!
//! - `app.rs`: the app's process
//! - `rules.rs`, `page.rs`: what the Go core and the JavaScript SDK take, and what they ask for
//! - `connection.rs`: one WebSocket; `messages.rs`: the data inside its frames
//! - `calling.rs`: the operations of a schedule on phones; `whole.rs`: phones in a run, and at its end
//! - this file: a phone, and what it has stored

mod app;
mod calling;
mod connection;
mod messages;
mod page;
mod rules;
mod whole;

use std::{cell::RefCell, collections::BTreeMap};

use loadtest::{SdkCore, SdkForm};

pub(super) use self::{calling::add_phones, messages::PhoneMessage};
use self::{messages::HistoryPage, rules::Told};
use super::{
    device::Crash,
    model::Model,
    trace::{note, violated},
};
use towncrier::ids::Platform;

/// The session of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PhoneOwner {
    pub(super) user: usize,
    pub(super) platform: Platform,
    /// The core, and if its frames are gzipped.
    pub(super) form: SdkForm,
}

/// A phone's disk.
#[derive(Default)]
pub(super) struct PhoneStore {
    /// The id of each message, by conversation and seq.
    rows: BTreeMap<(String, i64), String>,
    /// The newest message of each conversation, and how far it is read.
    read: BTreeMap<String, (i64, i64)>,
    /// The newest message of each conversation when a page began: it is told only what comes after. `None`: the page does not know
    /// yet. A Go core begins with nothing.
    begin: Option<BTreeMap<String, i64>>,
    /// The history that the user of the running process saw last: each conversation's newest page, with the ids that were there.
    seen: BTreeMap<String, (HistoryPage, BTreeMap<i64, String>)>,
    /// The newest message that it was shown of each.
    shown: BTreeMap<String, String>,
    /// True if the running process knows how many messages are unread: a core that was not told at its last connect that asks does
    /// not.
    is_counted: bool,
    pub(super) crash: Option<Crash>,
}

/// A phone as the other parts of the run see it.
pub(super) struct Phone {
    /// Its number among all devices.
    pub(super) number: usize,
    pub(super) owner: PhoneOwner,
    pub(super) store: RefCell<PhoneStore>,
    /// The token of its last login, until it is refused or the phone is sent away.
    pub(super) token: RefCell<Option<String>>,
}

impl Phone {
    pub(super) fn new(number: usize, owner: PhoneOwner) -> Self {
        Self {
            number,
            owner,
            store: RefCell::default(),
            token: RefCell::default(),
        }
    }

    /// Another device: nothing is stored, and nobody is logged in.
    pub(super) fn reinstall(&self) {
        self.store.take();
        self.token.take();
    }

    /// The app's process ends: a page forgets everything.
    pub(super) fn end(&self) {
        let store = &mut *self.store.borrow_mut();
        store.is_counted = false;
        store.seen.clear();
        store.shown.clear();
        if self.owner.form.core == SdkCore::JavaScript {
            store.rows.clear();
            store.begin = None;
        }
    }

    /// The first message of a conversation that the phone was not told, or another one in its place.
    fn lacks(&self, id: &str, messages: &[(u64, String)]) -> Option<u64> {
        let store = self.store.borrow();
        let begin = store.begin.as_ref().and_then(|begin| begin.get(id));
        let begin = begin.copied().unwrap_or_default();
        let lacks = |(seq, message): &&(u64, String)| {
            let seq = *seq as i64;
            seq > begin && store.rows.get(&(id.to_owned(), seq)) != Some(message)
        };
        messages.iter().find(lacks).map(|(seq, _)| *seq)
    }

    /// The first of a conversation's messages that its user does not see in the newest page of history, or another one in its place;
    /// or the newest one, if a Go core shows another.
    fn hides(&self, id: &str, messages: &[(u64, String)]) -> Option<u64> {
        let store = self.store.borrow();
        let (page, seen) = match store.seen.get(id) {
            Some((page, seen)) => (&page.seqs[..], Some(seen)),
            None => (&[][..], None),
        };
        let is_hidden = |(seq, message): &&(u64, String)| {
            let seq = *seq as i64;
            let is_asked = seen.is_none() || page.contains(&seq);
            is_asked && seen.and_then(|seen| seen.get(&seq)) != Some(message)
        };
        let newest = messages.last().filter(|(_, newest)| {
            self.owner.form.core == SdkCore::Go && store.shown.get(id) != Some(newest)
        });
        let hidden = messages.iter().find(is_hidden).or(newest);
        hidden.map(|(seq, _)| *seq)
    }

    /// True if the phone does not know yet where it begins.
    fn is_blank(&self) -> bool {
        self.owner.form.core == SdkCore::JavaScript && self.store.borrow().begin.is_none()
    }

    /// True if the running process knows how many messages are unread. A page is not asked: the count of the real one may be off
    /// after a break.
    fn is_counted(&self) -> bool {
        self.owner.form.core == SdkCore::JavaScript || self.store.borrow().is_counted
    }

    /// The count of unread messages that a phone shows; `None`, if it does not know.
    fn unread(&self, id: &str) -> Option<u64> {
        let store = self.store.borrow();
        let (head, read) = store.read.get(id).copied().unwrap_or_default();
        store.is_counted.then_some((head - read).max(0) as u64)
    }

    /// The phone stores, and its user sees, what its core tells.
    fn keep(&self, told: Vec<Told>, model: &mut Model) {
        let (number, user) = (self.number, self.owner.user);
        let store = &mut *self.store.borrow_mut();
        for told in told {
            match told {
                Told::Message(_, message) if message.seq == 0 => {
                    note(format_args!("phone {number} online-only"));
                    model.told_only(user, &message);
                }
                Told::Message(id, message) => {
                    note(format_args!("phone {number} stores {id}/{}", message.seq));
                    model.stored_by_phone(user, &id, &message);
                    if let Some(after) = store.is_late(self.owner.form.core, &id, message.seq) {
                        violated(
                            "P5",
                            format_args!(
                                "phone {number} is told {id}/{} after {after}",
                                message.seq
                            ),
                        );
                    }
                    let read = store.read.entry(id.clone()).or_default();
                    read.0 = read.0.max(message.seq);
                    store.rows.insert((id, message.seq), message.server_msg_id);
                }
                Told::Mark(id, seq) => {
                    note(format_args!("phone {number} is told of {id} to {seq}"));
                    model.mark_told(user, &id, seq);
                    let read = store.read.entry(id).or_default();
                    read.1 = read.1.max(seq);
                }
                Told::Head(id, head, has_read) => {
                    let read = store.read.entry(id).or_default();
                    *read = (read.0.max(head), has_read);
                }
                Told::History(page, messages) => {
                    let id = page.conversation_id.clone();
                    let mut seen = BTreeMap::new();
                    for message in messages {
                        model.seen_by_phone(user, &id, &message);
                        seen.insert(message.seq, message.server_msg_id);
                    }
                    store.seen.insert(id, (page, seen));
                }
                Told::Newest(id, message) => {
                    model.seen_by_phone(user, &id, &message);
                    store.shown.insert(id, message.server_msg_id);
                }
                Told::Counted => store.is_counted = true,
                Told::Begin(begin) => store.begin = Some(begin),
            }
        }
    }
}

impl PhoneStore {
    /// The seq after which a message comes too late. A Go core stores a conversation in its order. A page may pull what is
    /// before a push, but is told nothing twice.
    fn is_late(&self, core: SdkCore, id: &str, seq: i64) -> Option<i64> {
        let before = self.rows.range(..(id.to_owned(), i64::MAX)).next_back();
        let newest = before.filter(|((of, _), _)| of == id);
        let newest = newest.map(|((_, newest), _)| *newest);
        match core {
            SdkCore::Go => newest.filter(|newest| *newest >= seq),
            SdkCore::JavaScript => {
                let Some(begin) = &self.begin else {
                    // The core cannot place a message yet.
                    return Some(0);
                };
                let is_there = self.rows.contains_key(&(id.to_owned(), seq));
                let begin = begin.get(id).copied().filter(|begin| *begin >= seq);
                begin.or(newest.filter(|_| is_there))
            }
        }
    }
}
