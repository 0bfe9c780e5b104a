//! The facts behind a decision: the receiver's sessions, who is absent, and the receiver's settings.

use std::{collections::HashMap, sync::Arc};

use super::decide::{Classes, SessionFacts};
use crate::{
    config::DeviceClass,
    delivery::{Delivery, LogError, ReadLimit},
    ids::{ConversationSeq, Seq, SessionKey, UserId},
    log::{Log, RowTable, SessionBegin, SessionRow, read_session_row_key, session_rows_of},
    message::{ReceiveOption, TOGETHER_BYTES_MAX},
    registry::Registry,
};

/// The range with which a conversation is only described: it holds nothing.
const NOTHING: (ConversationSeq, ConversationSeq) = (ConversationSeq(1), ConversationSeq::ZERO);

/// The begins of a user's sessions that one page of rows has.
const BEGINS_TOGETHER: usize = 256;

/// The rooms that know the facts.
#[derive(Clone)]
pub(super) struct FactSource {
    pub(super) log: Arc<dyn Log>,
    pub(super) registry: Arc<Registry>,
    pub(super) delivery: Arc<Delivery>,
    /// True if sessions begin at other gateways, too.
    pub(super) is_shared: bool,
}

impl FactSource {
    /// The sessions of a user that are connected and whose newest acks are in memory. OpenIM's are left out, because their acks
    /// prove less. Nearly always these sessions tell that every class is served, and no disk has to be asked.
    pub(super) fn sessions_at_hand(&self, user: &UserId) -> Vec<SessionFacts> {
        let present = self.registry.presence(user.as_str()).into_iter();
        let at_hand = present.filter_map(|held| {
            let key = SessionKey {
                user: user.clone(),
                platform: held.platform,
                device: held.device,
            };
            if key.is_openim() {
                return None;
            }
            let row = self.log.session_now(&key)?;
            let held = Some(held.is_background);
            Some(self.facts(key, row, held, ConversationSeq::ZERO))
        });
        at_hand.collect()
    }

    /// The facts of a session. `held`: it is connected, and its app is in background or not.
    fn facts(
        &self,
        key: SessionKey,
        row: SessionRow,
        held: Option<bool>,
        proven: ConversationSeq,
    ) -> SessionFacts {
        SessionFacts {
            platform: key.platform,
            is_openim: key.is_openim(),
            cursor: row.cursor,
            begun: self.delivery.begun(&key),
            acked_at_ms: row.acked_at_ms,
            proven,
            is_connected: held.is_some(),
            is_background: held == Some(true),
            device: key.device,
        }
    }

    /// The sessions of a user that were seen before, and the classes that are absent: of which no session is connected, and none was
    /// for `push.after`. Sessions at all gateways count; those who left at another one count as absent at once. Cancel safe: it only reads.
    pub(super) async fn sessions(
        &self,
        user: &UserId,
        conversation: &str,
        now_ms: u64,
    ) -> Result<(Vec<SessionFacts>, Classes), LogError> {
        // First who is there, then who left: one who leaves in between has left.
        let present = self.delivery.presence(vec![user.clone()]).await?.pop();
        let present = present.unwrap_or_default().into_iter();
        let present: Vec<_> = present.map(|seen| seen.presence).collect();
        let is_absent = |class: &DeviceClass| {
            let mut platforms = present.iter().map(|one| one.platform);
            !platforms.any(|platform| DeviceClass::of(platform) == Some(*class))
                && !self.registry.has_left(user, *class, now_ms)
        };
        let absent = DeviceClass::ALL.into_iter().filter(is_absent).collect();
        let begins = match self.is_shared {
            true => self.begins(user).await?,
            false => HashMap::new(),
        };
        let rows = self.log.sessions(user).wait().await?;
        let rows = rows.into_iter().map(|(key, row)| {
            let mut held = present.iter();
            let held = held.find(|one| one.platform == key.platform && one.device == key.device);
            let held = held.map(|one| one.is_background);
            let proven = if key.is_openim() {
                self.delivery.proven(&key, conversation)
            } else {
                ConversationSeq::ZERO
            };
            let begun = begins.get(&key).copied().unwrap_or_default();
            let mut facts = self.facts(key, row, held, proven);
            facts.begun = facts.begun.max(begun);
            facts
        });
        Ok((rows.collect(), absent))
    }

    /// The begins of a user's sessions at all gateways, as their rows keep them.
    async fn begins(&self, user: &UserId) -> Result<HashMap<SessionKey, Seq>, LogError> {
        let prefix = session_rows_of(SessionBegin::PUSH_PREFIX, user);
        let (mut begins, mut after) = (HashMap::new(), Vec::new());
        loop {
            let page = self
                .log
                .rows(RowTable::Consumers, &prefix, &after, BEGINS_TOGETHER);
            let page = page.wait().await?;
            for (key, value) in &page {
                let session = read_session_row_key(SessionBegin::PUSH_PREFIX, key);
                if let Some((session, begun)) = session.zip(SessionBegin::read(value)) {
                    begins.insert(session, begun.cursor);
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == BEGINS_TOGETHER => after = last.to_vec(),
                _ => return Ok(begins),
            }
        }
    }

    /// True if the user wants to hear nothing of this conversation. Cancel safe: it only reads.
    pub(super) async fn is_silent(
        &self,
        user: &UserId,
        conversation: &str,
    ) -> Result<bool, LogError> {
        let limit = ReadLimit {
            messages: 1,
            bytes: TOGETHER_BYTES_MAX,
        };
        let read = self
            .log
            .read_conversation(user, conversation, NOTHING, limit);
        let found = read.wait().await?.conversation;
        Ok(found.is_some_and(|found| found.settings.receive_option != ReceiveOption::Notify))
    }
}
