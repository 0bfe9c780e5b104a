//! The content types of OpenIM v3's admin API, with their fields, and their translation to the form of v2 that is stored.
//!
//! v3's clients drop a message whose known field has the wrong JSON type, so sizes and lengths are integers here. Only text
//! has another form in v2; every other content keeps its bytes.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::super::{
    content::{ContentType, NOTIFICATION},
    error::Refusal,
    shape::{
        self, Field,
        Kind::{self, Boolean, Integer, List, Object, Text},
    },
};

/// The most users whom one message may mention, OpenIM's number.
const MENTIONED_MAX: usize = 1000;

const TEXT: i32 = 101;
const MENTION: i32 = 106;

/// A size, a length or a time: an integer that is not negative.
const AMOUNT: Kind = Integer {
    min: 0,
    max: i64::MAX,
};

/// An app's own notice to users online. It is never stored, so v2's list does not have it.
pub(in crate::admin) static BUSINESS: ContentType = ContentType {
    number: 2001,
    name: "Business",
    fields: &[Field::optional("key", Text), Field::optional("data", Text)],
};

/// v3's content types, ascending by number.
pub(super) const CONTENT_TYPES: &[ContentType] = &[
    ContentType {
        number: TEXT,
        name: "Text",
        fields: &[Field::required("content", Text)],
    },
    ContentType {
        number: 102,
        name: "Picture",
        fields: PICTURE,
    },
    ContentType {
        number: 103,
        name: "Voice",
        fields: SOUND,
    },
    ContentType {
        number: 104,
        name: "Video",
        fields: VIDEO,
    },
    ContentType {
        number: 105,
        name: "File",
        fields: FILE,
    },
    ContentType {
        number: MENTION,
        name: "AtText",
        fields: &[
            Field::optional("text", Text),
            Field::required("atUserList", List(&Text)),
            Field::optional("isAtSelf", Boolean),
        ],
    },
    ContentType {
        number: 110,
        name: "Custom",
        fields: &[
            Field::required("data", Text),
            Field::optional("description", Text),
            Field::optional("extension", Text),
        ],
    },
    ContentType {
        number: NOTIFICATION,
        name: "OANotification",
        fields: &[
            Field::required("notificationName", Text),
            Field::optional("notificationFaceURL", Text),
            Field::required(
                "notificationType",
                Integer {
                    min: i32::MIN as i64,
                    max: i32::MAX as i64,
                },
            ),
            Field::required("text", Text),
            Field::optional("externalUrl", Text),
            Field::optional("url", Text),
            // v3 also takes 4 and 5. v2's form has no meaning for them.
            Field::optional("mixType", Integer { min: 0, max: 3 }),
            Field::optional("pictureElem", Object(PICTURE)),
            Field::optional("soundElem", Object(SOUND)),
            Field::optional("videoElem", Object(VIDEO)),
            Field::optional("fileElem", Object(FILE)),
            Field::optional("ex", Text),
        ],
    },
];

const PICTURE: &[Field] = &[
    Field::optional("sourcePath", Text),
    Field::required("sourcePicture", Object(IMAGE)),
    Field::required("bigPicture", Object(IMAGE)),
    Field::required("snapshotPicture", Object(IMAGE)),
];

const IMAGE: &[Field] = &[
    Field::optional("uuid", Text),
    Field::required("type", Text),
    Field::optional("size", AMOUNT),
    Field::required("width", AMOUNT),
    Field::required("height", AMOUNT),
    Field::required("url", Text),
];

const SOUND: &[Field] = &[
    Field::optional("uuid", Text),
    Field::optional("soundPath", Text),
    Field::required("sourceUrl", Text),
    Field::optional("dataSize", AMOUNT),
    Field::required("duration", AMOUNT),
    Field::optional("soundType", Text),
];

const VIDEO: &[Field] = &[
    Field::optional("videoPath", Text),
    Field::optional("videoUUID", Text),
    Field::required("videoUrl", Text),
    Field::required("videoType", Text),
    Field::required("videoSize", AMOUNT),
    Field::required("duration", AMOUNT),
    Field::optional("snapshotPath", Text),
    Field::optional("snapshotUUID", Text),
    Field::optional("snapshotSize", AMOUNT),
    Field::required("snapshotUrl", Text),
    Field::required("snapshotWidth", AMOUNT),
    Field::required("snapshotHeight", AMOUNT),
];

const FILE: &[Field] = &[
    Field::optional("filePath", Text),
    Field::optional("uuid", Text),
    Field::required("sourceUrl", Text),
    Field::required("fileName", Text),
    Field::required("fileSize", AMOUNT),
    Field::optional("fileType", Text),
];

/// v3's content of a text.
#[derive(Deserialize)]
struct TextContent<'a> {
    /// The JSON string, which goes on as it is written.
    #[serde(borrow)]
    content: &'a RawValue,
}

/// v3's content of a text that mentions users.
#[derive(Deserialize)]
struct MentionContent {
    #[serde(rename = "atUserList")]
    mentioned: Vec<IgnoredAny>,
}

/// Checks `content`, a part of `request`, and returns it in v2's form.
pub(super) fn stored(request: &Bytes, content: &str, number: i32) -> Result<Bytes, Refusal> {
    let known = CONTENT_TYPES.iter().find(|known| known.number == number);
    let known = known.ok_or(Refusal::Rule("unsupported contentType"))?;
    shape::check(known.fields, content).map_err(Refusal::Content)?;
    match number {
        TEXT => {
            let text: TextContent<'_> = serde_json::from_str(content).map_err(Refusal::Json)?;
            return Ok(format!(r#"{{"text":{}}}"#, text.content).into());
        }
        MENTION => {
            let mention: MentionContent = serde_json::from_str(content).map_err(Refusal::Json)?;
            let count = mention.mentioned.len();
            if count > MENTIONED_MAX {
                return Err(Refusal::TooMany {
                    what: "content.atUserList",
                    count,
                    max: MENTIONED_MAX,
                });
            }
        }
        _ => {}
    }
    Ok(request.slice_ref(content.as_bytes()))
}
