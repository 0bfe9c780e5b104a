//! JPush: push API v3.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use serde_json::json;

use super::server::{StandIn, answer, body_of, header, rule};
use crate::support::authority::Authority;

/// The keys of the tests.
pub(crate) const JPUSH_KEY: &str = "jpush-app-key";
/// The secret that belongs to it.
pub(crate) const JPUSH_SECRET: &str = "jpush-master-secret";

/// Starts it.
pub(crate) async fn start(tls: Option<&Authority>) -> StandIn {
    StandIn::start(tls, |request| {
        rule(request.method() == "POST", "POST")?;
        rule(request.uri().path() == "/v3/push", "the path")?;
        rule(
            header(request, "content-type") == "application/json",
            "JSON",
        )?;
        let expected = BASE64.encode(format!("{JPUSH_KEY}:{JPUSH_SECRET}"));
        if header(request, "authorization") != format!("Basic {expected}") {
            let error = json!({"error": {"code": 1004, "message": "Basic authentication failed"}});
            return Ok(answer(401, error));
        }
        let body = body_of(request);
        rule(body["platform"] == "all", "platform")?;
        let aliases = body["audience"]["alias"].as_array().ok_or("alias")?;
        rule((1..=1000).contains(&aliases.len()), "1 to 1,000 aliases")?;
        for alias in aliases {
            let alias = alias.as_str().ok_or("an alias is a text")?;
            rule(
                (1..=40).contains(&alias.len()) && !alias.contains(['-', ' ']),
                "an alias",
            )?;
        }
        let (android, ios) = (
            &body["notification"]["android"],
            &body["notification"]["ios"],
        );
        rule(
            android["alert"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "android.alert",
        )?;
        rule(
            ios["alert"].to_string().len() <= 2048,
            "2,048 bytes for iOS",
        )?;
        rule(ios["badge"].is_u64() || ios["badge"] == "+1", "badge")?;
        for extras in [&android["extras"], &ios["extras"]] {
            rule(extras["server_msg_id"].is_string(), "extras")?;
        }
        let options = &body["options"];
        rule(
            options["time_to_live"]
                .as_u64()
                .is_some_and(|s| s <= 864_000),
            "time_to_live",
        )?;
        rule(options["apns_production"] == true, "apns_production")?;
        rule(
            body.to_string().len() - body["audience"].to_string().len() <= 4000,
            "4,000 bytes",
        )?;
        Ok(answer(
            200,
            json!({"sendno": "0", "msg_id": "18100287007833609"}),
        ))
    })
    .await
}

/// An error as JPush words it.
pub(crate) fn error(status: u16, code: u32) -> hyper::Response<bytes::Bytes> {
    answer(
        status,
        json!({"error": {"code": code, "message": "the vendor's words"}}),
    )
}
