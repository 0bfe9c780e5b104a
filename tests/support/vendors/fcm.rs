//! FCM: OAuth 2.0 for a service account, and HTTP v1.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use hyper::{Request, Response};
use ring::signature::{KeyPair as _, RsaKeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{
    claims::rs256,
    server::{Checked, StandIn, answer, body_of, header, now_s, rule},
};
use crate::support::authority::Authority;

/// A key made for these tests.
const KEY: &str = include_str!("service_account_key.pem");
const EMAIL: &str = "push@towncrier-tests.iam.gserviceaccount.com";
/// The receiver that a grant's claims must name, whatever URL is asked.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const PROJECT: &str = "towncrier-tests";

/// Google: grants and messages on one port.
pub(crate) struct Google {
    pub(crate) stand_in: StandIn,
    dir: tempfile::TempDir,
    /// The number of the access token in use; 0: none.
    token: Arc<AtomicU64>,
}

impl Google {
    pub(crate) async fn start(tls: Option<&Authority>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let account = json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "key-1",
            "private_key": KEY,
            "client_email": EMAIL,
            "token_uri": TOKEN_URI,
        });
        fs::write(dir.path().join("account.json"), account.to_string()).unwrap();
        let token = Arc::new(AtomicU64::new(0));
        let of_server = Arc::clone(&token);
        let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let stand_in = StandIn::start(tls, move |request| match request.uri().path() {
            "/token" => grant(request, &public, &of_server),
            _ => send(request, &of_server),
        });
        Self {
            stand_in: stand_in.await,
            dir,
            token,
        }
    }

    /// The file of the service account.
    pub(crate) fn account(&self) -> PathBuf {
        self.dir.path().join("account.json")
    }

    /// The access token in use runs out before its time.
    pub(crate) fn forget_token(&self) {
        self.token.fetch_add(1, Relaxed);
    }

    /// The number of grants so far.
    pub(crate) fn grants(&self) -> usize {
        let calls = self.stand_in.calls().into_iter();
        calls.filter(|call| call.uri().path() == "/token").count()
    }
}

fn grant(request: &Request<Bytes>, public: &[u8], token: &AtomicU64) -> Checked {
    rule(request.method() == "POST", "POST")?;
    let form = "application/x-www-form-urlencoded";
    rule(header(request, "content-type") == form, "a form")?;
    let body = String::from_utf8(request.body().to_vec()).map_err(|_| "UTF-8")?;
    let head = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = body.strip_prefix(head).ok_or("grant_type")?;
    let Ok((head, claims)) = rs256(assertion, public) else {
        let words =
            json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."});
        return Ok(answer(400, words));
    };
    rule(head["typ"] == "JWT" && head["kid"] == "key-1", "the header")?;
    rule(
        claims["iss"] == EMAIL && claims["aud"] == TOKEN_URI,
        "iss and aud",
    )?;
    let scope = "https://www.googleapis.com/auth/firebase.messaging";
    rule(claims["scope"] == scope, "scope")?;
    let (issued_s, expires_s) = (claims["iat"].as_u64(), claims["exp"].as_u64());
    let (issued_s, expires_s) = (issued_s.ok_or("iat")?, expires_s.ok_or("exp")?);
    rule(
        issued_s.abs_diff(now_s()) < 300 && expires_s <= issued_s + 3600,
        "iat and exp",
    )?;
    let number = token.fetch_add(1, Relaxed) + 1;
    let granted = format!("ya29.{number}");
    Ok(answer(
        200,
        json!({"access_token": granted, "expires_in": 3599, "token_type": "Bearer"}),
    ))
}

fn send(request: &Request<Bytes>, token: &AtomicU64) -> Checked {
    rule(request.method() == "POST", "POST")?;
    let path = format!("/v1/projects/{PROJECT}/messages:send");
    rule(request.uri().path() == path, "the path")?;
    if header(request, "authorization") != format!("Bearer ya29.{}", token.load(Relaxed)) {
        return Ok(error(401, "UNAUTHENTICATED", None));
    }
    rule(
        header(request, "content-type") == "application/json",
        "JSON",
    )?;
    let body = body_of(request);
    let message = &body["message"];
    rule(message["token"].is_string(), "token")?;
    let data = message["data"].as_object().ok_or("data")?;
    rule(data.values().all(Value::is_string), "data has only texts")?;
    rule(
        data.contains_key("server_msg_id") && data.contains_key("seq"),
        "the message",
    )?;
    let notification = &message["notification"];
    rule(notification["title"].is_string(), "title")?;
    let size = notification.to_string().len() + message["data"].to_string().len();
    rule(size <= 4096, "4,096 bytes")?;
    let android = &message["android"];
    rule(android["priority"] == "HIGH", "priority")?;
    rule(
        android["ttl"]
            .as_str()
            .is_some_and(|ttl| ttl.ends_with('s')),
        "ttl",
    )?;
    rule(
        android["notification"]["tag"] == data["server_msg_id"],
        "tag",
    )?;
    let headers = message["apns"]["headers"].as_object().ok_or("apns")?;
    rule(
        headers.values().all(Value::is_string),
        "apns headers are texts",
    )?;
    Ok(answer(
        200,
        json!({"name": format!("projects/{PROJECT}/messages/0:1")}),
    ))
}

/// An error as Google words it, with FCM's own code where there is one.
pub(crate) fn error(status: u16, word: &str, code: Option<&str>) -> Response<Bytes> {
    let details = code.map(|code| {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        json!([{"@type": kind, "errorCode": code}])
    });
    let error = json!({
        "code": status,
        "message": "the vendor's words",
        "status": word,
        "details": details.unwrap_or_else(|| json!([])),
    });
    answer(status, json!({"error": error}))
}

/// `INVALID_ARGUMENT` of this field.
pub(crate) fn invalid(field: &str) -> Response<Bytes> {
    let details = json!([
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"},
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": field}]},
    ]);
    let error = json!({"code": 400, "message": "the vendor's words", "status": "INVALID_ARGUMENT", "details": details});
    answer(400, json!({"error": error}))
}
