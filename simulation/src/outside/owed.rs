//! The end of a run: waits for all that the other systems are owed.

use std::time::Duration;

use tokio::time::Instant;

use super::watch::BEGINS_WITHIN;
use crate::{
    model::{SLACK_MS, at_once, user_id},
    trace::{note, violated},
    world::World,
};
use towncrier::{
    ids::MessageId,
    log::{Log as _, RowTable, SessionBegin, session_row_key},
};

/// The prefix of the rows that say how far the receiver was told of a session, in the form of a begin; see `src/webhooks/rows.rs`. A
/// session of which no event came may have begun there.
const TOLD_PREFIX: &[u8] = b"webhooks/told/";
/// The longest time until the other systems have what they are owed: the longest pauses of a vendor and of a receiver, some times over.
const OWED_WITHIN: Duration = Duration::from_secs(40 * 60);

impl World {
    /// The other systems are well again. Waits until they have all that they are owed.
    pub(in super::super) async fn expect_told(&self) {
        let outside = &self.outside;
        if outside.looks_at.get().is_none() {
            return;
        }
        outside.vendors.iter().for_each(|vendor| vendor.clear());
        outside.receiver.clear();
        let deadline = Instant::now() + OWED_WITHIN;
        loop {
            self.wait(Duration::from_secs(1)).await;
            let Some(owed) = self.owed() else { break };
            if Instant::now() > deadline {
                return violated("owed", format_args!("{owed}"));
            }
            if outside.events().has_dead() {
                self.send_letters_again();
            }
        }
        note(format_args!("pushes: {:?}", outside.pushes().counts()));
    }

    fn send_letters_again(&self) {
        let gateway = self.gateway.borrow();
        let Some(gateway) = &*gateway else { return };
        let Some(letters) = gateway.letters() else {
            return;
        };
        gateway.spawn(async move {
            // A failure is tried again a second later.
            let _ = letters.send_again(None).await;
        });
    }

    /// Anything that another system is owed.
    fn owed(&self) -> Option<String> {
        let outside = &self.outside;
        if outside
            .well_since
            .get()
            .is_none_or(|since| since.elapsed() < BEGINS_WITHIN)
        {
            return Some("the gateway is not well".into());
        }
        let model = self.model.borrow();
        let events = outside.has_webhooks.then(|| outside.events());
        if outside.has_push
            && let Some(owed) = outside.pushes().owed(&model, events.as_deref())
        {
            return Some(owed);
        }
        let events = events?;
        if events.dead() > 0 {
            return Some(format!("{} dead letters", events.dead()));
        }
        let excused_ms = outside.excused_ms.get();
        for user in 0..self.schedule.users {
            for (seq, id, at_ms) in model.messages_of(user) {
                let receiver = (user_id(user).to_string(), seq);
                let is_told = events
                    .accepted
                    .get(id)
                    .is_some_and(|told| told.contains(&receiver));
                let is_lost = events.lost.iter().any(|(kind, from_ms, to_ms)| {
                    kind == "message.accepted"
                        && (from_ms.saturating_sub(SLACK_MS)..=to_ms + SLACK_MS).contains(&at_ms)
                        && (model.may_be_gone(user, model.epoch, seq) || events.is_excused)
                });
                if !is_told && !is_lost && at_ms > excused_ms {
                    return Some(format!("no event tells {id} at {receiver:?}"));
                }
            }
        }
        if outside.has_push {
            let pushes = outside.pushes();
            let untold = pushes.words().find(|word| !events.pushes.contains(*word));
            if let Some(untold) = untold {
                return Some(format!("no event tells {untold}"));
            }
        }
        drop(events);
        self.untold_ack()
    }

    /// A session whose receiver was not told of its last ack.
    fn untold_ack(&self) -> Option<String> {
        let events = self.outside.events();
        if events.is_excused {
            return None;
        }
        let gateway = self.gateway.borrow();
        let gateway = gateway.as_ref()?;
        gateway.life.beside(|| {
            for user in 0..self.schedule.users {
                let id = user_id(user);
                for (key, row) in at_once(gateway.log.sessions(&id)).unwrap_or_default() {
                    let name = (
                        id.to_string(),
                        u64::from(key.platform.number()),
                        key.device.to_string(),
                    );
                    let told = events.acked.get(&name).map(|told| told.up_to);
                    // Rows of OpenIM's sessions end sooner.
                    if told.is_none() && key.is_openim() {
                        continue;
                    }
                    let begun = [SessionBegin::PREFIX, TOLD_PREFIX].map(|prefix| {
                        let begin_key = session_row_key(prefix, &key);
                        let rows = gateway.log.rows(RowTable::Consumers, &begin_key, b"", 1);
                        let rows = at_once(rows).unwrap_or_default().into_iter();
                        let mut rows = rows.filter(|(key, _)| key[..] == begin_key[..]);
                        let begun = rows.find_map(|(_, value)| SessionBegin::read(&value));
                        begun.map_or(0, |begun| begun.cursor.0)
                    });
                    let begun = begun[0].max(begun[1]);
                    let (told, cursor) = (told.unwrap_or(begun), row.cursor.0);
                    // An OpenIM client that comes back at once may be taken back to what it has for certain.
                    let is_back = key.is_openim() && told > cursor;
                    if told != cursor && !is_back {
                        return Some(format!("{name:?} is at {row:?}, told: {told:?}"));
                    }
                }
            }
            None
        })
    }

    /// No event told a message that was never accepted. Call it after a look at the whole log.
    pub(in super::super) fn expect_only_accepted(&self) {
        let model = self.model.borrow();
        let mut letters = model.letters.values();
        if letters.any(|letter| letter.unknown > 0 || letter.open > 0) {
            return;
        }
        for id in self.outside.events().accepted.keys() {
            let mut letters = model.letters.values();
            let is_known = letters.any(|letter| letter.messages.contains_key(id));
            if !is_known {
                violated("webhooks", format_args!("{id} was told and never accepted"));
            }
            if id.parse::<MessageId>().is_err() {
                violated("webhooks", format_args!("{id} is no id"));
            }
        }
    }
}
