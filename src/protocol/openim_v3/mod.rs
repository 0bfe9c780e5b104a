//! OpenIM v3: what apps with an OpenIM SDK speak. `docs/openim.md` is its manual.
//!
//! Each binary WebSocket message is an envelope with a request, an answer or a push. The SDKs send no acks: the pong that answers a ping
//! behind a push shows that the push was received, because a client reads in order. The codec turns it into an ack.
//!
//! The end of a live push is the message without its address, and all receivers share it: encoded once and compressed once for each
//! encoding. JSON with gzip alone is not shared.
//!
//! - `query.rs`: who the client is, and in which encoding it speaks
//! - `mistaken.rs`: a client whose query lacks something
//! - `verdict.rs`: the verdict on the login, and the other texts
//! - `envelope.rs`: the envelope; `encoding.rs`: its encodings; `gob.rs`, `json.rs`: the two forms; `gzip.rs`: around both
//! - `requests.rs`: what each request asks for
//! - `answers.rs`: the session's answers as OpenIM's
//! - `message.rs`: one message, and the news that something was read; `element.rs`: a message's content
//! - `push.rs`: messages of several conversations in frames
//! - `newest.rs`: a conversation's newest message in an answer over HTTP
//! - this file: the codec

mod answers;
mod element;
mod encoding;
mod envelope;
mod gob;
mod gzip;
mod json;
mod message;
mod mistaken;
mod newest;
mod push;
mod query;
mod requests;
#[cfg(test)]
mod tests;
mod verdict;

use axum::http::{Request, header::UPGRADE};
use bytes::{Bytes, BytesMut};
use towncrier_websocket::{
    Close, Frame, Rules, Side, Violation,
    frame::{self, BINARY, FIN, TEXT, put_header},
};

pub use self::newest::{newest_as_json, newest_as_protobuf};
use self::{
    answers::AskedRanges,
    encoding::{Encoding, Form},
    envelope::{ClientRequest, Response},
    mistaken::Mistaken,
    push::unasked,
    query::Query,
    requests::{Errand, RequestError, asked, number},
};
use super::{Codec, close};
use crate::{
    ids::{Platform, Seq, UserId},
    message::{Live, Numbers},
    session::{Answer, Connect, FromClient, Manner, Question, Reason, Resume, ToClient},
};

/// The prost types of `proto/openim/v3/sdk.proto`.
#[expect(unreachable_pub, reason = "generated; the .proto is the manual")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/openim.v3.rs"));
}

/// The name of the subprotocol. No SDK asks for one.
const SUBPROTOCOL: &str = "openim.v3";
/// The largest message of a client. A JavaScript SDK asks for all conversations that moved in one request, some 75 bytes for each.
/// OpenIM's own gateway takes 50 KiB.
const FRAME_BYTES_MAX: usize = 256 * 1024;

/// The codec of the client that sends this request; `None` if it is no client of this protocol.
pub(super) fn of(request: &Request<()>) -> Option<Box<dyn Codec>> {
    let is_upgrade = request.headers().contains_key(UPGRADE);
    let query = request.uri().query().filter(|_| is_upgrade)?;
    Some(match query::parse(query) {
        Some(query) => Box::new(OpenimV3::new(query)),
        None => Box::new(Mistaken::new(query::is_told(query)?)),
    })
}

/// The bounds of a client's messages.
fn openim_rules() -> Rules {
    Rules {
        from: Side::Client,
        takes_text: true,
        message_bytes_max: FRAME_BYTES_MAX,
    }
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
    asked: Option<Box<PendingRequest>>,
    /// The request that waits for the presence of users.
    asked_presence: Option<Box<ClientRequest>>,
    /// The answer to the latest message, where the session has no part in it.
    owed: Option<Box<Frame>>,
    /// The highest entry that was pushed.
    pushed: Seq,
    /// The ping under way.
    pinged: Option<Pinged>,
    /// True if the session asked for a ping while another one was under way.
    owes_ping: bool,
}

/// A ping under way. There is one at a time: a client may answer only the latest.
struct Pinged {
    /// All up to this entry was pushed before it.
    pushed: Seq,
    /// True if the session asked for it.
    is_asked: bool,
}

/// A request that waits for the session's answer.
struct PendingRequest {
    request: ClientRequest,
    /// The ranges that it asked for.
    ranges: AskedRanges,
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
            is_background: query.is_background,
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
            owes_ping: false,
        }
    }

    /// The frame of an answer to `request`.
    fn answer(&self, request: &ClientRequest, data: &[u8]) -> Frame {
        self.respond(request, data, (0, ""))
    }

    fn respond(&self, request: &ClientRequest, data: &[u8], (code, text): RequestError) -> Frame {
        self.binary(&Response {
            number: request.number,
            error_code: code.into(),
            error_text: text,
            increment: &request.increment,
            operation_id: &request.operation_id,
            data,
        })
    }

    fn binary(&self, response: &Response<'_>) -> Frame {
        whole(BINARY, self.encoding.encode(response))
    }

    fn take(&mut self, request: ClientRequest) -> Result<FromClient, Reason> {
        if request.send_id != self.user {
            return Err(Reason::Protocol("a request of another user"));
        }
        let asked = match asked(request.number, request.data.clone(), &self.user) {
            Ok(asked) => asked,
            Err(refusal) => {
                self.owed = Some(Box::new(self.respond(&request, &[], refusal)));
                return Ok(FromClient::Nothing);
            }
        };
        Ok(match asked {
            Errand::Question(question) => {
                let ranges = asked_ranges(&question);
                self.asked = Some(Box::new(PendingRequest { request, ranges }));
                FromClient::Ask(question)
            }
            Errand::Presence { users, unwatch } => {
                self.asked_presence = Some(Box::new(request));
                FromClient::Watch { users, unwatch }
            }
            Errand::Background(is_background) => {
                self.owed = Some(Box::new(self.answer(&request, &[])));
                FromClient::Background(is_background)
            }
            Errand::LogOut => {
                self.owed = Some(Box::new(self.answer(&request, &[])));
                FromClient::LogOut
            }
        })
    }

    /// Pushes a message whose encoding other receivers share.
    fn push_live(&mut self, user: &UserId, live: &Live, send: &mut dyn FnMut(Frame)) {
        let sharing = self.encoding.sharing();
        let Some(sharing) = sharing.filter(|_| live.message.origin().marks.is_empty()) else {
            let body = live.message.body().clone();
            return self.push(user, &[(live.numbers, body)], send);
        };
        let (begin, end) = push::live(user, live, sharing, self.encoding.form);
        let mut head = BytesMut::with_capacity(10 + begin.len());
        put_header(&mut head, FIN | BINARY, begin.len() + end.len(), None);
        head.extend_from_slice(&begin);
        send(Frame {
            head: head.freeze(),
            body: end,
        });
        self.reach(live.numbers.seq, send);
    }

    /// Pushes messages, ascending by their place in the inbox.
    fn push(&mut self, user: &UserId, messages: &[(Numbers, Bytes)], send: &mut dyn FnMut(Frame)) {
        for data in push::pushes(user, messages, self.encoding.form) {
            send(self.binary(&unasked(number::PUSH, &data)));
        }
        if let Some((numbers, _)) = messages.last() {
            self.reach(numbers.seq, send);
        }
    }

    /// All up to this entry was pushed, or will not come. A ping behind it finds out if it was received.
    fn reach(&mut self, seq: Seq, send: &mut dyn FnMut(Frame)) {
        self.pushed = self.pushed.max(seq);
        if self.pinged.is_none() {
            send(self.ping(false));
        }
    }

    /// A ping behind all that was pushed. `is_asked`: the session asked for it.
    fn ping(&mut self, is_asked: bool) -> Frame {
        self.pinged = Some(Pinged {
            pushed: self.pushed,
            is_asked,
        });
        frame::ping(&[])
    }

    fn tell_presence(&mut self, users: &[(UserId, Vec<Platform>)]) -> Frame {
        let data = answers::presence(users);
        match self.asked_presence.take() {
            Some(request) => self.answer(&request, &data),
            None => self.binary(&unasked(number::PRESENCE, &data)),
        }
    }

    fn tell_answer(&mut self, user: &UserId, answer: Answer) -> Option<Frame> {
        let PendingRequest { request, ranges } = *self.asked.take()?;
        let form = self.encoding.form;
        let data = answers::data(request.number, ranges, answer, user, form);
        Some(self.answer(&request, &data))
    }
}

impl Codec for OpenimV3 {
    fn subprotocol(&self) -> &'static str {
        SUBPROTOCOL
    }

    fn rules(&self) -> Rules {
        openim_rules()
    }

    fn asks_first(&self) -> Option<&Connect> {
        self.login.as_deref().filter(|_| !self.is_told)
    }

    fn refuse_upgrade(&self, reason: Reason) -> Bytes {
        verdict::refusal(reason)
    }

    fn greet(&mut self) -> Option<Connect> {
        self.login.take().map(|login| *login)
    }

    fn decode(&mut self, message: Bytes, is_text: bool) -> Result<FromClient, Reason> {
        if !is_text {
            let request = self.encoding.decode(message);
            return self.take(request.map_err(|_| Reason::UNKNOWN_FRAME)?);
        }
        let pong = verdict::pong(&message);
        self.owed = pong.map(|pong| Box::new(whole(TEXT, pong)));
        Ok(FromClient::Nothing)
    }

    fn answers(&mut self) -> Option<Frame> {
        self.owed.take().map(|frame| *frame)
    }

    fn pong(&mut self) -> Option<FromClient> {
        let Pinged { pushed, is_asked } = self.pinged.take()?;
        let owes = std::mem::take(&mut self.owes_ping);
        if owes || self.pushed > pushed {
            self.owed = Some(Box::new(self.ping(owes)));
        }
        // A ping that is owed has its own answer.
        Some(if is_asked && !owes {
            FromClient::Received(pushed)
        } else {
            FromClient::Ack(pushed)
        })
    }

    fn refuse_login(&mut self, reason: Reason) -> Option<Frame> {
        self.is_told.then(|| whole(TEXT, verdict::refusal(reason)))
    }

    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame)) {
        match what {
            ToClient::Connected(_) => {
                if self.is_told {
                    send(whole(TEXT, verdict::welcome()));
                }
            }
            ToClient::Live(live) => self.push_live(user, &live, send),
            ToClient::Push { messages, .. } | ToClient::Newest(messages) => {
                self.push(user, &messages, send);
            }
            ToClient::Answer(answer) => {
                if let Some(frame) = self.tell_answer(user, answer) {
                    send(frame);
                }
            }
            ToClient::Presence(users) => send(self.tell_presence(&users)),
            ToClient::Kicked(_) => send(self.binary(&unasked(number::KICK, &[]))),
            // A hole in the inbox is a hole in a conversation, for which the SDK asks by itself.
            ToClient::Gap(gap) => self.reach(gap.to, send),
            ToClient::Ping if self.pinged.is_none() => send(self.ping(true)),
            ToClient::Ping => self.owes_ping = true,
            // The SDKs know nothing of these.
            ToClient::CaughtUp(_)
            | ToClient::Fetched { .. }
            | ToClient::Conversations { .. }
            | ToClient::Draining(_)
            | ToClient::Pong { .. } => {}
        }
    }

    fn close(&self, reason: Reason) -> Close {
        close::close(reason)
    }

    fn refuse(&self, violation: Violation) -> Close {
        close::refuse(violation)
    }
}

/// The ranges of a question.
fn asked_ranges(question: &Question) -> AskedRanges {
    match question {
        Question::Ranges { ranges, .. } => ranges
            .iter()
            .map(|range| (range.conversation_id.clone(), range.from))
            .collect(),
        Question::Reached | Question::Overview(_) => AskedRanges::new(),
    }
}

fn whole(kind: u8, body: Bytes) -> Frame {
    let mut head = BytesMut::with_capacity(10);
    put_header(&mut head, FIN | kind, body.len(), None);
    Frame {
        head: head.freeze(),
        body,
    }
}
