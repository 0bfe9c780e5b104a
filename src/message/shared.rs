//! A message on its way to the sessions online. The first session that needs an encoding makes it; the others
//! share it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Numbers, Origin};
use crate::ids::Epoch;

/// The number of encodings that are kept at once: one of `towncrier.v1`, and three of OpenIM v3. A further one is made for each of its
/// sessions.
const ENCODINGS_MAX: usize = 4;

/// One message, shared by all sessions that get it, on any thread.
#[derive(Debug)]
pub struct Message {
    /// The stored form.
    body: Bytes,
    /// `None` for a message that no log has.
    epoch: Option<Epoch>,
    /// Decoded by the first session that needs it.
    origin: OnceLock<Origin>,
    /// Encodings by the name of the protocol. The first session of a protocol takes the first free slot.
    encodings: [OnceLock<(&'static str, Bytes)>; ENCODINGS_MAX],
}

impl Message {
    /// A message that no log has. Its stored form would be `body`.
    pub fn new(body: Bytes) -> Self {
        Self::with(body, None)
    }

    /// The message of a log of this epoch, whose stored form is `body`.
    pub fn of(epoch: Epoch, body: Bytes) -> Self {
        Self::with(body, Some(epoch))
    }

    fn with(body: Bytes, epoch: Option<Epoch>) -> Self {
        Self {
            body,
            epoch,
            origin: OnceLock::new(),
            encodings: Default::default(),
        }
    }

    /// The epoch of the log that has the message; `None` for a message that no log has.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The stored form.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The bytes of the stored form.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The fields that decide the receivers' conversations.
    pub fn origin(&self) -> &Origin {
        self.origin.get_or_init(|| Origin::of(&self.body))
    }

    /// The encoding that all sessions of a protocol share. `encode` makes it from the stored form, at most once for all of
    /// them.
    pub fn encoding(&self, protocol: &'static str, encode: impl Fn(&Bytes) -> Bytes) -> Bytes {
        for slot in &self.encodings {
            let (name, encoding) = slot.get_or_init(|| (protocol, encode(&self.body)));
            if *name == protocol {
                return encoding.clone();
            }
        }
        encode(&self.body)
    }
}

/// A message on its way to one session: it just became durable, or is online-only. It travels unchanged from the registry to
/// the codec.
#[derive(Debug, Clone)]
pub struct Live {
    /// The message's places in the user's inbox and conversation; 0 for an online-only message.
    pub numbers: Numbers,
    /// The message, which all its sessions share.
    pub message: Arc<Message>,
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::*;

    #[test]
    fn each_protocol_encodes_a_message_once_however_many_sessions_it_reaches() {
        const THREADS: usize = 4;
        let message = Message::new(Bytes::from_static(b"body"));
        let (made, begin) = (AtomicUsize::new(0), Barrier::new(THREADS));
        let encoding = |protocol: &'static str| {
            message.encoding(protocol, |body| {
                made.fetch_add(1, Relaxed);
                [protocol.as_bytes(), body].concat().into()
            })
        };
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    begin.wait();
                    for _ in 0..100 {
                        assert_eq!(encoding("one "), "one body");
                        assert_eq!(encoding("two "), "two body");
                    }
                });
            }
        });
        assert_eq!(made.load(Relaxed), 2);
    }

    #[test]
    fn a_protocol_too_many_is_served_all_the_same() {
        let message = Message::new(Bytes::from_static(b"body"));
        for protocol in ["one", "two", "three", "four", "five", "six", "five"] {
            let encoding = message.encoding(protocol, |_| Bytes::from_static(protocol.as_bytes()));
            assert_eq!(encoding, protocol);
        }
    }
}
