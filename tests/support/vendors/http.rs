//! A system of an operator's behind the generic provider: it verifies by the Standard Webhooks specification.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use ring::hmac;
use serde_json::json;

use super::server::{StandIn, answer, body_of, header, now_s, rule};
use crate::support::authority::Authority;

/// The secret of the tests: `whsec_` and the base64 of 32 bytes.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_c3RhbmQtaW4gc2VjcmV0IG9mIHRoZSB0ZXN0cyE=";

/// Starts it. Its path is `/push`.
pub(crate) async fn start(tls: Option<&Authority>) -> StandIn {
    StandIn::start(tls, |request| {
        rule(request.method() == "POST", "POST")?;
        rule(request.uri().path() == "/push", "the path")?;
        rule(
            header(request, "content-type") == "application/json",
            "JSON",
        )?;
        let (id, time) = (
            header(request, "webhook-id"),
            header(request, "webhook-timestamp"),
        );
        rule(!id.is_empty() && !id.contains('.'), "webhook-id")?;
        let time_s: u64 = time.parse().map_err(|_| "webhook-timestamp")?;
        rule(
            time_s.abs_diff(now_s()) < 300,
            "a timestamp within five minutes",
        )?;
        let secret = BASE64
            .decode(WEBHOOK_SECRET.trim_start_matches("whsec_"))
            .unwrap();
        let body = String::from_utf8(request.body().to_vec()).map_err(|_| "UTF-8")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let is_signed = header(request, "webhook-signature")
            .split(' ')
            .any(|signature| {
                let signature = signature.strip_prefix("v1,").unwrap_or_default();
                let signature = BASE64.decode(signature).unwrap_or_default();
                hmac::verify(&key, format!("{id}.{time}.{body}").as_bytes(), &signature).is_ok()
            });
        if !is_signed {
            return Ok(answer(401, json!({"error": "signature"})));
        }
        let body = body_of(request);
        rule(
            body["type"] == "push" && body["timestamp"].is_string(),
            "type and timestamp",
        )?;
        let data = &body["data"];
        for key in [
            "user_id",
            "server_msg_id",
            "conversation_id",
            "title",
            "desc",
            "ex",
            "sound",
        ] {
            rule(data[key].is_string(), key)?;
        }
        rule(data["seq"].is_u64(), "seq")?;
        rule(data["badge"].is_u64() || data["badge"].is_null(), "badge")?;
        rule(
            data["devices"]
                .as_array()
                .is_some_and(|list| !list.is_empty()),
            "devices",
        )?;
        Ok(answer(204, ""))
    })
    .await
}
