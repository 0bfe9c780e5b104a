//! The messages that OpenIM's v3 clients have for certain: they pulled behind it, or marked it read. Bounded, in memory only.
//!
//! The receipt of such a session is a pong, which its socket gives also when the app dies before it stores the message. Vendor push
//! wants to know better. A proof that is forgotten, or lost with the process, costs a push too many.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    mem::take,
    sync::{Mutex, PoisonError},
};

use super::Delivery;
use crate::ids::{ConversationSeq, SessionKey};

/// The proofs of one generation, 2 MB; the one before is kept as well. One decision asks for them within `push.after`: 10 s of 6,500
/// pulls and marks a second.
const PROOFS_MAX: usize = 65_536;

/// Proofs by a digest of session and conversation.
#[derive(Default)]
pub(super) struct Proofs {
    hasher: RandomState,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    present: HashMap<u64, ConversationSeq>,
    before: HashMap<u64, ConversationSeq>,
}

impl Proofs {
    fn add(&self, session: &SessionKey, conversation: &str, seq: ConversationSeq) {
        let key = self.hasher.hash_one((session, conversation));
        let mut generations = self.lock();
        if generations.present.len() >= PROOFS_MAX {
            generations.before = take(&mut generations.present);
        }
        let proven = generations.present.entry(key).or_default();
        *proven = seq.max(*proven);
    }

    fn get(&self, session: &SessionKey, conversation: &str) -> ConversationSeq {
        let key = self.hasher.hash_one((session, conversation));
        let generations = self.lock();
        let proven = [&generations.present, &generations.before].map(|one| one.get(&key));
        proven
            .into_iter()
            .flatten()
            .copied()
            .max()
            .unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        // A panic of the lock's holder leaves the maps of plain values whole.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    /// Records that an OpenIM session has the messages of a conversation up to this one for certain.
    pub fn prove(&self, session: &SessionKey, conversation: &str, seq: ConversationSeq) {
        if let Some(proofs) = &self.proofs {
            proofs.add(session, conversation, seq);
        }
    }

    /// The message up to which an OpenIM session has a conversation for certain, as far as it is remembered.
    pub fn proven(&self, session: &SessionKey, conversation: &str) -> ConversationSeq {
        let proofs = self.proofs.as_ref();
        proofs.map_or(ConversationSeq::ZERO, |proofs| {
            proofs.get(session, conversation)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Platform, UserId};

    #[test]
    fn the_newest_proofs_are_remembered_and_none_goes_back() {
        let proofs = Proofs::default();
        let session = SessionKey {
            user: UserId::new("u").unwrap(),
            platform: Platform::Ios,
            device: "".into(),
        };
        let seq = ConversationSeq;
        proofs.add(&session, "a", seq(7));
        proofs.add(&session, "a", seq(5));
        assert_eq!(proofs.get(&session, "a"), seq(7));
        assert_eq!(proofs.get(&session, "b"), seq(0));
        for number in 0..PROOFS_MAX {
            proofs.add(&session, &number.to_string(), seq(1));
        }
        assert_eq!(proofs.get(&session, "a"), seq(7));
        for number in 0..2 * PROOFS_MAX {
            proofs.add(&session, &number.to_string(), seq(1));
        }
        assert_eq!(proofs.get(&session, "a"), seq(0));
        let generations = proofs.lock();
        assert!(generations.present.len() + generations.before.len() <= 2 * PROOFS_MAX);
    }
}
