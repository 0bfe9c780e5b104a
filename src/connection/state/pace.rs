//! The pace at which a connection's client takes what it is sent.

use super::Connection;
use crate::{
    connection::life::{Life, Open},
    session::{Condition, Event, Moment},
};

impl Connection {
    pub(super) fn condition(&self, now: Moment) -> Condition {
        let Life::Open(Open { token_ends_s, .. }) = self.life else {
            return Condition::default();
        };
        let since = self.stalled_since.into_iter().chain(self.full_since).min();
        Condition {
            stalled: since.map(|since| now.since(since)).unwrap_or_default(),
            is_flooded: self.outbox.is_flooded(self.context.outbox),
            is_token_over: self.context.has_passed(token_ends_s.into(), now),
            presence: self.context.registry.changes(),
        }
    }

    /// An answer was sent. An answer may be larger than the outbox; its client has the time to take it that it has for as many full
    /// outboxes.
    pub(super) fn grant_time(&mut self) {
        if !self.outbox.has_room(self.context.outbox) {
            let time = self.context.session.stall_timeout;
            let outboxes = self.outbox.fullness(self.context.outbox);
            self.full_since = Some(self.context.now().plus(time * outboxes));
        }
    }

    /// The socket took `bytes`. Updates the times of stalls, and tells the session if the outbox has room.
    pub(in crate::connection) fn note_written(&mut self, bytes: usize) {
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
}
