//! The fate of the latest pushes, for `/msg/trace`: for each receiver and class of devices. Bounded, in memory only; after a start
//! with what the rows still say.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::decide::Proof;
use crate::{
    config::DeviceClass,
    ids::{MessageId, Platform, UserId},
    message::Provider,
};

/// The receivers that are remembered: some 10 MB, and half a minute at 500 pushes a second. The oldest leave first.
const SEEN_MAX: usize = 16_384;
/// The facts of one receiver: each class, and more devices than a user may register.
const FACTS_MAX: usize = 32;
/// The most bytes of a reason or of a vendor's id.
const WORD_BYTES_MAX: usize = 200;

/// The facts of the latest pushes, shared by their room and the admin API.
#[derive(Default)]
pub struct Seen(Mutex<SeenMemory>);

#[derive(Default)]
struct SeenMemory {
    facts: HashMap<SeenKey, Vec<SeenFact>>,
    /// The keys, oldest first.
    order: VecDeque<SeenKey>,
}

type SeenKey = (MessageId, UserId);

/// The state of a message for one class of a receiver's devices, or for one device of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFact {
    /// The class.
    pub class: DeviceClass,
    /// The device, if the fact is of one.
    pub device: Option<SeenDevice>,
    /// The state.
    pub state: SeenState,
    /// The time since which it is so, Unix ms.
    pub time_ms: u64,
}

/// A device, as an operator may see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeenDevice {
    /// Its vendor.
    pub provider: Provider,
    /// The first characters of a digest of the vendor's token. The token itself is a secret.
    pub short: Box<str>,
}

/// A state of a message on its way to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenState {
    /// The user wants no push of this conversation.
    DoNotDisturb,
    /// This session has the message, so no push is needed.
    Served {
        /// The platform of the session.
        platform: Platform,
        /// Its device, if it has one.
        session: Arc<str>,
        /// `ack`, `pull or mark`, or `pong`.
        proof: &'static str,
    },
    /// The decision falls at this time, Unix ms.
    Waiting(u64),
    /// The push waits for its vendor.
    Queued,
    /// The vendor took it, under this id.
    Sent(Box<str>),
    /// The last try failed for this reason; the next one comes at this time, Unix ms.
    Retried(Box<str>, u64),
    /// The vendor took it never, for this reason.
    Refused(Box<str>),
    /// The device is no longer there: the vendor, the user or the message's deletion ended it.
    Gone(Box<str>),
    /// The push was too old, or too many waited.
    Expired,
}

impl SeenState {
    /// The state of a class that this session serves.
    pub(super) fn served(platform: Platform, session: &Arc<str>, proof: Proof) -> Self {
        Self::Served {
            platform,
            session: Arc::clone(session),
            proof: match proof {
                Proof::Ack => "ack",
                Proof::Later => "pull or mark",
                Proof::Pong => "pong",
            },
        }
    }

    /// Its name in the answer of `/msg/trace`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DoNotDisturb => "do-not-disturb",
            Self::Served { .. } => "served",
            Self::Waiting(_) => "waiting",
            Self::Queued => "queued",
            Self::Sent(_) => "sent",
            Self::Retried(..) => "retried",
            Self::Refused(_) => "refused",
            Self::Gone(_) => "gone",
            Self::Expired => "expired",
        }
    }
}

/// A text of a vendor, in a length that memory and logs take, without control characters.
pub(super) fn word(text: &str) -> Box<str> {
    let end = text.floor_char_boundary(WORD_BYTES_MAX.min(text.len()));
    text[..end].replace(char::is_control, " ").into()
}

/// A device as an operator may see it.
pub(super) fn device(provider: Provider, digest: &[u8; 16]) -> SeenDevice {
    let short: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    SeenDevice {
        provider,
        short: short.into(),
    }
}

impl Seen {
    /// Records a fact. It replaces the one before of the same class and device; a device's replaces its class's.
    pub(super) fn add(&self, message: MessageId, user: &UserId, fact: SeenFact) {
        let mut memory = self.lock();
        let key = (message, user.clone());
        if !memory.facts.contains_key(&key) {
            if memory.order.len() >= SEEN_MAX
                && let Some(oldest) = memory.order.pop_front()
            {
                memory.facts.remove(&oldest);
            }
            memory.order.push_back(key.clone());
        }
        let facts = memory.facts.entry(key).or_default();
        facts.retain(|older| {
            let is_same = older.device == fact.device || older.device.is_none();
            older.class != fact.class || !is_same
        });
        if facts.len() < FACTS_MAX {
            facts.push(fact);
        }
    }

    /// The facts of a message at a receiver, by class; none where nothing is remembered.
    pub fn facts(&self, message: MessageId, user: &UserId) -> Vec<SeenFact> {
        let memory = self.lock();
        let mut facts = memory
            .facts
            .get(&(message, user.clone()))
            .cloned()
            .unwrap_or_default();
        facts.sort_by_key(|fact| fact.class);
        facts
    }

    fn lock(&self) -> MutexGuard<'_, SeenMemory> {
        // A panic of the lock's holder leaves the map of plain values whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(device: Option<u8>, state: SeenState) -> SeenFact {
        SeenFact {
            class: DeviceClass::Mobile,
            device: device.map(|byte| super::device(Provider::Http, &[byte; 16])),
            state,
            time_ms: 1,
        }
    }

    #[test]
    fn a_newer_fact_replaces_the_older_one_of_its_device_or_class() {
        let seen = Seen::default();
        let (message, user) = (MessageId([1; 16]), UserId::new("u").unwrap());
        seen.add(message, &user, fact(None, SeenState::Waiting(9)));
        let first = fact(Some(1), SeenState::Queued);
        let second = fact(Some(2), SeenState::Queued);
        seen.add(message, &user, first.clone());
        seen.add(message, &user, second);
        let sent = fact(Some(2), SeenState::Sent("id".into()));
        seen.add(message, &user, sent.clone());
        assert_eq!(seen.facts(message, &user), [first, sent]);
        assert_eq!(seen.facts(MessageId([2; 16]), &user), []);
    }

    #[test]
    fn the_oldest_receivers_are_forgotten() {
        let seen = Seen::default();
        let message = MessageId([1; 16]);
        let user = |number: usize| UserId::new(&format!("u{number}")).unwrap();
        for number in 0..=SEEN_MAX {
            seen.add(message, &user(number), fact(None, SeenState::Expired));
        }
        assert_eq!(seen.facts(message, &user(0)), []);
        assert_eq!(seen.facts(message, &user(1)).len(), 1);
        assert_eq!(seen.lock().facts.len(), SEEN_MAX);
        let last = user(SEEN_MAX);
        for number in 0..100 {
            seen.add(message, &last, fact(Some(number), SeenState::Queued));
        }
        assert_eq!(seen.facts(message, &last).len(), FACTS_MAX);
    }

    #[test]
    fn a_vendors_words_are_cut_and_show_no_control_character() {
        assert_eq!(&*word("a\nb"), "a b");
        assert_eq!(word(&"字".repeat(100)).len(), 198);
        assert_eq!(&*device(Provider::Http, &[0xab; 16]).short, "abababab");
    }
}
