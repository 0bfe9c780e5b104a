//! Envelopes in JSON, with the data in base64, as the JavaScript SDK without a core sends them. Pure.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::envelope::{ClientRequest, Malformed, Response};

/// The bytes behind the data.
const END: &str = "\"}";
/// Base64 makes of three bytes four letters.
const GROUP: (usize, usize) = (3, 4);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonRequest {
    req_identifier: i32,
    #[serde(default, rename = "sendID")]
    send_id: Box<str>,
    #[serde(default, rename = "operationID")]
    operation_id: Box<str>,
    #[serde(default)]
    msg_incr: Box<str>,
    #[serde(default)]
    data: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonResponse<'a> {
    req_identifier: i32,
    err_code: i32,
    err_msg: &'a str,
    msg_incr: &'a str,
    #[serde(rename = "operationID")]
    operation_id: &'a str,
    data: Option<String>,
}

/// Decodes a request.
pub(super) fn decode(message: &[u8]) -> Result<ClientRequest, Malformed> {
    let request: JsonRequest = serde_json::from_slice(message).map_err(|_| Malformed)?;
    let data = request.data.unwrap_or_default();
    Ok(ClientRequest {
        number: request.req_identifier,
        send_id: request.send_id,
        operation_id: request.operation_id,
        increment: request.msg_incr,
        data: BASE64.decode(data).map_err(|_| Malformed)?.into(),
    })
}

/// Encodes an answer.
pub(super) fn encode(response: &Response<'_>) -> Bytes {
    let data = Some(response.data).filter(|data| !data.is_empty());
    encode_with(response, data.map(|data| BASE64.encode(data)))
}

/// The beginning of an envelope whose data begins with the data of `response`. [`end`] follows.
///
/// # Panics
/// If the data is not whole groups of three bytes: behind other data base64 does not go on.
pub(super) fn begin(response: &Response<'_>) -> Bytes {
    let (group, _) = GROUP;
    assert!(response.data.len().is_multiple_of(group), "whole groups");
    let mut whole = encode_with(response, Some(BASE64.encode(response.data)));
    whole.truncate(whole.len() - END.len());
    whole
}

/// The end of an envelope whose data ends with `shared`.
pub(super) fn end(shared: &[u8]) -> Bytes {
    let mut end = BASE64.encode(shared);
    end.push_str(END);
    end.into()
}

/// The number of bytes with which [`end`] was made.
pub(super) fn shared_bytes(end: &[u8]) -> usize {
    let (group, letters) = GROUP;
    let data = &end[..end.len() - END.len()];
    let missing = data.iter().rev().take_while(|letter| **letter == b'=');
    data.len() / letters * group - missing.count()
}

fn encode_with(response: &Response<'_>, data: Option<String>) -> Bytes {
    let response = JsonResponse {
        req_identifier: response.number,
        err_code: response.error_code,
        err_msg: response.error_text,
        msg_incr: response.increment,
        operation_id: response.operation_id,
        data,
    };
    serde_json::to_vec(&response)
        .expect("numbers and texts are JSON")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_the_sdk_is_read() {
        let message = r#"{"reqIdentifier":1006,"msgIncr":"1","sendID":"u1","operationID":"o","data":"CgJ1MQ=="}"#;
        let request = ClientRequest {
            number: 1006,
            send_id: "u1".into(),
            operation_id: "o".into(),
            increment: "1".into(),
            data: Bytes::from_static(b"\x0a\x02u1"),
        };
        assert_eq!(decode(message.as_bytes()), Ok(request));
        let least = ClientRequest {
            number: 2003,
            ..ClientRequest::default()
        };
        for least_message in [
            r#"{"reqIdentifier":2003}"#,
            r#"{"reqIdentifier":2003,"data":null,"token":"t","more":[1]}"#,
        ] {
            assert_eq!(decode(least_message.as_bytes()), Ok(least.clone()));
        }
    }

    #[test]
    fn json_of_other_types_is_no_request() {
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#""{}""#,
            r#"{"reqIdentifier":"1001"}"#,
            r#"{"reqIdentifier":1001.5}"#,
            r#"{"reqIdentifier":99999999999}"#,
            r#"{"reqIdentifier":null}"#,
            r#"{"reqIdentifier":1001,"sendID":1}"#,
            r#"{"reqIdentifier":1001,"sendID":null}"#,
            r#"{"reqIdentifier":1001,"operationID":{}}"#,
            r#"{"reqIdentifier":1001,"msgIncr":true}"#,
            r#"{"reqIdentifier":1001,"data":[1]}"#,
            r#"{"reqIdentifier":1001,"data":"*"}"#,
            r#"{"reqIdentifier":1001,"data":"CgJ1MQ"}"#,
            r#"{"reqIdentifier":1001} x"#,
            r#"{"reqIdentifier":1001"#,
        ] {
            assert_eq!(decode(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        assert_eq!(decode(&[0xff; 20]), Err(Malformed));
    }

    #[test]
    fn an_answer_has_the_names_of_the_sdk() {
        let response = Response {
            number: 1003,
            error_code: 1002,
            error_text: "no \"way\"",
            increment: "7",
            operation_id: "o",
            data: &[],
        };
        let text = r#"{"reqIdentifier":1003,"errCode":1002,"errMsg":"no \"way\"","msgIncr":"7","operationID":"o","data":null}"#;
        assert_eq!(encode(&response), text);
    }

    #[test]
    fn data_may_be_put_together_of_two_parts() {
        let whole: Vec<u8> = (0..100).collect();
        for own in [0, 3, 30] {
            for shared in 0..=40 {
                let response = |data| Response {
                    number: 2001,
                    operation_id: "push",
                    data,
                    ..Response::default()
                };
                let all = &whole[..own + shared];
                let (own, shared) = all.split_at(own);
                let end = end(shared);
                assert_eq!(shared_bytes(&end), shared.len());
                if !all.is_empty() {
                    let parts = [begin(&response(own)), end].concat();
                    assert_eq!(parts, encode(&response(all)));
                }
            }
        }
    }
}
