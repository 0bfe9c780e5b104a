//! A user's settings of a conversation, which all devices of the user share.

use crate::ids::ConversationSeq;

/// The user's wish for new messages of a conversation. The messages arrive in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReceiveOption {
    /// They are shown.
    #[default]
    Notify,
    /// The user wants none of them: do-not-disturb.
    Unwanted,
    /// They are kept and not shown: do-not-disturb.
    Silent,
}

impl ReceiveOption {
    /// OpenIM's number of the option.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The option with OpenIM's number; `None` for any other number.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Notify,
            1 => Self::Unwanted,
            2 => Self::Silent,
            _ => return None,
        })
    }
}

/// A user's settings of one conversation. The default stands for a conversation that was never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConversationSettings {
    /// True if the conversation stands above the others.
    pub is_pinned: bool,
    /// The user's wish for new messages.
    pub receive_option: ReceiveOption,
    /// The user has cleared everything up to this conversation seq. It never goes back.
    pub cleared: ConversationSeq,
}

/// A change of a user's settings of one conversation. `None` leaves a setting as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingsChange {
    /// The id of the conversation.
    pub conversation_id: String,
    /// See [`ConversationSettings::is_pinned`].
    pub is_pinned: Option<bool>,
    /// See [`ConversationSettings::receive_option`].
    pub receive_option: Option<ReceiveOption>,
    /// See [`ConversationSettings::cleared`]. Above the head counts as the head.
    pub cleared: Option<ConversationSeq>,
}

impl ConversationSettings {
    /// The settings after a change, in a conversation with this head.
    #[must_use]
    pub fn changed(self, change: &SettingsChange, head: ConversationSeq) -> Self {
        let cleared = change.cleared.unwrap_or_default().min(head);
        Self {
            is_pinned: change.is_pinned.unwrap_or(self.is_pinned),
            receive_option: change.receive_option.unwrap_or(self.receive_option),
            cleared: self.cleared.max(cleared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_one_number() {
        for number in 0..3 {
            let option = ReceiveOption::from_number(number).unwrap();
            assert_eq!(u64::from(option.number()), number);
        }
        assert_eq!(ReceiveOption::from_number(3), None);
    }
}
