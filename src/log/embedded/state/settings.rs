//! A user's settings of a conversation as bytes: in the segments, and in the conversation's row.

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{decode_varint, encode_varint},
};

use crate::{
    ids::ConversationSeq,
    message::{ConversationSettings, ReceiveOption},
};

/// The value of a row of [`TableId::Settings`](super::super::table_id::TableId::Settings) in the segments. There is no row where
/// all settings are the default ones.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SettingsFacts {
    #[prost(bool, tag = "1")]
    is_pinned: bool,
    #[prost(uint32, tag = "2")]
    receive_option: u32,
    #[prost(uint64, tag = "3")]
    cleared: u64,
}

/// The settings as the value of a row in the segments; `None` for the default ones.
pub(in crate::log::embedded) fn settings_value(settings: ConversationSettings) -> Option<Bytes> {
    let facts = SettingsFacts {
        is_pinned: settings.is_pinned,
        receive_option: settings.receive_option.number().into(),
        cleared: settings.cleared.0,
    };
    let is_default = settings == ConversationSettings::default();
    (!is_default).then(|| facts.encode_to_vec().into())
}

/// The settings that a row in the segments holds. An option of a later version counts as the default one, and so does a value that no
/// version writes: it must not keep a log from opening.
pub(in crate::log::embedded) fn settings_of(value: Option<&[u8]>) -> ConversationSettings {
    let facts = SettingsFacts::decode(value.unwrap_or_default()).unwrap_or_default();
    ConversationSettings {
        is_pinned: facts.is_pinned,
        receive_option: ReceiveOption::from_number(facts.receive_option.into()).unwrap_or_default(),
        cleared: ConversationSeq(facts.cleared),
    }
}

/// Appends the settings to the bytes of a conversation's row.
pub(super) fn put_settings(settings: ConversationSettings, bytes: &mut Vec<u8>) {
    encode_varint(u64::from(settings.is_pinned), bytes);
    encode_varint(settings.receive_option.number().into(), bytes);
    encode_varint(settings.cleared.0, bytes);
}

/// Takes the settings from the bytes of a conversation's row.
pub(super) fn take_settings(bytes: &mut &[u8]) -> Option<ConversationSettings> {
    Some(ConversationSettings {
        is_pinned: decode_varint(bytes).ok()? > 0,
        receive_option: ReceiveOption::from_number(decode_varint(bytes).ok()?).unwrap_or_default(),
        cleared: ConversationSeq(decode_varint(bytes).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_as_they_were_written() {
        for is_pinned in [false, true] {
            for option in 0..3 {
                for cleared in [0, 1, u64::MAX] {
                    let settings = ConversationSettings {
                        is_pinned,
                        receive_option: ReceiveOption::from_number(option).unwrap(),
                        cleared: ConversationSeq(cleared),
                    };
                    let value = settings_value(settings);
                    assert_eq!(settings_of(value.as_deref()), settings);
                    let mut bytes = Vec::new();
                    put_settings(settings, &mut bytes);
                    let mut rest = &bytes[..];
                    assert_eq!(take_settings(&mut rest), Some(settings));
                    assert!(rest.is_empty());
                }
            }
        }
        assert_eq!(settings_value(ConversationSettings::default()), None);
        let later = [0x10, 9, 0x78, 1];
        let default = ConversationSettings::default();
        assert_eq!(settings_of(Some(&later)), default);
        assert_eq!(settings_of(Some(&[0xff])), default);
    }
}
