//! Since when a class is served: by an ack, or by what an OpenIM client proved. All of one life of the process.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::look::LookAtGateway;
use crate::model::{at_once, user_id};
use towncrier::{
    config::DeviceClass,
    log::{Log as _, LogError},
};

/// A point that only rises, with the times of its moves: of this program, and of the gateway in Unix ms.
type Rise = VecDeque<(Instant, u64, u64)>;

/// The seq behind which a session began, and the seq up to which it has received since.
type Span = (u64, u64);

/// The user, the class, and the conversation; all conversations have their acks in common.
type Proven = (usize, DeviceClass, Option<String>);

/// All proofs, as far as the looks of this life know.
#[derive(Default)]
pub(super) struct ServedSince {
    rises: BTreeMap<Proven, Rise>,
    /// The spans of OpenIM clients that are connected and whose pong counts.
    awake: BTreeMap<(usize, DeviceClass), Vec<Span>>,
    /// The same at the look before, if nobody came or went since.
    still_awake: BTreeMap<(usize, DeviceClass), Vec<Span>>,
    changes: u64,
    looked_ms: u64,
}

impl ServedSince {
    /// Looks at all sessions. An error if the log does not say.
    pub(super) fn look(&mut self, look: &LookAtGateway<'_>) -> Result<(), LogError> {
        let LookAtGateway {
            model,
            gateway,
            now_ms,
            ..
        } = look;
        if *now_ms < self.looked_ms {
            // The clock went back: the times mean nothing.
            *self = Self::default();
        }
        self.looked_ms = *now_ms;
        let before = std::mem::take(&mut self.awake);
        let changes = gateway.registry.changes();
        let is_still = std::mem::replace(&mut self.changes, changes) == changes;
        let mut highest: BTreeMap<Proven, u64> = BTreeMap::new();
        for user in 0..look.users {
            let id = user_id(user);
            let present = gateway.registry.presence(id.as_str());
            for (key, row) in at_once(gateway.log.sessions(&id))? {
                let Some(class) = DeviceClass::of(key.platform) else {
                    continue;
                };
                if !key.is_openim() {
                    let highest = highest.entry((user, class, None)).or_default();
                    *highest = row.cursor.0.max(*highest);
                    continue;
                }
                for conversation in model.conversations.ids((model.epoch, user)) {
                    let proven = gateway.delivery.proven(&key, conversation).0;
                    let of = (user, class, Some(conversation.clone()));
                    let highest = highest.entry(of).or_default();
                    *highest = proven.max(*highest);
                }
                let mut held = present.iter();
                let is_connected =
                    held.any(|one| one.platform == key.platform && one.device == key.device);
                if is_connected && class != DeviceClass::Web {
                    let begun = gateway.delivery.begun(&key).0;
                    let awake = self.awake.entry((user, class)).or_default();
                    awake.push((begun, row.cursor.0));
                }
            }
        }
        self.still_awake = if is_still { before } else { BTreeMap::new() };
        let now = Instant::now();
        self.rises.retain(|of, _| highest.contains_key(of));
        for (of, highest) in highest {
            let rise = self.rises.entry(of).or_default();
            match rise.back() {
                Some((.., last)) if *last == highest => continue,
                // The log forgot a session.
                Some((.., last)) if *last > highest => rise.clear(),
                _ => {}
            }
            rise.push_back((now, *now_ms, highest));
        }
        Ok(())
    }

    /// The time since which a class has a message, Unix ms of the gateway.
    pub(super) fn since_ms(
        &self,
        user: usize,
        class: DeviceClass,
        seq: u64,
        place: Option<&(String, u64)>,
    ) -> Option<u64> {
        let since = |conversation: Option<String>, least: u64| {
            let rise = self.rises.get(&(user, class, conversation))?;
            let mut moves = rise.iter();
            moves
                .find(|(.., point)| *point >= least)
                .map(|(_, ms, _)| *ms)
        };
        let by_ack = since(None, seq);
        let proven =
            place.and_then(|(conversation, number)| since(Some(conversation.clone()), *number));
        by_ack.into_iter().chain(proven).min()
    }

    /// True if a pong may serve: an OpenIM client of the class is connected and received the message.
    pub(super) fn is_awake(&self, user: usize, class: DeviceClass, seq: u64) -> bool {
        has_received(self.awake.get(&(user, class)), seq)
    }

    /// True if one was at the look before, and nobody came or went since.
    pub(super) fn was_awake(&self, user: usize, class: DeviceClass, seq: u64) -> bool {
        has_received(self.still_awake.get(&(user, class)), seq)
    }
}

fn has_received(spans: Option<&Vec<Span>>, seq: u64) -> bool {
    let mut spans = spans.into_iter().flatten();
    spans.any(|(begun, upto)| (begun + 1..=*upto).contains(&seq))
}
