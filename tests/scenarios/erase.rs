//! Erasure: nothing of an erased user is told any more, whatever is killed, rebuilt or restored in between; others keep what they have.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use towncrier::protocol::towncrier_v1::proto::{Connect, gap, kicked};

use crate::backup::{back_up, restoring, said, serve};
use crate::support::{
    ADMIN, Gateway, IOS, WEB,
    admin::{Admin, Answer},
    eventually, notice,
    receiver::{Receiver, SECRET_1},
    seed, text_of,
    vendor::{StandAnswer, VendorStand},
    within,
};

/// A text in each message to the user who is erased.
const SECRET_TEXT: &str = "between you and me";

async fn register_profile(admin: &mut Admin, user: &str) {
    let body = json!({
        "secret": crate::support::gateway::SECRET, "platform": WEB, "userID": user,
        "operationID": "o", "nickname": "Nickname of it",
    });
    assert_eq!(admin.post("/auth/user_register", &body).await.code(), 0);
}

async fn erase(admin: &mut Admin, user: &str) -> Value {
    let answer = admin.post("/user/erase", &of(user)).await;
    assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
    answer.json()["data"].clone()
}

fn of(user: &str) -> Value {
    json!({ "operationID": "o", "userID": user })
}

/// The answers of all calls that could tell something of a user.
async fn answers(admin: &mut Admin, user: &str, message: &str) -> Vec<(&'static str, Answer)> {
    let trace = json!({ "operationID": "o", "serverMsgID": message });
    let pull = json!({
        "reqIdentifier": 1002, "operationID": "o", "sendID": user,
        "seqList": (1..50).collect::<Vec<_>>(),
    });
    let by_conversation = json!({
        "reqIdentifier": 1002, "operationID": "o", "sendID": user,
        "seqRanges": [{ "conversationID": format!("sn_{user}_{ADMIN}"), "begin": 1, "end": 50, "num": 50 }],
    });
    let presence = json!({ "operationID": "o", "userIDList": [user] });
    let calls = [
        ("/msg/trace", trace),
        ("/msg/pull_msg_by_seq", pull),
        ("/msg/pull_msg_by_seq", by_conversation),
        ("/conversation/list", of(user)),
        ("/device/list", of(user)),
        ("/webhook/dead_letters", json!({ "operationID": "o" })),
        ("/user/get_users_online_status", presence),
        ("/user/get_online_users", json!({ "operationID": "o" })),
    ];
    let mut answers = Vec::new();
    for (path, body) in calls {
        answers.push((path, admin.post(path, &body).await));
    }
    answers
}

/// Fails if an answer tells something of the user.
async fn expect_nothing_of(admin: &mut Admin, user: &str, message: &str, case: &str) {
    for (path, answer) in answers(admin, user, message).await {
        let (text, id) = (&answer.text, format!("sn_{user}_{ADMIN}"));
        assert!(!text.contains(SECRET_TEXT), "{case}: {text}");
        // A pull names the conversation that it was asked for.
        let is_pull = path == "/msg/pull_msg_by_seq";
        assert!(is_pull || !text.contains(&id), "{case}: {text}");
        if is_pull {
            assert_eq!(answer.json()["data"], json!([]), "{case}");
        }
        assert!(!text.contains("Nickname of it"), "{case}: {text}");
    }
    let list = admin.post("/conversation/list", &of(user)).await.json();
    assert_eq!(list["data"]["list"], json!([]), "{case}");
    let devices = admin.post("/device/list", &of(user)).await.json();
    assert_eq!(devices["data"]["list"], json!([]), "{case}");
}

/// The bodies in a user's inbox, by the admin API.
async fn inbox(admin: &mut Admin, user: &str) -> Vec<String> {
    let seqs: Vec<_> = (1..100).collect();
    let body =
        json!({ "reqIdentifier": 1002, "operationID": "o", "sendID": user, "seqList": seqs });
    let answer = admin.post("/msg/pull_msg_by_seq", &body).await.json();
    let list = answer["data"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect()
}

fn events(receiver: &Receiver) -> Vec<String> {
    receiver.events().iter().map(Value::to_string).collect()
}

#[tokio::test]
async fn nothing_of_an_erased_user_is_told_and_others_keep_what_they_have() {
    let mut stand = VendorStand::start().await;
    let receiver = Receiver::start().await;
    // The receiver is away, so that all events wait.
    receiver.answer(|_| Some(503.into()));
    let settings = stand.settings();
    let (url, secret) = (
        format!("webhooks.url={}", receiver.url()),
        format!("webhooks.secrets={SECRET_1}"),
    );
    let more = [
        &*settings[0],
        &*settings[1],
        &*url,
        &*secret,
        "push.after=1s",
    ];
    let mut gateway = Gateway::start(&more).await;
    let mut admin = gateway.admin().await;
    register_profile(&mut admin, "alice").await;
    let phone = gateway.token("alice", IOS).await;
    gateway.register_device(&phone, "phone of alice").await;
    let bobs = gateway.token("bob", IOS).await;
    gateway.register_device(&bobs, "phone of bob").await;
    let mut page = gateway.connect("alice", WEB).await;
    let epoch = page.welcome.epoch;
    // The vendor takes nothing either.
    for _ in 0..3 {
        stand.answer(StandAnswer::Status(503, "{}".into()));
    }
    let mut keyed = notice("alice", SECRET_TEXT);
    keyed["clientMsgID"] = "keyed".into();
    let first = admin.send(&keyed).await;
    let mut both = notice("alice", SECRET_TEXT);
    both.as_object_mut().unwrap().remove("recvID");
    both["recvIDList"] = json!(["alice", "bob"]);
    let sent = admin.post("/manager/batch_send_msg", &both).await;
    assert_eq!(sent.code(), 0, "{sent:?}");
    page.expect_messages(2).await;
    page.ack(2).await;
    page.settle().await;
    page.read(&format!("sn_alice_{ADMIN}"), 1).await;
    page.expect_push().await;
    stand.expect_push().await;
    receiver
        .until("an event", |receiver| !receiver.requests().is_empty())
        .await;
    let before = inbox(&mut admin, "bob").await;
    assert!(inbox(&mut admin, "alice").await.len() == 2 && before.len() == 1);

    let answer = erase(&mut admin, "alice").await;
    let until = answer["untilTime"].as_u64().unwrap();
    assert!(until > first.send_time, "{answer}");
    // The pushes that the vendor got before the answer.
    while !stand.is_quiet() {}
    assert_eq!(answer["connections"], 1);
    page.expect_kicked(kicked::Reason::LoggedOut).await;
    page.expect_close(4410).await;
    // A repeat answers the same.
    assert_eq!(erase(&mut admin, "alice").await["untilTime"], until);

    receiver.answer(|_| Some(200.into()));
    let mut is_rebuilt = false;
    for case in [
        "at once",
        "after a kill",
        "after a rebuild of the state store",
    ] {
        if case != "at once" {
            gateway.kill();
            if is_rebuilt {
                fs::remove_dir_all(gateway.data().join("state")).unwrap();
            }
            gateway.restart().await;
            is_rebuilt = true;
        }
        expect_nothing_of(&mut admin, "alice", &first.server_msg_id, case).await;
        assert_eq!(admin.bounds("alice").await, (4, 3), "{case}");
        assert_eq!(inbox(&mut admin, "alice").await, [""; 0], "{case}");
        assert_eq!(inbox(&mut admin, "bob").await, before, "{case}");
        let repeat = admin.send(&keyed).await;
        assert_eq!(repeat.server_msg_id, first.server_msg_id, "{case}");
        assert_eq!(
            admin.bounds("alice").await,
            (4, 3),
            "{case}: a repeat adds nothing"
        );
        let mut revoked = gateway.dial().await;
        let token = phone.clone();
        revoked
            .say_connect(Connect {
                token,
                ..Connect::default()
            })
            .await;
        revoked.expect_close(4401).await;
    }
    // A device that comes with a new token is told what it lacks.
    let mut again = gateway.resume("alice", WEB, epoch, 1).await;
    let told = again.expect_gap().await;
    assert_eq!((told.from_seq, told.to_seq), (2, 3));
    assert_eq!(told.reason, i32::from(gap::Reason::Expired));
    admin.send(&notice("alice", "welcome")).await;
    let welcome = again.expect_push().await;
    assert_eq!((welcome.seq, &*text_of(&welcome)), (4, "welcome"));
    let listed = again.conversations().await;
    assert_eq!((listed.len(), listed[0].unread), (1, 1));

    // Bob's events and pushes go on.
    admin.send(&notice("bob", "for bob")).await;
    let pushed = within("the push for bob", async {
        loop {
            let push = stand.expect_push().await;
            assert_ne!(push["user_id"], "alice", "{push}");
            if push["seq"] == 2 {
                return push;
            }
        }
    })
    .await;
    assert_eq!(pushed["user_id"], "bob");
    receiver
        .until("the last message's event", |receiver| {
            events(receiver)
                .iter()
                .any(|event| event.contains("\"user_id\":\"bob\"") && event.contains("\"seq\":2"))
        })
        .await;
    let is_of_before = |event: &Value| {
        let text = event.to_string();
        let is_new = text.contains("\"seq\":4")
            || event["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("user."))
            || event["data"]["to_seq"].as_u64() > Some(3)
            || event["data"]["from_seq"].as_u64() > Some(3);
        text.contains("\"alice\"") && !is_new
    };
    let told: Vec<_> = receiver.events().into_iter().filter(is_of_before).collect();
    assert!(told.is_empty(), "{told:#?}");
    assert!(receiver.events().iter().any(|event| {
        let receivers = &event["data"]["receivers"];
        *receivers == json!([{ "user_id": "bob", "seq": 1 }])
    }));
}

/// The files of a gateway that stands, copied.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[tokio::test]
async fn an_erased_user_is_erased_in_a_copy_that_was_made_later() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let sent = admin.send(&notice("alice", SECRET_TEXT)).await;
    erase(&mut admin, "alice").await;
    gateway.kill();
    let backup = tempfile::tempdir().unwrap();
    copy(&gateway.data().join("log"), backup.path());
    gateway.restart().await;
    admin.send(&notice("alice", "later")).await;
    gateway.kill();
    fs::remove_dir_all(gateway.data().join("state")).unwrap();
    fs::remove_dir_all(gateway.data().join("log")).unwrap();
    copy(backup.path(), &gateway.data().join("log"));
    gateway.restart().await;
    expect_nothing_of(&mut admin, "alice", &sent.server_msg_id, "restored").await;
    assert_eq!(admin.bounds("alice").await, (2, 1));
}

#[tokio::test]
async fn a_restore_of_an_earlier_backup_erases_again_by_the_list_of_a_later_one() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let sent = admin.send(&notice("alice", SECRET_TEXT)).await;
    admin.send(&notice("bob", "one")).await;
    let temp = tempfile::tempdir().unwrap();
    let [earlier, later, data] = ["earlier", "later", "data"].map(|name| temp.path().join(name));
    let made = back_up(&gateway, &earlier).await;
    assert!(made.status.success(), "{}", said(&made));
    erase(&mut admin, "alice").await;
    let made = back_up(&gateway, &later).await;
    assert!(made.status.success(), "{}", said(&made));
    let list = fs::read_to_string(later.join("erased")).unwrap();
    let restore = |list: &str| {
        fs::write(temp.path().join("list"), list).unwrap();
        let mut command = restoring(&earlier, &data);
        command.arg("--erased").arg(temp.path().join("list"));
        command.output().unwrap()
    };
    for damaged in ["", &list[..list.len() - 1], &list.replace("alice", "alicf")] {
        let refused = restore(damaged);
        assert!(!refused.status.success(), "{damaged:?}");
        assert!(said(&refused).contains("list"), "{}", said(&refused));
        assert!(!data.exists(), "{damaged:?}");
    }
    let restored = restore(&list);
    assert!(restored.status.success(), "{}", said(&restored));
    let gateway = serve(&data).await;
    let mut admin = gateway.admin().await;
    expect_nothing_of(&mut admin, "alice", &sent.server_msg_id, "restored").await;
    assert_eq!(inbox(&mut admin, "alice").await, Vec::<String>::new());
    assert_eq!(inbox(&mut admin, "bob").await.len(), 1);
}

#[tokio::test]
async fn only_an_administrator_erases() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("bob", "one")).await;
    let mut alice = admin.another();
    alice.token = gateway.token("bob", WEB).await;
    let answer = alice.post("/user/erase", &of("bob")).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let answer = admin
        .post("/user/erase", &json!({ "operationID": "o" }))
        .await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(admin.bounds("bob").await, (1, 1));
}

/// Kills the gateway at a random moment of an erasure, this many times.
async fn kill_in_the_middle(rounds: usize) {
    let seed = seed();
    println!("TOWNCRIER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut gateway = Gateway::start(&[
        "push.http.url=http://127.0.0.1:1/",
        "push.http.secret=whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    ])
    .await;
    let mut admin = gateway.admin().await;
    let (mut answered, mut undone, mut took) = (0, 0, Duration::from_millis(20));
    let mut others = Vec::new();
    for round in 0..rounds {
        let user = format!("alice-{round}");
        register_profile(&mut admin, &user).await;
        let token = gateway.token(&user, IOS).await;
        gateway
            .register_device(&token, &format!("phone {round}"))
            .await;
        let mut first = None;
        for number in 0..20 {
            let mut both = notice(&user, &format!("{SECRET_TEXT} {number}"));
            both.as_object_mut().unwrap().remove("recvID");
            both["recvIDList"] = json!([&user, "bob"]);
            let sent = admin.post("/manager/batch_send_msg", &both).await.json();
            let id = &sent["data"]["resultList"][0]["serverMsgID"];
            let id = id.as_str().unwrap().to_owned();
            first.get_or_insert(id);
        }
        others.extend((0..20).map(|number| format!("{SECRET_TEXT} {number}")));
        let mut page = gateway.connect(&user, WEB).await;
        page.expect_messages(20).await;
        page.ack(20).await;
        page.settle().await;
        let mut eraser = admin.another();
        let body = of(&user);
        let begun = Instant::now();
        let erasing = tokio::spawn(async move {
            eraser
                .call("POST", "/user/erase", &[], body.to_string())
                .await
        });
        let wait = random.u64(0..=took.as_micros() as u64);
        tokio::time::sleep(Duration::from_micros(wait)).await;
        gateway.kill();
        let outcome = within("an answer or none", erasing).await.unwrap();
        let is_answered = outcome.is_ok_and(|answer| answer.code() == 0);
        if is_answered {
            answered += 1;
            took = took.min(begun.elapsed());
        } else {
            took = took.mul_f64(1.1);
        }
        if random.bool() {
            fs::remove_dir_all(gateway.data().join("state")).unwrap();
        }
        gateway.restart().await;
        let case = format!("round {round}, answered: {is_answered}");
        let (begin, head) = admin.bounds(&user).await;
        assert_eq!(head, 20, "{case}");
        let is_erased = begin == head + 1;
        assert!(is_erased || !is_answered, "{case}");
        if is_erased {
            // All of it, although the process ended in the middle.
            expect_nothing_of(&mut admin, &user, first.as_ref().unwrap(), &case).await;
        } else {
            undone += 1;
            assert_eq!(
                (begin, inbox(&mut admin, &user).await.len()),
                (1, 20),
                "{case}"
            );
            erase(&mut admin, &user).await;
            expect_nothing_of(&mut admin, &user, first.as_ref().unwrap(), &case).await;
        }
        let mut revoked = gateway.dial().await;
        revoked
            .say_connect(Connect {
                token,
                ..Connect::default()
            })
            .await;
        revoked.expect_close(4401).await;
        eventually("bob has all", async || {
            admin.bounds("bob").await == (1, others.len() as u64)
        })
        .await;
    }
    let mut bob = gateway.connect("bob", WEB).await;
    let inbox = bob.expect_whole_inbox().await;
    let texts: Vec<_> = inbox.iter().map(text_of).collect();
    assert_eq!(texts, others);
    println!(
        "{rounds} kills: {answered} after the answer, {undone} before the erasure, {} between",
        rounds - answered - undone
    );
}

#[tokio::test]
async fn a_kill_in_the_middle_of_an_erasure_leaves_it_whole_or_undone() {
    kill_in_the_middle(3).await;
}

/// `cargo test --test scenarios -- --ignored --nocapture erase_full`.
#[tokio::test]
#[ignore = "twenty rounds"]
async fn erase_full_twenty_kills_in_the_middle() {
    kill_in_the_middle(20).await;
}
