//! P7: a client that does not read costs bounded memory, is closed, loses nothing, and delays nobody else.

use crate::support::{Client, Gateway, Heard, WEB, eventually, notice};

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_resumes_while_others_get_theirs() {
    const SENT: usize = 200;
    let gateway = Gateway::start(&[
        "listener.stall_timeout=300ms",
        "listener.send_buffer_bytes=4096",
        "listener.reactors=1",
    ])
    .await;
    let mut admin = gateway.admin().await;
    let mut stuck = Client::dial_narrow(gateway.place().clients).await.unwrap();
    let connect = towncrier::protocol::towncrier_v1::proto::Connect {
        token: gateway.token("stuck", WEB).await,
        ..Default::default()
    };
    stuck.log_in(connect).await;
    let epoch = stuck.welcome.epoch;
    let mut lively = gateway.connect("lively", WEB).await;

    let text = "x".repeat(30_000);
    for number in 0..SENT {
        let mut batch = notice("", &text);
        batch["recvIDList"] = serde_json::json!(["stuck", "lively"]);
        let answer = admin.post("/manager/batch_send_msg", &batch).await;
        assert_eq!(answer.code(), 0);
        // The lively client, on the same thread, gets each message before the next is sent.
        let message = lively.expect_push().await;
        assert_eq!(message.seq, number as u64 + 1);
        lively.ack(message.seq).await;
    }
    eventually("4502", async || admin.closed(4502).await == 1.0).await;
    // First the bytes that the kernel held come, then the end.
    loop {
        match stuck.hear().await {
            Heard::Frame(_) => {}
            Heard::Closed { code, .. } => {
                assert_eq!(code, 4502);
                break;
            }
            Heard::Lost => break,
        }
    }
    let mut back = gateway.resume("stuck", WEB, epoch, 0).await;
    assert_eq!(back.expect_whole_inbox().await.len(), SENT);
}
