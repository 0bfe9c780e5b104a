//! What OpenIM's v3 clients ask about their conversations: how far a session has received each, what there is, and the messages of
//! some ranges.

use bytes::Bytes;
use tokio::task::yield_now;

use super::{Delivery, newest::PASSED_OVER, read_state::LOOKS_IN_A_ROW};
use crate::{
    ids::{ConversationSeq, Epoch, Seq, UserId, WireSeq},
    log::{ConversationRead, LogError, ReadLimit},
    message::{
        ADDRESS_BYTES_MAX, Content, Conversation, Counting, Entry, Numbers, OVERVIEW_MAX, ReadMark,
        StoredMessage, TOGETHER_BYTES_MAX,
    },
};

/// The most messages of one read of a conversation. After it other connections have their turn.
const READ_MESSAGES: usize = 128;

/// The most conversations whose newest messages are shown to a client that asked nothing. It missed at most what came between two
/// connections, in few conversations; an older one waits for the client's next question.
pub(super) const NEWEST_MAX: usize = 200;
/// The most bytes of these messages: of one answer.
pub(super) const NEWEST_BYTES_MAX: usize = 1 << 20;

/// The range with which a conversation is only described: it holds nothing.
const NOTHING: (ConversationSeq, ConversationSeq) = (ConversationSeq(1), ConversationSeq::ZERO);

/// A single entry.
const ONE: ReadLimit = ReadLimit {
    messages: 1,
    bytes: TOGETHER_BYTES_MAX,
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The log has begun another epoch.
    #[error("the log has begun another epoch")]
    EpochOver,
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] LogError),
}

/// A range of a conversation, both ends included.
#[derive(Debug, Clone, Copy)]
pub struct Passage<'a> {
    /// The id of the conversation.
    pub conversation_id: &'a str,
    /// The first message.
    pub from: WireSeq,
    /// The last message.
    pub to: WireSeq,
    /// True if the client catches up behind what it had: then `from` may be a number of an earlier epoch.
    pub is_pull: bool,
}

/// The messages of a passage that are still there, ascending, and its conversation; `None` for an unknown one.
pub type PassageRead = (Option<Conversation>, Vec<(Numbers, Bytes)>);

impl Delivery {
    /// The newest [`OVERVIEW_MAX`] conversations of a user in this epoch, each with its highest message among the inbox's
    /// entries up to `sent`. What retention removed counts as sent. Cancel safe: it only reads.
    pub async fn reached(
        &self,
        (user, epoch): (&UserId, Epoch),
        sent: Seq,
    ) -> Result<Vec<(Conversation, ConversationSeq)>, AskError> {
        let mut reader = AskReader::new(self, user, epoch);
        let mut conversations = reader.conversations().await?;
        while newest(&conversations) < sent && reader.is_message(sent).await? {
            // The message is in the inbox already, and its conversation does not show it yet.
            yield_now().await;
            conversations = reader.conversations().await?;
        }
        let mut reached = Vec::with_capacity(conversations.len());
        for conversation in conversations {
            let seq = reader.reached(&conversation, sent).await?;
            reached.push((conversation, seq));
        }
        Ok(reached)
    }

    /// The newest [`OVERVIEW_MAX`] conversations of a user in this epoch, those with the newest messages first, and the seq
    /// of the newest message that they show: they show everything up to it, and nothing above it. While messages come in
    /// between, it looks again; the caller bounds the time. Cancel safe: it only reads.
    pub async fn overview(
        &self,
        (user, epoch): (&UserId, Epoch),
    ) -> Result<(Vec<Conversation>, Seq), AskError> {
        let reader = AskReader::new(self, user, epoch);
        loop {
            let before = self.log.inbox(user).wait().await?;
            let conversations = reader.conversations().await?;
            let after = self.log.inbox(user).wait().await?;
            check_epoch(epoch, after.epoch)?;
            // With the same head before and after, the conversations show everything below it. The message at the head itself
            // may be in the inbox and not in its conversation yet.
            if before == after {
                let shown = newest(&conversations);
                return Ok((conversations, shown));
            }
            yield_now().await;
        }
    }

    /// Those of these conversations of a user in this epoch that are known, in their order. Cancel safe: it only reads.
    pub async fn describe(
        &self,
        (user, epoch): (&UserId, Epoch),
        ids: &[String],
    ) -> Result<Vec<Conversation>, AskError> {
        let mut reader = AskReader::new(self, user, epoch);
        let mut conversations = Vec::new();
        for id in ids {
            conversations.extend(reader.read(id, NOTHING, ONE).await?.conversation);
        }
        Ok(conversations)
    }

    /// The messages of passages of a user's conversations in this epoch. The newest ones of each are kept, so that all of them
    /// together have at most `bytes`, addresses included. Each passage has an equal share; what one does not need goes to the
    /// others. `counting`: of the client. Cancel safe: it only reads.
    pub async fn passages<'a>(
        &self,
        (user, epoch): (&UserId, Epoch),
        passages: impl Iterator<Item = Passage<'a>>,
        counting: Counting,
        bytes: usize,
    ) -> Result<Vec<PassageRead>, AskError> {
        let mut reader = AskReader::new(self, user, epoch);
        let mut fillings = Vec::new();
        for passage in passages {
            let read = reader.read(passage.conversation_id, NOTHING, ONE).await?;
            fillings.push(Filling::new(passage, read.conversation, counting));
        }
        let mut left = bytes;
        loop {
            let open = fillings.iter().filter(|filling| filling.is_open()).count();
            let Some(share) = left.checked_div(open).filter(|share| *share > 0) else {
                break;
            };
            let mut is_last = true;
            for filling in fillings.iter_mut().filter(|filling| filling.is_open()) {
                let taken = filling.fill(&mut reader, share.min(left)).await?;
                left -= taken;
                is_last &= taken == 0;
            }
            // No share has room for one more message. The first passages have what is left.
            if is_last {
                for filling in fillings.iter_mut().filter(|filling| filling.is_open()) {
                    left -= filling.fill(&mut reader, left).await?;
                }
                break;
            }
        }
        Ok(fillings
            .into_iter()
            .map(|one| one.into_read(counting))
            .collect())
    }
}

impl Delivery {
    /// The newest message of each of a user's conversations of which everything is among the inbox's entries up to `sent`, ascending:
    /// of at most `NEWEST_MAX` conversations, and at most `NEWEST_BYTES_MAX`. Cancel safe: it only reads.
    pub async fn newest_messages(
        &self,
        (user, epoch): (&UserId, Epoch),
        sent: Seq,
    ) -> Result<Vec<(Numbers, Bytes)>, AskError> {
        let mut reader = AskReader::new(self, user, epoch);
        let mut conversations = reader.conversations().await?;
        conversations.retain(|conversation| conversation.last_seq <= sent);
        conversations.truncate(NEWEST_MAX);
        let (mut newest, mut bytes) = (Vec::new(), 0);
        for conversation in conversations {
            let Some((numbers, body)) = reader.newest(&conversation).await? else {
                continue;
            };
            bytes += body.len() + ADDRESS_BYTES_MAX;
            if bytes > NEWEST_BYTES_MAX {
                break;
            }
            newest.push((numbers, body));
        }
        newest.sort_unstable_by_key(|(numbers, _)| numbers.seq);
        Ok(newest)
    }

    /// The entries without those marks that leave a message before them unread. An entry without any mark is removed. Cancel safe:
    /// it only reads.
    pub async fn whole_marks(
        &self,
        (user, epoch): (&UserId, Epoch),
        mut entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, AskError> {
        let mut reader = AskReader::new(self, user, epoch);
        for entry in &mut entries {
            let Content::Marks(body) = &entry.content else {
                continue;
            };
            let mut stored = StoredMessage::from_bytes(body);
            let mut whole = Vec::new();
            for mark in std::mem::take(&mut stored.marks) {
                if reader.is_whole(&mark, entry.numbers.seq).await? {
                    whole.push(mark);
                }
            }
            stored.marks = whole;
            entry.content = if stored.marks.is_empty() {
                Content::Removed
            } else {
                Content::Marks(stored.to_bytes())
            };
        }
        Ok(entries)
    }
}

fn check_epoch(expected: Epoch, found: Epoch) -> Result<(), AskError> {
    if found == expected {
        Ok(())
    } else {
        Err(AskError::EpochOver)
    }
}

/// The seq of the newest message of these conversations.
fn newest(conversations: &[Conversation]) -> Seq {
    let seqs = conversations
        .iter()
        .map(|conversation| conversation.last_seq);
    seqs.max().unwrap_or_default()
}

/// The reads behind one answer. After some of them other connections have their turn.
struct AskReader<'a> {
    delivery: &'a Delivery,
    user: &'a UserId,
    epoch: Epoch,
    made: usize,
}

impl<'a> AskReader<'a> {
    fn new(delivery: &'a Delivery, user: &'a UserId, epoch: Epoch) -> Self {
        Self {
            delivery,
            user,
            epoch,
            made: 0,
        }
    }

    /// The newest conversations.
    async fn conversations(&self) -> Result<Vec<Conversation>, AskError> {
        let log = &self.delivery.log;
        let page = log.conversations(self.user, Seq(u64::MAX), OVERVIEW_MAX);
        let page = page.wait().await?;
        check_epoch(self.epoch, page.epoch)?;
        Ok(page.conversations)
    }

    /// True if the entry is a message of a conversation that is still there.
    async fn is_message(&self, seq: Seq) -> Result<bool, AskError> {
        let read = self.delivery.log.read(self.user, seq.previous(), ONE);
        let read = read.wait().await?;
        check_epoch(self.epoch, read.inbox.epoch)?;
        Ok(read.entries.into_iter().any(|entry| {
            let Numbers {
                seq: found,
                conversation_seq,
                ..
            } = entry.numbers;
            let is_it = found == seq && conversation_seq != ConversationSeq::ZERO;
            is_it && entry.content.into_message().is_some()
        }))
    }

    /// Counts a read.
    async fn give_turns(&mut self) {
        self.made += 1;
        if self.made.is_multiple_of(LOOKS_IN_A_ROW) {
            yield_now().await;
        }
    }

    /// The newest entries of a range.
    async fn read(
        &mut self,
        id: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
    ) -> Result<ConversationRead, AskError> {
        self.give_turns().await;
        let log = &self.delivery.log;
        let read = log.read_conversation(self.user, id, range, limit);
        let read = read.wait().await?;
        check_epoch(self.epoch, read.epoch)?;
        Ok(read)
    }

    /// The newest message of a conversation, unless too many are deleted.
    async fn newest(
        &mut self,
        conversation: &Conversation,
    ) -> Result<Option<(Numbers, Bytes)>, AskError> {
        self.give_turns().await;
        let Conversation { id, head, .. } = conversation;
        let read = self.delivery.newest_message(self.user, id, *head, |_| true);
        let read = read.await?;
        check_epoch(self.epoch, read.epoch)?;
        Ok(read.message)
    }

    /// True if the mark, an entry at `seq`, left no message before it unread.
    async fn is_whole(&mut self, mark: &ReadMark, seq: Seq) -> Result<bool, AskError> {
        let id = &mark.conversation_id;
        let mut above = ConversationSeq(mark.conversation_seq).next();
        for _ in 0..PASSED_OVER {
            let read = self.read(id, (above, above), ONE).await?;
            let Some(entry) = read.entries.into_iter().next() else {
                let first = read.conversation.map(|conversation| conversation.first);
                let Some(first) = first.filter(|first| *first > above) else {
                    break;
                };
                // Retention removed everything before it.
                above = first;
                continue;
            };
            if entry.numbers.seq > seq {
                break;
            }
            if entry.content.into_message().is_some() {
                return Ok(false);
            }
            above = above.next();
        }
        Ok(true)
    }

    /// The highest message of a conversation whose seq in the inbox is at most `sent`. The search begins at the newest message,
    /// because a session is rarely far behind; its steps double, and then halve.
    async fn reached(
        &mut self,
        conversation: &Conversation,
        sent: Seq,
    ) -> Result<ConversationSeq, AskError> {
        if conversation.last_seq <= sent {
            return Ok(conversation.head);
        }
        // `low` was sent, or is gone. `high` was not.
        let (mut low, mut high) = (conversation.first.previous(), conversation.head);
        let mut step = Some(1);
        while high.0.saturating_sub(low.0) > 1 {
            let probe = match step {
                Some(step) => high.0.saturating_sub(step).max(low.0 + 1),
                None => low.0 + (high.0 - low.0) / 2,
            };
            let probe = ConversationSeq(probe);
            let read = self.read(&conversation.id, (probe, probe), ONE).await?;
            let seq = read.entries.first().map(|entry| entry.numbers.seq);
            if seq.is_some_and(|seq| seq > sent) {
                high = probe;
                step = step.map(|step: u64| step.saturating_mul(2));
            } else {
                low = probe;
                step = None;
            }
        }
        Ok(low)
    }
}

/// A passage with the messages that were found so far.
struct Filling<'a> {
    id: &'a str,
    conversation: Option<Conversation>,
    /// The part that is still to be read; empty if `from` is above `to`.
    from: ConversationSeq,
    to: ConversationSeq,
    /// The newest messages, descending.
    found: Vec<(Numbers, Bytes)>,
}

impl<'a> Filling<'a> {
    fn new(passage: Passage<'a>, conversation: Option<Conversation>, counting: Counting) -> Self {
        let (from, to) = match &conversation {
            None => NOTHING,
            Some(conversation) => {
                let had = passage.from.previous();
                let before = counting.seq_before(conversation, had, passage.is_pull);
                let to = counting.seq_of(conversation, passage.to);
                (
                    before.next().max(conversation.first),
                    to.min(conversation.head),
                )
            }
        };
        Self {
            id: passage.conversation_id,
            conversation,
            from,
            to,
            found: Vec::new(),
        }
    }

    /// True if there is more to read.
    fn is_open(&self) -> bool {
        self.from <= self.to
    }

    /// Adds older messages of at most `bytes`. Returns their bytes; 0, if the next one does not fit or none is left.
    async fn fill(&mut self, reader: &mut AskReader<'_>, bytes: usize) -> Result<usize, AskError> {
        let mut taken = 0;
        while self.is_open() {
            let limit = ReadLimit {
                messages: READ_MESSAGES,
                bytes: TOGETHER_BYTES_MAX.min(bytes - taken),
            };
            let read = reader.read(self.id, (self.from, self.to), limit);
            let entries = read.await?.entries;
            if entries.is_empty() {
                self.to = ConversationSeq::ZERO;
            }
            for entry in entries.into_iter().rev() {
                let numbers = entry.numbers;
                if let Some(body) = entry.content.into_message() {
                    let size = body.len() + ADDRESS_BYTES_MAX;
                    if taken + size > bytes {
                        return Ok(taken);
                    }
                    taken += size;
                    self.found.push((numbers, body));
                }
                self.to = numbers.conversation_seq.previous();
            }
        }
        Ok(taken)
    }

    fn into_read(mut self, counting: Counting) -> PassageRead {
        self.found.reverse();
        let conversation = self.conversation.map(|one| counting.tell(one));
        if let Some(conversation) = &conversation {
            for (numbers, _) in &mut self.found {
                numbers.base = conversation.bases.of(numbers.conversation_seq);
            }
        }
        (conversation, self.found)
    }
}
