//! The header decides which version answers.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use super::{ADMIN, Gateway, text_v3, with};
use crate::{
    admin::{tests::text_send, v3::routes},
    log::{AppendError, Cause, LogError, tests::memory::Fault},
};

#[tokio::test]
async fn a_path_of_both_versions_answers_in_the_words_of_the_request() {
    let gateway = Gateway::new();
    let body = with(text_send(), "recvIDList", json!(["u1"]));
    let body = with(body, "recvID", Value::Null);
    let v2 = gateway.post("/msg/batch_send_msg", &body).await.data();
    assert_eq!(v2["resultList"][0]["recvID"], "u1");
    let body = with(text_v3(), "recvIDs", json!(["u1"]));
    let body = with(body, "recvID", Value::Null);
    let v3 = gateway.v3("/msg/batch_send_msg", &body).await.data_v3();
    assert_eq!(v3["results"][0]["recvID"], "u1");

    let asked = json!({ "operationID": "op", "userIDList": ["u1"] });
    let v2 = gateway.post("/user/get_users_online_status", &asked).await;
    assert_eq!(v2.data()[0]["status"], "offline");
    let asked = json!({ "userIDs": ["u1"] });
    let v3 = gateway.v3("/user/get_users_online_status", &asked).await;
    let expected = json!([{ "userID": "u1", "status": 0, "detailPlatformStatus": [] }]);
    assert_eq!(v3.data_v3(), expected);

    let broken = gateway.post_text("/msg/batch_send_msg", ADMIN, "{").await;
    assert_eq!(broken.verdict(), (400, 400));
    assert!(broken.json().get("errDlt").is_none());
}

#[tokio::test]
async fn a_call_of_v3_needs_the_header() {
    let gateway = Gateway::new();
    for route in routes() {
        let path = route.paths[0];
        let empty = Request::post(path)
            .header("operationID", "")
            .header("token", gateway.token(ADMIN));
        let reply = gateway.ask(empty.body(Body::empty()).unwrap()).await;
        let sentence = reply.refused_v3(1001, "ArgsError");
        assert_eq!(sentence, "the header operationID is required", "{path}");
    }
    let reply = gateway.post("/msg/send_msg", &text_v3()).await;
    reply.refused_v3(1001, "ArgsError");
}

#[tokio::test]
async fn unknown_paths_methods_and_browsers_are_answered() {
    let gateway = Gateway::new();
    let reply = gateway.v3("/msg/nothing", &json!({})).await;
    assert_eq!(reply.verdict(), (404, 1004));
    assert_eq!(reply.json()["errMsg"], "RecordNotFoundError");
    let get = Request::get("/msg/send_msg").header("operationID", "op");
    let reply = gateway.ask(get.body(Body::empty()).unwrap()).await;
    reply.refused_v3(1001, "ArgsError");
    for path in ["/msg/send_msg", "/msg/batch_send_msg"] {
        let preflight = Request::options(path).body(Body::empty()).unwrap();
        let reply = gateway.ask(preflight).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("access-control-allow-headers"), Some("*"));
    }
    let reply = gateway.v3("//msg//send_msg/", &text_v3()).await;
    reply.data_v3();
}

#[tokio::test]
async fn faults_have_v3s_code_and_are_counted_as_faults() {
    let gateway = Gateway::new();
    gateway.log.fail(Fault::Refuse(AppendError::QueueFull));
    let reply = gateway.v3("/msg/send_msg", &text_v3()).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    let sentence = reply.refused_v3(500, "ServerInternalError");
    assert!(sentence.starts_with("429: "), "{sentence}");
    let full = LogError::new(Cause::Full, "the disk is full");
    gateway.log.fail(Fault::Refuse(AppendError::Refusing(full)));
    let reply = gateway.v3("/msg/send_msg", &text_v3()).await;
    let sentence = reply.refused_v3(500, "ServerInternalError");
    assert!(sentence.starts_with("50301: "), "{sentence}");
    let metrics = gateway.get("/metrics").await.body;
    for line in [
        r#"towncrier_admin_requests_total{path="/msg/send_msg",status="429"} 1"#,
        r#"towncrier_admin_requests_total{path="/msg/send_msg",status="503"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
}
