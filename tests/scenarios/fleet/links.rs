//! Two gateways on one store are one to senders and clients: a message lands live once wherever it was accepted, and whatever is cut or
//! killed in between (P4, P5).

use std::net::SocketAddr;

use towncrier::protocol::towncrier_v1::proto::kicked;

use crate::support::{
    Client, Gateway, IOS, WEB, cable::Cable, eventually, notice, postgres::Postgres, seqs_of,
    text_of,
};

/// A gateway of the fleet, which others reach at `advertise`.
async fn gateway(store: &Postgres, advertise: &str) -> Gateway {
    let store = format!("log.store={}", store.url());
    let advertise = format!("mesh.advertise={advertise}");
    let settings = [
        &*store,
        "mesh.listen=127.0.0.1:0",
        &advertise,
        "auth.token_key=the-key-of-the-whole-fleet",
    ];
    Gateway::start(&settings).await
}

/// The address at which a gateway listens for others.
fn mesh_of(gateway: &Gateway) -> SocketAddr {
    let log = gateway.said();
    let line = log.lines().find(|line| line.contains("the mesh listens"));
    let line = line.unwrap_or_else(|| panic!("it names no port: {log}"));
    let (_, address) = line.split_once("127.0.0.1:").unwrap();
    let digits = address.chars().take_while(char::is_ascii_digit);
    let port: u16 = digits.collect::<String>().parse().unwrap();
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn metric(gateway: &Gateway, name: &str) -> f64 {
    gateway.admin().await.metric(name).await
}

/// Waits until both directions between two gateways are up.
async fn linked(gateways: [&Gateway; 2]) {
    for gateway in gateways {
        for direction in ["in", "out"] {
            let name = format!("towncrier_mesh_links{{direction=\"{direction}\"}}");
            eventually("a link", async || metric(gateway, &name).await == 1.0).await;
        }
    }
}

async fn expect_texts(client: &mut Client, texts: &[&str]) {
    let messages = client.expect_messages(texts.len()).await;
    let landed: Vec<_> = messages.iter().map(text_of).collect();
    assert_eq!(landed, texts);
    let seqs = seqs_of(&messages);
    let first = seqs[0];
    assert_eq!(
        seqs,
        (first..first + texts.len() as u64).collect::<Vec<_>>()
    );
    client.ack(*seqs.last().unwrap()).await;
}

#[tokio::test]
async fn a_message_lands_live_once_at_the_other_gateway_and_so_does_an_online_only_one() {
    let Some(store) = Postgres::start().await else {
        return;
    };
    let (a, b) = (gateway(&store, "").await, gateway(&store, "").await);
    linked([&a, &b]).await;
    let mut here = a.connect("alice", IOS).await;
    let mut there = b.connect("alice", WEB).await;
    let mut admin = a.admin().await;
    for text in ["one", "two", "three"] {
        admin.send(&notice("alice", text)).await;
    }
    for client in [&mut here, &mut there] {
        expect_texts(client, &["one", "two", "three"]).await;
    }
    let mut fleeting = notice("alice", "fleeting");
    fleeting["isOnlineOnly"] = true.into();
    admin.send(&fleeting).await;
    for client in [&mut here, &mut there] {
        let message = client.expect_push().await;
        assert_eq!((message.seq, &*text_of(&message)), (0, "fleeting"));
    }
    let ready = admin.get("/readyz").await;
    assert_eq!((ready.status, &*ready.text), (200, "ready\n"));
}

#[tokio::test]
async fn a_message_of_a_cut_link_lands_and_readyz_names_the_link() {
    let Some(store) = Postgres::start().await else {
        return;
    };
    let cable = Cable::new();
    let a = gateway(&store, "").await;
    let b = gateway(&store, &cable.near().to_string()).await;
    cable.mend(mesh_of(&b));
    linked([&a, &b]).await;
    let mut there = b.connect("alice", WEB).await;
    let mut admin = a.admin().await;
    admin.send(&notice("alice", "before")).await;
    expect_texts(&mut there, &["before"]).await;
    cable.cut();
    let out = "towncrier_mesh_links{direction=\"out\"}";
    eventually("the end of the link", async || metric(&a, out).await == 0.0).await;
    admin.send(&notice("alice", "cut")).await;
    expect_texts(&mut there, &["cut"]).await;
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text.contains("no link"), "{}", ready.text);
    cable.mend(mesh_of(&b));
    linked([&a, &b]).await;
    admin.send(&notice("alice", "mended")).await;
    expect_texts(&mut there, &["mended"]).await;
}

#[tokio::test]
async fn a_message_whose_gateway_is_killed_before_its_hint_lands() {
    let Some(store) = Postgres::start().await else {
        return;
    };
    let cable = Cable::new();
    let mut a = gateway(&store, "").await;
    let b = gateway(&store, &cable.near().to_string()).await;
    // No hint of A ever reaches B.
    let mut there = b.connect("alice", WEB).await;
    a.admin().await.send(&notice("alice", "no hint")).await;
    a.kill();
    expect_texts(&mut there, &["no hint"]).await;
}

#[tokio::test]
async fn a_logout_at_one_gateway_closes_the_sessions_at_the_other() {
    let Some(store) = Postgres::start().await else {
        return;
    };
    let (a, b) = (gateway(&store, "").await, gateway(&store, "").await);
    linked([&a, &b]).await;
    let mut phone = b.connect("alice", IOS).await;
    let mut web = b.connect("alice", WEB).await;
    a.admin().await.force_logout("alice", WEB).await;
    web.expect_kicked(kicked::Reason::LoggedOut).await;
    web.expect_close(4410).await;
    a.admin().await.send(&notice("alice", "still here")).await;
    expect_texts(&mut phone, &["still here"]).await;
}
