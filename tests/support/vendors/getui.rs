//! Getui: REST API v2.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use hyper::{Request, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::server::{Checked, StandIn, answer, body_of, header, now_s, rule};
use crate::support::authority::Authority;

/// The app of the tests.
pub(crate) const GETUI_APP: &str = "getui-app";
/// Its key.
pub(crate) const GETUI_KEY: &str = "getui-key";
/// Its secret.
pub(crate) const GETUI_SECRET: &str = "getui-master-secret";

/// Getui with its token in use.
pub(crate) struct Getui {
    pub(crate) stand_in: StandIn,
    /// The number of the token in use; 0: none.
    token: Arc<AtomicU64>,
}

impl Getui {
    pub(crate) async fn start(tls: Option<&Authority>) -> Self {
        let token = Arc::new(AtomicU64::new(0));
        let of_server = Arc::clone(&token);
        let stand_in = StandIn::start(tls, move |request| check(request, &of_server)).await;
        Self { stand_in, token }
    }

    /// The token in use runs out before its time.
    pub(crate) fn forget_token(&self) {
        self.token.fetch_add(1, Relaxed);
    }

    /// The number of calls with this end of their path.
    pub(crate) fn count(&self, end: &str) -> usize {
        let calls = self.stand_in.calls().into_iter();
        calls
            .filter(|call| call.uri().path().ends_with(end))
            .count()
    }
}

fn check(request: &Request<Bytes>, token: &AtomicU64) -> Checked {
    rule(request.method() == "POST", "POST")?;
    rule(
        header(request, "content-type").starts_with("application/json"),
        "JSON",
    )?;
    let path = request.uri().path();
    let path = path
        .strip_prefix(&format!("/v2/{GETUI_APP}"))
        .ok_or("the app")?;
    let body = body_of(request);
    if path == "/auth" {
        return grant(&body, token);
    }
    if header(request, "token") != format!("token-{}", token.load(Relaxed)) {
        return Ok(error(401, 10001));
    }
    let done = |data: Value| {
        Ok(answer(
            200,
            json!({"code": 0, "msg": "success", "data": data}),
        ))
    };
    match path {
        "/push/single/alias" => {
            let id = body["request_id"].as_str().ok_or("request_id")?;
            rule(
                (10..=32).contains(&id.len()),
                "request_id of 10 to 32 characters",
            )?;
            let aliases = body["audience"]["alias"].as_array().ok_or("alias")?;
            rule(aliases.len() == 1, "one alias")?;
            content(&body)?;
            done(json!({"RASS_1": {"cid": "successed_offline"}}))
        }
        "/push/list/message" => {
            rule(body.get("audience").is_none(), "no audience")?;
            content(&body)?;
            done(json!({"taskid": "RASL_1"}))
        }
        "/push/list/alias" => {
            rule(body["taskid"] == "RASL_1", "taskid")?;
            let aliases = body["audience"]["alias"].as_array().ok_or("alias")?;
            rule((1..=999).contains(&aliases.len()), "1 to 999 aliases")?;
            done(json!({"RASL_1": {"alias": {"cid": "successed_offline"}}}))
        }
        _ => Err("the path".into()),
    }
}

fn grant(body: &Value, token: &AtomicU64) -> Checked {
    let timestamp = body["timestamp"].as_str().ok_or("timestamp")?;
    let time_ms: u64 = timestamp.parse().map_err(|_| "timestamp")?;
    rule(
        time_ms.abs_diff(now_s() * 1000) < 600_000,
        "a timestamp within ten minutes",
    )?;
    let signed = Sha256::digest(format!("{GETUI_KEY}{timestamp}{GETUI_SECRET}"));
    let sign: String = signed.iter().map(|byte| format!("{byte:02x}")).collect();
    if body["appkey"] != GETUI_KEY || body["sign"] != sign {
        return Ok(error(400, 20001));
    }
    let number = token.fetch_add(1, Relaxed) + 1;
    let expires_ms = (now_s() + 86_400) * 1000;
    let data = json!({"token": format!("token-{number}"), "expire_time": expires_ms.to_string()});
    Ok(answer(
        200,
        json!({"code": 0, "msg": "success", "data": data}),
    ))
}

fn content(body: &Value) -> Result<(), String> {
    rule(
        body["settings"]["ttl"]
            .as_u64()
            .is_some_and(|ms| ms <= 259_200_000),
        "ttl",
    )?;
    let notification = &body["push_message"]["notification"];
    let length = |text: &Value| text.as_str().map_or(0, |text| text.chars().count());
    rule(
        (1..=50).contains(&length(&notification["title"])),
        "a title of 50 characters",
    )?;
    rule(
        (1..=256).contains(&length(&notification["body"])),
        "a text of 256 characters",
    )?;
    rule(
        length(&notification["payload"]) <= 3072,
        "a payload of 3,072 characters",
    )?;
    rule(notification["click_type"] == "payload", "click_type")?;
    let channel = &body["push_channel"];
    rule(channel["ios"]["aps"]["alert"].is_object(), "ios")?;
    rule(
        channel["android"]["ups"]["notification"].is_object(),
        "android",
    )
}

/// An error as Getui words it.
pub(crate) fn error(status: u16, code: u32) -> Response<Bytes> {
    answer(
        status,
        json!({"code": code, "msg": "the vendor's words", "data": null}),
    )
}
