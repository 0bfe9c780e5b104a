//! Requests and answers in each form: gob or JSON, gzipped or not.

use std::io::{self, Read as _, Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};

use super::{
    SdkCore, SdkForm,
    gob::{self, GobFault},
    messages::{SdkRequest, SdkResponse},
};

/// No frame of a gateway has more bytes when it is inflated: a bound for broken ones.
const INFLATED_BYTES_MAX: u64 = 32 << 20;

#[derive(Serialize)]
struct SdkJsonRequest<'a> {
    #[serde(rename = "reqIdentifier")]
    number: i64,
    #[serde(rename = "msgIncr")]
    msg_incr: &'a str,
    #[serde(rename = "sendID")]
    send_id: &'a str,
    #[serde(rename = "operationID")]
    operation_id: &'a str,
    data: String,
}

#[derive(Deserialize)]
struct SdkJsonResponse {
    #[serde(rename = "reqIdentifier")]
    number: i64,
    #[serde(rename = "msgIncr", default)]
    msg_incr: String,
    #[serde(rename = "operationID", default)]
    operation_id: String,
    #[serde(rename = "errCode", default)]
    error: i64,
    #[serde(rename = "errMsg", default)]
    text: String,
    #[serde(default)]
    data: Option<String>,
}

impl SdkForm {
    /// The bytes of a request's frame.
    ///
    /// # Errors
    /// None that a client could cause: JSON and gzip write into memory.
    pub fn encode(self, request: &SdkRequest<'_>) -> io::Result<Vec<u8>> {
        let plain = match self.core {
            SdkCore::Go => gob::encode(request),
            SdkCore::JavaScript => serde_json::to_vec(&SdkJsonRequest {
                number: request.number,
                msg_incr: request.msg_incr,
                send_id: request.send_id,
                operation_id: request.operation_id,
                data: BASE64_STANDARD.encode(request.data),
            })?,
        };
        if !self.is_gzipped {
            return Ok(plain);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&plain)?;
        gzip.finish()
    }

    /// Opens the frame of an answer or a push.
    ///
    /// # Errors
    /// The fault of a frame that is not in this form, in words.
    pub fn decode(self, frame: &[u8]) -> Result<SdkResponse, String> {
        let mut inflated = Vec::new();
        let plain = match self.is_gzipped {
            false => frame,
            true => {
                // Go's reader, too, takes several members one behind the other.
                let gzip = MultiGzDecoder::new(frame).take(INFLATED_BYTES_MAX + 1);
                let read = { gzip }.read_to_end(&mut inflated);
                read.map_err(|error| format!("a frame that is not gzip: {error}"))?;
                if inflated.len() as u64 > INFLATED_BYTES_MAX {
                    return Err("a frame of more than 32 MiB".to_owned());
                }
                &inflated
            }
        };
        match self.core {
            SdkCore::Go => gob::decode(plain)
                .map_err(|GobFault(what)| format!("a frame that is not gob: {what}")),
            SdkCore::JavaScript => {
                let response: SdkJsonResponse = serde_json::from_slice(plain)
                    .map_err(|error| format!("a frame that is no JSON answer: {error}"))?;
                let data = BASE64_STANDARD.decode(response.data.unwrap_or_default());
                Ok(SdkResponse {
                    number: response.number,
                    error: response.error,
                    text: response.text,
                    msg_incr: response.msg_incr,
                    operation_id: response.operation_id,
                    data: data.map_err(|error| format!("data that is not base64: {error}"))?,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: SdkRequest<'static> = SdkRequest {
        number: 1006,
        send_id: "u1",
        operation_id: "op",
        msg_incr: "u1_1",
        data: b"\x0a\x02u1",
    };

    fn inflated(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn a_json_request_has_the_names_that_the_sdk_sends() {
        let form: SdkForm = "json".parse().unwrap();
        let json = r#"{"reqIdentifier":1006,"msgIncr":"u1_1","sendID":"u1","operationID":"op","data":"CgJ1MQ=="}"#;
        assert_eq!(form.encode(&REQUEST).unwrap(), json.as_bytes());
    }

    #[test]
    fn gzip_changes_nothing_but_the_bytes() {
        for name in ["gob", "json"] {
            let plain: SdkForm = name.parse().unwrap();
            let packed: SdkForm = format!("{name}+gzip").parse().unwrap();
            let bytes = packed.encode(&REQUEST).unwrap();
            assert_eq!(inflated(&bytes), plain.encode(&REQUEST).unwrap());
        }
        let form: SdkForm = "json+gzip".parse().unwrap();
        let (first, second) = (br#"{"reqIdentifier":2001,"#, br#""data":"YWJj"}"#);
        let members = [gzipped(first), gzipped(second)].concat();
        let response = form.decode(&members).unwrap();
        assert_eq!((response.number, &response.data[..]), (2001, &b"abc"[..]));
        assert!(form.decode(&members[..members.len() - 1]).is_err());
    }

    #[test]
    fn an_answer_in_json_may_have_no_data() {
        let form: SdkForm = "json".parse().unwrap();
        let json = br#"{"reqIdentifier":1002,"msgIncr":"m","operationID":"o","errCode":1001,"errMsg":"no","data":null}"#;
        let response = form.decode(json).unwrap();
        assert_eq!((response.number, response.error), (1002, 1001));
        assert_eq!(
            (response.text.as_str(), response.msg_incr.as_str()),
            ("no", "m")
        );
        assert!(response.data.is_empty());
        assert!(form.decode(br#"{"reqIdentifier":1,"data":"?"}"#).is_err());
        assert!(form.decode(br#"{"errCode":1}"#).is_err());
    }

    #[test]
    fn a_form_has_a_name() {
        assert_eq!("gob+gzip".parse(), Ok(SdkForm::default()));
        for name in ["", "gzip", "gob+zip", "JSON", "gob+gzip+gzip"] {
            assert!(name.parse::<SdkForm>().is_err(), "{name}");
        }
    }
}
