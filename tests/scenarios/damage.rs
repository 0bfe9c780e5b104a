//! P8: every flipped byte in the log is named, and no altered message is ever delivered.

use std::{fs, process::Output};

use towncrier::protocol::towncrier_v1::proto::{Push, server_frame::Body};

use crate::support::{
    Gateway, IOS, WEB, client::Heard, gateway::towncrier, notice, seed, seqs_of, text_of,
};

/// Positions tried with `log verify`.
const FLIPS: usize = 100;
/// The number of these positions that a gateway is started with.
const STARTS: usize = 8;
const SENT: u64 = 120;

fn verify(gateway: &Gateway) -> Output {
    let data = gateway.data();
    towncrier()
        .args(["log", "verify", "--data"])
        .arg(data)
        .output()
        .unwrap()
}

#[tokio::test]
async fn a_flipped_byte_is_named_and_never_delivered() {
    let seed = seed();
    println!("TOWNCRIER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut gateway = Gateway::start(&["log.segment_bytes=65536"]).await;
    let mut admin = gateway.admin().await;
    for number in 1..=SENT {
        admin
            .send(&notice("alice", &format!("{number} {}", "x".repeat(2000))))
            .await;
    }
    gateway.terminate();
    assert!(gateway.exited().await.success());
    let whole = verify(&gateway);
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stdout)
    );

    let folder = gateway.data().join("log");
    let mut segments: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    assert!(segments.len() > 2, "sealed segments and an open one");
    for flip in 0..FLIPS {
        let segment = &segments[random.usize(..segments.len())];
        let good = fs::read(segment).unwrap();
        let mut bad = good.clone();
        let offset = random.usize(..bad.len());
        bad[offset] ^= 1 << random.u8(..8);
        fs::write(segment, bad).unwrap();

        let verified = verify(&gateway);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        let name = segment.file_name().unwrap().to_string_lossy();
        assert_eq!(
            verified.status.code(),
            Some(1),
            "flip at {offset} of {name}: {said}"
        );
        assert!(
            said.contains(&format!("DAMAGED segment {name} ")),
            "flip at {offset} of {name}: {said}"
        );
        if flip < STARTS {
            serve_damaged(&mut gateway, flip % 2 == 0).await;
        }
        fs::write(segment, good).unwrap();
    }
    println!(
        "{FLIPS} flips, each named by segment and offset; {STARTS} served, nothing wrong delivered"
    );
}

#[tokio::test]
async fn a_damaged_place_counts_once_however_often_it_is_met() {
    let mut gateway = Gateway::start(&["log.segment_bytes=65536"]).await;
    let mut admin = gateway.admin().await;
    let text = "x".repeat(2000);
    for _ in 0..SENT {
        admin.send(&notice("alice", &text)).await;
    }
    gateway.terminate();
    assert!(gateway.exited().await.success());
    let segments = fs::read_dir(gateway.data().join("log")).unwrap();
    let segments = segments.map(|entry| entry.unwrap().path());
    let sealed = segments
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .min()
        .unwrap();
    let mut bytes = fs::read(&sealed).unwrap();
    let half = bytes.len() / 2;
    let inside = bytes[half..]
        .windows(100)
        .position(|run| run == [b'x'; 100]);
    bytes[half + inside.expect("the text of a message")] = b'y';
    fs::write(&sealed, bytes).unwrap();

    gateway.restart().await;
    for _ in 0..2 {
        for platform in [IOS, WEB] {
            let mut client = gateway.connect("alice", platform).await;
            client.expect_close(1011).await;
        }
    }
    assert_eq!(admin.metric("towncrier_log_damage_total").await, 1.0);
}

/// Starts the gateway on the damaged log, with its state store or rebuilding it, and reads as far as possible.
async fn serve_damaged(gateway: &mut Gateway, keeps_state: bool) {
    let (state, kept) = (gateway.data().join("state"), gateway.data().join("kept"));
    if !keeps_state {
        fs::rename(&state, &kept).unwrap();
    }
    gateway.restart().await;
    let mut admin = gateway.admin().await;
    let ready = admin.get("/readyz").await;
    if !keeps_state {
        // A rebuild reads everything. So it has found the damage, and cannot know the heads of the inboxes.
        assert_eq!(ready.status, 503, "{}", ready.text);
        assert!(ready.text.contains("damaged"), "{}", ready.text);
        let refused = admin
            .post("/manager/send_msg", &notice("alice", "never"))
            .await;
        assert_eq!(
            (refused.status, refused.code()),
            (503, 50303),
            "{}",
            refused.text
        );
    }
    let mut client = gateway.connect("alice", IOS).await;
    let mut landed = 0;
    loop {
        match client.hear().await {
            Heard::Frame(Body::Push(Push { messages })) => {
                for (seq, message) in seqs_of(&messages).into_iter().zip(&messages) {
                    assert_eq!(seq, landed + 1, "in order, none missing");
                    assert!(
                        text_of(message).starts_with(&format!("{seq} xxx")),
                        "as it was sent"
                    );
                    landed = seq;
                }
                client.ack(landed).await;
            }
            Heard::Closed { code, .. } => {
                assert_eq!(code, 1011, "the connection ends at the damage, not past it");
                break;
            }
            // Damage outside of messages, or in the tail after a rebuild, leaves the messages whole.
            Heard::Frame(Body::CaughtUp(_)) => break,
            heard => assert!(!matches!(heard, Heard::Lost), "a close says why"),
        }
    }
    gateway.kill();
    if !keeps_state {
        fs::remove_dir_all(&state).unwrap();
        fs::rename(&kept, &state).unwrap();
    }
}
