//! Moves a user's read marks forward, and lists the user's conversations.
//!
//! A mark moves forward only. It is an entry of the inbox, so each of the user's devices gets it in order and once.

use std::sync::atomic::Ordering::Relaxed;

use tokio::task::yield_now;

use super::{Delivery, SendError, send::durable};
use crate::{
    ids::{ConversationSeq, Epoch, MessageId, Seq, UserId},
    log::{
        Append, AppendError, ConversationPage, ConversationRead, LogAnswer, LogError, ReadLimit,
    },
    message::{ReadMark, StoredMessage},
};

/// The conversations that are looked at before other connections of the thread have their turn.
pub(super) const LOOKS_IN_A_ROW: usize = 16;

/// A mark that moves forward.
struct MarkStep {
    mark: ReadMark,
    /// The newest message that is marked: its seq in the inbox, and its id.
    newest: (Seq, String),
}

impl Delivery {
    /// True if the log keeps conversations and read marks. If not, the calls of this file are refused or find nothing.
    pub fn has_conversations(&self) -> bool {
        self.log.has_conversations()
    }

    /// Up to `limit` of a user's conversations whose newest message has a seq below `before`, those with the newest messages
    /// first.
    pub fn conversations(
        &self,
        user: &UserId,
        before: Seq,
        limit: usize,
    ) -> LogAnswer<ConversationPage> {
        self.log.conversations(user, before, limit)
    }

    /// The newest entries of a conversation in a range of its seqs, as many as the limit allows, ascending.
    pub fn read_conversation(
        &self,
        user: &UserId,
        conversation: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
    ) -> LogAnswer<ConversationRead> {
        self.log.read_conversation(user, conversation, range, limit)
    }

    /// Moves a user's marks forward, each conversation at most once, durably. A mark above the head counts as the head. A mark that
    /// is not higher than the present one, or marks no message that is still there, is ignored. `epoch`: the marks mean nothing in
    /// a log of another epoch.
    ///
    /// Not cancel safe in one respect: if the future is dropped, the caller does not know if the marks have moved.
    pub async fn mark_read(
        &self,
        user: &UserId,
        epoch: Option<Epoch>,
        marks: Vec<ReadMark>,
    ) -> Result<(), SendError> {
        if self.is_draining.load(Relaxed) {
            return Err(SendError::Draining);
        }
        // A damaged log does not know every conversation. A mark in one that it does not know would be ignored.
        self.log.check_writable().map_err(AppendError::Refusing)?;
        let mut steps = Vec::new();
        for (looked, mark) in (1..).zip(marks) {
            steps.extend(self.step(user, epoch, mark).await?);
            if looked % LOOKS_IN_A_ROW == 0 {
                yield_now().await;
            }
        }
        let newest = steps.iter().map(|step| &step.newest).max();
        let Some((_, server_msg_id)) = newest.cloned() else {
            return Ok(());
        };
        let body = StoredMessage {
            server_msg_id,
            marks: steps.into_iter().map(|step| step.mark).collect(),
            ..StoredMessage::default()
        };
        let now_ms = self.clock.now_ms();
        let message_id = MessageId::new(now_ms);
        let append = Append {
            message_id,
            send_time_ms: now_ms,
            sender: "".into(),
            client_message_id: message_id.to_string().into(),
            is_keyed: false,
            fingerprint: [0; 16],
            body: body.to_bytes(),
            is_marks: true,
            receivers: vec![user.clone()],
        };
        durable(self.log.append(append)?).await?;
        Ok(())
    }

    /// Looks at the conversation of a mark. `None`: the mark is ignored.
    async fn step(
        &self,
        user: &UserId,
        epoch: Option<Epoch>,
        mut mark: ReadMark,
    ) -> Result<Option<MarkStep>, LogError> {
        let to = ConversationSeq(mark.conversation_seq);
        let id = mark.conversation_id.clone();
        let mut read = self.newest_message(user, &id, to, |_| true).await?;
        let is_of_epoch = epoch.is_none_or(|epoch| epoch == read.epoch);
        let Some(conversation) = read.conversation.as_ref().filter(|_| is_of_epoch) else {
            return Ok(None);
        };
        let reached = to.min(conversation.head);
        if reached <= conversation.mark {
            return Ok(None);
        }
        mark.conversation_seq = reached.0;
        mark.base = conversation.bases.of(reached);
        loop {
            if let Some((numbers, body)) = read.message {
                let id = StoredMessage::from_bytes(&body).server_msg_id;
                let newest = (numbers.seq, id);
                return Ok(Some(MarkStep { mark, newest }));
            }
            // All of these were deleted. An older one may be there.
            let Some(oldest) = read.oldest else {
                return Ok(None);
            };
            let older = self.newest_message(user, &id, oldest.previous(), |_| true);
            read = older.await?;
            yield_now().await;
        }
    }
}
