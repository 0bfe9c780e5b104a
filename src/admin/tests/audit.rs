//! The audit log.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use axum::http::Request;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::EnvFilter;

use super::{ADMIN, Fault, Gateway, SECRET, admin_config, text_send, with, without};
use crate::{admin::audit::LISTED_IN_LINE_MAX, config, door::CallerAddress};

/// The lines that a test's thread logged, as JSON.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    /// Keeps what this thread logs until the guard is dropped.
    fn begin(filter: &str) -> (Self, DefaultGuard) {
        let written = Self::default();
        let sink = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(move || sink.clone())
            .finish();
        (written, tracing::subscriber::set_default(subscriber))
    }

    /// The fields of each line of the audit log.
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["target"], "towncrier::audit", "{line}");
            line["fields"].clone()
        });
        lines.collect()
    }
}

const FILTER: &str = "off,towncrier::audit=info";

#[tokio::test]
async fn a_call_that_changes_something_has_one_line_and_others_have_none() {
    let gateway = Gateway::new();
    let (written, _guard) = Written::begin(FILTER);
    let sent = gateway.send(&text_send()).await.data();
    let many: Vec<_> = (0..LISTED_IN_LINE_MAX + 2)
        .map(|n| format!("u{n}"))
        .collect();
    let batch = with(without(text_send(), "recvID"), "recvIDList", json!(many));
    gateway.post("/msg/batch_send_msg", &batch).await.data();
    let logout = json!({ "operationID": "op", "fromUserID": "u1", "platform": 5 });
    gateway.post("/auth/force_logout", &logout).await.data();
    gateway
        .post("/msg/trace", &json!({ "serverMsgID": sent["serverMsgID"] }))
        .await;
    gateway.post("/msg/trace", &json!({})).await;
    let lines = written.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let send = &lines[0];
    assert_eq!(send["call"], "/manager/send_msg");
    assert_eq!(send["by"], ADMIN);
    assert_eq!(send["sender"], ADMIN);
    assert_eq!(send["users"], r#"["u1"]"#);
    assert_eq!(send["ids"], format!("[{}]", sent["serverMsgID"]));
    assert_eq!(
        (&send["err_code"], &send["outcome"]),
        (&json!(0), &json!("done"))
    );
    assert_eq!(lines[1]["call"], "/msg/batch_send_msg");
    assert_eq!(lines[1]["users_total"], 10);
    let users: Vec<String> = serde_json::from_str(lines[1]["users"].as_str().unwrap()).unwrap();
    assert_eq!(users, many[..LISTED_IN_LINE_MAX]);
    assert_eq!(lines[2]["platform"], "Web");
    assert!(!format!("{lines:?}").contains("hello"), "no content");
}

#[tokio::test]
async fn the_line_says_from_where_and_what_became_of_it() {
    let gateway = Gateway::with(&config::Admin {
        sends_per_second_max: 1,
        ..admin_config()
    });
    let (written, _guard) = Written::begin(FILTER);
    let mut request = Request::post("/manager/send_msg")
        .header("token", gateway.token(ADMIN))
        .body(text_send().to_string().into())
        .unwrap();
    let from = CallerAddress("192.0.2.7".parse().unwrap());
    request.extensions_mut().insert(from);
    gateway.ask(request).await.data();
    let refused = gateway.send(&text_send()).await;
    assert_eq!(refused.verdict(), (429, 429));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let wrong = json!({ "operationID": "op", "userID": "u1", "platform": 5, "secret": "wrong" });
    gateway.post_open("/auth/user_token", &wrong).await;
    let right = with(wrong, "secret", json!(SECRET));
    gateway.post_open("/auth/user_token", &right).await.data();
    // A user who tries an administrator's call is named; whoever has no good token and no right secret is nobody.
    gateway
        .post_as("u7", "/manager/send_msg", &text_send())
        .await;
    gateway.post_open("/manager/send_msg", &text_send()).await;
    let lines = written.lines();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["by"].as_str().unwrap(),
                line["err_code"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [(ADMIN, 0), (ADMIN, 429), ("auth.secret", 0), ("u7", 400)]
    );
    assert_eq!(lines[0]["from"], "192.0.2.7");
    assert_eq!(lines[1]["outcome"], "refused");
    let all = format!("{lines:?}");
    assert!(!all.contains("wrong") && !all.contains(SECRET), "{all}");
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_has_a_line_and_the_filter_leaves_all_out() {
    let gateway = Gateway::new();
    let (written, guard) = Written::begin(FILTER);
    gateway.log.fail(Fault::Hang);
    let body = text_send();
    let mut sending = Box::pin(gateway.send(&body));
    assert!((&mut sending).now_or_never().is_none());
    drop(sending);
    let lines = written.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["outcome"], "unknown");
    assert!(lines[0].get("err_code").is_none());
    drop(guard);
    let gateway = Gateway::new();
    let (written, _guard) = Written::begin("info,towncrier::audit=off");
    gateway.send(&text_send()).await.data();
    assert!(written.0.lock().unwrap().is_empty());
}
