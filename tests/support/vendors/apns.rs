//! APNs: HTTP/2, a signed token, and Apple's rules for headers and payloads.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use hyper::{Request, Response, Version};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;

use super::{
    claims::es256,
    server::{Checked, StandIn, answer, body_of, header, now_s, rule},
};
use crate::support::authority::Authority;

/// The id of the tests' key.
pub(crate) const KEY_ID: &str = "ABC123DEFG";
/// The id of the tests' team.
pub(crate) const TEAM_ID: &str = "TEAM123456";
/// The app of the tests.
pub(crate) const TOPIC: &str = "com.example.oa";

/// A key file as Apple gives it out.
pub(crate) struct ApnsKey {
    dir: tempfile::TempDir,
    public: Vec<u8>,
}

impl ApnsKey {
    pub(crate) fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("AuthKey.p8"), pair.serialize_pem()).unwrap();
        Self {
            dir,
            public: pair.der_bytes().to_vec(),
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("AuthKey.p8")
    }
}

/// Starts it, for tokens that this key signs.
pub(crate) async fn start(authority: &Authority, key: &ApnsKey) -> StandIn {
    let public = key.public.clone();
    StandIn::start(Some(authority), move |request| check(request, &public)).await
}

fn check(request: &Request<Bytes>, public: &[u8]) -> Checked {
    rule(request.version() == Version::HTTP_2, "HTTP/2")?;
    rule(request.method() == "POST", "POST")?;
    let device = request
        .uri()
        .path()
        .strip_prefix("/3/device/")
        .ok_or("the path")?;
    let is_hex = device.len() == 64 && device.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        return Ok(error(400, "BadDeviceToken"));
    }
    let token = header(request, "authorization")
        .strip_prefix("bearer ")
        .ok_or("bearer")?;
    let Ok((head, claims)) = es256(token, public) else {
        return Ok(error(403, "InvalidProviderToken"));
    };
    if head["kid"] != KEY_ID || claims["iss"] != TEAM_ID {
        return Ok(error(403, "InvalidProviderToken"));
    }
    let issued_s = claims["iat"].as_u64().ok_or("iat")?;
    if issued_s + 3600 < now_s() || issued_s > now_s() + 60 {
        return Ok(error(403, "ExpiredProviderToken"));
    }
    if header(request, "apns-topic") != TOPIC {
        return Ok(error(400, "DeviceTokenNotForTopic"));
    }
    rule(
        header(request, "apns-push-type") == "alert",
        "apns-push-type",
    )?;
    rule(
        ["5", "10"].contains(&header(request, "apns-priority")),
        "apns-priority",
    )?;
    let expires_s: u64 = header(request, "apns-expiration")
        .parse()
        .map_err(|_| "expiration")?;
    rule(expires_s >= now_s() - 60, "an expiration in the future")?;
    rule(
        (1..=64).contains(&header(request, "apns-collapse-id").len()),
        "apns-collapse-id",
    )?;
    if request.body().len() > 4096 {
        return Ok(error(413, "PayloadTooLarge"));
    }
    let payload = body_of(request);
    let aps = &payload["aps"];
    rule(
        aps["alert"]["title"].is_string() && aps["sound"].is_string(),
        "aps",
    )?;
    rule(aps.get("badge").is_none_or(|badge| badge.is_u64()), "badge")?;
    rule(
        payload["server_msg_id"].is_string() && payload["seq"].is_u64(),
        "the message",
    )?;
    let mut sent = answer(200, "");
    let id = "eabeae54-14a8-11e5-b60b-1697f925ec7b".parse().unwrap();
    sent.headers_mut().insert("apns-id", id);
    Ok(sent)
}

/// An error as Apple words it.
pub(crate) fn error(status: u16, reason: &str) -> Response<Bytes> {
    answer(status, json!({"reason": reason}))
}
