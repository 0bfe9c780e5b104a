//! Changes a user's settings of conversations: pinned, do-not-disturb, cleared. The log keeps them with the conversations.

use std::sync::atomic::Ordering::Relaxed;

use tokio::task::yield_now;

use super::{Delivery, SendError, read_state::LOOKS_IN_A_ROW, send::durable};
use crate::{
    ids::{ConversationSeq, Seq, UserId},
    log::{AppendError, LogError, ReadLimit},
    message::{OVERVIEW_MAX, SettingsChange, TOGETHER_BYTES_MAX},
};

impl Delivery {
    /// Changes a user's settings, durably. A change in a conversation that the log does not know is ignored.
    ///
    /// Not cancel safe: after a drop the settings may have changed or not. A repeat does no harm.
    pub async fn change_settings(
        &self,
        user: &UserId,
        changes: Vec<SettingsChange>,
    ) -> Result<(), SendError> {
        if self.is_draining.load(Relaxed) {
            return Err(SendError::Draining);
        }
        // A damaged log does not know every conversation. A change in one that it does not know would be ignored.
        self.log.check_writable().map_err(AppendError::Refusing)?;
        Ok(durable(self.log.change_settings(user.clone(), changes)?).await?)
    }

    /// Clears all conversations of a user as they are now, durably. Messages that come meanwhile are not cleared.
    ///
    /// Not cancel safe: after a drop some conversations may be cleared. A repeat clears the rest.
    pub async fn clear_all(&self, user: &UserId) -> Result<(), SendError> {
        let mut before = Seq(u64::MAX);
        loop {
            let page = self.log.conversations(user, before, OVERVIEW_MAX);
            let page = page.wait().await?;
            let Some(last) = page.conversations.last() else {
                return Ok(());
            };
            before = last.last_seq;
            let uncleared = page.conversations.iter();
            let uncleared = uncleared.filter(|one| one.first <= one.head);
            let changes = uncleared.map(|one| SettingsChange {
                conversation_id: one.id.to_string(),
                cleared: Some(one.head),
                ..SettingsChange::default()
            });
            self.change_settings(user, changes.collect()).await?;
            if page.is_end {
                return Ok(());
            }
        }
    }

    /// The seqs in the inbox of messages of a conversation. Those that are not there are left out. Cancel safe: it only reads.
    pub async fn seqs_of(
        &self,
        user: &UserId,
        conversation: &str,
        messages: &[ConversationSeq],
    ) -> Result<Vec<Seq>, LogError> {
        let limit = ReadLimit {
            messages: 1,
            bytes: TOGETHER_BYTES_MAX,
        };
        let mut seqs = Vec::with_capacity(messages.len());
        for (looked, seq) in (1..).zip(messages) {
            let read = self
                .log
                .read_conversation(user, conversation, (*seq, *seq), limit);
            let entries = read.wait().await?.entries;
            seqs.extend(entries.iter().map(|entry| entry.numbers.seq));
            if looked % LOOKS_IN_A_ROW == 0 {
                yield_now().await;
            }
        }
        Ok(seqs)
    }
}
