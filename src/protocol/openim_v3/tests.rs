//! Tests of the codec as a whole: frames in, frames out.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use prost::Message as _;
use serde_json::{Value, json};
use towncrier_websocket::{Reader, Received};

use super::{proto::*, *};
use crate::{
    ids::{ConnectionId, ConversationSeq, Epoch, WireSeq},
    message::{Bases, Conversation, Message, ReadMark, StoredMessage},
    session::{BadToken, Connected, Gap, GapReason, Kicked, RangeAnswer},
};

/// A codec, and what its client reads.
struct Client {
    codec: Box<dyn Codec>,
    user: UserId,
}

const JS: &str =
    "sendID=u1&token=t&platformID=5&operationID=o&isBackground=false&isMsgResp=true&sdkType=js";
const NATIVE: &str =
    "sendID=u1&token=t&platformID=2&operationID=o&isBackground=false&compression=gzip";

fn request(query: &str, is_upgrade: bool) -> Request<()> {
    let mut request = Request::builder().uri(format!("/msg_gateway?{query}"));
    if is_upgrade {
        request = request.header(UPGRADE, "websocket");
    }
    request.body(()).unwrap()
}

impl Client {
    fn new(query: &str) -> Self {
        Self {
            codec: of(&request(query, true)).unwrap(),
            user: UserId::new("u1").unwrap(),
        }
    }

    /// The frames that the client reads when the session says this.
    fn hear(&mut self, what: ToClient) -> Vec<Received> {
        let mut frames = Vec::new();
        self.codec
            .encode(&self.user, what, &mut |frame| frames.push(frame));
        frames.into_iter().map(read).collect()
    }

    /// A request in JSON, and the answer that needs no session.
    fn ask(&mut self, number: i32, data: &[u8]) -> (Result<FromClient, Reason>, Option<Value>) {
        let request = json!({
            "reqIdentifier": number,
            "sendID": "u1",
            "operationID": "o",
            "msgIncr": "7",
            "data": BASE64.encode(data),
        });
        let said = self.codec.decode(request.to_string().into(), false);
        let owed = self.codec.answers().map(read);
        (said, owed.map(|owed| envelope(&owed)))
    }
}

fn read(frame: Frame) -> Received {
    let rules = Rules {
        from: Side::Server,
        takes_text: true,
        message_bytes_max: 1 << 20,
    };
    let bytes = [frame.head, frame.body].concat();
    let mut input = &bytes[..];
    let received = Reader::default().next(&mut input, &rules).unwrap().unwrap();
    assert!(input.is_empty());
    received
}

/// A JSON envelope.
fn envelope(received: &Received) -> Value {
    match received {
        Received::Binary(bytes) => serde_json::from_slice(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The data of a JSON envelope.
fn data(envelope: &Value) -> Vec<u8> {
    BASE64.decode(envelope["data"].as_str().unwrap()).unwrap()
}

fn numbers(seq: u64) -> Numbers {
    Numbers {
        seq: Seq(seq),
        conversation_seq: ConversationSeq(seq),
        ..Numbers::default()
    }
}

fn body() -> Bytes {
    StoredMessage {
        send_id: "oa".into(),
        session_type: 4,
        content_type: 1400,
        content: Bytes::from_static(b"{}"),
        ..StoredMessage::default()
    }
    .to_bytes()
}

fn live(seq: u64) -> ToClient {
    ToClient::Live(Live {
        numbers: numbers(seq),
        message: Arc::new(Message::new(body())),
    })
}

fn push(seqs: std::ops::RangeInclusive<u64>) -> ToClient {
    ToClient::Push {
        messages: seqs.map(|seq| (numbers(seq), body())).collect(),
        resent: 0,
    }
}

fn connected() -> ToClient {
    ToClient::Connected(Connected {
        connection: ConnectionId(1),
        platform: Platform::Web,
        epoch: Epoch(7),
        cursor: Seq::ZERO,
        head: Seq::ZERO,
        first: Seq(1),
        heartbeat: std::time::Duration::from_secs(30),
        window: 256,
        server_time_ms: 0,
        has_conversations: true,
    })
}

fn ping() -> Received {
    Received::Ping(Bytes::new())
}

#[test]
fn an_upgrade_with_token_and_user_speaks_openim() {
    assert!(of(&request(NATIVE, true)).is_some());
    assert!(of(&request(NATIVE, false)).is_none());
    assert!(of(&request("sendID=u1", true)).is_none());
}

#[test]
fn the_login_is_that_of_the_query_and_the_verdict_is_said_as_the_query_asks() {
    let mut native = Client::new(NATIVE);
    let asked = native.codec.asks_first().unwrap();
    assert_eq!((&*asked.token, asked.manner), ("t", Manner::Sifts));
    let refusal = native
        .codec
        .refuse_upgrade(Reason::Unauthorized(BadToken::Expired));
    let refusal: Value = serde_json::from_slice(&refusal).unwrap();
    assert_eq!(refusal["errCode"], 1501);
    let login = native.codec.greet().unwrap();
    assert_eq!(login.named, Some((native.user.clone(), Platform::Android)));
    assert!(native.codec.greet().is_none());
    assert!(native.codec.refuse_login(Reason::LoggedOut).is_none());
    assert!(native.hear(connected()).is_empty());

    let mut js = Client::new(JS);
    assert!(js.codec.asks_first().is_none());
    assert_eq!(js.codec.greet().unwrap().manner, Manner::Forgets);
    let refused = js.codec.refuse_login(Reason::LoggedOut).map(read);
    let Some(Received::Text(refused)) = refused else {
        panic!("{refused:?}")
    };
    let refused: Value = serde_json::from_slice(&refused).unwrap();
    assert_eq!(refused["errCode"], 1506);
    let welcome = br#"{"errCode":0,"errDlt":"","errMsg":""}"#;
    assert_eq!(
        js.hear(connected()),
        [Received::Text(Bytes::from_static(welcome))]
    );
}

#[test]
fn a_text_ping_gets_a_pong_and_other_texts_get_nothing() {
    let mut js = Client::new(JS);
    let ping = Bytes::from_static(br#"{"type":"ping"}"#);
    assert!(matches!(
        js.codec.decode(ping, true),
        Ok(FromClient::Nothing)
    ));
    let pong = Bytes::from_static(br#"{"type":"pong"}"#);
    assert_eq!(js.codec.answers().map(read), Some(Received::Text(pong)));
    assert!(js.codec.answers().is_none());
    let other = Bytes::from_static(b"hello");
    assert!(matches!(
        js.codec.decode(other, true),
        Ok(FromClient::Nothing)
    ));
    assert!(js.codec.answers().is_none());
}

#[test]
fn a_request_of_another_user_or_in_another_form_closes() {
    for message in [
        &br#"{"reqIdentifier":1001,"sendID":"u2"}"#[..],
        br#"{"reqIdentifier":1001}"#,
        b"{",
        b"",
    ] {
        let said = Client::new(JS)
            .codec
            .decode(Bytes::from_static(message), false);
        assert!(matches!(said, Err(Reason::Protocol(_))), "{said:?}");
        let said = Client::new(NATIVE)
            .codec
            .decode(Bytes::from_static(message), false);
        assert!(matches!(said, Err(Reason::Protocol(_))), "{said:?}");
    }
}

#[test]
fn requests_without_a_session_are_answered_at_once() {
    let mut js = Client::new(JS);
    for (number, code) in [(2004, 0), (1003, 1002), (1004, 1001), (9999, 1001)] {
        let (said, answer) = js.ask(number, &[]);
        let is_said = match said {
            Ok(FromClient::Background(false)) => number == 2004,
            Ok(FromClient::Nothing) => number != 2004,
            _ => false,
        };
        assert!(is_said, "{number}");
        let answer = answer.unwrap();
        assert_eq!(answer["errCode"], code);
        assert_eq!(answer["reqIdentifier"], number);
        assert_eq!(
            (&answer["msgIncr"], &answer["operationID"]),
            (&json!("7"), &json!("o"))
        );
        assert!(answer["data"].is_null());
    }
    let (said, answer) = js.ask(2003, &[]);
    assert!(matches!(said, Ok(FromClient::LogOut)));
    assert_eq!(answer.unwrap()["errCode"], 0);
}

#[test]
fn the_sessions_answer_goes_to_the_request_that_waits() {
    let mut js = Client::new(JS);
    let request = PullMessageBySeqsReq {
        user_id: "u1".into(),
        seq_ranges: vec![SeqRange {
            conversation_id: "sn_oa_u1".into(),
            begin: 1,
            end: 2,
        }],
    };
    let (said, owed) = js.ask(1002, &request.encode_to_vec());
    assert!(matches!(said, Ok(FromClient::Ask(Question::Ranges { .. }))));
    assert!(owed.is_none());
    let conversation = Conversation {
        id: "sn_oa_u1".into(),
        head: ConversationSeq(2),
        first: ConversationSeq(2),
        mark: ConversationSeq::ZERO,
        unread: 0,
        last_time_ms: 0,
        last_seq: Seq(2),
        bases: Bases::default(),
        settings: Default::default(),
    };
    assert_eq!(conversation.wire_of(ConversationSeq(2)), WireSeq(2));
    let answer = || {
        Answer::Ranges(vec![RangeAnswer {
            conversation: Some(conversation.clone()),
            messages: vec![(numbers(2), body())],
        }])
    };
    let heard = js.hear(ToClient::Answer(answer()));
    let envelope = envelope(&heard[0]);
    assert_eq!(envelope["reqIdentifier"], 1002);
    assert_eq!(envelope["msgIncr"], "7");
    let found = PushMessages::decode(&data(&envelope)[..]).unwrap();
    let run = &found.msgs["sn_oa_u1"];
    assert_eq!((run.messages[0].seq, run.is_end, run.end_seq), (2, true, 2));
    // Nobody waits any more.
    assert!(js.hear(ToClient::Answer(answer())).is_empty());
}

#[test]
fn presence_answers_the_request_and_later_comes_unasked() {
    let mut js = Client::new(JS);
    let request = SubUserOnlineStatus {
        subscribe_user_id: vec!["a".into()],
        unsubscribe_user_id: Vec::new(),
    };
    let (said, _) = js.ask(2005, &request.encode_to_vec());
    assert!(matches!(said, Ok(FromClient::Watch { .. })));
    for (increment, operation) in [("7", "o"), ("", "push")] {
        let seen = vec![(UserId::new("a").unwrap(), vec![Platform::Web])];
        let envelope = envelope(&js.hear(ToClient::Presence(seen))[0]);
        assert_eq!(envelope["reqIdentifier"], 2005);
        assert_eq!(envelope["msgIncr"], increment);
        assert_eq!(envelope["operationID"], operation);
        let tips = SubUserOnlineStatusTips::decode(&data(&envelope)[..]).unwrap();
        assert_eq!(tips.subscribers[0].user_id, "a");
        assert_eq!(tips.subscribers[0].platforms, [5]);
    }
}

#[test]
fn a_kick_is_a_frame_of_its_own_and_a_drain_is_none() {
    let mut js = Client::new(JS);
    let kick = envelope(&js.hear(ToClient::Kicked(Kicked::Replaced))[0]);
    assert_eq!(kick["reqIdentifier"], 2002);
    let drain = ToClient::Draining(std::time::Duration::from_secs(1));
    assert!(js.hear(drain).is_empty());
    assert!(js.hear(ToClient::CaughtUp(Seq(1))).is_empty());
}

/// The codec's word after a pong, and the ping that may follow at once.
fn pong(client: &mut Client) -> (Option<u64>, bool) {
    let (ack, is_pinged, _) = receipt(client);
    (ack, is_pinged)
}

/// The same; at last, if the pong answers the session's own ping.
fn receipt(client: &mut Client) -> (Option<u64>, bool, bool) {
    let said = client.codec.pong();
    let is_asked = matches!(said, Some(FromClient::Received(_)));
    let ack = match said {
        Some(FromClient::Ack(seq) | FromClient::Received(seq)) => Some(seq.0),
        None => None,
        other => panic!("{other:?}"),
    };
    let pings = client.codec.answers().map(read);
    assert!(pings.as_ref().is_none_or(|one| *one == ping()));
    (ack, pings.is_some(), is_asked)
}

#[test]
fn a_pong_acks_what_was_pushed_before_its_ping() {
    for query in [JS, NATIVE] {
        let mut client = Client::new(query);
        assert_eq!(pong(&mut client), (None, false), "nothing was asked");
        let heard = client.hear(live(1));
        assert_eq!((heard.len(), &heard[1]), (2, &ping()));
        // One ping at most is under way.
        assert_eq!(client.hear(live(2)).len(), 1);
        assert_eq!(client.hear(push(3..=5)).len(), 1);
        assert_eq!(pong(&mut client), (Some(1), true));
        assert_eq!(client.hear(live(6)).len(), 1);
        assert_eq!(pong(&mut client), (Some(5), true));
        assert_eq!(pong(&mut client), (Some(6), false));
        assert_eq!(pong(&mut client), (None, false));
        // A gap is received with the messages that were pushed before it.
        let gap = Gap {
            from: Seq(7),
            to: Seq(9),
            reason: GapReason::Expired,
        };
        assert_eq!(client.hear(ToClient::Gap(gap)), [ping()]);
        assert_eq!(pong(&mut client), (Some(9), false));
    }
}

#[test]
fn a_ping_without_a_push_acks_nothing() {
    let mut client = Client::new(NATIVE);
    assert_eq!(client.hear(ToClient::Ping), [ping()]);
    assert_eq!(receipt(&mut client), (Some(0), false, true));
    // An online-only message acks nothing.
    assert_eq!(client.hear(live(0)).len(), 2);
    assert_eq!(receipt(&mut client), (Some(0), false, false));
}

/// A client may answer only the latest of several pings, so one is under way at a time.
#[test]
fn the_session_learns_that_all_before_its_ping_was_received() {
    let mut client = Client::new(JS);
    assert_eq!(client.hear(live(1)).len(), 2);
    assert!(client.hear(ToClient::Ping).is_empty());
    assert!(client.hear(ToClient::Ping).is_empty());
    assert_eq!(receipt(&mut client), (Some(1), true, false));
    assert_eq!(client.hear(live(2)).len(), 1);
    assert!(client.hear(ToClient::Ping).is_empty());
    assert_eq!(receipt(&mut client), (Some(1), true, false));
    assert_eq!(receipt(&mut client), (Some(2), false, true));
}

/// Entries before the session's place may be shown. They raise no receipt.
#[test]
fn the_newest_messages_are_pushed_and_acked_as_what_they_are() {
    let mut client = Client::new(NATIVE);
    assert_eq!(client.hear(live(5)).len(), 2);
    let newest = ToClient::Newest(vec![(numbers(3), body())]);
    assert_eq!(client.hear(newest).len(), 1);
    assert_eq!(pong(&mut client), (Some(5), false));
}

/// JSON with gzip is spoken by no SDK, and shares nothing.
#[test]
fn a_live_push_and_one_from_the_log_say_the_same_in_every_form() {
    let gob = NATIVE.replace("&compression=gzip", "");
    let json_gzip = format!("{JS}&compression=gzip");
    for query in [NATIVE, &gob, JS, &json_gzip] {
        let encoding = query::parse(query).unwrap().encoding;
        let mut told = Vec::new();
        for what in [live(3), push(3..=3)] {
            let heard = Client::new(query).hear(what);
            let Received::Binary(message) = &heard[0] else {
                panic!("{heard:?}")
            };
            let read = encoding.decode(message.clone()).unwrap();
            assert_eq!((read.number, &*read.operation_id), (2001, "push"));
            told.push(PushMessages::decode(read.data).unwrap());
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0].msgs["sn_oa_u1"].messages[0].seq, 3);
    }
}

#[test]
fn what_a_user_has_read_is_told_to_go_cores_alone() {
    let marks = StoredMessage {
        marks: vec![ReadMark {
            conversation_id: "sn_oa_u1".into(),
            conversation_seq: 2,
            ..ReadMark::default()
        }],
        ..StoredMessage::default()
    }
    .to_bytes();
    let entry = || {
        ToClient::Live(Live {
            numbers: Numbers {
                seq: Seq(4),
                ..Numbers::default()
            },
            message: Arc::new(Message::new(marks.clone())),
        })
    };
    let mut native = Client::new(NATIVE);
    assert_eq!(native.hear(entry()).len(), 2);
    assert_eq!(pong(&mut native), (Some(4), false));
    let mut js = Client::new(JS);
    assert_eq!(js.hear(entry()), [ping()]);
    assert_eq!(pong(&mut js), (Some(4), false));
}
