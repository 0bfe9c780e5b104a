//! Paths, panics, CORS, health, metrics and the API's own description.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use super::{
    super::{routes::routes, v3},
    Fault, Gateway, text_send,
};
use crate::{
    log::{AppendError, Cause, LogError},
    threads::watched,
};

/// OpenIM v2's calls in both spellings, and our own.
const POSTS: [&str; 25] = [
    "/log/backup",
    "/webhook/dead_letters",
    "/webhook/send_again",
    "/manager/send_msg",
    "/msg/manage_send_msg",
    "/manager/batch_send_msg",
    "/msg/batch_send_msg",
    "/msg/trace",
    "/msg/check_msg_is_send_success",
    "/auth/user_token",
    "/auth/user_register",
    "/auth/parse_token",
    "/auth/force_logout",
    "/user/get_users_online_status",
    "/manager/get_users_online_status",
    "/msg/newest_seq",
    "/msg/pull_msg_by_seq",
    "/msg/del_msg",
    "/user/get_online_users",
    "/clock/accept",
    "/conversation/list",
    "/conversation/mark_read",
    "/device/list",
    "/device/remove",
    "/user/erase",
];
const GETS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];
/// A call for administrators.
const CONFIG: &str = "/gateway/config";

#[tokio::test]
async fn every_path_of_the_design_is_mounted_and_described() {
    let gateway = Gateway::new();
    let document = gateway.get("/openapi.json").await.json();
    let described = document["paths"].as_object().unwrap();
    for path in POSTS {
        let reply = gateway.post(path, &json!({})).await;
        assert_eq!(reply.verdict(), (400, 400), "{path}");
        assert!(described[path]["post"]["requestBody"].is_object(), "{path}");
        assert!(
            described[path]["post"]["responses"]["200"].is_object(),
            "{path}"
        );
    }
    assert!(described[CONFIG]["get"]["security"].is_array());
    for path in GETS {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
        assert!(
            described[path]["get"]["responses"]["200"].is_object(),
            "{path}"
        );
    }
    let mounted: usize = routes().iter().map(|route| route.paths.len()).sum();
    assert_eq!(mounted, POSTS.len() + GETS.len() + 1);
    let of_v3 = v3::routes().map(|route| route.paths[0]);
    let both = of_v3.iter().filter(|path| POSTS.contains(path)).count();
    assert_eq!((of_v3.len(), both), (16, 4));
    assert_eq!(described.len(), mounted + of_v3.len() - both);
    for path in of_v3 {
        let call = &described[path]["post"];
        assert_eq!(call["parameters"][0]["name"], "operationID", "{path}");
        assert!(call["requestBody"].is_object(), "{path}");
    }
}

#[tokio::test]
async fn empty_pieces_of_a_path_are_passed_over() {
    let gateway = Gateway::new();
    for path in [
        "//manager/send_msg",
        "/manager//send_msg",
        "/manager/send_msg/",
        "///manager//send_msg//?a=b//c",
    ] {
        gateway.post(path, &text_send()).await.data();
    }
    assert_eq!(gateway.get("/healthz/").await.status, 200);
    assert_eq!(gateway.get("//console//app.js").await.status, 200);
    for path in [
        "//",
        "/manager/send",
        "//manager/send_msg/x",
        "/manager%2Fsend_msg",
    ] {
        let reply = gateway.post(path, &text_send()).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    assert_eq!(gateway.get("//manager/send_msg").await.status, 405);
}

#[tokio::test]
async fn every_reference_of_the_description_resolves() {
    fn check(document: &Value, value: &Value, references: &mut usize) {
        match value {
            Value::Object(entries) => {
                if let Some(Value::String(reference)) = entries.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                    *references += 1;
                }
                entries
                    .values()
                    .for_each(|value| check(document, value, references));
            }
            Value::Array(items) => items
                .iter()
                .for_each(|value| check(document, value, references)),
            _ => {}
        }
    }
    let document = Gateway::new().get("/openapi.json").await.json();
    let mut references = 0;
    check(&document, &document, &mut references);
    assert!(references > 40, "{references}");
    let send = &document["components"]["schemas"]["SendRequest"];
    let required = json!([
        "operationID",
        "sendID",
        "content",
        "contentType",
        "sessionType"
    ]);
    assert_eq!(send["required"], required);
    assert_eq!(send["properties"]["recvID"]["type"], "string");
    assert_eq!(
        document["components"]["schemas"]["Content101Text"]["required"],
        json!(["text"])
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_json_too() {
    let gateway = Gateway::new();
    for path in ["/", "/manager", "/msg/none", "/%00", "//"] {
        let reply = gateway.post(path, &text_send()).await;
        reply.assert_refused(404, 404, "no such path");
    }
    gateway
        .get("/manager/send_msg")
        .await
        .assert_refused(405, 405, "no such method on this path");
    let delete = Request::delete("/healthz").body(Body::empty()).unwrap();
    assert_eq!(gateway.ask(delete).await.verdict(), (405, 405));
}

#[tokio::test]
async fn browsers_of_any_origin_may_ask() {
    let gateway = Gateway::new();
    let preflight = Request::options("/manager/send_msg").header("origin", "http://oa.example");
    let reply = gateway.ask(preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.status, 200);
    for header in ["allow-origin", "allow-headers", "allow-methods"] {
        assert_eq!(reply.header(&format!("access-control-{header}")), Some("*"));
    }
    let refused = gateway.post_open("/manager/send_msg", &text_send()).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn a_panic_is_answered_and_the_next_request_is_served() {
    let gateway = Gateway::new();
    gateway.log.fail(Fault::Panic);
    let body = json!({ "operationID": "op", "reqIdentifier": 1, "msgIncr": 1, "sendID": "u1" });
    let reply = gateway.post("/msg/newest_seq", &body).await;
    assert_eq!(reply.verdict(), (500, 500));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    gateway.send(&text_send()).await.data();
}

#[tokio::test]
async fn readiness_gives_its_reason() {
    let gateway = Gateway::new();
    assert_eq!(gateway.get("/readyz").await.status, 200);
    let full = LogError::new(Cause::Full, "the disk is full: make room");
    gateway.log.fail(Fault::Refuse(AppendError::Refusing(full)));
    let reply = gateway.get("/readyz").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("the disk is full"), "{}", reply.body);
    assert_eq!(gateway.get("/healthz").await.status, 200);

    let gateway = Gateway::new();
    gateway.delivery.start_draining();
    let reply = gateway.get("/readyz").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("draining"), "{}", reply.body);
}

#[tokio::test]
async fn a_thread_that_has_ended_is_neither_ready_nor_healthy() {
    let gateway = Gateway::new();
    let (pulse, thread) = watched("log-writer");
    gateway.watch.add([thread]);
    assert_eq!(gateway.get("/healthz").await.status, 200);
    drop(pulse);
    gateway.watch.ended().await;
    for path in ["/healthz", "/readyz"] {
        let reply = gateway.get(path).await;
        assert_eq!(reply.status, 503, "{path}");
        assert!(
            reply.body.contains("log-writer has ended"),
            "{}",
            reply.body
        );
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let gateway = Gateway::new();
    gateway.send(&text_send()).await.data();
    gateway
        .post("/msg/manage_send_msg", &text_send())
        .await
        .data();
    gateway.post_open("/manager/send_msg", &text_send()).await;
    gateway.get("/nowhere").await;
    let reply = gateway.get("/metrics").await;
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        r#"towncrier_admin_requests_total{path="/manager/send_msg",status="200"} 2"#,
        r#"towncrier_admin_requests_total{path="/manager/send_msg",status="400"} 1"#,
        r#"towncrier_admin_requests_total{path="other",status="404"} 1"#,
        r#"towncrier_admin_request_seconds_count{path="/manager/send_msg"} 3"#,
    ] {
        assert!(
            reply.body.lines().any(|found| found == line),
            "{line} in\n{}",
            reply.body
        );
    }
}
