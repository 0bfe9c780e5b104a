//! A session of a user: all it gets is entered in the ledger.

use std::{cell::Cell, rc::Rc};

use anyhow::Context;
use tokio::{sync::watch, time::timeout};
use towncrier_client::{
    Client, ClientEvent, ConversationRecord, Options, Status, Store, StoreError, StorePosition,
    proto::Message,
};

use super::{Books, Phase};

/// A session's store: the ledger, and its position.
#[derive(Clone)]
pub(super) struct LedgerStore {
    pub(super) books: Rc<Books>,
    pub(super) user: u32,
    pub(super) session: u32,
    pub(super) position: Rc<Cell<StorePosition>>,
    pub(super) token: String,
}

impl LedgerStore {
    fn client(&self) -> Client<Self> {
        let options = Options {
            url: self.books.ws.clone(),
            token: self.token.clone(),
            device_id: String::new(),
            name: "loadtest/1".into(),
        };
        Client::new(options, self.clone())
    }

    /// Stays connected. When the gateway is back, the client starts anew, because its next attempt may be half a minute
    /// away.
    pub(super) async fn listen(self) {
        loop {
            let mut phase = self.books.phase.subscribe();
            phase.mark_unchanged();
            let back =
                async { while phase.changed().await.is_ok() && *phase.borrow() != Phase::Back {} };
            let ended = self.client().run(|event| self.look_at(event), back).await;
            if !matches!(ended, towncrier_client::Ended::Stopped) {
                return self.books.incident(format!("a client ended: {ended}"));
            }
        }
    }

    /// Stays connected until it has everything in the inbox.
    pub(super) async fn read(self) -> anyhow::Result<()> {
        let done = watch::Sender::new(false);
        let mut is_done = done.subscribe();
        let mut client = self.client();
        let on_event = |event| {
            if let ClientEvent::Status(Status::CaughtUp { .. }) = event {
                done.send_replace(true);
            }
            self.look_at(event);
        };
        let stop = async {
            // The receiver holds the other end.
            let _ = is_done.wait_for(|is_done| *is_done).await;
        };
        let read = timeout(self.books.patience, client.run(on_event, stop)).await;
        read.context("an inbox cannot be read in time")?;
        Ok(())
    }

    fn look_at(&self, event: ClientEvent) {
        if let ClientEvent::Gap {
            from_seq,
            to_seq,
            reason,
        } = event
        {
            let (user, reason) = (self.user, reason.as_str_name());
            self.books.incident(format!(
                "user {user} was told of a gap from {from_seq} to {to_seq}: {reason}"
            ));
        }
    }
}

impl Store for LedgerStore {
    fn position(&self) -> Result<StorePosition, StoreError> {
        Ok(self.position.get())
    }

    fn land(
        &mut self,
        position: StorePosition,
        messages: Vec<Message>,
        _: &ConversationRecord,
    ) -> Result<Vec<Message>, StoreError> {
        for message in &messages {
            self.books.land(self.user, self.session, message);
        }
        self.position.set(position);
        Ok(messages)
    }

    fn move_to(
        &mut self,
        position: StorePosition,
        _: &ConversationRecord,
    ) -> Result<(), StoreError> {
        self.position.set(position);
        Ok(())
    }
}
