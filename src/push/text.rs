//! The words of a push: from the request, else a title by the message's content type in the device's language. Pure.

use serde_json::Value;

use crate::{
    config::{self, OTHER_TITLE, Titles},
    message::StoredMessage,
};

/// The most characters of a message's text in a push: phones show fewer, and vendors refuse payloads above some 4 KB.
const PREVIEW_CHARS_MAX: usize = 200;

/// The language of a device that names none. Only vendors of Chinese phones have such devices.
const NO_LANGUAGE: &str = "zh";
/// The language of a device whose own has no titles.
const OTHER_LANGUAGE: &str = "en";

/// The settings of the words.
#[derive(Debug, Clone)]
pub(super) struct Wording {
    titles: Titles,
    preview: bool,
}

/// The words of one push.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PushWords {
    pub(super) title: String,
    pub(super) body: String,
    pub(super) ex: String,
    /// Empty: the device's own.
    pub(super) sound: String,
    /// The text of the message, where it may be shown.
    pub(super) text: Option<String>,
}

impl Wording {
    pub(super) fn new(config: &config::Push) -> Self {
        Self {
            titles: config.titles.clone(),
            preview: config.preview,
        }
    }

    /// The words for a device with this language, e.g. `zh-CN`; empty: it names none.
    pub(super) fn words(&self, message: &StoredMessage, language: &str) -> PushWords {
        let request = message.offline_push.clone().unwrap_or_default();
        let title = Some(request.title).filter(|title| !title.is_empty());
        PushWords {
            title: title.unwrap_or_else(|| self.title(message.content_type, language).into()),
            body: request.desc,
            ex: request.ex,
            sound: request.ios_push_sound,
            text: self.preview.then(|| preview(message)).flatten(),
        }
    }

    fn title(&self, content_type: i32, language: &str) -> &str {
        let language = language.split(['-', '_']).next().unwrap_or_default();
        let language = if language.is_empty() {
            NO_LANGUAGE
        } else {
            language
        };
        let number = content_type.to_string();
        [language, OTHER_LANGUAGE]
            .into_iter()
            .filter_map(|language| self.titles.get(&language.to_ascii_lowercase()))
            .find_map(|titles| titles.get(&number).or_else(|| titles.get(OTHER_TITLE)))
            .map_or("", String::as_str)
    }
}

/// The text of a message that has one: of texts, texts that mention somebody, and notices.
fn preview(message: &StoredMessage) -> Option<String> {
    if ![101, 106, 1400].contains(&message.content_type) {
        return None;
    }
    let content: Value = serde_json::from_slice(&message.content).ok()?;
    let text = content.get("text")?.as_str()?;
    let text: String = text.chars().take(PREVIEW_CHARS_MAX).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::OfflinePush;

    fn message(content_type: i32, content: &'static str) -> StoredMessage {
        StoredMessage {
            content_type,
            content: content.into(),
            ..StoredMessage::default()
        }
    }

    fn wording(preview: bool) -> Wording {
        Wording::new(&config::Push {
            preview,
            ..config::Push::default()
        })
    }

    #[test]
    fn the_request_gives_the_words_and_else_its_type_in_the_devices_language() {
        let mut message = message(101, r#"{"text":"secret"}"#);
        let title = |message: &_, language| wording(false).words(message, language).title;
        assert_eq!(title(&message, "zh-Hans-CN"), "[文本]");
        assert_eq!(title(&message, ""), "[文本]");
        assert_eq!(title(&message, "EN_us"), "[Text]");
        assert_eq!(title(&message, "fr"), "[Text]");
        message.content_type = 110;
        assert_eq!(title(&message, "en"), "You have a new message");
        message.offline_push = Some(OfflinePush {
            title: "New task".into(),
            desc: "Due today".into(),
            ex: "{}".into(),
            ios_push_sound: "bell".into(),
            ios_badge_count: true,
        });
        let words = PushWords {
            title: "New task".into(),
            body: "Due today".into(),
            ex: "{}".into(),
            sound: "bell".into(),
            text: None,
        };
        assert_eq!(wording(false).words(&message, "zh"), words);
    }

    #[test]
    fn the_text_of_a_message_is_told_only_where_it_is_configured() {
        let text = message(101, r#"{"text":"secret"}"#);
        assert_eq!(wording(false).words(&text, "").text, None);
        assert_eq!(wording(true).words(&text, "").text.unwrap(), "secret");
        let picture = message(102, r#"{"text":"x"}"#);
        assert_eq!(wording(true).words(&picture, "").text, None);
        let long = format!(r#"{{"text":"{}"}}"#, "字".repeat(300));
        let long = StoredMessage {
            content: long.into(),
            ..text
        };
        let words = wording(true).words(&long, "");
        assert_eq!(words.text.unwrap().chars().count(), PREVIEW_CHARS_MAX);
    }
}
