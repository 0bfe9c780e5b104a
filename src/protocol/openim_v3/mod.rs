//! OpenIM v3: what apps with an OpenIM SDK speak. `docs/openim.md` is its manual.
//!
//! Each WebSocket message is an envelope with a request, an answer or a push. The SDKs send no acks: the pong that answers a ping
//! behind a push shows that the push was received, because a client reads in order. The codec turns it into an ack.
//!
//! - `query.rs`: who the client is, and in which encoding it speaks
//! - `envelope.rs`: envelopes and their encodings; `gob.rs`, `json.rs`: the two forms
//! - `requests.rs`: what each request asks for
//! - `answers.rs`: the session's answers as OpenIM's
//! - `message.rs`: one message, and the news that something was read; `element.rs`: a message's content
//! - `push.rs`: messages of several conversations in frames
//! - this file: the codec

mod answers;
mod element;
mod envelope;
mod gob;
mod json;
mod message;
mod push;
mod query;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use axum::http::{Request, header::UPGRADE};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use serde_json::{Value, json};
use towncrier_websocket::{
    Close, Frame, Rules, Side, Violation,
    frame::{self, BINARY, FIN, TEXT, put_header},
};

use self::{
    envelope::Request as Envelope,
    envelope::{Encoding, Form},
    proto::{SubUserOnlineStatusElem, SubUserOnlineStatusTips},
    query::Query,
    requests::{Asked, asked, number},
};
use super::Codec;
use crate::{
    ids::{Platform, Seq, UserId, WireSeq},
    message::{Live, Numbers},
    session::{Answer, BadToken, Connect, FromClient, Manner, Question, Reason, Resume, ToClient},
};

/// The prost types of `proto/openim/v3/sdk.proto`.
#[expect(unreachable_pub, reason = "generated; the .proto is the manual")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/openim.v3.rs"));
}

/// The largest message of a client. OpenIM's own gateway takes 50 KiB.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Go cores need some text there in each push.
const PUSH_OPERATION: &str = "push";
/// The close code of every connection: the SDKs do not look at it.
const CLOSE_CODE: u16 = 1000;

/// The codec of the client that sends this request; `None` if it is no client of this protocol, or its query lacks something.
pub(super) fn of(request: &Request<()>) -> Option<Box<dyn Codec>> {
    let is_upgrade = request.headers().contains_key(UPGRADE);
    let query = request.uri().query().filter(|_| is_upgrade)?;
    Some(Box::new(OpenimV3::new(query::parse(query)?)))
}

/// The codec of one connection.
struct OpenimV3 {
    encoding: Encoding,
    /// The user of the query.
    user: Box<str>,
    /// True if the verdict on the login is a text message; false: the HTTP answer.
    is_told: bool,
    /// The login by the query, until it is taken.
    login: Option<Box<Connect>>,
    /// The request that waits for the session's answer.
    asked: Option<Box<Waiting>>,
    /// The request that waits for the presence of users.
    asked_presence: Option<Box<Envelope>>,
    /// The answer to the latest message, where the session has no part in it.
    owed: Option<Box<Frame>>,
    /// The highest entry that was pushed.
    pushed: Seq,
    /// A ping is under way, and all up to this entry was pushed before it.
    pinged: Option<Seq>,
}

/// A request that waits for the session's answer.
struct Waiting {
    request: Envelope,
    /// The lowest seq asked for in each conversation.
    lowest: HashMap<String, WireSeq>,
}

impl OpenimV3 {
    fn new(query: Query) -> Self {
        let login = Connect {
            token: query.token,
            device: String::new(),
            client: String::new(),
            resume: Resume {
                epoch: 0,
                cursor: None,
            },
            manner: match query.encoding.form {
                Form::Gob => Manner::Sifts,
                Form::Json => Manner::Forgets,
            },
            named: Some((query.user.clone(), query.platform)),
        };
        Self {
            encoding: query.encoding,
            user: query.user.as_str().into(),
            is_told: query.is_told,
            login: Some(Box::new(login)),
            asked: None,
            asked_presence: None,
            owed: None,
            pushed: Seq::ZERO,
            pinged: None,
        }
    }

    /// The frame of an answer to `request`, or of an error.
    fn answer(&self, request: &Envelope, data: &[u8], error: Option<(i32, &str)>) -> Frame {
        let (error_code, error_text) = error.unwrap_or_default();
        let response = envelope::Response {
            number: request.number,
            error_code,
            error_text,
            increment: &request.increment,
            operation_id: &request.operation_id,
            data,
        };
        binary(self.encoding.encode(&response))
    }

    /// The frame of a message that nobody asked for.
    fn unasked(&self, number: i32, data: &[u8]) -> Frame {
        let response = envelope::Response {
            number,
            operation_id: PUSH_OPERATION,
            data,
            ..envelope::Response::default()
        };
        binary(self.encoding.encode(&response))
    }

    fn take(&mut self, request: Envelope) -> Result<FromClient, Reason> {
        if request.send_id != self.user {
            return Err(Reason::Protocol("a request of another user"));
        }
        let asked = match asked(request.number, request.data.clone(), &self.user) {
            Ok(asked) => asked,
            Err(refusal) => {
                self.owed = Some(Box::new(self.answer(&request, &[], Some(refusal))));
                return Ok(FromClient::Nothing);
            }
        };
        Ok(match asked {
            Asked::Question(question) => {
                let lowest = lowest(&question);
                self.asked = Some(Box::new(Waiting { request, lowest }));
                FromClient::Ask(question)
            }
            Asked::Presence { users, unwatch } => {
                self.asked_presence = Some(Box::new(request));
                FromClient::Watch { users, unwatch }
            }
            Asked::Nothing => {
                self.owed = Some(Box::new(self.answer(&request, &[], None)));
                FromClient::Nothing
            }
            Asked::LogOut => {
                self.owed = Some(Box::new(self.answer(&request, &[], None)));
                FromClient::LogOut
            }
        })
    }

    /// Pushes messages, ascending by their place in the inbox.
    fn push(&mut self, user: &UserId, messages: &[(Numbers, Bytes)], send: &mut dyn FnMut(Frame)) {
        for part in push::parts(user, messages, self.encoding.form) {
            send(self.unasked(number::PUSH, &part.encode_to_vec()));
        }
        let last = messages.last().map(|(numbers, _)| numbers.seq);
        self.pushed = self.pushed.max(last.unwrap_or_default());
        if self.pinged.is_none() {
            send(self.ping());
        }
    }

    /// A ping behind all that was pushed.
    fn ping(&mut self) -> Frame {
        self.pinged = Some(self.pushed);
        frame::ping(&[])
    }

    fn tell_presence(&mut self, users: &[(UserId, Vec<Platform>)]) -> Frame {
        let subscribers = users
            .iter()
            .map(|(user, platforms)| SubUserOnlineStatusElem {
                user_id: user.as_str().to_owned(),
                platforms: platforms
                    .iter()
                    .map(|platform| platform.number() as i32)
                    .collect(),
            });
        let tips = SubUserOnlineStatusTips {
            subscribers: subscribers.collect(),
        };
        let data = tips.encode_to_vec();
        match self.asked_presence.take() {
            Some(request) => self.answer(&request, &data, None),
            None => self.unasked(number::PRESENCE, &data),
        }
    }

    fn tell_answer(&mut self, user: &UserId, answer: Answer) -> Option<Frame> {
        let Waiting { request, lowest } = *self.asked.take()?;
        let form = self.encoding.form;
        let data = answers::data(request.number, &lowest, answer, user, form);
        Some(self.answer(&request, &data, None))
    }
}

impl Codec for OpenimV3 {
    fn subprotocol(&self) -> &'static str {
        "openim.v3"
    }

    fn rules(&self) -> Rules {
        Rules {
            from: Side::Client,
            takes_text: true,
            message_bytes_max: FRAME_BYTES_MAX,
        }
    }

    fn asks_first(&self) -> Option<&Connect> {
        self.login.as_deref().filter(|_| !self.is_told)
    }

    fn refuse_upgrade(&self, reason: Reason) -> Bytes {
        let (code, text) = login_error(reason);
        verdict(code, text).to_string().into()
    }

    fn greet(&mut self) -> Option<Connect> {
        self.login.take().map(|login| *login)
    }

    fn decode(&mut self, message: Bytes, is_text: bool) -> Result<FromClient, Reason> {
        if !is_text {
            let request = self.encoding.decode(message);
            return self.take(request.map_err(|_| Reason::UNKNOWN_FRAME)?);
        }
        let said: Value = serde_json::from_slice(&message).unwrap_or_default();
        if said["type"] == "ping" {
            let mut pong = json!({ "type": "pong" });
            if let Some(body) = said.get("body") {
                pong["body"] = body.clone();
            }
            self.owed = Some(Box::new(text(&pong)));
        }
        Ok(FromClient::Nothing)
    }

    fn answers(&mut self) -> Option<Frame> {
        self.owed.take().map(|frame| *frame)
    }

    fn pong(&mut self) -> Option<FromClient> {
        let received = self.pinged.take()?;
        if self.pushed > received {
            self.owed = Some(Box::new(self.ping()));
        }
        Some(FromClient::Ack(received))
    }

    fn refuse_login(&mut self, reason: Reason) -> Option<Frame> {
        let (code, error) = login_error(reason);
        self.is_told.then(|| text(&verdict(code, error)))
    }

    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame)) {
        match what {
            ToClient::Connected(_) => {
                if self.is_told {
                    send(text(&verdict(0, "")));
                }
            }
            ToClient::Live(Live { numbers, message }) => {
                self.push(user, &[(numbers, message.body().clone())], send);
            }
            ToClient::Push { messages, .. } => self.push(user, &messages, send),
            ToClient::Answer(answer) => {
                if let Some(frame) = self.tell_answer(user, answer) {
                    send(frame);
                }
            }
            ToClient::Presence(users) => send(self.tell_presence(&users)),
            ToClient::Kicked(_) => send(self.unasked(number::KICK, &[])),
            ToClient::Ping if self.pinged.is_none() => send(self.ping()),
            // The SDKs know nothing of these.
            ToClient::Ping
            | ToClient::CaughtUp(_)
            | ToClient::Gap(_)
            | ToClient::Fetched { .. }
            | ToClient::Conversations { .. }
            | ToClient::Draining(_)
            | ToClient::Pong { .. } => {}
        }
    }

    fn close(&self, _: Reason) -> Close {
        let (code, text) = (CLOSE_CODE, String::new());
        Close { code, text }
    }

    fn refuse(&self, violation: Violation) -> Close {
        let (code, text) = (violation.code(), String::new());
        Close { code, text }
    }
}

/// The lowest seq that a question asks for, by conversation.
fn lowest(question: &Question) -> HashMap<String, WireSeq> {
    let mut lowest = HashMap::new();
    if let Question::Ranges { ranges, .. } = question {
        for range in ranges {
            let least = lowest
                .entry(range.conversation_id.clone())
                .or_insert(range.from);
            *least = range.from.min(*least);
        }
    }
    lowest
}

/// The code and name of OpenIM's error for a login that is refused. SDKs stop at 1501 to 1507, and try again after others.
fn login_error(reason: Reason) -> (i32, &'static str) {
    match reason {
        Reason::Unauthorized(BadToken::Expired) => (1501, "TokenExpiredError"),
        Reason::Unauthorized(BadToken::Revoked) | Reason::LoggedOut | Reason::Replaced => {
            (1506, "TokenKickedError")
        }
        Reason::Unauthorized(_) => (1502, "TokenInvalidError"),
        Reason::TooManySessions | Reason::Unavailable(_) => (1601, "ConnOverMaxNumLimit"),
        _ => (500, "ServerInternalError"),
    }
}

fn verdict(code: i32, text: &str) -> Value {
    json!({ "errCode": code, "errMsg": text, "errDlt": "" })
}

fn text(value: &Value) -> Frame {
    whole(TEXT, value.to_string().into())
}

fn binary(message: Bytes) -> Frame {
    whole(BINARY, message)
}

fn whole(kind: u8, body: Bytes) -> Frame {
    let mut head = BytesMut::new();
    put_header(&mut head, FIN | kind, body.len(), None);
    Frame {
        head: head.freeze(),
        body,
    }
}
