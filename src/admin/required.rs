//! The checks of a request's strings: a string may have to be present, or to be an id. A failed check is a refusal that
//! names the field.

use super::{error::Refusal, text::Text};
use crate::{
    ids::{self, UserId},
    message::CONVERSATION_ID_BYTES_MAX,
};

impl Text<'_> {
    /// An id that must be present and in bounds.
    pub(super) fn required_id(&self, name: &'static str) -> Result<&str, Refusal> {
        ids::check_id(self.required(name)?).map_err(|error| Refusal::Id(name, error))?;
        Ok(self)
    }

    /// An id that may be empty.
    pub(super) fn optional_id(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        if self.is_empty() {
            return Ok(None);
        }
        self.required_id(name).map(Some)
    }

    /// A user id that must be present.
    pub(super) fn required_user(&self, name: &'static str) -> Result<UserId, Refusal> {
        UserId::new(self.required(name)?).map_err(|error| Refusal::Id(name, error))
    }

    /// A conversation's id that must be present. It may be unknown.
    pub(super) fn required_conversation(&self, name: &'static str) -> Result<&str, Refusal> {
        let id = self.required(name)?;
        if id.len() > CONVERSATION_ID_BYTES_MAX {
            return Err(Refusal::Rule("conversationID may have at most 132 bytes"));
        }
        Ok(id)
    }

    /// A text that must not be empty.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        if self.is_empty() {
            return Err(Refusal::Required(name));
        }
        Ok(self)
    }
}
