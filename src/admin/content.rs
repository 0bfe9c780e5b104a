//! The content types a caller may send, each with its known fields. Unknown keys in `content` are kept.
//!
//! Source: the content types of OpenIM v2's `manage_send_msg`, with their fields.

use super::shape::{
    Field,
    Kind::{Boolean, Integer, List, Number, Object, Text},
};

/// One content type.
pub(super) struct ContentType {
    pub(super) number: i32,
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// The typing signal: pushed to online sessions, never stored.
pub(super) const TYPING: i32 = 113;
/// An OA notification: its session type is always 4.
pub(super) const NOTIFICATION: i32 = 1400;

/// Every content type, ascending by number.
pub(super) const CONTENT_TYPES: &[ContentType] = &[
    ContentType {
        number: 101,
        name: "Text",
        fields: &[Field::required("text", Text)],
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
        number: 106,
        name: "AtText",
        fields: &[
            Field::optional("text", Text),
            Field::optional("atUserList", List(&Text)),
            Field::optional("isAtSelf", Boolean),
        ],
    },
    ContentType {
        number: 107,
        name: "Merger",
        fields: &[
            Field::optional("title", Text),
            Field::optional("abstractList", List(&Text)),
            Field::optional("multiMessage", List(&Object(&[]))),
        ],
    },
    ContentType {
        number: 108,
        name: "Card",
        fields: &[
            Field::optional("userID", Text),
            Field::optional("nickname", Text),
            Field::optional("faceURL", Text),
            Field::optional("ex", Text),
        ],
    },
    ContentType {
        number: 109,
        name: "Location",
        fields: &[
            Field::optional("description", Text),
            Field::optional("longitude", Number),
            Field::optional("latitude", Number),
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
        number: 111,
        name: "Revoke",
        fields: &[Field::required("revokeMsgClientID", Text)],
    },
    ContentType {
        number: 112,
        name: "HasReadReceipt",
        fields: &[],
    },
    ContentType {
        number: TYPING,
        name: "Typing",
        fields: &[Field::optional("msgTips", Text)],
    },
    ContentType {
        number: 114,
        name: "Quote",
        fields: &[
            Field::optional("text", Text),
            Field::optional("quoteMessage", Object(&[])),
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
            // 0 text, 1 with a picture, 2 with a video, 3 with a file.
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
    Field::optional("sourcePicture", Object(IMAGE)),
    Field::optional("bigPicture", Object(IMAGE)),
    Field::optional("snapshotPicture", Object(IMAGE)),
];

const IMAGE: &[Field] = &[
    Field::optional("uuid", Text),
    Field::optional("type", Text),
    Field::optional("size", Number),
    Field::optional("width", Number),
    Field::optional("height", Number),
    Field::optional("url", Text),
];

const SOUND: &[Field] = &[
    Field::optional("uuid", Text),
    Field::optional("soundPath", Text),
    Field::optional("sourceUrl", Text),
    Field::optional("dataSize", Number),
    Field::optional("duration", Number),
];

const VIDEO: &[Field] = &[
    Field::optional("videoPath", Text),
    Field::optional("videoUUID", Text),
    Field::optional("videoUrl", Text),
    Field::optional("videoType", Text),
    Field::optional("videoSize", Number),
    Field::optional("duration", Number),
    Field::optional("snapshotPath", Text),
    Field::optional("snapshotUUID", Text),
    Field::optional("snapshotSize", Number),
    Field::optional("snapshotUrl", Text),
    Field::optional("snapshotWidth", Number),
    Field::optional("snapshotHeight", Number),
];

const FILE: &[Field] = &[
    Field::optional("filePath", Text),
    Field::optional("uuid", Text),
    Field::optional("sourceUrl", Text),
    Field::optional("fileName", Text),
    Field::optional("fileSize", Number),
];

/// The content type with this number.
pub(super) fn content_type(number: i32) -> Option<&'static ContentType> {
    let index = CONTENT_TYPES
        .binary_search_by_key(&number, |known| known.number)
        .ok()?;
    Some(&CONTENT_TYPES[index])
}
