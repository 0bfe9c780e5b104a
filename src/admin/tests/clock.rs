//! A doubted clock: no token is judged by it, and an administrator confirms it.

use axum::http::Request;
use serde_json::json;

use super::{ADMIN, Gateway, text_send};

#[tokio::test]
async fn a_token_out_of_its_time_is_not_judged_while_the_clock_is_doubted() {
    let gateway = Gateway::new();
    let good = gateway.token(ADMIN);
    let ask = async |token: &str| {
        let request = Request::post("/manager/send_msg").header("token", token);
        let reply = gateway.ask(request.body(text_send().to_string().into()).unwrap());
        reply.await
    };
    gateway.machine.jump(100 * 86_400_000);
    ask(&good).await.data();
    gateway.machine.advance(91 * 86_400_000);
    let reply = ask(&good).await;
    assert_eq!(reply.verdict(), (503, 50308));
    assert!(reply.headers.contains_key("retry-after"));
    // A fault that does not depend on the clock is still reported.
    assert_eq!(ask("no token").await.verdict(), (400, 400));
    let ready = gateway.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("8640000 s ahead of"), "{}", ready.body);

    let body = json!({ "operationID": "op" });
    let accepted = gateway.post("/clock/accept", &body).await.data();
    assert_eq!(accepted["moved"], 100 * 86_400_000_i64);
    assert_eq!(ask(&good).await.verdict(), (400, 400), "it has expired");
    assert_eq!(gateway.get("/readyz").await.body, "ready\n");
}

/// The machine was off, and starts with a wall clock that may be wrong.
#[tokio::test]
async fn a_token_that_was_good_at_the_last_known_time_is_not_judged_by_an_assumed_time() {
    const DAY_MS: u64 = 86_400_000;
    const YEAR_MS: u64 = 365 * DAY_MS;
    let gateway = Gateway::new();
    let ask = async |token: &str| {
        let request = Request::post("/manager/send_msg").header("token", token);
        let reply = gateway.ask(request.body(text_send().to_string().into()).unwrap());
        reply.await.verdict()
    };
    let before = gateway.token(ADMIN);
    gateway.machine.advance(91 * DAY_MS);
    let good = gateway.token(ADMIN);
    let mark = gateway.clock.mark();
    gateway.machine.restart(YEAR_MS);
    gateway.clock.resume(Some(mark), 0);
    let ready = gateway.get("/readyz").await;
    assert_eq!(ready.status, 200);
    let line = "ready\nthe time is assumed, 31536000 s after the last known time";
    assert!(ready.body.starts_with(line), "{}", ready.body);
    assert!(ready.body.contains("/clock/accept"), "{}", ready.body);
    assert_eq!(ask(&good).await, (503, 50308));
    assert_eq!(ask(&before).await, (400, 400), "it had expired before");
    assert_eq!(ask("no token").await, (400, 400));
    let by_the_assumed_time = gateway.token(ADMIN);
    assert_eq!(ask(&by_the_assumed_time).await, (200, 0));

    // The wall clock is set right. Both times are doubted until one of them holds for an hour.
    gateway.machine.jump(-(YEAR_MS as i64));
    gateway.clock.observe();
    assert_eq!(ask(&good).await, (503, 50308));
    let body = json!({ "operationID": "op" });
    let confirm = Request::post("/clock/accept").header("token", &by_the_assumed_time);
    let confirm = confirm.body(body.to_string().into()).unwrap();
    gateway.ask(confirm).await.data();
    assert_eq!(ask(&good).await, (200, 0));
    assert_eq!(ask(&by_the_assumed_time).await, (400, 400));
    assert_eq!(gateway.get("/readyz").await.body, "ready\n");
}

#[tokio::test]
async fn only_an_administrator_confirms_the_clock() {
    let gateway = Gateway::new();
    let body = json!({ "operationID": "op" });
    let reply = gateway.post_as("u1", "/clock/accept", &body).await;
    reply.assert_refused(400, 400, "not authorized");
    let reply = gateway.post("/clock/accept", &json!({})).await;
    reply.assert_refused(400, 400, "operationID is required");
}
