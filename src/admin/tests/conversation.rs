//! A user's conversations and read marks over HTTP.

use serde_json::{Value, json};

use super::{ADMIN, Gateway, NOW_MS, text_send, with, without};

const MANY: usize = 3;

fn list() -> Value {
    json!({ "operationID": "op", "userID": "u1" })
}

fn mark(conversation: &str, seq: u64) -> Value {
    json!({ "operationID": "op", "userID": "u1", "conversationID": conversation, "conversationSeq": seq })
}

/// Messages from `a`, `b`, `c` in turn, this many from each.
async fn gateway_with(messages: usize) -> Gateway {
    let gateway = Gateway::new();
    for sender in ["a", "b", "c"].repeat(messages) {
        let send = with(text_send(), "sendID", json!(sender));
        gateway.send(&send).await.data();
    }
    gateway
}

/// The conversation of each listed one, with its mark and its unread messages.
fn states(data: &Value) -> Vec<(String, u64, u64)> {
    let list = data["list"].as_array().unwrap().iter();
    let number = |one: &Value, field: &str| one[field].as_u64().unwrap();
    list.map(|one| {
        let id = one["conversationID"].as_str().unwrap().to_owned();
        (id, number(one, "mark"), number(one, "unread"))
    })
    .collect()
}

fn state(conversation: &str, mark: u64, unread: u64) -> (String, u64, u64) {
    (conversation.to_owned(), mark, unread)
}

#[tokio::test]
async fn conversations_are_listed_newest_first_and_paged() {
    let gateway = gateway_with(MANY).await;
    let data = gateway
        .post_as("u1", "/conversation/list", &list())
        .await
        .data();
    let newest = json!({
        "conversationID": "si_c_u1",
        "head": 3,
        "first": 1,
        "mark": 0,
        "unread": 3,
        "lastTime": NOW_MS + 2,
        "lastSeq": 9,
    });
    assert_eq!(data["list"][0], newest);
    assert_eq!(data["end"], true);
    let all = ["si_c_u1", "si_b_u1", "si_a_u1"].map(|id| state(id, 0, 3));
    assert_eq!(states(&data), all);
    let page = |before: u64, limit: usize| {
        let page = with(list(), "beforeSeq", json!(before));
        with(page, "limit", json!(limit))
    };
    for (before, limit, expected, end) in [
        (0, 2, &all[..2], false),
        (8, 2, &all[2..], true),
        (9, 1, &all[1..2], false),
        (0, 9999, &all[..], true),
        (7, 0, &[][..], true),
    ] {
        let page = page(before, limit);
        let data = gateway.post("/conversation/list", &page).await.data();
        assert_eq!(states(&data), expected);
        assert_eq!(data["end"], end);
    }
    let nobody = with(list(), "userID", json!("nobody"));
    let data = gateway.post("/conversation/list", &nobody).await.data();
    assert_eq!(data, json!({ "list": [], "end": true }));
}

#[tokio::test]
async fn a_mark_is_read_state_and_no_message() {
    let gateway = gateway_with(MANY).await;
    for (conversation, seq) in [
        ("si_a_u1", 2),
        ("si_a_u1", 1),
        ("si_b_u1", 99),
        ("si_x_u1", 1),
    ] {
        let mark = mark(conversation, seq);
        let reply = gateway.post_as("u1", "/conversation/mark_read", &mark);
        assert_eq!(reply.await.data(), json!({}));
    }
    let data = gateway.post("/conversation/list", &list()).await.data();
    let expected = [
        state("si_c_u1", 0, 3),
        state("si_b_u1", 3, 0),
        state("si_a_u1", 2, 1),
    ];
    assert_eq!(states(&data), expected);
    let seqs: Vec<u64> = (1..=20).collect();
    let pull = json!({ "operationID": "op", "reqIdentifier": 1, "sendID": "u1", "seqList": seqs });
    let pulled = gateway.post("/msg/pull_msg_by_seq", &pull).await.data();
    assert_eq!(pulled.as_array().unwrap().len(), 9);
    let newest = json!({ "operationID": "op", "reqIdentifier": 1, "sendID": "u1", "msgIncr": 1 });
    let newest = gateway.post("/msg/newest_seq", &newest).await.data();
    assert_eq!(newest["maxSeq"], 11, "two marks moved");
    // A mark has an id of its own, which finds nothing.
    let id = {
        let rows = gateway.log.rows();
        let marks = rows.appends.iter().find(|append| append.is_marks);
        marks.unwrap().message_id.to_string()
    };
    let trace = json!({ "operationID": "op", "serverMsgID": id });
    let traced = gateway.post("/msg/trace", &trace).await;
    assert_eq!(traced.verdict(), (404, 404));
}

#[tokio::test]
async fn read_state_is_its_users_and_the_administrators() {
    let gateway = gateway_with(1).await;
    for (path, body) in [
        ("/conversation/list", list()),
        ("/conversation/mark_read", mark("si_a_u1", 1)),
    ] {
        gateway
            .post_as("u2", path, &body)
            .await
            .assert_refused(400, 400, "not authorized");
        gateway
            .post_open(path, &body)
            .await
            .assert_refused(400, 400, "parse token failed");
        gateway.post_as("u1", path, &body).await.data();
        gateway.post_as(ADMIN, path, &body).await.data();
        for field in body.as_object().unwrap().keys() {
            let sentence = format!("{field} is required");
            gateway
                .post(path, &without(body.clone(), field))
                .await
                .assert_refused(400, 400, &sentence);
        }
    }
    gateway
        .post("/conversation/mark_read", &mark(&"z".repeat(133), 1))
        .await
        .assert_refused(400, 400, "conversationID may have at most 132 bytes");
    gateway
        .post("/conversation/mark_read", &mark("si_a_u1", 0))
        .await
        .assert_refused(400, 400, "conversationSeq must not be 0");
}

#[tokio::test]
async fn without_conversations_the_calls_say_so() {
    let gateway = gateway_with(1).await;
    gateway.log.rows().lacks_conversations = true;
    let range = json!([{ "conversationID": "si_a_u1", "begin": 1, "end": 1 }]);
    let pull =
        json!({ "operationID": "op", "reqIdentifier": 1, "sendID": "u1", "seqRanges": range });
    for (path, body) in [
        ("/conversation/list", list()),
        ("/conversation/mark_read", mark("si_a_u1", 1)),
        ("/msg/pull_msg_by_seq", pull),
    ] {
        let reply = gateway.post(path, &body).await;
        assert_eq!(reply.verdict(), (501, 501), "{path}");
    }
}

#[tokio::test]
async fn messages_are_pulled_by_ranges_of_their_conversations() {
    let gateway = gateway_with(MANY).await;
    let pull = |seqs: Value, ranges: Value| {
        let pull = json!({ "operationID": "op", "reqIdentifier": 1002, "sendID": "u1" });
        with(with(pull, "seqList", seqs), "seqRanges", ranges)
    };
    let range = |conversation: &str, begin: u64, end: u64, num: u64| json!({ "conversationID": conversation, "begin": begin, "end": end, "num": num });
    let places = async |seqs: Value, ranges: Value| {
        let pull = pull(seqs, ranges);
        let data = gateway
            .post_as("u1", "/msg/pull_msg_by_seq", &pull)
            .await
            .data();
        let messages = data.as_array().unwrap().iter();
        let number = |message: &Value, field: &str| message[field].as_u64().unwrap();
        messages
            .map(|message| (number(message, "seq"), number(message, "conversationSeq")))
            .collect::<Vec<_>>()
    };
    let of_b = json!([range("si_b_u1", 1, 2, 0)]);
    assert_eq!(places(json!([]), of_b).await, [(2, 1), (5, 2)]);
    let newest = json!([range("si_b_u1", 1, 400, 2)]);
    assert_eq!(places(json!(null), newest).await, [(5, 2), (8, 3)]);
    // Each message once, in the order of the inbox.
    let both = json!([range("si_c_u1", 3, 3, 0), range("si_a_u1", 2, 9, 0)]);
    let expected = [(1, 1), (4, 2), (7, 3), (9, 3)];
    assert_eq!(places(json!([7, 1]), both).await, expected);
    let unknown = json!([range("si_x_u1", 1, 9, 0), range("si_a_u1", 4, 9, 0)]);
    assert_eq!(places(json!([]), unknown).await, []);
    let delete = json!({ "operationID": "op", "userID": "u1", "seqList": [5] });
    gateway.post("/msg/del_msg", &delete).await.data();
    let of_b = json!([range("si_b_u1", 1, 3, 2)]);
    assert_eq!(places(json!([]), of_b).await, [(8, 3)]);
    for (ranges, sentence) in [
        (
            json!([range("si_b_u1", 1, 501, 0)]),
            "seqList with seqRanges holds 501, at most 500 are allowed",
        ),
        (
            json!([range("si_b_u1", 3, 1, 0)]),
            "seqRanges: begin is above end",
        ),
        (json!([range("si_b_u1", 0, 1, 0)]), "begin must not be 0"),
        (json!([range("", 1, 1, 0)]), "conversationID is required"),
    ] {
        let pull = pull(json!([]), ranges);
        let reply = gateway.post("/msg/pull_msg_by_seq", &pull).await;
        reply.assert_refused(400, 400, sentence);
    }
    let wide = pull(json!([1]), json!([range("si_b_u1", 1, u64::MAX, 500)]));
    let reply = gateway.post("/msg/pull_msg_by_seq", &wide).await;
    assert_eq!(reply.verdict(), (400, 400));
}
