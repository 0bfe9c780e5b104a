//! P6: messages that retention removed before a client had them are announced with their range.

use towncrier::protocol::towncrier_v1::proto::gap;

use crate::support::{Gateway, IOS, WEB, eventually, notice, seqs_of};

#[tokio::test]
async fn what_expired_is_announced_and_the_rest_comes_whole() {
    const SENT: u64 = 24;
    let gateway = Gateway::start(&["log.segment_bytes=65536", "log.retention_bytes=131072"]).await;
    let mut admin = gateway.admin().await;
    let away = gateway.connect("alice", WEB).await;
    let epoch = away.welcome.epoch;
    drop(away);
    for _ in 0..SENT {
        admin.send(&notice("alice", &"x".repeat(20_000))).await;
    }
    // The keeper works until the log is within its bound. The rest must be stable before a client asks for it.
    eventually("retention", async || {
        let (first, _) = admin.bounds("alice").await;
        first > 1 && admin.metric("towncrier_log_bytes").await <= 131_072.0
    })
    .await;
    let (first, head) = admin.bounds("alice").await;
    assert_eq!(head, SENT);

    let mut web = gateway.resume("alice", WEB, epoch, 0).await;
    assert_eq!((web.welcome.first, web.welcome.head), (first, head));
    let gap = web.expect_gap().await;
    assert_eq!(
        (gap.from_seq, gap.to_seq, gap.reason()),
        (1, first - 1, gap::Reason::Expired)
    );
    assert_eq!(
        seqs_of(&web.expect_whole_inbox().await),
        (first..=head).collect::<Vec<_>>()
    );

    // A session that was never connected lost nothing.
    let mut phone = gateway.connect("alice", IOS).await;
    assert_eq!(phone.welcome.cursor, first - 1);
    assert_eq!(
        phone.expect_whole_inbox().await.len() as u64,
        head - first + 1
    );
    assert!(admin.metric("towncrier_messages_expired_total").await >= (first - 1) as f64);
}
