//! The facts of the model that the other promises need.

use crate::model::Model;
use towncrier::config::DeviceClass;

impl Model {
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
}
