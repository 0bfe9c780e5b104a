//! P5: a session resumes at its cursor, whether the client or the server says where it is.

use towncrier::protocol::towncrier_v1::proto::{Connect, gap, server_frame::Body};

use crate::support::{Gateway, Heard, IOS, WEB, admin::Admin, notice, seqs_of, text_of};

async fn send_numbered(admin: &mut Admin, to: &str, count: usize) {
    for number in 1..=count {
        admin.send(&notice(to, &number.to_string())).await;
    }
}

#[tokio::test]
async fn the_clients_cursor_wins_over_what_the_server_remembers() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 10).await;
    let mut web = gateway.connect("alice", WEB).await;
    let epoch = web.welcome.epoch;
    assert_eq!(
        seqs_of(&web.expect_backlog().await),
        (1..=10).collect::<Vec<_>>()
    );
    web.ack(10).await;
    // Its store was set back to 4, below its last ack.
    let mut web = gateway.resume("alice", WEB, epoch, 4).await;
    assert_eq!(web.welcome.cursor, 4);
    assert_eq!(
        seqs_of(&web.expect_backlog().await),
        (5..=10).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn without_a_cursor_the_servers_own_is_taken_for_each_session_apart() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 5).await;
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.expect_backlog().await.len(), 5);
    web.ack(3).await;
    // The gateway has handled the ack once a later frame is answered.
    web.settle().await;
    drop(web);
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.welcome.cursor, 3);
    assert_eq!(seqs_of(&web.expect_backlog().await), [4, 5]);
    let mut phone = gateway.connect("alice", IOS).await;
    assert_eq!(phone.expect_backlog().await.len(), 5);
}

#[tokio::test]
async fn what_came_while_away_comes_before_what_is_live() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let web = gateway.connect("alice", WEB).await;
    let epoch = web.welcome.epoch;
    drop(web);
    send_numbered(&mut admin, "alice", 3).await;
    let mut web = gateway.resume("alice", WEB, epoch, 0).await;
    admin.send(&notice("alice", "live")).await;
    let messages = web.expect_messages(4).await;
    assert_eq!(
        messages.iter().map(text_of).collect::<Vec<_>>(),
        ["1", "2", "3", "live"]
    );
}

#[tokio::test]
async fn the_window_bounds_what_is_unacked() {
    let gateway = Gateway::start(&["delivery.window=4"]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 10).await;
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.welcome.window, 4);
    assert_eq!(seqs_of(&web.expect_messages(4).await), [1, 2, 3, 4]);
    // The pong comes next, and no fifth message.
    web.settle().await;
    web.ack(2).await;
    assert_eq!(seqs_of(&web.expect_messages(2).await), [5, 6]);
    web.ack(6).await;
    assert_eq!(seqs_of(&web.expect_messages(4).await), [7, 8, 9, 10]);
}

#[tokio::test]
async fn a_hole_is_sent_again_on_request() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 6).await;
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.expect_backlog().await.len(), 6);
    web.ack(2).await;
    web.resend(2).await;
    assert_eq!(seqs_of(&web.expect_messages(4).await), [3, 4, 5, 6]);
}

#[tokio::test]
async fn unacked_pushes_are_sent_again_until_acks_have_clearly_stopped() {
    let gateway = Gateway::start(&["delivery.resend_after=100ms"]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    admin.send(&notice("alice", "again and again")).await;
    let mut came = 0;
    loop {
        match web.hear().await {
            Heard::Frame(Body::Push(push)) => came += push.messages.len(),
            Heard::Frame(Body::CaughtUp(_)) => {}
            Heard::Closed { code, .. } => {
                assert_eq!(code, 4500);
                break;
            }
            other => panic!("expected pushes and a close, got {other:?}"),
        }
    }
    // Once at first, and once after each of five rewinds.
    assert_eq!(came, 6);
    // No message is lost.
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.expect_push().await.seq, 1);
}

#[tokio::test]
async fn fetch_reads_history_and_moves_no_cursor() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 8).await;
    let mut web = gateway.connect("alice", WEB).await;
    web.expect_backlog().await;
    web.ack(8).await;
    let some = web.fetch(2, 3).await;
    assert_eq!((seqs_of(&some.messages), some.end), (vec![3, 4, 5], false));
    let rest = web.fetch(5, 0).await;
    assert_eq!((seqs_of(&rest.messages), rest.end), (vec![6, 7, 8], true));
    let none = web.fetch(8, 10).await;
    assert_eq!((none.messages.len(), none.end), (0, true));
    drop(web);
    assert_eq!(gateway.connect("alice", WEB).await.welcome.cursor, 8);
}

#[tokio::test]
async fn an_epoch_of_another_log_starts_the_client_over() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 3).await;
    let mut web = gateway.resume("alice", WEB, 4711, 3).await;
    let gap = web.expect_gap().await;
    assert_eq!(
        (gap.from_seq, gap.to_seq, gap.reason()),
        (1, 0, gap::Reason::EpochChanged)
    );
    assert_eq!(seqs_of(&web.expect_backlog().await), [1, 2, 3]);
}

#[tokio::test]
async fn a_cursor_beyond_head_starts_the_client_over() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 3).await;
    let epoch = gateway.connect("alice", WEB).await.welcome.epoch;
    let mut web = gateway.resume("alice", WEB, epoch, 4).await;
    let gap = web.expect_gap().await;
    assert_eq!(
        (gap.from_seq, gap.to_seq, gap.reason()),
        (1, 0, gap::Reason::EpochChanged)
    );
    assert_eq!(seqs_of(&web.expect_backlog().await), [1, 2, 3]);
}

#[tokio::test]
async fn a_new_session_can_begin_at_the_head() {
    let gateway = Gateway::start(&["delivery.new_session=head"]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 3).await;
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.welcome.cursor, 3);
    admin.send(&notice("alice", "first seen")).await;
    assert_eq!(text_of(&web.expect_push().await), "first seen");
}

#[tokio::test]
async fn a_silent_client_is_closed_and_a_pinging_one_is_not() {
    let gateway = Gateway::start(&["sessions.heartbeat=200ms"]).await;
    let mut pinging = gateway.connect("alice", WEB).await;
    let mut silent = gateway.connect("bob", WEB).await;
    assert_eq!(silent.welcome.heartbeat_ms, 200);
    assert_eq!(pinging.expect_backlog().await.len(), 0);
    let closed = tokio::spawn(async move { silent.expect_close(4501).await });
    while !closed.is_finished() {
        pinging.settle().await;
    }
    closed.await.unwrap();
}

#[tokio::test]
async fn devices_of_one_platform_keep_cursors_apart_where_the_policy_tells_them_apart() {
    let gateway = Gateway::start(&["sessions.policy=0"]).await;
    let mut admin = gateway.admin().await;
    send_numbered(&mut admin, "alice", 2).await;
    let device = async |name: &str| Connect {
        token: gateway.token("alice", WEB).await,
        device_id: name.into(),
        ..Connect::default()
    };
    let mut desk = gateway.connect_as(device("desk").await).await;
    assert_eq!(desk.expect_backlog().await.len(), 2);
    desk.ack(2).await;
    desk.settle().await;
    let mut home = gateway.connect_as(device("home").await).await;
    assert_eq!(home.expect_backlog().await.len(), 2);
    drop(desk);
    assert_eq!(
        gateway
            .connect_as(device("desk").await)
            .await
            .welcome
            .cursor,
        2
    );
}
