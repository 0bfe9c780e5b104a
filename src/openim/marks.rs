//! The calls that move a user's mark in a conversation: everything up to a wire seq was read.

use axum::response::Response;

use super::{
    answer::{NoData, success},
    body::{Body, check_conversation},
    failure::CallFailure,
    routes::Calls,
};
use crate::{
    ids::{SessionKey, UserId, WireSeq},
    message::ReadMark,
};

impl Calls {
    /// Moves the mark forward, durably. It reaches the user's sessions. A mark below the present one is done already, and so is
    /// one in a conversation that the log does not know, because nothing is unread there.
    pub(super) async fn mark(
        &self,
        (user, session): (&UserId, &SessionKey),
        body: &Body,
    ) -> Result<Response, CallFailure> {
        self.changes.charge(user)?;
        let id = body.text("conversationID")?;
        check_conversation(id)?;
        // The JavaScript SDK lists the seqs as well; the older of two calls lists them only.
        let listed = body.numbers("seqs")?.into_iter().max();
        let wire = body.number("hasReadSeq")?.max(listed.unwrap_or(0));
        if wire == 0 {
            return Err(CallFailure::Required("hasReadSeq"));
        }
        if let Some(conversation) = self.conversation(user, id).await? {
            let read = conversation.held_by(WireSeq(wire));
            self.delivery.prove(session, id, read);
            let mark = ReadMark {
                conversation_id: id.to_owned(),
                conversation_seq: read.0,
                ..ReadMark::default()
            };
            self.delivery.mark_read(user, None, vec![mark]).await?;
        }
        Ok(success(NoData {}))
    }
}
