//! From the stored content of a message to the element that an SDK parses. Pure.
//!
//! A Go core never tells a message in whose element a known field has another type. The admin API takes types loosely, so they
//! are made right here. Unknown fields stay as they are.

use serde_json::{Map, Number, Value, json};

use self::ElementKind::{Boolean, Integer, Message, Messages, Object, Objects, Short, Text, Texts};

/// A text. The element has another name for it than the admin API of version 2.
const TEXT: i32 = 101;

/// The type of a field.
#[derive(Debug, Clone, Copy)]
enum ElementKind {
    Text,
    Texts,
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A whole number of 32 bits.
    Short,
    Number,
    Object(&'static [ElementField]),
    Objects(&'static [ElementField]),
    /// A whole message in the SDKs' own shape.
    Message,
    Messages,
}

/// Fields of one type.
type ElementField = (&'static [&'static str], ElementKind);

/// The known fields of the element of this type; `None` for a type without an element.
fn fields_of(content_type: i32) -> Option<&'static [ElementField]> {
    Some(match content_type {
        102 => PICTURE,
        103 => SOUND,
        104 => VIDEO,
        105 => FILE,
        106 => AT,
        107 => MERGER,
        108 => CARD,
        109 => LOCATION,
        110 => CUSTOM,
        113 => TYPING,
        114 => QUOTE,
        _ => return None,
    })
}

const PICTURE: &[ElementField] = &[
    (&["sourcePath"], Text),
    (
        &["sourcePicture", "bigPicture", "snapshotPicture"],
        Object(IMAGE),
    ),
];
const IMAGE: &[ElementField] = &[
    (&["uuid", "type", "url"], Text),
    (&["size"], Integer),
    (&["width", "height"], Short),
];
const SOUND: &[ElementField] = &[
    (&["uuid", "soundPath", "sourceUrl", "soundType"], Text),
    (&["dataSize", "duration"], Integer),
];
const VIDEO: &[ElementField] = &[
    (&["videoPath", "videoUUID", "videoUrl", "videoType"], Text),
    (
        &[
            "snapshotPath",
            "snapshotUUID",
            "snapshotUrl",
            "snapshotType",
        ],
        Text,
    ),
    (&["videoSize", "duration", "snapshotSize"], Integer),
    (&["snapshotWidth", "snapshotHeight"], Short),
];
const FILE: &[ElementField] = &[
    (
        &["filePath", "uuid", "sourceUrl", "fileName", "fileType"],
        Text,
    ),
    (&["fileSize"], Integer),
];
const AT: &[ElementField] = &[
    (&["text"], Text),
    (&["atUserList"], Texts),
    (
        &["atUsersInfo"],
        Objects(&[(&["atUserID", "groupNickname"], Text)]),
    ),
    (&["quoteMessage"], Message),
    (&["isAtSelf"], Boolean),
];
const MERGER: &[ElementField] = &[
    (&["title"], Text),
    (&["abstractList"], Texts),
    (&["multiMessage"], Messages),
];
const CARD: &[ElementField] = &[(&["userID", "nickname", "faceURL", "ex"], Text)];
const LOCATION: &[ElementField] = &[
    (&["description"], Text),
    (&["longitude", "latitude"], ElementKind::Number),
];
const CUSTOM: &[ElementField] = &[(&["data", "description", "extension"], Text)];
const TYPING: &[ElementField] = &[(&["msgTips"], Text)];
const QUOTE: &[ElementField] = &[(&["text"], Text), (&["quoteMessage"], Message)];

/// A message within a message: it has elements in turn.
const MESSAGE: &[ElementField] = &[
    (&["clientMsgID", "serverMsgID", "sendID", "recvID"], Text),
    (&["groupID", "senderNickname", "senderFaceUrl"], Text),
    (&["content", "attachedInfo", "ex", "localEx"], Text),
    (&["createTime", "sendTime", "seq"], Integer),
    (&["sessionType", "msgFrom", "contentType"], Short),
    (&["senderPlatformID", "status"], Short),
    (&["isRead"], Boolean),
    (&["textElem"], Object(&[(&["content"], Text)])),
    (&["pictureElem"], Object(PICTURE)),
    (&["soundElem"], Object(SOUND)),
    (&["videoElem"], Object(VIDEO)),
    (&["fileElem"], Object(FILE)),
    (&["atTextElem"], Object(AT)),
    (&["mergeElem"], Object(MERGER)),
    (&["cardElem"], Object(CARD)),
    (&["locationElem"], Object(LOCATION)),
    (&["customElem"], Object(CUSTOM)),
    (&["typingElem"], Object(TYPING)),
    (&["quoteElem"], Object(QUOTE)),
    (&["notificationElem"], Object(&[(&["detail"], Text)])),
];

/// The element's JSON text for a message of this type with this content.
pub(super) fn element(content_type: i32, content: &[u8]) -> Vec<u8> {
    let object = || serde_json::from_slice::<Map<String, Value>>(content).ok();
    let whole = || String::from_utf8_lossy(content);
    let element = if content_type == TEXT {
        let text = match object() {
            Some(mut fields) => fields.remove("text").and_then(text).unwrap_or_default(),
            None => whole().into(),
        };
        json!({ "content": text })
    } else {
        match fields_of(content_type).zip(object()) {
            Some((known, fields)) => Value::Object(typed(fields, known)),
            None => json!({ "detail": whole() }),
        }
    };
    element.to_string().into_bytes()
}

/// The same fields, the known ones with their type. A known field that cannot be made so is left out. A name in other letters, upper
/// or lower case, is a known one for the SDK's JSON: it is written as known, unless the field is there under that name as well.
fn typed(mut fields: Map<String, Value>, known: &[ElementField]) -> Map<String, Value> {
    let (mut same, mut others) = (Map::new(), Vec::new());
    for (name, value) in std::mem::take(&mut fields) {
        let is_it = |known: &&&str| known.eq_ignore_ascii_case(&name);
        let found = known
            .iter()
            .find_map(|(names, kind)| Some((*names.iter().find(is_it)?, *kind)));
        let Some((known_name, kind)) = found else {
            same.insert(name, value);
            continue;
        };
        let Some(value) = made(value, kind) else {
            continue;
        };
        if known_name == name {
            same.insert(name, value);
        } else {
            others.push((known_name, value));
        }
    }
    for (name, value) in others {
        same.entry(name).or_insert(value);
    }
    same
}

/// The value as one of this type, if it can be made so.
fn made(value: Value, kind: ElementKind) -> Option<Value> {
    let each = |kind| {
        move |value| match value {
            Value::Array(items) => {
                let items = items.into_iter().filter_map(|item| made(item, kind));
                Some(items.collect::<Value>())
            }
            _ => None,
        }
    };
    match kind {
        Text => text(value).map(Value::from),
        Texts => each(Text)(value),
        Boolean => boolean(&value).map(Value::from),
        Integer => integer(&value).map(Value::from),
        Short => {
            let (least, most) = (i32::MIN.into(), i32::MAX.into());
            integer(&value).map(|number| number.clamp(least, most).into())
        }
        ElementKind::Number => number(value),
        Object(known) => match value {
            Value::Object(fields) => Some(Value::Object(typed(fields, known))),
            _ => None,
        },
        Objects(known) => each(Object(known))(value),
        Message => made(value, Object(MESSAGE)),
        Messages => each(Message)(value),
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => {
            let number = text.trim().parse::<f64>().ok();
            let exact = text.trim().parse().ok();
            exact.or(number
                .filter(|number| number.is_finite())
                .map(|number| number as i64))
        }
        Value::Bool(is) => Some((*is).into()),
        _ => None,
    }
}

fn number(value: Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value),
        Value::String(text) => {
            let number = text.trim().parse().ok().and_then(Number::from_f64);
            number.map(Value::Number)
        }
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(is) => Some(*is),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        Value::String(text) => match &*text.trim().to_ascii_lowercase() {
            "true" | "1" => Some(true),
            "false" | "0" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// An object or a list becomes its JSON text, because callers put objects into the `data` of a custom message.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(content_type: i32, content: &Value) -> Value {
        serde_json::from_slice(&element(content_type, content.to_string().as_bytes())).unwrap()
    }

    #[test]
    fn a_text_gets_the_name_that_sdks_know() {
        assert_eq!(
            made(101, &json!({ "text": "hi" })),
            json!({ "content": "hi" })
        );
        assert_eq!(made(101, &json!({ "text": 7 })), json!({ "content": "7" }));
        assert_eq!(made(101, &json!({})), json!({ "content": "" }));
        let raw: Value = serde_json::from_slice(&element(101, b"just so")).unwrap();
        assert_eq!(raw, json!({ "content": "just so" }));
    }

    /// A Go core reads `Extension` as `extension`, and would tell no message with a value of another type there.
    #[test]
    fn a_name_in_other_letters_is_a_known_one() {
        let loose = json!({ "data": "x", "Extension": { "a": 1 }, "DESCRIPTION": 7 });
        let strict = json!({ "data": "x", "extension": "{\"a\":1}", "description": "7" });
        assert_eq!(made(110, &loose), strict);
        let both = json!({ "Data": "other", "data": "x" });
        assert_eq!(made(110, &both), json!({ "data": "x" }));
    }

    #[test]
    fn fields_get_the_types_that_go_cores_parse() {
        let loose = json!({
            "sourcePicture": { "size": "12", "width": 3.0, "url": 5, "height": "tall", "more": [1] },
            "bigPicture": "none",
            "snapshotPicture": { "size": 5e9, "width": 5e9, "type": null },
            "size": "unknown here",
        });
        let strict = json!({
            "sourcePicture": { "size": 12, "width": 3, "url": "5", "more": [1] },
            "snapshotPicture": { "size": 5_000_000_000_i64, "width": i32::MAX },
            "size": "unknown here",
        });
        assert_eq!(made(102, &loose), strict);
        let at = json!({ "atUserList": ["a", 1, null], "isAtSelf": "true", "text": "x" });
        assert_eq!(
            made(106, &at),
            json!({ "atUserList": ["a", "1"], "isAtSelf": true, "text": "x" })
        );
        assert_eq!(
            made(109, &json!({ "longitude": "1.5", "latitude": 2 })),
            json!({ "longitude": 1.5, "latitude": 2 })
        );
        assert_eq!(
            made(110, &json!({ "data": { "a": 1 }, "extension": ["x"] })),
            json!({ "data": "{\"a\":1}", "extension": "[\"x\"]" })
        );
        assert_eq!(
            made(103, &json!({ "duration": "3.7", "dataSize": true })),
            json!({ "duration": 3, "dataSize": 1 })
        );
    }

    #[test]
    fn messages_within_messages_get_their_types_too() {
        let loose = json!({
            "text": "re",
            "quoteMessage": {
                "sendTime": "5",
                "contentType": "102",
                "pictureElem": { "sourcePicture": { "size": "1" } },
                "quoteElem": { "quoteMessage": { "seq": "9" } },
            },
        });
        let strict = json!({
            "text": "re",
            "quoteMessage": {
                "sendTime": 5,
                "contentType": 102,
                "pictureElem": { "sourcePicture": { "size": 1 } },
                "quoteElem": { "quoteMessage": { "seq": 9 } },
            },
        });
        assert_eq!(made(114, &loose), strict);
        let merged =
            json!({ "title": 1, "abstractList": "a", "multiMessage": [{ "isRead": 1 }, 2] });
        assert_eq!(
            made(107, &merged),
            json!({ "title": "1", "multiMessage": [{ "isRead": true }] })
        );
    }

    #[test]
    fn a_type_without_an_element_is_wrapped_byte_for_byte() {
        let notice = "{ \"text\":\"t\", \"notificationName\" : \"n\\u00e9\" }";
        for content_type in [1400, 111, 112, 9999] {
            let wrapped = element(content_type, notice.as_bytes());
            let wrapped: Value = serde_json::from_slice(&wrapped).unwrap();
            assert_eq!(wrapped, json!({ "detail": notice }), "{content_type}");
        }
        let wrapped: Value = serde_json::from_slice(&element(102, b"no object")).unwrap();
        assert_eq!(wrapped, json!({ "detail": "no object" }));
    }
}
