//! The events that came to a receiver of webhooks: each message of each user once at least, in order, and a repeat the same.
//!
//! The users of a run are new, so the seqs of a user's messages begin with 1 and have no hole. A message that is not told, or told
//! out of order, is therefore noticed at the next one of its user.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    rc::Rc,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::CallBooks;

/// The events so far.
#[derive(Debug, Default)]
pub(crate) struct EventBooks(RefCell<EventState>);

/// The sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EventTally {
    /// Events, each once.
    pub(crate) events: u64,
    /// Messages told, each receiver once.
    pub(crate) messages: u64,
    /// Events that came again.
    pub(crate) repeated: u64,
    /// Repeats with another content.
    pub(crate) altered: u64,
    /// Messages and acks that do not follow the one before.
    pub(crate) disordered: u64,
    /// Announcements of lost events.
    pub(crate) losses: u64,
    /// Bodies that are no events.
    pub(crate) unreadable: u64,
}

#[derive(Debug, Default)]
struct EventState {
    hash: RandomState,
    /// The hash of each event's text, by that of its id: 16 bytes an event.
    known: HashMap<u64, u64>,
    /// The last seq told, by the kind of event and the user.
    told: HashMap<(ToldKind, Box<str>), u64>,
    tally: EventTally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ToldKind {
    Accepted,
    Acked,
}

#[derive(Deserialize)]
struct HookBody<'a> {
    #[serde(default)]
    id: String,
    r#type: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct ToldMessage {
    /// The rig's sends have fewer receivers than an event lists.
    receivers: Vec<ToldAt>,
}

#[derive(Deserialize)]
struct ToldAt {
    user_id: Box<str>,
    seq: u64,
}

#[derive(Deserialize)]
struct ToldAck {
    user_id: Box<str>,
    from_seq: u64,
    to_seq: u64,
}

impl EventBooks {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(crate) fn tally(&self) -> EventTally {
        self.0.borrow().tally
    }
}

impl CallBooks for EventBooks {
    fn call(&self, body: &[u8], is_taken: bool) {
        // The gateway repeats all others.
        if is_taken {
            let state = &mut *self.0.borrow_mut();
            if state.take(body).is_err() {
                state.tally.unreadable += 1;
            }
        }
    }
}

impl EventState {
    fn take(&mut self, body: &[u8]) -> serde_json::Result<()> {
        let whole: &RawValue = serde_json::from_slice(body)?;
        let outer: HookBody<'_> = serde_json::from_str(whole.get())?;
        if outer.r#type != "batch" {
            return self.event(whole.get());
        }
        let events: Vec<&RawValue> = serde_json::from_str(outer.data.get())?;
        events.iter().try_for_each(|event| self.event(event.get()))
    }

    fn event(&mut self, text: &str) -> serde_json::Result<()> {
        let event: HookBody<'_> = serde_json::from_str(text)?;
        let (id, hash) = (self.hash.hash_one(&event.id), self.hash.hash_one(text));
        match self.known.entry(id) {
            Entry::Occupied(known) => {
                self.tally.repeated += 1;
                self.tally.altered += u64::from(*known.get() != hash);
                return Ok(());
            }
            Entry::Vacant(place) => _ = place.insert(hash),
        }
        self.tally.events += 1;
        match &*event.r#type {
            "message.accepted" => {
                let message: ToldMessage = serde_json::from_str(event.data.get())?;
                self.tally.messages += message.receivers.len() as u64;
                for ToldAt { user_id, seq } in message.receivers {
                    self.follow((ToldKind::Accepted, user_id), seq, seq);
                }
            }
            "message.acked" => {
                let ToldAck {
                    user_id,
                    from_seq,
                    to_seq,
                } = serde_json::from_str(event.data.get())?;
                self.follow((ToldKind::Acked, user_id), from_seq, to_seq);
            }
            "events.lost" => self.tally.losses += 1,
            _ => {}
        }
        Ok(())
    }

    fn follow(&mut self, of: (ToldKind, Box<str>), from: u64, to: u64) {
        let last = self.told.entry(of).or_default();
        self.tally.disordered += u64::from(from != *last + 1);
        *last = to.max(*last);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn accepted(id: &str, user: &str, seq: u64) -> Value {
        json!({"id": id, "type": "message.accepted", "timestamp": "t", "data": {
            "receivers": [{"user_id": user, "seq": seq}],
        }})
    }

    fn tally(bodies: &[Value]) -> EventTally {
        let books = EventBooks::new();
        for body in bodies {
            books.call(body.to_string().as_bytes(), true);
            books.call(b"refused", false);
        }
        books.tally()
    }

    #[test]
    fn each_message_is_told_once_in_order_and_a_repeat_is_the_same() {
        let (one, two) = (accepted("1", "u", 1), accepted("2", "u", 2));
        let batch = json!({"type": "batch", "timestamp": "t", "data": [one, two]});
        let good = tally(&[one.clone(), batch, accepted("3", "v", 1)]);
        let told = EventTally {
            events: 3,
            messages: 3,
            repeated: 1,
            ..EventTally::default()
        };
        assert_eq!(good, told);
        assert_eq!(tally(&[two, one.clone()]).disordered, 2);
        assert_eq!(tally(&[one, accepted("1", "v", 1)]).altered, 1);
        assert_eq!(tally(&[json!([])]).unreadable, 1);
        let lost = json!({"id": "4", "type": "events.lost", "data": {}});
        assert_eq!(tally(&[lost]).losses, 1);
    }
}
