//! A third protocol: words in text messages. Its client logs in with its upgrade, and asks where it stands.

use towncrier_websocket::{
    Close, Frame, Rules, Side, Violation,
    frame::{FIN, TEXT, put_header},
};

use super::*;
use crate::{
    ids::WireSeq,
    session::{self, Answer, FromClient, Manner, Question, Range, Reason, Resume, ToClient},
};

/// The first byte of an empty ping.
const PING: u8 = 0x89;

/// The codec. Its client logs in with its upgrade.
pub(super) struct Words {
    connect: Option<session::Connect>,
    answers: Option<Frame>,
    /// The seq that the pong to the ping in flight acks, and if the session asked for that ping.
    pinged: Option<(Seq, bool)>,
}

impl Words {
    pub(super) fn new(token: &str, manner: Manner, named: Option<(UserId, Platform)>) -> Self {
        Self {
            connect: Some(session::Connect {
                token: token.into(),
                device: String::new(),
                client: String::new(),
                resume: Resume {
                    epoch: 0,
                    cursor: None,
                },
                manner,
                named,
                is_background: false,
            }),
            answers: None,
            pinged: None,
        }
    }
}

impl Codec for Words {
    fn subprotocol(&self) -> &'static str {
        "words"
    }

    fn rules(&self) -> Rules {
        Rules {
            from: Side::Client,
            takes_text: true,
            message_bytes_max: 1024,
        }
    }

    fn asks_first(&self) -> Option<&session::Connect> {
        self.connect.as_ref()
    }

    fn refuse_upgrade(&self, reason: Reason) -> Bytes {
        format!("{reason:?}").into()
    }

    fn greet(&mut self) -> Option<session::Connect> {
        self.connect.take()
    }

    fn decode(&mut self, payload: Bytes, is_text: bool) -> Result<FromClient, Reason> {
        assert!(is_text, "these clients say nothing else");
        let text = String::from_utf8(payload.to_vec()).unwrap();
        let words: Vec<_> = text.split(' ').collect();
        Ok(match words[..] {
            ["reached"] => FromClient::Ask(Question::Reached),
            ["overview"] => FromClient::Ask(Question::Overview(Vec::new())),
            ["ranges", bytes, ref ranges @ ..] => FromClient::Ask(Question::Ranges {
                ranges: ranges.chunks(3).map(range).collect(),
                bytes: bytes.parse().unwrap(),
                is_pull: true,
            }),
            ["watch", user] => FromClient::Watch {
                users: vec![UserId::new(user).unwrap()],
                unwatch: Vec::new(),
            },
            ["background", is_background] => {
                self.answers = Some(word("ok"));
                FromClient::Background(is_background == "true")
            }
            ["bye"] => {
                self.answers = Some(word("bye!"));
                FromClient::LogOut
            }
            _ => {
                self.answers = Some(word("what?"));
                FromClient::Nothing
            }
        })
    }

    fn answers(&mut self) -> Option<Frame> {
        self.answers.take()
    }

    fn pong(&mut self) -> Option<FromClient> {
        let (seq, is_asked) = self.pinged.take()?;
        Some(if is_asked {
            FromClient::Received(seq)
        } else {
            FromClient::Ack(seq)
        })
    }

    fn refuse_login(&mut self, reason: Reason) -> Option<Frame> {
        Some(word(&format!("no: {reason:?}")))
    }

    fn encode(&mut self, _: &UserId, what: ToClient, send: &mut dyn FnMut(Frame)) {
        let (text, last) = match what {
            ToClient::Connected(_) => ("hello".into(), None),
            ToClient::CaughtUp(_) | ToClient::Gap(_) => return,
            ToClient::Ping => {
                self.pinged = Some((Seq::ZERO, true));
                return send(ping());
            }
            ToClient::Newest(messages) => {
                let seqs = messages.iter().map(|(numbers, _)| numbers.seq);
                let text: Vec<_> = seqs.map(|seq| format!("={seq}")).collect();
                (text.join(" "), None)
            }
            ToClient::Live(live) => (format!("+{}", live.numbers.seq), Some(live.numbers.seq)),
            ToClient::Push { messages, .. } => {
                let seqs = messages.iter().map(|(numbers, _)| numbers.seq);
                let text: Vec<_> = seqs.clone().map(|seq| format!("+{seq}")).collect();
                (text.join(" "), seqs.last())
            }
            ToClient::Answer(answer) => (told(answer), None),
            ToClient::Presence(seen) => (format!("{seen:?}"), None),
            other => (format!("{other:?}"), None),
        };
        send(word(&text));
        if let (Some(seq), None) = (last, self.pinged) {
            self.pinged = Some((seq, false));
            send(ping());
        }
    }

    fn close(&self, reason: Reason) -> Close {
        let code = match reason {
            Reason::Left => 1000,
            _ => 3000,
        };
        Close {
            code,
            text: format!("{reason:?}"),
        }
    }

    fn refuse(&self, violation: Violation) -> Close {
        let (code, text) = (violation.code(), String::new());
        Close { code, text }
    }
}

fn ping() -> Frame {
    Frame {
        head: Bytes::from_static(&[PING, 0]),
        body: Bytes::new(),
    }
}

fn range(words: &[&str]) -> Range {
    let wire = |word: &str| WireSeq(word.parse().unwrap());
    Range {
        conversation_id: words[0].into(),
        from: wire(words[1]),
        to: wire(words[2]),
    }
}

fn told(answer: Answer) -> String {
    let told: Vec<_> = match answer {
        Answer::Reached(standings) => {
            let standings = standings.into_iter();
            let text = |one: session::Standing| (one.conversation.id, one.reached.0);
            let mut reached: Vec<_> = standings.map(text).collect();
            reached.sort();
            let reached = reached.into_iter();
            reached.map(|(id, seq)| format!("{id}:{seq}")).collect()
        }
        Answer::Overview(conversations) => {
            let conversations = conversations.iter();
            let text = |one: &crate::message::Conversation| {
                format!("{}:{}", one.id, one.wire_of(one.head).0)
            };
            conversations.map(text).collect()
        }
        Answer::Ranges(ranges) => {
            let ranges = ranges.iter();
            let text = |one: &session::RangeAnswer| {
                let seqs = one.messages.iter();
                let seqs = seqs.map(|(numbers, _)| numbers.wire_seq().0.to_string());
                match &one.conversation {
                    None => "unknown".into(),
                    Some(_) => seqs.collect::<Vec<_>>().join(","),
                }
            };
            ranges.map(text).collect()
        }
    };
    format!("({})", told.join(" "))
}

fn word(text: &str) -> Frame {
    let mut head = bytes::BytesMut::new();
    put_header(&mut head, FIN | TEXT, text.len(), None);
    Frame {
        head: head.freeze(),
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}
