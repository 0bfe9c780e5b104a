//! Why a connection closes: the payload of a close frame, and the violations of RFC 6455 with the code for each.

use crate::frame::CONTROL_BYTES_MAX;

/// The most bytes of a close frame's text: a control frame less the code.
pub const CLOSE_TEXT_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The content of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// A code that may be sent.
    pub code: u16,
    /// The reason, for a human.
    pub text: String,
}

/// The other side broke RFC 6455 or the [`Rules`](crate::Rules). Close with [`Violation::code`]: nothing more can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// 1002: a rule of the framing; the text says which.
    #[error("{0}")]
    Framing(&'static str),
    /// 1003: a text message although the rules allow none.
    #[error("a text message where none is taken")]
    Text,
    /// 1007: a text message or the text of a close that is not UTF-8.
    #[error("a text that is not UTF-8")]
    NotUtf8,
    /// 1009: a message above the bound.
    #[error("a message above the bound")]
    TooLarge,
}

impl Violation {
    /// The close code, by section 7.4.1.
    pub fn code(self) -> u16 {
        match self {
            Self::Framing(_) => 1002,
            Self::Text => 1003,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// Sections 5.5.1 and 7.4: a code that may be sent, and a text in UTF-8; or no payload.
pub(crate) fn read(payload: &[u8]) -> Result<Option<Close>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((code, text)) = payload.split_first_chunk() else {
        return Err(Violation::Framing("a close frame of one byte"));
    };
    let code = u16::from_be_bytes(*code);
    // Besides the RFC's own codes, 1012 to 1014 are registered. 1004 to 1006 and 1015 never stand in a frame.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Framing("a close code that may not be sent"));
    }
    let text = str::from_utf8(text).map_err(|_| Violation::NotUtf8)?;
    Ok(Some(Close {
        code,
        text: text.to_owned(),
    }))
}
