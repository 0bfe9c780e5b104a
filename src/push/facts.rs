//! The facts behind a decision: the receiver's sessions, who is absent, and the receiver's settings.

use std::sync::Arc;

use super::decide::{Classes, SessionFacts};
use crate::{
    config::DeviceClass,
    delivery::{Delivery, LogError, ReadLimit},
    ids::{ConversationSeq, UserId},
    log::Log,
    message::{ReceiveOption, TOGETHER_BYTES_MAX},
    registry::Registry,
};

/// The range with which a conversation is only described: it holds nothing.
const NOTHING: (ConversationSeq, ConversationSeq) = (ConversationSeq(1), ConversationSeq::ZERO);

/// The rooms that know the facts.
#[derive(Clone)]
pub(super) struct FactSource {
    pub(super) log: Arc<dyn Log>,
    pub(super) registry: Arc<Registry>,
    pub(super) delivery: Arc<Delivery>,
}

impl FactSource {
    /// The sessions of a user that were seen before, and the classes that are absent: of which no session is connected, and none was
    /// for `push.after`. Cancel safe: it only reads.
    pub(super) async fn sessions(
        &self,
        user: &UserId,
        conversation: &str,
        now_ms: u64,
    ) -> Result<(Vec<SessionFacts>, Classes), LogError> {
        // First who is there, then who left: one who leaves in between has left.
        let present = self.registry.presence(user.as_str());
        let is_absent = |class: &DeviceClass| {
            let mut platforms = present.iter().map(|one| one.platform);
            !platforms.any(|platform| DeviceClass::of(platform) == Some(*class))
                && !self.registry.has_left(user, *class, now_ms)
        };
        let absent = DeviceClass::ALL.into_iter().filter(is_absent).collect();
        let rows = self.log.sessions(user).wait().await?;
        let rows = rows.into_iter().map(|(key, row)| {
            let mut held = present.iter();
            let held = held.find(|one| one.platform == key.platform && one.device == key.device);
            let is_openim = key.is_openim();
            SessionFacts {
                platform: key.platform,
                is_openim,
                cursor: row.cursor,
                acked_at_ms: row.acked_at_ms,
                proven: if is_openim {
                    self.delivery.proven(&key, conversation)
                } else {
                    ConversationSeq::ZERO
                },
                is_connected: held.is_some(),
                is_background: held.is_some_and(|one| one.is_background),
                device: key.device,
            }
        });
        Ok((rows.collect(), absent))
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
