//! P2 on a full disk: sends are refused and never delivered, but nothing ends. Once there is room again, the gateway recovers
//! without help.

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{Gateway, WEB, eventually, notice, text_of};

#[tokio::test]
async fn a_limit_of_file_sizes_refuses_sends_until_it_is_raised_and_ends_nothing() {
    // No checkpoint may come meanwhile, because this test is about the log's own files.
    let mut gateway = Gateway::start(&["log.checkpoint_interval=1h"]).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("alice", "before")).await;
    let process = Pid::from_raw(gateway.process_id() as i32);
    let limit = |bytes| Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(process, Resource::Fsize, limit(Some(1))).unwrap();
    let refused = admin
        .post("/manager/send_msg", &notice("alice", "refused"))
        .await;
    assert_eq!((refused.status, refused.code()), (503, 50301));
    assert_eq!(admin.get("/healthz").await.status, 200);
    prlimit(process, Resource::Fsize, limit(None)).unwrap();
    eventually("readyz to say yes", async || {
        admin.get("/readyz").await.status == 200
    })
    .await;
    admin.send(&notice("alice", "after")).await;
    let mut web = gateway.connect("alice", WEB).await;
    let inbox = web.expect_backlog().await;
    assert_eq!(
        inbox.iter().map(text_of).collect::<Vec<_>>(),
        ["before", "after"]
    );
    gateway.terminate();
    assert!(gateway.exited().await.success());
}
