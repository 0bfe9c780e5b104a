//! The newest login of a place stays, for every interleaving, and the older one is told so.

use tokio::task::JoinSet;
use towncrier::protocol::towncrier_v1::proto::{Connect, kicked, server_frame::Body};

use crate::support::{Gateway, Heard, IOS, WEB, WINDOWS, eventually, notice};

#[tokio::test]
async fn a_newer_login_replaces_the_older_on_its_platform_only() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut phone = gateway.connect("alice", IOS).await;
    let mut older = gateway.connect("alice", WEB).await;
    let mut newer = gateway.connect("alice", WEB).await;
    older.expect_kicked(kicked::Reason::Replaced).await;
    older.expect_close(4409).await;
    admin.send(&notice("alice", "still here")).await;
    assert_eq!(newer.expect_push().await.seq, 1);
    assert_eq!(phone.expect_push().await.seq, 1);
    assert_eq!(admin.presence("alice").await, ["IOS", "Web"]);
}

#[tokio::test]
async fn policy_two_leaves_one_session_of_a_user() {
    let gateway = Gateway::start(&["sessions.policy=2"]).await;
    let mut phone = gateway.connect("alice", IOS).await;
    let mut bob = gateway.connect("bob", IOS).await;
    let mut web = gateway.connect("alice", WEB).await;
    phone.expect_kicked(kicked::Reason::Replaced).await;
    phone.expect_close(4409).await;
    for client in [&mut web, &mut bob] {
        client.expect_backlog().await;
        client.settle().await;
    }
}

#[tokio::test]
async fn policy_three_lets_web_stand_beside_one_other() {
    let gateway = Gateway::start(&["sessions.policy=3"]).await;
    let mut web = gateway.connect("alice", WEB).await;
    let mut phone = gateway.connect("alice", IOS).await;
    let _desktop = gateway.connect("alice", WINDOWS).await;
    phone.expect_kicked(kicked::Reason::Replaced).await;
    phone.expect_close(4409).await;
    web.expect_backlog().await;
    web.settle().await;
}

#[tokio::test]
async fn policy_zero_replaces_nobody_but_the_same_device() {
    let gateway = Gateway::start(&["sessions.policy=0"]).await;
    let device = async |name: &str| {
        let token = gateway.token("alice", WEB).await;
        let connect = Connect {
            token,
            device_id: name.into(),
            ..Connect::default()
        };
        gateway.connect_as(connect).await
    };
    let mut desk = device("desk").await;
    let mut home = device("home").await;
    let _desk_again = device("desk").await;
    desk.expect_kicked(kicked::Reason::Replaced).await;
    desk.expect_close(4409).await;
    home.expect_backlog().await;
    home.settle().await;
}

#[tokio::test]
async fn of_racing_logins_exactly_one_stays() {
    const RACERS: usize = 16;
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let token = gateway.token("alice", WEB).await;
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let mut client = gateway.dial().await;
        let connect = Connect {
            token: token.clone(),
            ..Connect::default()
        };
        racers.spawn(async move {
            client.log_in(connect).await;
            loop {
                match client.hear().await {
                    Heard::Frame(Body::Push(_)) => {
                        return true;
                    }
                    Heard::Frame(_) => {}
                    Heard::Closed { code, .. } => {
                        assert_eq!(code, 4409);
                        return false;
                    }
                    Heard::Lost => panic!("closed without a word"),
                }
            }
        });
    }
    // All but one are told to go before the message comes. Only that one may get it.
    let mut stayed = 0;
    for _ in 1..RACERS {
        stayed += usize::from(racers.join_next().await.unwrap().unwrap());
    }
    assert_eq!(stayed, 0);
    eventually("one session", async || {
        admin.presence("alice").await == ["Web"]
    })
    .await;
    admin.send(&notice("alice", "to the one that stayed")).await;
    assert!(racers.join_next().await.unwrap().unwrap());
}

#[tokio::test]
async fn sessions_of_one_user_are_bounded() {
    let gateway = Gateway::start(&["sessions.policy=0", "sessions.per_user_max=2"]).await;
    let connect = async |device: &str| Connect {
        token: gateway.token("alice", WEB).await,
        device_id: device.into(),
        ..Connect::default()
    };
    // Each is connected before the next one begins, because reactors keep no order among themselves.
    let mut staying = [
        gateway.connect_as(connect("a").await).await,
        gateway.connect_as(connect("b").await).await,
    ];
    let mut third = gateway.dial().await;
    third.say_connect(connect("c").await).await;
    third.expect_close(4429).await;
    for client in &mut staying {
        client.expect_backlog().await;
        client.settle().await;
    }
}
