//! Sessions against a small server that answers as the protocol's tables say.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::sleep,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request as Upgrade, Response as Answer},
    },
};
use towncrier_client::Trust;

use super::{
    SdkForm, gob,
    messages::{
        Bunch, ConversationHead, HEADS, HeadsAnswer, PULL, PUSH, PulledMsgs, REACHED,
        ReachedAnswer, SdkMessage, SdkPull, SdkRequest, SdkResponse,
    },
};
use crate::{
    crowd::{Crowd, Size, Who},
    gateway::{GatewayAccess, GatewayPorts, Speech},
    ledger::MessageKey,
};

const WHO: Who = Who {
    user: 0,
    session: 0,
};

/// A session's server, its crowd of one, and the messages in its inbox.
struct Fixture {
    listener: TcpListener,
    crowd: Rc<Crowd>,
    user_id: String,
    conversation_id: String,
    inbox: Vec<SdkMessage>,
}

impl Fixture {
    /// Starts the session.
    async fn new(form: SdkForm) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let size = Size {
            users: 1,
            sessions_each: 1,
            content_bytes: (100, 200),
            is_lean: false,
            patience: Duration::from_secs(5),
        };
        let crowd = Crowd::new(size, 40).unwrap();
        let access = Rc::new(GatewayAccess {
            gateways: vec![GatewayPorts {
                ws: format!("ws://{}/ws", listener.local_addr().unwrap()),
                admin: String::new(),
            }],
            secret: String::new(),
            trust: Trust::default(),
            token_key: None,
            speech: Speech::OpenIm(form),
            admin_token: String::new(),
        });
        let user_id = crowd.ledger.borrow().user_id(0);
        access.start(&crowd, WHO, "a.b.c".to_owned());
        Self {
            listener,
            crowd,
            conversation_id: format!("si_openIM123456_{user_id}"),
            user_id,
            inbox: Vec::new(),
        }
    }

    /// Takes the next connection, whose query is as it must be.
    #[expect(clippy::result_large_err, reason = "tungstenite's type of a refusal")]
    async fn accept(&self, rest_of_query: &str) -> WebSocketStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let query = format!(
            "/?sendID={}&token=a.b.c&platformID=1&operationID=loadtest&isBackground=false{rest_of_query}",
            self.user_id
        );
        let check = |upgrade: &Upgrade, answer: Answer| -> Result<Answer, ErrorResponse> {
            assert_eq!(upgrade.uri().to_string(), query);
            Ok(answer)
        };
        accept_hdr_async(stream, check).await.unwrap()
    }

    /// Puts an accepted message into the inbox.
    fn accepted(&mut self) {
        let key: MessageKey = self.crowd.ledger.borrow_mut().issue(0, 0, 1);
        let number = self.inbox.len() as i64 + 1;
        let server_msg_id = format!("s{number}");
        let mut ledger = self.crowd.ledger.borrow_mut();
        ledger.accepted(key, 1, &server_msg_id);
        self.inbox.push(SdkMessage {
            send_id: "openIM123456".to_owned(),
            recv_id: self.user_id.clone(),
            client_msg_id: key.to_string(),
            server_msg_id,
            session_type: 1,
            content_type: 101,
            content: ledger.content(key).replacen("text", "content", 1).into(),
            seq: number,
            send_time: number,
        });
    }

    /// The messages from one seq to another, in a push or in an answer to 1002.
    fn bunch(&self, begin: usize, end: usize) -> Vec<u8> {
        let msgs = PulledMsgs {
            msgs: self.inbox[begin - 1..end].to_vec(),
            is_end: false,
        };
        let msgs = BTreeMap::from([(self.conversation_id.clone(), msgs)]);
        Bunch { msgs }.encode_to_vec()
    }

    fn heads(&self, max_seq: i64) -> Vec<u8> {
        let head = ConversationHead {
            max_seq,
            has_read_seq: 0,
        };
        let seqs = BTreeMap::from([(self.conversation_id.clone(), head)]);
        HeadsAnswer { seqs }.encode_to_vec()
    }

    fn reached(&self, seq: i64) -> Vec<u8> {
        let max_seqs = BTreeMap::from([(self.conversation_id.clone(), seq)]);
        ReachedAnswer { max_seqs }.encode_to_vec()
    }

    /// Waits until this many messages have landed.
    async fn landed(&self, count: u64) {
        while self.crowd.counts().landed < count {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the session has stood this long, and finds no fault.
    async fn is_exactly_once(&self) {
        assert!(self.crowd.close().await.is_exactly_once());
        assert!(
            self.crowd.incidents.borrow().is_empty(),
            "{:?}",
            self.crowd.incidents
        );
    }
}

/// A frame in gob: an answer may have fields that the client does not know.
fn frame(number: i64, msg_incr: &str, data: &[u8]) -> Message {
    let frame = gob::encode(&SdkRequest {
        number,
        send_id: "",
        operation_id: "of the server",
        msg_incr,
        data,
    });
    Message::Binary(frame.into())
}

/// The next request. The session's heartbeat may come before it.
async fn request(socket: &mut WebSocketStream<TcpStream>) -> SdkResponse {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(frame) => return gob::decode(&frame).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Answers a request, which must have this number.
async fn answer(socket: &mut WebSocketStream<TcpStream>, number: i64, data: &[u8]) -> SdkResponse {
    let request = request(socket).await;
    assert_eq!(request.number, number);
    let answer = frame(number, &request.msg_incr, data);
    socket.send(answer).await.unwrap();
    request
}

#[tokio::test]
async fn a_go_core_lands_pushes_then_pongs_pulls_holes_and_goes_on_where_it_was() {
    let test = async {
        let mut it = Fixture::new("gob".parse().unwrap()).await;
        let mut socket = it.accept("").await;
        answer(&mut socket, REACHED, &[]).await;
        answer(&mut socket, HEADS, &[]).await;
        it.accepted();
        it.accepted();
        socket.send(frame(PUSH, "", &it.bunch(1, 2))).await.unwrap();
        socket.send(Message::Ping("7".into())).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Pong("7".into())
        );
        // The pong came behind the landing.
        assert_eq!(it.crowd.counts().landed, 2);
        for _ in 0..3 {
            it.accepted();
        }
        socket.send(frame(PUSH, "", &it.bunch(5, 5))).await.unwrap();
        let pull = answer(&mut socket, PULL, &it.bunch(3, 5)).await;
        let pull = SdkPull::decode(&pull.data[..]).unwrap();
        assert_eq!(
            (pull.user_id, pull.ranges[0].begin, pull.ranges[0].end),
            (it.user_id.clone(), 3, 5)
        );
        it.landed(5).await;
        drop(socket);

        // Within 5 s of its last connect, it asks nothing for a while.
        it.accepted();
        let mut socket = it.accept("").await;
        socket.send(frame(PUSH, "", &it.bunch(6, 6))).await.unwrap();
        answer(&mut socket, HEADS, &it.heads(6)).await;
        it.landed(6).await;
        while it.crowd.counts().caught_up == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        it.crowd.incidents.borrow_mut().clear();
        it.is_exactly_once().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_go_core_pulls_what_it_misses_at_a_connect() {
    let test = async {
        let mut it = Fixture::new("gob".parse().unwrap()).await;
        let mut socket = it.accept("").await;
        for _ in 0..4 {
            it.accepted();
        }
        answer(&mut socket, REACHED, &it.reached(4)).await;
        // The answer is cut.
        answer(&mut socket, PULL, &it.bunch(3, 4)).await;
        answer(&mut socket, PULL, &it.bunch(1, 2)).await;
        answer(&mut socket, HEADS, &it.heads(4)).await;
        it.landed(4).await;
        it.is_exactly_once().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn javascript_waits_for_the_verdict_and_asks_for_the_heads() {
    let test = async {
        let mut it = Fixture::new("json".parse().unwrap()).await;
        let mut socket = it.accept("&sdkType=js&isMsgResp=true").await;
        let verdict = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;
        socket.send(Message::text(verdict)).await.unwrap();
        let Message::Binary(asked) = socket.next().await.unwrap().unwrap() else {
            panic!("no request");
        };
        let asked: serde_json::Value = serde_json::from_slice(&asked).unwrap();
        assert_eq!(asked["reqIdentifier"], HEADS);
        let answer = serde_json::json!({
            "reqIdentifier": HEADS, "msgIncr": asked["msgIncr"], "operationID": "o", "errCode": 0, "data": null,
        });
        socket
            .send(Message::binary(answer.to_string()))
            .await
            .unwrap();
        it.accepted();
        let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, it.bunch(1, 1));
        let push = serde_json::json!({"reqIdentifier": PUSH, "operationID": "o", "data": data});
        socket
            .send(Message::binary(push.to_string()))
            .await
            .unwrap();
        it.landed(1).await;
        it.is_exactly_once().await;
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_refused_token_ends_the_session_and_another_refusal_does_not() {
    let test = async {
        let it = Fixture::new("gob+gzip".parse().unwrap()).await;
        // The last one comes a second after the one before.
        for code in [1601, 1501] {
            let (mut stream, _) = it.listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            assert!(
                String::from_utf8(request)
                    .unwrap()
                    .contains("&compression=gzip HTTP/1.1\r\n")
            );
            let body = format!(r#"{{"errCode":{code},"errMsg":"no","errDlt":""}}"#);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
        while it.crowd.incidents.borrow().len() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        let incidents = it.crowd.incidents.borrow().clone();
        assert_eq!(
            Vec::from_iter(incidents.keys()),
            ["refused with 1501 no", "refused with 1601 no"]
        );
        // The session is gone, and only the test still has the crowd.
        while Rc::strong_count(&it.crowd) > 1 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    LocalSet::new().run_until(test).await;
}
