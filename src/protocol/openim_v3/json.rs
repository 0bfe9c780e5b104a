//! Envelopes in JSON, with the data in base64, as the JavaScript SDK without a core sends them. Pure.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::envelope::{Malformed, Request, Response};

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
pub(super) fn decode(message: &[u8]) -> Result<Request, Malformed> {
    let request: JsonRequest = serde_json::from_slice(message).map_err(|_| Malformed)?;
    let data = request.data.unwrap_or_default();
    Ok(Request {
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
    let response = JsonResponse {
        req_identifier: response.number,
        err_code: response.error_code,
        err_msg: response.error_text,
        msg_incr: response.increment,
        operation_id: response.operation_id,
        data: data.map(|data| BASE64.encode(data)),
    };
    serde_json::to_vec(&response)
        .expect("numbers and texts are JSON")
        .into()
}
