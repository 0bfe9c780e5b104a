//! Reads one conversation of a user, and the list of them.
//!
//! The entries of a conversation are a chain like an inbox: each holds the position of the conversation's entry before it. A read
//! begins at the newest entry, or at a waypoint, and goes back.

use super::{
    ConversationPage, ConversationRead, Patience, ReadError, ReadLimit, core::Core,
    message_facts::conversation_key, state::ConversationRow,
};
use crate::{
    ids::{ConversationSeq, Seq, UserId},
    message::Entry,
};

impl Core {
    /// See [`super::Log::conversations`].
    pub(super) fn conversations(
        &self,
        user: &UserId,
        before: Seq,
        limit: usize,
    ) -> Result<ConversationPage, ReadError> {
        let mut conversations = self.state.conversations.of(user, self.base)?;
        // An erased conversation has no newest message.
        conversations.retain(|one| (Seq(1)..before).contains(&one.last_seq));
        conversations.sort_unstable_by_key(|conversation| std::cmp::Reverse(conversation.last_seq));
        let is_end = conversations.len() <= limit;
        conversations.truncate(limit);
        Ok(ConversationPage {
            epoch: self.epoch,
            conversations,
            is_end,
        })
    }

    /// See [`super::Log::read_conversation`].
    pub(super) fn read_conversation(
        &self,
        user: &UserId,
        id: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
        patience: Patience,
    ) -> Result<ConversationRead, ReadError> {
        let key = conversation_key(user, id);
        let row = || self.state.conversations.get(&key);
        let Some(mut conversation) = row()? else {
            return Ok(ConversationRead {
                epoch: self.epoch,
                conversation: None,
                entries: Vec::new(),
            });
        };
        let mut entries = self.read_chain(user, &key, &conversation, range, limit, patience);
        if matches!(entries, Err(ReadError::Damaged(_)))
            && let Some(newer) = row()?
            // Retention may have removed a segment during the walk.
            && newer.first != conversation.first
        {
            conversation = newer;
            entries = self.read_chain(user, &key, &conversation, range, limit, patience);
        }
        Ok(ConversationRead {
            epoch: self.epoch,
            conversation: Some(conversation.conversation(id, self.base)),
            entries: entries.inspect_err(|error| self.report_damage(error))?,
        })
    }

    fn read_chain(
        &self,
        user: &UserId,
        key: &[u8],
        row: &ConversationRow,
        (from, to): (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
        patience: Patience,
    ) -> Result<Vec<Entry>, ReadError> {
        let (first, last) = (from.max(row.begin()), to.min(row.head));
        if first > last {
            return Ok(Vec::new());
        }
        let has_deleted = self.state.users.get(user)?.has_deleted;
        let (mut number, mut at) = self.state.conversations.landmark(key, row, last)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        loop {
            let link = self.link(user, at, patience)?;
            let (found, previous) = self.place(user, &link, || Ok(key.to_vec()))?;
            if found != number {
                return Err(self.misplaced(at));
            }
            if number <= last {
                let entry = self.resolve(user, has_deleted, &link, patience)?;
                bytes += entry.content.body().map_or(0, |body| body.len());
                if bytes > limit.bytes && !entries.is_empty() {
                    break;
                }
                entries.push(entry);
                if entries.len() >= limit.messages.max(1) {
                    break;
                }
            }
            if number == first {
                break;
            }
            (number, at) = (number.previous(), previous);
        }
        entries.reverse();
        Ok(entries)
    }
}
