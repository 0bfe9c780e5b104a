//! The tools of the scenarios: a real gateway process, its admin API, raw connections, clients that land, a ledger.
//!
//! - `gateway.rs`: the process: start, kill, signal, restart on the same directory
//! - `admin.rs`: calls over HTTP
//! - `client.rs`: one WebSocket that sends and receives exactly what a test wants
//! - `listener.rs`: a client by the landing rule, which reconnects until it is told to stop
//! - `postgres.rs`: a PostgreSQL server for gateways of one store
//! - `receiver.rs`: a receiver of webhooks, which verifies and remembers
//! - `witness.rs`: an honest client that hostile ones must not disturb
//! - `vendor.rs`: a stand-in for a vendor of push services
//! - `authority.rs`: certificates
//! - `postgres.rs`: a PostgreSQL server; `cable.rs`: a cable between two gateways
//! - `login_server.rs`: a company's own login, which signs tokens
//! - `vendors/`: stand-ins of the vendors of push services
//! - `ledger.rs`: a run under the load rig's ledger, which compares accepted and landed messages
//!
//! Every wait has a deadline. No test sleeps in the hope that something has happened meanwhile.

pub(crate) mod admin;
pub(crate) mod authority;
pub(crate) mod cable;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod ledger;
pub(crate) mod listener;
pub(crate) mod login_server;
pub(crate) mod postgres;
pub(crate) mod receiver;
pub(crate) mod vendor;
pub(crate) mod vendors;
pub(crate) mod witness;

use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use self::{
    client::{Client, Heard},
    gateway::Gateway,
};

/// Platforms by number.
pub(crate) const IOS: u32 = 1;
pub(crate) const WINDOWS: u32 = 3;
pub(crate) const WEB: u32 = 5;

/// The administrator of the defaults.
pub(crate) const ADMIN: &str = "openIM123456";

/// Far longer than anything takes on a busy machine. A wait that exceeds it is a failure, not a measurement.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `awaited`, and fails by its name when it does not come.
pub(crate) async fn within<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, awaited)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come within {DEADLINE:?}"))
}

/// Repeats the question until the answer is yes, for facts that the gateway shows only on request.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A send request for one notice of type 1400.
pub(crate) fn notice(to: &str, text: &str) -> Value {
    json!({
        "operationID": "scenario",
        "sendID": ADMIN,
        "recvID": to,
        "senderNickname": "Office",
        "senderFaceURL": "http://oa.example/face.png",
        "content": {"notificationName": "Notice", "notificationType": 1, "text": text, "mixType": 0},
        "contentType": 1400,
        "sessionType": 4,
    })
}

/// The `text` in a message's content.
pub(crate) fn text_of(message: &towncrier::protocol::towncrier_v1::proto::Message) -> String {
    let content: Value = serde_json::from_slice(&message.content).expect("content is JSON");
    content["text"].as_str().expect("a text").to_owned()
}

/// The seqs of messages, in the order they came.
pub(crate) fn seqs_of(messages: &[towncrier::protocol::towncrier_v1::proto::Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

/// The seed of a random run: a new one, or `TOWNCRIER_SEED`. The caller prints it.
pub(crate) fn seed() -> u64 {
    std::env::var("TOWNCRIER_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap())
}
