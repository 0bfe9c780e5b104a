//! The facts of the model that the other promises need.

use crate::model::Model;
use towncrier::config::DeviceClass;

/// The place of a message.
pub(super) struct MessagePlace {
    pub(super) letter: u64,
    pub(super) conversation: String,
    /// Its number in the conversation.
    pub(super) number: u64,
}

impl Model {
    /// The place of a user's message in the present log, if it is known.
    pub(super) fn place_of(&self, user: usize, seq: u64) -> Option<MessagePlace> {
        let reader = (self.epoch, user);
        let (letter, _) = self.inboxes.get(&reader)?.letters.get(&seq)?;
        let conversation = self.letters.get(letter)?.talk.conversation_id(user);
        let number = self.conversations.number_of(reader, &conversation, seq)?;
        Some(MessagePlace {
            letter: *letter,
            conversation,
            number,
        })
    }

    /// The known messages of a user in the present log: seq, id, and the time of their accept, Unix ms.
    pub(in super::super) fn messages_of(
        &self,
        user: usize,
    ) -> impl Iterator<Item = (u64, &str, u64)> {
        let inbox = self.inboxes.get(&(self.epoch, user)).into_iter();
        let letters = inbox.flat_map(|inbox| &inbox.letters);
        letters.map(|(seq, (number, id))| {
            let known = self.letters[number].messages[id];
            (*seq, &**id, known.at_ms)
        })
    }

    /// True if a device of this class has landed a message.
    pub(in super::super) fn has_landed_on(
        &self,
        user: usize,
        class: DeviceClass,
        seq: u64,
    ) -> bool {
        self.landed.iter().any(|((epoch, session), landed)| {
            let is_here = *epoch == self.epoch && session.0 == user;
            is_here && DeviceClass::of(session.1) == Some(class) && *landed >= seq
        })
    }

    /// True if a phone of this user has stored a message.
    pub(in super::super) fn is_on_phone(
        &self,
        user: usize,
        (conversation, number): &(String, u64),
    ) -> bool {
        let of_conversation = ((self.epoch, user), conversation.clone());
        let told = self.told.get(&of_conversation);
        told.is_some_and(|told| told.contains_key(number))
    }
}
