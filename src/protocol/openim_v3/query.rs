//! An SDK's query says who it is, and in which encoding it speaks. Pure.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde::Deserialize;

use super::encoding::{Encoding, Form};
use crate::ids::{Platform, UserId};

/// The query of an SDK's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) token: String,
    /// The user.
    pub(super) user: UserId,
    pub(super) platform: Platform,
    pub(super) encoding: Encoding,
    /// True if the verdict on the login is a text message; false: the HTTP answer.
    pub(super) is_told: bool,
    /// True if its app is in background.
    pub(super) is_background: bool,
}

/// The same as one JSON object, in base64url: the parameter `v`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Packed {
    token: String,
    #[serde(rename = "userID")]
    user_id: String,
    #[serde(rename = "platformID")]
    platform_id: u32,
    #[serde(default)]
    compression: String,
    #[serde(default)]
    sdk_type: String,
    #[serde(default)]
    send_response: bool,
    #[serde(default)]
    background: bool,
}

/// The query, if it names all that it has to.
pub(super) fn parse(query: &str) -> Option<Query> {
    let value = |name: &str| {
        let found = parameters(query).find(|(key, _)| *key == name);
        found.and_then(|(_, value)| unescape(value))
    };
    if let Some(packed) = value("v") {
        let json = BASE64URL.decode(packed.trim_end_matches('=')).ok()?;
        let packed: Packed = serde_json::from_slice(&json).ok()?;
        return Some(Query {
            token: packed.token,
            user: UserId::new(&packed.user_id).ok()?,
            platform: Platform::from_number(packed.platform_id).ok()?,
            encoding: encoding(&packed.sdk_type, &packed.compression)?,
            is_told: packed.send_response,
            is_background: packed.background,
        });
    }
    let text = |name| value(name).unwrap_or_default();
    Some(Query {
        token: value("token")?,
        user: UserId::new(&value("sendID")?).ok()?,
        platform: Platform::from_number(value("platformID")?.parse().ok()?).ok()?,
        encoding: encoding(&text("sdkType"), &text("compression"))?,
        is_told: text("isMsgResp") == "true",
        is_background: text("isBackground") == "true",
    })
}

/// For a query that says that it is of an SDK, whatever it lacks: true if the client reads the verdict on its login as a text
/// message. `None`: another client.
pub(super) fn is_told(query: &str) -> Option<bool> {
    let has = |name| parameters(query).any(|(key, _)| key == name);
    let is_sdks = has("v") || has("token") && has("sendID");
    is_sdks.then(|| parameters(query).any(|pair| pair == ("isMsgResp", "true")))
}

fn encoding(sdk: &str, compression: &str) -> Option<Encoding> {
    let form = match sdk {
        "" | "go" => Form::Gob,
        "js" => Form::Json,
        _ => return None,
    };
    Some(Encoding {
        form,
        is_gzip: compression == "gzip",
    })
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Undoes percent-encoding.
fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sdks_query_is_read() {
        let native = "sendID=u1&token=a.b-c_d&platformID=2&operationID=o&isBackground=false&compression=gzip";
        let gob = |is_gzip| Encoding {
            form: Form::Gob,
            is_gzip,
        };
        let query = Query {
            token: "a.b-c_d".into(),
            user: UserId::new("u1").unwrap(),
            platform: Platform::Android,
            encoding: gob(true),
            is_told: false,
            is_background: false,
        };
        assert_eq!(parse(native), Some(query.clone()));
        let js = "sendID=%E5%BC%A0+a&token=t&platformID=5&isMsgResp=true&sdkType=js";
        let read = parse(js).unwrap();
        assert_eq!((read.user.as_str(), read.is_told), ("张 a", true));
        assert_eq!(read.encoding.form, Form::Json);
        let packed = r#"{"token":"a.b-c_d","userID":"u1","platformID":2,"operationID":"o","compression":"gzip","sdkType":"go"}"#;
        let packed = format!("v={}", BASE64URL.encode(packed));
        assert_eq!(parse(&packed), Some(query));
        let background = native.replace("isBackground=false", "isBackground=true");
        assert!(parse(&background).unwrap().is_background);
    }

    #[test]
    fn a_query_that_lacks_something_is_none() {
        for bad in [
            "",
            "token=t",
            "sendID=u",
            "sendID=u&token=t",
            "sendID=u&token=t&platformID=x",
            "sendID=%zz&token=t&platformID=1",
            "sendID=%e5&token=t&platformID=1",
            "sendID=u&token=t&platformID=1&sdkType=rust",
            "v=!",
            "v=e30",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_of_an_sdk_is_known_whatever_it_lacks() {
        for (query, expected) in [
            ("", None),
            ("token=t", None),
            ("sendID=u&tokens=t", None),
            ("sendID=u&token=t", Some(false)),
            ("sendID=&token=", Some(false)),
            ("sendID=u&token=t&isMsgResp=true&platformID=x", Some(true)),
            ("v=!", Some(false)),
        ] {
            assert_eq!(is_told(query), expected, "{query}");
        }
    }
}
