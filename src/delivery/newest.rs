//! The newest message of a conversation that is not deleted.

use bytes::Bytes;
use tokio::task::yield_now;

use super::Delivery;
use crate::{
    ids::{ConversationSeq, Epoch, UserId},
    log::{LogError, ReadLimit},
    message::{Conversation, Entry, Numbers, TOGETHER_BYTES_MAX},
};

/// The entries that are looked at if the newest one is not it: as many as the log walks over anyway.
pub(super) const PASSED_OVER: usize = 64;

/// A conversation, and the newest of its messages that was wanted.
pub struct NewestRead {
    /// The epoch of the log.
    pub epoch: Epoch,
    /// The conversation; `None` for an unknown one.
    pub conversation: Option<Conversation>,
    /// The message; `None`: it is not among the entries that were looked at.
    pub message: Option<(Numbers, Bytes)>,
    /// The oldest entry that was looked at; `None`: there is none.
    pub oldest: Option<ConversationSeq>,
}

impl Delivery {
    /// Looks for the newest message of a conversation up to `to` that is not deleted and wanted, among the newest `PASSED_OVER`
    /// entries there. Cancel safe: it only reads.
    pub async fn newest_message(
        &self,
        user: &UserId,
        conversation: &str,
        to: ConversationSeq,
        is_wanted: impl Fn(&Bytes) -> bool,
    ) -> Result<NewestRead, LogError> {
        let range = (ConversationSeq(1), to);
        // Nearly always the first entry is it.
        let mut messages = 1;
        loop {
            let limit = ReadLimit {
                messages,
                bytes: TOGETHER_BYTES_MAX,
            };
            let read = self.log.read_conversation(user, conversation, range, limit);
            let read = read.wait().await?;
            let seq = |entry: &Entry| entry.numbers.conversation_seq;
            let oldest = read.entries.first().map(seq);
            let mut newest_first = read.entries.into_iter().rev();
            let message = newest_first.find_map(|entry| {
                let body = entry.content.into_message()?;
                is_wanted(&body).then_some((entry.numbers, body))
            });
            if message.is_some() || oldest.is_none() || messages == PASSED_OVER {
                return Ok(NewestRead {
                    epoch: read.epoch,
                    conversation: read.conversation,
                    message,
                    oldest,
                });
            }
            messages = PASSED_OVER;
            yield_now().await;
        }
    }
}
