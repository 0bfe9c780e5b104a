//! The generic provider: a Standard Webhooks POST to a system of the operator's, which reaches the devices.
//!
//! Body: `{type: "push", timestamp, data: {user_id, devices: [token…], server_msg_id, conversation_id, seq, title, desc, ex,
//! sound, badge}}`. Answers: 2xx: all devices are served. 410 with `{gone: [token…]}`: these devices are gone, the others are
//! served; without the list all are gone. 429 and 5xx: try again. 401 and 403: the secret is wrong. Others: refused.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    VENDOR_TIMEOUT, Vendor,
    answer::{by_failure, by_status, for_each, read},
    notice::{Notice, Outcome},
};
use crate::{
    clock::Clock,
    message::{Device, Provider},
    outbound::{Outbound, WebhookSecrets, iso_8601},
};

/// The most devices of one call: as many as a user has.
const HTTP_DEVICES_MAX: usize = 100;

/// The generic provider.
pub(super) struct HttpProvider {
    pub(super) outbound: Outbound,
    pub(super) clock: Arc<Clock>,
    pub(super) url: Uri,
    pub(super) secrets: WebhookSecrets,
}

#[derive(Deserialize)]
struct GoneDevices {
    gone: Vec<String>,
}

impl HttpProvider {
    async fn send(&self, notice: &Notice, devices: &[Device]) -> Vec<Outcome> {
        let now_ms = self.clock.now_ms();
        let tokens: Vec<_> = devices.iter().map(|device| &*device.token).collect();
        let id = call_id(notice, &tokens);
        let body = json!({
            "type": "push",
            "timestamp": iso_8601(now_ms),
            "data": {
                "user_id": notice.user.as_str(),
                "devices": tokens,
                "server_msg_id": notice.id.to_string(),
                "conversation_id": notice.conversation_id,
                "seq": notice.seq.0,
                "title": notice.title,
                "desc": notice.shown(),
                "ex": notice.ex,
                "sound": notice.sound,
                "badge": notice.badge,
            },
        });
        let body = Bytes::from(body.to_string());
        let request = self.secrets.post(&self.url, &id, now_ms / 1000, body);
        let answer = match self.outbound.call(request, VENDOR_TIMEOUT).await {
            Ok(answer) => answer,
            Err(error) => return for_each(by_failure(&error), devices.len()),
        };
        match answer.status() {
            status if status.is_success() => for_each(Outcome::sent(&id), devices.len()),
            StatusCode::GONE => {
                let gone = read::<GoneDevices>(&answer).map(|answer| answer.gone);
                let outcomes = tokens.iter().map(|token| match &gone {
                    Some(gone) if !gone.iter().any(|other| other == token) => Outcome::sent(&id),
                    _ => Outcome::gone("410: gone"),
                });
                outcomes.collect()
            }
            StatusCode::NOT_FOUND => for_each(Outcome::refused("404 Not Found"), devices.len()),
            _ => for_each(by_status(&answer, ""), devices.len()),
        }
    }
}

/// The id of a call: the same for each repeat of the notice to the same devices.
fn call_id(notice: &Notice, tokens: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(notice.user.as_str());
    for token in tokens {
        hash.update([0]);
        hash.update(token);
    }
    let hash = hash.finalize();
    let short = hash.first_chunk().expect("a hash has 32 bytes");
    format!("push_{}_{:016x}", notice.id, u64::from_be_bytes(*short))
}

impl Vendor for HttpProvider {
    fn provider(&self) -> Provider {
        Provider::Http
    }

    fn devices_max(&self) -> usize {
        HTTP_DEVICES_MAX
    }

    fn push<'a>(
        &'a self,
        notice: &'a Notice,
        devices: &'a [Device],
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.send(notice, devices))
    }
}
