//! The calls that change a user's settings of conversations, clear conversations, and delete messages. All of it is durable before
//! the answer, and is the user's own: nothing changes for the other side.
//!
//! An SDK's other devices are not told. Each has it from its next login on.

use axum::response::Response;

use super::{
    answer::{NoData, success},
    body::{Body, check_conversation, check_owner},
    failure::CallFailure,
    routes::Calls,
};
use crate::{
    ids::{UserId, WireSeq},
    message::{Conversation, Counting, OVERVIEW_MAX, ReceiveOption, SettingsChange},
};

/// The messages that one call deletes. Each costs a look into the log, and an SDK's app deletes what a user has chosen by hand.
pub(super) const DELETED_MAX: usize = 500;
/// The settings of an SDK that are not kept. A call may only ask for their default.
const NOT_KEPT: [&str; 9] = [
    "attachedInfo",
    "burnDuration",
    "ex",
    "groupAtType",
    "isMsgDestruct",
    "isPrivateChat",
    "maxSeq",
    "minSeq",
    "msgDestructTime",
];

impl Calls {
    /// Pins a conversation or sets do-not-disturb, or takes either back. A setting that is absent stays as it is.
    pub(super) async fn set(&self, user: &UserId, body: &Body) -> Result<Response, CallFailure> {
        self.changes.charge(user)?;
        for owner in body.texts("userIDs")? {
            check_owner("userIDs", owner, user)?;
        }
        let asked = body.object("conversation")?;
        let asked = asked.ok_or(CallFailure::Required("conversation"))?;
        let id = asked.text("conversationID")?;
        check_conversation(id)?;
        let receive_option = asked.optional_number("recvMsgOpt")?;
        let receive_option = receive_option
            .map(|number| {
                let option = ReceiveOption::from_number(number);
                option.ok_or(CallFailure::Field("recvMsgOpt", "0, 1 or 2"))
            })
            .transpose()?;
        let change = SettingsChange {
            is_pinned: asked.optional_flag("isPinned")?,
            receive_option,
            ..change_of(id)
        };
        if NOT_KEPT.iter().any(|name| !asked.is_default(name)) {
            return Err(CallFailure::NotSupported);
        }
        if self.conversation(user, id).await?.is_none() {
            return Err(CallFailure::Field(
                "conversationID",
                "a conversation of the user",
            ));
        }
        self.delivery.change_settings(user, vec![change]).await?;
        Ok(success(NoData {}))
    }

    /// Clears the conversations that the body lists, up to their newest messages now. An unknown one has nothing to clear.
    pub(super) async fn clear(&self, user: &UserId, body: &Body) -> Result<Response, CallFailure> {
        self.changes.charge(user)?;
        check_sync(body)?;
        let ids = body.texts("conversationIDs")?;
        if ids.is_empty() {
            return Err(CallFailure::Required("conversationIDs"));
        }
        let found = self.of_ids(user, &ids, Counting::Kept).await?.into_iter();
        let changes = found.filter_map(|(known, _)| {
            let Conversation { id, head, .. } = known?;
            Some(SettingsChange {
                cleared: Some(head),
                ..change_of(&id)
            })
        });
        let changes = changes.collect();
        self.delivery.change_settings(user, changes).await?;
        Ok(success(NoData {}))
    }

    /// Clears all conversations of the user.
    pub(super) async fn clear_all(
        &self,
        user: &UserId,
        body: &Body,
    ) -> Result<Response, CallFailure> {
        self.changes.charge(user)?;
        check_sync(body)?;
        self.delivery.clear_all(user).await?;
        Ok(success(NoData {}))
    }

    /// Deletes messages of a conversation, by their wire seqs. Those that are not there are deleted already.
    pub(super) async fn delete(&self, user: &UserId, body: &Body) -> Result<Response, CallFailure> {
        self.changes.charge(user)?;
        check_sync(body)?;
        let id = body.text("conversationID")?;
        check_conversation(id)?;
        let wires = body.numbers("seqs")?;
        if wires.is_empty() {
            return Err(CallFailure::Required("seqs"));
        }
        if wires.len() > DELETED_MAX {
            return Err(CallFailure::TooMany("seqs", DELETED_MAX));
        }
        if let Some(conversation) = self.conversation(user, id).await? {
            // A client without a store counts densely. No number means one message for it and another for a client with a store.
            let countings = [conversation.bases.dense(), conversation.bases];
            let seqs = wires.into_iter().filter_map(|wire| {
                let wire = WireSeq(wire);
                let seqs = countings.iter().map(|bases| (bases, bases.seq_of(wire)));
                let mut exact = seqs.filter(|(bases, seq)| bases.wire_of(*seq) == wire);
                exact.next().map(|(_, seq)| seq)
            });
            let seqs: Vec<_> = seqs.collect();
            let seqs = self.delivery.seqs_of(user, id, &seqs).await?;
            self.delivery.delete(user.clone(), seqs).await?;
        }
        Ok(success(NoData {}))
    }

    /// The ids of the user's conversations whose settings are such, as many as one answer has.
    pub(super) async fn ids_with(
        &self,
        user: &UserId,
        is_such: impl Fn(&Conversation) -> bool,
    ) -> Result<Vec<String>, CallFailure> {
        let all = self.newest(user, OVERVIEW_MAX).await?.into_iter();
        let such = all.filter(|one| is_such(one));
        Ok(such.map(|one| one.id.into()).collect())
    }
}

/// True if the user has pinned the conversation.
pub(super) fn is_pinned(conversation: &Conversation) -> bool {
    conversation.settings.is_pinned
}

/// True if the conversation's messages are not counted among all unread ones, as the SDKs count.
pub(super) fn is_silent(conversation: &Conversation) -> bool {
    conversation.settings.receive_option == ReceiveOption::Silent
}

fn change_of(id: &str) -> SettingsChange {
    SettingsChange {
        conversation_id: id.to_owned(),
        ..SettingsChange::default()
    }
}

/// Refuses a call that asks to remove messages at the other side too.
fn check_sync(body: &Body) -> Result<(), CallFailure> {
    let options = body.object("deleteSyncOpt")?;
    let asked = options.map(|options| options.optional_flag("isSyncOther"));
    match asked.transpose()?.flatten() {
        Some(true) => Err(CallFailure::NotSupported),
        _ => Ok(()),
    }
}
