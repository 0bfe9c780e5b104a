//! A client whose query says that it is an SDK, and lacks something: it is refused as OpenIM refuses it, and may come back.

use bytes::Bytes;
use towncrier_websocket::{Close, Frame, Rules, Violation, frame::TEXT};

use super::{SUBPROTOCOL, openim_rules, verdict, whole};
use crate::{
    ids::UserId,
    protocol::{Codec, close},
    session::{Connect, FromClient, Manner, Reason, Resume, ToClient},
};

/// The codec of such a client. Its login has no token, so it never gets a session.
pub(super) struct Mistaken {
    /// True if the verdict is a text message; false: the HTTP answer.
    is_told: bool,
    /// The login, until it is taken.
    login: Option<Box<Connect>>,
}

impl Mistaken {
    pub(super) fn new(is_told: bool) -> Self {
        let login = Connect {
            token: String::new(),
            device: String::new(),
            client: String::new(),
            resume: Resume {
                epoch: 0,
                cursor: None,
            },
            manner: Manner::Sifts,
            named: None,
            is_background: false,
        };
        Self {
            is_told,
            login: Some(Box::new(login)),
        }
    }
}

impl Codec for Mistaken {
    fn subprotocol(&self) -> &'static str {
        SUBPROTOCOL
    }

    fn rules(&self) -> Rules {
        openim_rules()
    }

    fn asks_first(&self) -> Option<&Connect> {
        self.login.as_deref().filter(|_| !self.is_told)
    }

    fn refuse_upgrade(&self, _reason: Reason) -> Bytes {
        verdict::mistaken()
    }

    fn greet(&mut self) -> Option<Connect> {
        self.login.take().map(|login| *login)
    }

    fn decode(&mut self, _message: Bytes, _is_text: bool) -> Result<FromClient, Reason> {
        Ok(FromClient::Nothing)
    }

    fn refuse_login(&mut self, _reason: Reason) -> Option<Frame> {
        self.is_told.then(|| whole(TEXT, verdict::mistaken()))
    }

    fn encode(&mut self, _user: &UserId, _what: ToClient, _send: &mut dyn FnMut(Frame)) {}

    fn close(&self, reason: Reason) -> Close {
        close::close(reason)
    }

    fn refuse(&self, violation: Violation) -> Close {
        close::refuse(violation)
    }
}
