//! Sends while the log fails or the gateway drains.

use std::time::Duration;

use serde_json::json;

use super::{Fault, Gateway, admin_config, text_send};
use crate::log::{AppendError, Cause, LogError, tests::memory::Answering};

#[tokio::test]
async fn what_the_log_refuses_is_told_apart() {
    let error = |cause| LogError::new(cause, "secret detail");
    let refusing = |cause| AppendError::Refusing(error(cause));
    let read = |cause| AppendError::Read(error(cause));
    for (error, status, code, retry_after) in [
        (AppendError::QueueFull, 429, 429, Some("1")),
        (AppendError::KeyReused, 409, 409, None),
        (refusing(Cause::Full), 503, 50301, Some("10")),
        (refusing(Cause::WriteFailed), 503, 50302, Some("60")),
        (refusing(Cause::Damaged), 503, 50303, Some("60")),
        (AppendError::OutcomeUnknown, 503, 50304, Some("5")),
        (refusing(Cause::Closed), 503, 50305, Some("5")),
        (refusing(Cause::Away), 503, 50311, Some("5")),
        (refusing(Cause::LookupFailed), 503, 50306, Some("60")),
        (read(Cause::Damaged), 503, 50303, Some("60")),
        (read(Cause::LookupFailed), 503, 50306, Some("60")),
        (read(Cause::ReadFailed), 503, 50307, Some("10")),
    ] {
        for fault in [
            Fault::Refuse(error.clone()),
            Fault::FailLater(error.clone()),
        ] {
            let gateway = Gateway::new();
            gateway.log.fail(fault);
            let reply = gateway.send(&text_send()).await;
            assert_eq!(reply.verdict(), (status, code), "{error}");
            assert_eq!(reply.header("retry-after"), retry_after, "{error}");
            assert!(
                !reply.body.contains("secret detail"),
                "causes are the operator's: {}",
                reply.body
            );
        }
    }
}

#[tokio::test]
async fn draining_refuses_sends() {
    let gateway = Gateway::new();
    gateway.delivery.start_draining();
    let reply = gateway.send(&text_send()).await;
    assert_eq!(reply.verdict(), (503, 50305));
    assert_eq!(reply.header("retry-after"), Some("5"));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_answer_leaves_the_outcome_unknown() {
    let gateway = Gateway::with(&crate::config::Admin {
        request_timeout: Duration::from_secs(3),
        ..admin_config()
    });
    gateway.log.fail(Fault::Hang);
    let reply = gateway.send(&text_send()).await;
    assert_eq!(reply.verdict(), (503, 50304));
    assert_eq!(reply.header("retry-after"), Some("5"));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_disk_does_not_answer_fails_in_time() {
    let gateway = Gateway::new();
    let sent = gateway.send(&text_send()).await.data();
    let id = &sent["serverMsgID"];
    for (path, body) in [
        (
            "/msg/trace",
            json!({ "operationID": "op", "serverMsgID": id }),
        ),
        (
            "/msg/newest_seq",
            json!({ "operationID": "op", "reqIdentifier": 1001, "msgIncr": 9, "sendID": "u1" }),
        ),
        (
            "/msg/pull_msg_by_seq",
            json!({ "operationID": "op", "reqIdentifier": 1002, "sendID": "u1", "seqList": [1] }),
        ),
    ] {
        gateway.log.rows().answering = Answering::Held;
        // The question for the token's times is answered, and the next one is not.
        let reply = gateway.post(path, &body);
        let (reply, released) = tokio::join!(reply, async { gateway.log.release() });
        assert_eq!(released, 1);
        assert_eq!(reply.verdict(), (503, 50307), "{path}");
        gateway.log.rows().answering = Answering::Now;
        assert_eq!(
            gateway.post(path, &body).await.verdict(),
            (200, 0),
            "{path}"
        );
        gateway.log.release();
    }
}

#[tokio::test]
async fn a_writer_that_goes_away_without_an_answer_leaves_the_outcome_unknown() {
    let gateway = Gateway::new();
    gateway.log.fail(Fault::Vanish);
    assert_eq!(gateway.send(&text_send()).await.verdict(), (503, 50304));
}

#[tokio::test]
async fn the_status_of_an_operation_is_its_newest_sends() {
    let gateway = Gateway::new();
    let status = async |operation: &str| {
        let body = json!({ "operationID": operation });
        let reply = gateway.post("/msg/check_msg_is_send_success", &body).await;
        assert_eq!(reply.verdict(), (200, 0));
        reply.json()["status"].as_u64().unwrap()
    };
    assert_eq!(status("op").await, 0);
    gateway.send(&text_send()).await.data();
    assert_eq!(status("op").await, 2);
    gateway.log.fail(Fault::Refuse(AppendError::QueueFull));
    gateway.send(&text_send()).await;
    assert_eq!(status("op").await, 3);
    // A send whose outcome nobody knows has not failed.
    gateway.log.fail(Fault::Vanish);
    gateway.send(&text_send()).await;
    assert_eq!(status("op").await, 0);
    assert_eq!(status("other").await, 0);
    let reply = gateway
        .post("/msg/check_msg_is_send_success", &json!({}))
        .await;
    reply.assert_refused(400, 400, "operationID is required");
}
