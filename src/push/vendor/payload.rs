//! The parts that all payloads share, and their bounds.

use serde_json::{Map, Value, json};

use super::notice::Notice;

/// A larger `ex` is left out of a payload of 4 KB: it would leave too little for title and text.
const EX_BYTES_MAX: usize = 2048;
/// Stands behind a text that was cut.
const ELLIPSIS: &str = "…";

/// The facts that an app needs to open the message: its id, conversation and seq, and `ex` where there is one. `is_shared`: the payload
/// is for several users, whose conversations and seqs differ.
pub(super) fn data(notice: &Notice, is_shared: bool) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("server_msg_id".into(), json!(notice.id.to_string()));
    if !is_shared {
        data.insert("conversation_id".into(), json!(notice.conversation_id));
        data.insert("seq".into(), json!(notice.seq.0));
    }
    let is_small = json!(notice.ex).to_string().len() <= EX_BYTES_MAX;
    if !notice.ex.is_empty() && is_small {
        data.insert("ex".into(), json!(notice.ex));
    }
    data
}

/// The payload with title and text cut so far that it has at most `bytes_max` bytes. `encode` makes it of both, and may use each
/// of them more than once.
///
/// The text is cut first, then the title; both between characters, and no more than needed. `None` if the rest is too large by
/// itself.
pub(super) fn fit(
    notice: &Notice,
    bytes_max: usize,
    encode: impl Fn(&str, &str) -> Vec<u8>,
) -> Option<Vec<u8>> {
    let (title, text) = (&*notice.title, notice.shown());
    let fitting = |title: &str, text: &str| {
        let payload = encode(title, text);
        (payload.len() <= bytes_max).then_some(payload)
    };
    fitting(title, text)
        .or_else(|| longest(text, |text| fitting(title, text)))
        .or_else(|| fitting(title, ""))
        .or_else(|| longest(title, |title| fitting(title, "")))
        .or_else(|| fitting("", ""))
}

/// The payload with the longest beginning of a text, and a sign that it was cut, with which there is a payload.
fn longest(text: &str, payload: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let ends: Vec<_> = text.char_indices().map(|(end, _)| end).skip(1).collect();
    let cut = |end: usize| payload(&format!("{}{ELLIPSIS}", &text[..end]));
    let fits = ends.partition_point(|end| cut(*end).is_some());
    cut(*ends.get(fits.checked_sub(1)?)?)
}

/// The first `chars_max` characters of a text.
pub(super) fn first_chars(text: &str, chars_max: usize) -> &str {
    let end = text.char_indices().nth(chars_max);
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{MessageId, Seq, UserId};

    fn notice(title: &str, body: &str, ex: &str) -> Notice {
        Notice {
            id: MessageId([7; 16]),
            user: UserId::new("u").unwrap(),
            conversation_id: "sn_a_u".into(),
            seq: Seq(5),
            title: title.into(),
            body: body.into(),
            ex: ex.into(),
            sound: "".into(),
            badge: None,
            text: None,
            expires_in: Duration::from_secs(60),
        }
    }

    fn encode(title: &str, text: &str) -> Vec<u8> {
        json!({"title": title, "body": text})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn a_payload_that_fits_is_left_as_it_is() {
        let notice = notice("Office", "Come at nine", "");
        let payload = fit(&notice, 4096, encode).unwrap();
        assert_eq!(payload, encode("Office", "Come at nine"));
    }

    #[test]
    fn a_payload_too_large_loses_its_text_then_its_title_between_characters() {
        for text in ["é", "办", "\u{1f600}", "\"", "\n", "x"] {
            for length in [0, 1, 40, 3000] {
                for bytes_max in [40, 60, 100, 2000] {
                    let long = text.repeat(length);
                    let both = notice(&long, &long, "");
                    let payload = fit(&both, bytes_max, encode).unwrap();
                    assert!(payload.len() <= bytes_max);
                    let read: Value = serde_json::from_slice(&payload).unwrap();
                    let (title, body) = (read["title"].as_str(), read["body"].as_str());
                    let (title, body) = (title.unwrap(), body.unwrap());
                    assert!(long.starts_with(title.trim_end_matches(ELLIPSIS)));
                    assert!(long.starts_with(body.trim_end_matches(ELLIPSIS)));
                    assert!(title == long || body.is_empty(), "the text goes first");
                    let is_whole = title == long && body == long;
                    assert!(
                        is_whole || payload.len() + 16 > bytes_max,
                        "no more than needed"
                    );
                }
            }
        }
        assert_eq!(fit(&notice("a", "b", ""), 10, encode), None);
    }

    #[test]
    fn the_text_of_the_message_stands_where_the_request_has_none() {
        let mut notice = notice("t", "", "");
        assert_eq!(notice.shown(), "");
        notice.text = Some("of the message".into());
        assert_eq!(notice.shown(), "of the message");
        notice.body = "of the request".into();
        assert_eq!(notice.shown(), "of the request");
    }

    #[test]
    fn data_of_several_users_has_no_conversation_and_a_large_ex_is_left_out() {
        let small = notice("", "", "for the app");
        let expected = json!({
            "server_msg_id": "07070707070707070707070707070707",
            "conversation_id": "sn_a_u", "seq": 5, "ex": "for the app",
        });
        assert_eq!(Value::Object(data(&small, false)), expected);
        let shared = Value::Object(data(&small, true));
        let expected =
            json!({"server_msg_id": "07070707070707070707070707070707", "ex": "for the app"});
        assert_eq!(shared, expected);
        let large = data(&notice("", "", &"x".repeat(EX_BYTES_MAX)), false);
        assert!(!large.contains_key("ex"));
    }

    #[test]
    fn the_first_characters_are_counted_and_not_bytes() {
        assert_eq!(first_chars("办公室", 2), "办公");
        assert_eq!(first_chars("办", 2), "办");
    }
}
