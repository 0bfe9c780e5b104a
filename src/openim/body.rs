//! The body of a call as JSON: its fields by name, each with its type. And the numbers by which its caller counts.
//!
//! A field that is `null` counts as absent, because Go writes an empty list so. Names match as they are written: the SDKs make the
//! bodies, not people.

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use serde_json::{Map, Value};

use super::failure::CallFailure;
use crate::{
    ids::UserId,
    message::{CONVERSATION_ID_BYTES_MAX, Counting},
};

/// The fields that say whose call it is. None of them may name another user.
const OWNERS: [&str; 5] = [
    "userID",
    "ownerUserID",
    "fromUserID",
    "sendID",
    "sendUserID",
];

/// The fields of a body. Other fields than a call looks for are ignored.
pub(super) struct Body(Map<String, Value>);

impl Body {
    /// Parses the body of a call of `user`.
    ///
    /// # Errors
    /// The body is no JSON object, or names another user as its owner.
    pub(super) fn parse(bytes: &[u8], user: &UserId) -> Result<Self, CallFailure> {
        let fields = serde_json::from_slice(bytes).map_err(|_| CallFailure::NoObject)?;
        let body = Self(fields);
        for name in OWNERS {
            check_owner(name, body.text(name)?, user)?;
        }
        Ok(body)
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text; empty if it is absent.
    pub(super) fn text(&self, name: &'static str) -> Result<&str, CallFailure> {
        let Some(value) = self.field(name) else {
            return Ok("");
        };
        value.as_str().ok_or(CallFailure::Field(name, "a text"))
    }

    /// A list of texts; empty if it is absent.
    pub(super) fn texts(&self, name: &'static str) -> Result<Vec<&str>, CallFailure> {
        let list = self.list(name, "a list of texts")?.iter();
        let texts: Option<_> = list.map(Value::as_str).collect();
        texts.ok_or(CallFailure::Field(name, "a list of texts"))
    }

    /// A number that counts; 0 if it is absent.
    pub(super) fn number(&self, name: &'static str) -> Result<u64, CallFailure> {
        let Some(value) = self.field(name) else {
            return Ok(0);
        };
        value
            .as_u64()
            .ok_or(CallFailure::Field(name, "a whole number"))
    }

    /// A number that counts; `None` if it is absent.
    pub(super) fn optional_number(&self, name: &'static str) -> Result<Option<u64>, CallFailure> {
        match self.field(name) {
            None => Ok(None),
            Some(_) => self.number(name).map(Some),
        }
    }

    /// True or false; `None` if it is absent.
    pub(super) fn optional_flag(&self, name: &'static str) -> Result<Option<bool>, CallFailure> {
        let Some(value) = self.field(name) else {
            return Ok(None);
        };
        let flag = value.as_bool();
        flag.map(Some)
            .ok_or(CallFailure::Field(name, "true or false"))
    }

    /// The fields of an object; `None` if it is absent.
    pub(super) fn object(&self, name: &'static str) -> Result<Option<Self>, CallFailure> {
        let Some(value) = self.field(name) else {
            return Ok(None);
        };
        let fields = value.as_object().cloned();
        fields
            .map(|fields| Some(Self(fields)))
            .ok_or(CallFailure::Field(name, "an object"))
    }

    /// True if the field is absent, or has the value that stands for nothing.
    pub(super) fn is_default(&self, name: &str) -> bool {
        match self.field(name) {
            None => true,
            Some(Value::Bool(value)) => !value,
            Some(Value::Number(value)) => value.as_u64() == Some(0),
            Some(Value::String(value)) => value.is_empty(),
            Some(_) => false,
        }
    }

    /// A list of numbers that count; empty if it is absent.
    pub(super) fn numbers(&self, name: &'static str) -> Result<Vec<u64>, CallFailure> {
        let list = self.list(name, "a list of whole numbers")?.iter();
        let numbers: Option<_> = list.map(Value::as_u64).collect();
        numbers.ok_or(CallFailure::Field(name, "a list of whole numbers"))
    }

    fn list(&self, name: &'static str, kind: &'static str) -> Result<&[Value], CallFailure> {
        let Some(value) = self.field(name) else {
            return Ok(&[]);
        };
        let list = value.as_array().ok_or(CallFailure::Field(name, kind))?;
        Ok(list)
    }
}

/// Refuses a call that names another user as its owner. An empty name means the caller.
pub(super) fn check_owner(
    name: &'static str,
    owner: &str,
    user: &UserId,
) -> Result<(), CallFailure> {
    if owner.is_empty() || owner == user.as_str() {
        Ok(())
    } else {
        Err(CallFailure::OtherUser(name))
    }
}

/// Refuses a text that cannot be the id of a conversation.
pub(super) fn check_conversation(id: &str) -> Result<(), CallFailure> {
    const NAME: &str = "conversationID";
    if id.is_empty() {
        return Err(CallFailure::Required(NAME));
    }
    if id.len() > CONVERSATION_ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(CallFailure::Field(NAME, "the id of a conversation"));
    }
    Ok(())
}

/// The way in which the caller counts messages. The JavaScript SDK, which has no store, is the only one that names its functions, and
/// the only one that asks in protobuf.
pub(super) fn counting_of(headers: &HeaderMap) -> Counting {
    if headers.contains_key("reqFuncName") || is_protobuf(headers) {
        Counting::Dense
    } else {
        Counting::Kept
    }
}

/// True if the body is protobuf.
pub(super) fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("protobuf"))
}
