//! The audit log: one line for each call that changes something. It says who called, from where, about whom, and what became of it;
//! never a content, and never a token.
//!
//! The line has a target of its own, so that the log filter can send it elsewhere or leave it out: `towncrier::audit=off`. Then
//! a call costs nothing more.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{extract::Request, response::Response};
use serde::Serialize;
use tracing::Level;

use crate::{
    delivery::{Receipt, Receivers},
    door::CallerAddress,
    ids::{Platform, UserId},
};

/// The target of the lines.
const TARGET: &str = "towncrier::audit";
/// The most users and ids in a line. A batch has thousands.
pub(super) const LISTED_IN_LINE_MAX: usize = 8;
/// The name of a caller that gave the secret of the configuration in place of a token.
const SECRET_HOLDER: &str = "auth.secret";

/// The facts that a handler tells about its call. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Note(Option<Arc<Mutex<CallFacts>>>);

#[derive(Default)]
struct CallFacts {
    has_secret: bool,
    caller: Option<UserId>,
    sender: Option<String>,
    users: Vec<UserId>,
    users_total: u64,
    is_everyone: bool,
    platform: Option<Platform>,
    ids: Vec<String>,
}

/// The errCode of a refusal, beside its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrCode(pub(super) u16);

/// The line of a call. It is written when the call ends, also if its caller goes away before.
pub(super) struct AuditLine {
    call: Box<str>,
    from: Option<IpAddr>,
    note: Arc<Mutex<CallFacts>>,
    code: Option<u16>,
}

impl AuditLine {
    /// Begins the line of a call; `None` if nobody reads it. The handler finds its [`Note`] in the request.
    pub(super) fn begin(request: &mut Request) -> Option<Self> {
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return None;
        }
        let note: Arc<Mutex<CallFacts>> = Arc::default();
        let call = request.uri().path().into();
        let extensions = request.extensions_mut();
        extensions.insert(Note(Some(Arc::clone(&note))));
        let from = extensions.get::<CallerAddress>().map(|address| address.0);
        Some(Self {
            call,
            from,
            note,
            code: None,
        })
    }

    /// The call was answered.
    pub(super) fn end(mut self, response: &Response) {
        let code = response.extensions().get::<ErrCode>();
        self.code = Some(code.map_or(0, |code| code.0));
    }
}

impl Drop for AuditLine {
    fn drop(&mut self) {
        let facts = lock(&self.note);
        let by = match &facts.caller {
            Some(caller) => caller.as_str(),
            None if facts.has_secret => SECRET_HOLDER,
            // Nobody whose name is known called, and nothing was done.
            None => return,
        };
        let users: Vec<_> = facts.users.iter().map(UserId::as_str).collect();
        tracing::info!(
            target: TARGET,
            call = &*self.call,
            by,
            from = self.from.map(tracing::field::display),
            sender = facts.sender.as_deref(),
            users = list(&users),
            users_total = facts.users_total,
            everyone = facts.is_everyone.then_some(true),
            platform = facts.platform.map(Platform::name),
            ids = list(&facts.ids),
            err_code = self.code,
            outcome = match self.code {
                Some(0) => "done",
                Some(_) => "refused",
                None => "unknown",
            },
            "admin call"
        );
    }
}

impl Note {
    /// The note of a request's call; one that nobody reads, if the call has no line.
    pub(super) fn of(request: &Request) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut CallFacts)) {
        if let Some(facts) = &self.0 {
            change(&mut lock(facts));
        }
    }

    /// The caller gave the right secret.
    pub(super) fn secret(&self) {
        self.change(|facts| facts.has_secret = true);
    }

    /// The user of the caller's token.
    pub(super) fn caller(&self, user: &UserId) {
        self.change(|facts| facts.caller = Some(user.clone()));
    }

    /// The call is about this user, beside those told before.
    pub(super) fn user(&self, user: &UserId) {
        self.change(|facts| facts.add(user));
    }

    /// The call is about these users, beside those told before.
    pub(super) fn users<'a>(&self, users: impl IntoIterator<Item = &'a UserId>) {
        self.change(|facts| users.into_iter().for_each(|user| facts.add(user)));
    }

    /// The call is about this platform of the user.
    pub(super) fn platform(&self, platform: Platform) {
        self.change(|facts| facts.platform = Some(platform));
    }

    /// The call is about these things: messages, seqs, conversations, events.
    pub(super) fn ids<T: ToString>(&self, ids: impl IntoIterator<Item = T>) {
        self.change(|facts| {
            let ids = ids.into_iter().take(LISTED_IN_LINE_MAX);
            facts.ids = ids.map(|id| id.to_string()).collect();
        });
    }

    /// A message is to be sent in this name to these receivers.
    pub(super) fn send(&self, sender: &str, receivers: &Receivers) {
        self.change(|facts| {
            facts.sender = Some(sender.to_owned());
            match receivers {
                Receivers::List(list) => list.iter().for_each(|user| facts.add(user)),
                Receivers::Everyone => facts.is_everyone = true,
            }
        });
    }

    /// The message was sent.
    pub(super) fn sent(&self, receipt: &Receipt) {
        self.change(|facts| {
            facts.users_total = receipt.receivers;
            facts.ids = vec![receipt.message_id.to_string()];
        });
    }
}

impl CallFacts {
    fn add(&mut self, user: &UserId) {
        self.users_total += 1;
        if self.users.len() < LISTED_IN_LINE_MAX {
            self.users.push(user.clone());
        }
    }
}

/// The text of a JSON list.
fn list<T: Serialize>(items: &[T]) -> String {
    serde_json::to_string(items).expect("strings are always JSON")
}

/// A panic elsewhere leaves the facts as far as they were told.
fn lock(facts: &Mutex<CallFacts>) -> MutexGuard<'_, CallFacts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}
