//! A browser's push service behind a relay: the host of the service is the first part of the path.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use hyper::Request;

use super::{
    browser::{Browser, PUSH_HOST},
    claims::es256,
    server::{Checked, StandIn, answer, header, now_s, rule},
};
use crate::support::authority::Authority;

/// The subject of the tests.
pub(crate) const SUBJECT: &str = "mailto:office@oa.example";

/// Starts it, for this browser and this key of the gateway (base64url).
pub(crate) async fn start(tls: Option<&Authority>, browser: Arc<Browser>, key: String) -> StandIn {
    StandIn::start(tls, move |request| check(request, &browser, &key)).await
}

fn check(request: &Request<Bytes>, browser: &Browser, key: &str) -> Checked {
    rule(request.method() == "POST", "POST")?;
    let path = request.uri().path();
    let path = path
        .strip_prefix(&format!("/{PUSH_HOST}"))
        .ok_or("the host")?;
    if path != browser.path {
        return Ok(answer(410, "{\"errno\": 106}"));
    }
    rule(
        header(request, "content-encoding") == "aes128gcm",
        "content-encoding",
    )?;
    rule(header(request, "ttl").parse::<u32>().is_ok(), "ttl")?;
    let urgency = header(request, "urgency");
    rule(
        ["very-low", "low", "normal", "high"].contains(&urgency),
        "urgency",
    )?;
    let topic = header(request, "topic");
    let is_base64url = topic
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    rule((1..=32).contains(&topic.len()) && is_base64url, "topic")?;
    let vapid = header(request, "authorization")
        .strip_prefix("vapid ")
        .ok_or("vapid")?;
    let (token, signer) = vapid.split_once(", ").ok_or("vapid")?;
    let (token, signer) = (
        token.strip_prefix("t=").ok_or("t")?,
        signer.strip_prefix("k=").ok_or("k")?,
    );
    if signer != key {
        return Ok(answer(
            403,
            "the VAPID credentials do not correspond to the subscription",
        ));
    }
    let public = BASE64URL.decode(signer).map_err(|_| "k in base64url")?;
    let (head, claims) = es256(token, &public)?;
    rule(head["typ"] == "JWT", "typ")?;
    rule(claims["aud"] == format!("https://{PUSH_HOST}"), "aud")?;
    rule(claims["sub"] == SUBJECT, "sub")?;
    let expires_s = claims["exp"].as_u64().ok_or("exp")?;
    rule(
        expires_s > now_s() && expires_s <= now_s() + 86_400,
        "exp within a day",
    )?;
    browser.decrypt(request.body())?;
    let mut sent = answer(201, "");
    let name = format!("https://{PUSH_HOST}/m/1").parse().unwrap();
    sent.headers_mut().insert("location", name);
    Ok(sent)
}
