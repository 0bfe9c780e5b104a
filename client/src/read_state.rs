//! A store with its conversations, for the client's loop and its application together.
//!
//! The application reads unread counts and marks messages as read at any time, also while the gateway is away. A call waits
//! for at most one transaction of the store.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    conversation::KnownConversation,
    conversations::{ConversationOutcome, KnownConversations},
    landing::{Batch, StorePosition},
    proto::{ConversationList, Gap, Message, client_frame},
    store::{Store, StoreError},
};

/// The user's conversations with unread counts and read marks. Cheap to clone; clones are the same.
pub struct ReadState<S> {
    shared: Arc<SharedStore<S>>,
}

struct SharedStore<S> {
    open: Mutex<OpenStore<S>>,
    /// Wakes the client's loop: a mark is to be sent.
    marked: Notify,
}

struct OpenStore<S> {
    store: S,
    /// `None` until they are read from the store.
    conversations: Option<KnownConversations>,
}

impl<S> Clone for ReadState<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S> fmt::Debug for ReadState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadState").finish_non_exhaustive()
    }
}

impl<S: Store> OpenStore<S> {
    fn parts(&mut self) -> Result<(&mut S, &mut KnownConversations), StoreError> {
        let conversations = match self.conversations.take() {
            Some(conversations) => conversations,
            None => {
                let (knowledge, rows) = self.store.conversations()?;
                KnownConversations::new(knowledge, rows)
            }
        };
        Ok((&mut self.store, self.conversations.insert(conversations)))
    }
}

impl<S: Store> ReadState<S> {
    pub(crate) fn new(store: S) -> Self {
        let open = OpenStore {
            store,
            conversations: None,
        };
        Self {
            shared: Arc::new(SharedStore {
                open: Mutex::new(open),
                marked: Notify::new(),
            }),
        }
    }

    /// The conversations, those with the newest messages first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn conversations(&self) -> Result<Vec<KnownConversation>, StoreError> {
        let mut open = self.lock();
        let mut list: Vec<_> = open.parts()?.1.rows().cloned().collect();
        list.sort_by_key(|row| std::cmp::Reverse(row.last_seq));
        Ok(list)
    }

    /// Unread messages, over all conversations.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn unread(&self) -> Result<u64, StoreError> {
        let mut open = self.lock();
        Ok(open.parts()?.1.rows().map(|row| row.unread).sum())
    }

    /// The user has read a conversation up to this message. This holds here at once, and durably if the store is. The
    /// gateway gets the mark as soon as it is connected, and tells the user's other sessions. A mark moves forward only. One
    /// above the head counts as the head; one of an unknown conversation, or one that is not higher, is ignored.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn mark_read(
        &self,
        conversation_id: &str,
        conversation_seq: u64,
    ) -> Result<(), StoreError> {
        let mut open = self.lock();
        let (store, conversations) = open.parts()?;
        if let Some(outcome) = conversations.mark_read(conversation_id, conversation_seq) {
            store.record(&outcome.record)?;
            self.shared.marked.notify_one();
        }
        Ok(())
    }

    pub(crate) fn position(&self) -> Result<StorePosition, StoreError> {
        self.lock().store.position()
    }

    /// Begins a new connection. `beginning` is the position of a store that was empty.
    pub(crate) fn begin(
        &self,
        beginning: Option<StorePosition>,
        is_served: bool,
    ) -> Result<ConversationOutcome, StoreError> {
        let mut open = self.lock();
        let (store, conversations) = open.parts()?;
        let outcome = conversations.begin(is_served);
        match beginning {
            Some(beginning) => store.move_to(beginning, &outcome.record)?,
            None if outcome.gaps.is_empty() => {}
            None => store.record(&outcome.record)?,
        }
        Ok(outcome)
    }

    /// Commits a batch that ends at `position`. Returns the messages that were not there before.
    pub(crate) fn land(
        &self,
        position: StorePosition,
        batch: &mut Batch,
    ) -> Result<(Vec<Message>, ConversationOutcome), StoreError> {
        if batch.land.is_empty() && batch.marks.is_empty() {
            return Ok(<(Vec<Message>, ConversationOutcome)>::default());
        }
        let mut open = self.lock();
        let (store, conversations) = open.parts()?;
        let outcome = conversations.land(position.cursor, &batch.land, &batch.marks);
        let messages = std::mem::take(&mut batch.land);
        Ok((store.land(position, messages, &outcome.record)?, outcome))
    }

    /// Moves to `position`, over a gap.
    pub(crate) fn skip(
        &self,
        position: StorePosition,
        gap: &Gap,
    ) -> Result<ConversationOutcome, StoreError> {
        let mut open = self.lock();
        let (store, conversations) = open.parts()?;
        let outcome = conversations.skip(gap);
        store.move_to(position, &outcome.record)?;
        Ok(outcome)
    }

    /// Commits a page of the gateway's answer.
    pub(crate) fn answered(
        &self,
        list: &ConversationList,
        cursor: u64,
    ) -> Result<ConversationOutcome, StoreError> {
        let mut open = self.lock();
        let (store, conversations) = open.parts()?;
        let Some(outcome) = conversations.answered(list, cursor) else {
            return Ok(ConversationOutcome::default());
        };
        store.record(&outcome.record)?;
        Ok(outcome)
    }

    /// The next frame to send, if there is one.
    pub(crate) fn next_frame(&self) -> Option<client_frame::Body> {
        let mut open = self.lock();
        let conversations = open.conversations.as_mut()?;
        conversations.next_frame(Instant::now())
    }

    /// The time at which there may be another frame to send, if nothing else happens before.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.lock().conversations.as_ref()?.due_at()
    }

    /// Returns after a call of [`Self::mark_read`]. Cancel safe.
    pub(crate) async fn marked(&self) {
        self.shared.marked.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, OpenStore<S>> {
        let open = self.shared.open.lock();
        open.unwrap_or_else(PoisonError::into_inner)
    }
}
