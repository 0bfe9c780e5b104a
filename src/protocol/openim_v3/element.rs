//! From the stored content of a message to the element that an SDK parses. A Go core never tells a message whose element has a
//! known field of another type, so the types are made right here. Pure.

use serde_json::{Map, Number, Value, json};

/// The types whose element is the content itself.
const ELEMENTS: [i32; 11] = [102, 103, 104, 105, 106, 107, 108, 109, 110, 113, 114];
/// A text. The element names it otherwise than the admin API of version 2.
const TEXT: i32 = 101;

/// Fields of elements that are whole numbers.
const INTEGERS: [&str; 10] = [
    "size",
    "width",
    "height",
    "dataSize",
    "duration",
    "videoSize",
    "snapshotSize",
    "snapshotWidth",
    "snapshotHeight",
    "fileSize",
];
const NUMBERS: [&str; 2] = ["longitude", "latitude"];
const BOOLEANS: [&str; 1] = ["isAtSelf"];
const TEXT_LISTS: [&str; 2] = ["atUserList", "abstractList"];
/// Fields that hold a picture.
const PICTURES: [&str; 3] = ["sourcePicture", "bigPicture", "snapshotPicture"];
/// Fields that hold whole messages in the SDK's own shape.
const MESSAGES: [&str; 2] = ["multiMessage", "quoteMessage"];
/// All other fields that the elements know.
const TEXTS: [&str; 31] = [
    "sourcePath",
    "uuid",
    "type",
    "url",
    "soundPath",
    "sourceUrl",
    "soundType",
    "videoPath",
    "videoUUID",
    "videoUrl",
    "videoType",
    "snapshotPath",
    "snapshotUUID",
    "snapshotUrl",
    "snapshotType",
    "filePath",
    "fileName",
    "fileType",
    "text",
    "title",
    "userID",
    "nickname",
    "faceURL",
    "ex",
    "description",
    "data",
    "extension",
    "msgTips",
    "content",
    "groupID",
    "revokeMsgClientID",
];

/// The element's JSON text for a message of this type with this content.
pub(super) fn element(content_type: i32, content: &[u8]) -> Vec<u8> {
    let parsed: Option<Map<String, Value>> = serde_json::from_slice(content).ok();
    let element = match (content_type, parsed) {
        (TEXT, Some(fields)) => {
            let text = fields.get("text").cloned().and_then(text);
            json!({ "content": text.unwrap_or_default() })
        }
        (_, Some(fields)) if ELEMENTS.contains(&content_type) => Value::Object(typed(fields)),
        _ => json!({ "detail": String::from_utf8_lossy(content) }),
    };
    element.to_string().into_bytes()
}

/// The same fields, each with the type that the elements know. What cannot be made so is left out.
fn typed(fields: Map<String, Value>) -> Map<String, Value> {
    let field = |(name, value): (String, Value)| {
        let value = match name.as_str() {
            one if INTEGERS.contains(&one) => integer(&value).map(Value::from),
            one if NUMBERS.contains(&one) => number(&value),
            one if BOOLEANS.contains(&one) => boolean(&value),
            one if TEXT_LISTS.contains(&one) => text_list(value),
            one if PICTURES.contains(&one) => picture(value),
            one if MESSAGES.contains(&one) => Some(value),
            one if TEXTS.contains(&one) => text(value).map(Value::from),
            _ => Some(value),
        };
        value.map(|value| (name, value))
    };
    fields.into_iter().filter_map(field).collect()
}

fn picture(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) => Some(Value::Object(typed(fields))),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(is) => Some((*is).into()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) => {
            let number = text.trim().parse().ok().and_then(Number::from_f64);
            number.map(Value::Number)
        }
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => Some(value.clone()),
        Value::Number(number) => Some((number.as_f64() != Some(0.0)).into()),
        Value::String(text) => text.parse().ok().map(Value::Bool),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

fn text_list(value: Value) -> Option<Value> {
    match value {
        Value::Array(items) => Some(items.into_iter().filter_map(text).collect()),
        _ => None,
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
    }

    #[test]
    fn fields_get_the_types_that_go_cores_parse() {
        let loose = json!({
            "sourcePicture": { "size": "12", "width": 3.0, "url": 5, "height": "tall", "more": [1] },
            "bigPicture": "none",
        });
        let strict =
            json!({ "sourcePicture": { "size": 12, "width": 3, "url": "5", "more": [1] } });
        assert_eq!(made(102, &loose), strict);
        let at = json!({ "atUserList": ["a", 1, {}], "isAtSelf": "true", "text": "x" });
        assert_eq!(
            made(106, &at),
            json!({ "atUserList": ["a", "1"], "isAtSelf": true, "text": "x" })
        );
        assert_eq!(
            made(109, &json!({ "longitude": "1.5", "latitude": 2 })),
            json!({ "longitude": 1.5, "latitude": 2 })
        );
    }

    #[test]
    fn a_type_without_an_element_is_wrapped() {
        let notice = json!({ "notificationName": "n", "text": "t" });
        for content_type in [1400, 111, 112, 9999] {
            let wrapped = made(content_type, &notice);
            let detail: Value = serde_json::from_str(wrapped["detail"].as_str().unwrap()).unwrap();
            assert_eq!(detail, notice, "{content_type}");
        }
    }
}
