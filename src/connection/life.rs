//! The states of a connection's life, and what each of them holds.
//!
//! Promises: a state owns its guards, so a connection that leaves a state gives them back. Only an open session has a
//! registration, an owner and a token. Only a connection without a session is in the lobby. Leaves to others: what brings a
//! connection from one state to the next (`state.rs`).

use std::{mem::replace, net::IpAddr, pin::Pin, sync::Arc};

use super::Context;
use crate::{
    door::Arrival,
    ids::{ConnectionId, Fence, SessionKey},
    registry::Registry,
    session::{Action, Greeting, Moment, Session, SessionFault},
};

/// The present state of a connection. It only moves forward.
pub(super) enum Life {
    /// Without a session, in the reactor's lobby: `Connect` has not come, or the log has not answered yet.
    Greeting {
        greeting: Greeting,
        arrival: Arrival,
        /// The login, once a good `Connect` came. The task polls it.
        login: Option<LoggingIn>,
    },
    /// Registered: the registry posts items for this session.
    Open(Open),
    /// The outbox ends with a close frame. Nothing more is pushed, and no frame of the client counts. A connection that
    /// never had a session stays in the lobby to the end.
    Closing {
        deadline: Moment,
        end: End,
        arrival: Option<Arrival>,
    },
    /// Nothing more can be written or read, or the time to do so is over.
    Over(End),
}

/// A login under way. It is dropped when the connection ends first.
pub(super) type LoggingIn = Pin<Box<dyn Future<Output = Result<Login, SessionFault>>>>;

/// A login that succeeded.
pub(super) struct Login {
    pub(super) open: Open,
    /// The first actions of the opened session.
    pub(super) actions: Vec<Action>,
}

/// A session that is open.
pub(super) struct Open {
    pub(super) session: Session,
    pub(super) registered: Registered,
    /// Name and version of the client.
    pub(super) client: Box<str>,
    /// The time at which the token expires, seconds after the thread's start by a clock that nobody sets. 32 bits last for 136
    /// years and save memory in every idle session.
    pub(super) token_ends_s: u32,
}

/// The owner of a connection.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) key: SessionKey,
    /// Name and version of the client.
    pub(super) client: Box<str>,
}

/// The facts about the end of a connection, for its line in the stderr log.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The owner, if there was a session.
    pub(super) owner: Option<Owner>,
    /// The code of the close frame that we sent; 0 if we sent none.
    pub(super) code: u16,
}

impl Life {
    /// Goes on to closing, until `deadline`. `code`: of the close frame that we sent, if we did.
    pub(super) fn close(&mut self, deadline: Moment, code: Option<u16>) {
        let (mut end, arrival) = self.finish();
        end.code = code.unwrap_or(end.code);
        *self = Self::Closing {
            deadline,
            end,
            arrival,
        };
    }

    /// Goes on to the end.
    pub(super) fn end(&mut self) {
        *self = Self::Over(self.finish().0);
    }

    /// Gives back all guards but the place in the lobby.
    fn finish(&mut self) -> (End, Option<Arrival>) {
        match replace(self, Self::Over(End::default())) {
            Self::Greeting { arrival, .. } => (End::default(), Some(arrival)),
            Self::Open(open) => {
                let owner = Owner {
                    key: open.registered.key.clone(),
                    client: open.client,
                };
                let end = End {
                    owner: Some(owner),
                    code: 0,
                };
                (end, None)
            }
            Self::Closing { end, arrival, .. } => (end, arrival),
            Self::Over(end) => (end, None),
        }
    }
}

/// The registration of a session; given back when dropped.
pub(super) struct Registered {
    registry: Arc<Registry>,
    id: ConnectionId,
    pub(super) key: SessionKey,
}

impl Registered {
    pub(super) fn new(
        context: &Context,
        id: ConnectionId,
        key: SessionKey,
        address: Option<IpAddr>,
    ) -> Result<Self, SessionFault> {
        let registry = Arc::clone(&context.registry);
        registry
            .register(&key, id, &context.mailbox, context.delivery.now_ms())
            .map_err(|_| SessionFault::TooManySessions)?;
        if let Some(address) = address {
            registry.set_address(&key, id, address);
        }
        Ok(Self { registry, id, key })
    }

    /// The fence of the session; `None` once a later login has replaced this one.
    pub(super) fn fence(&self) -> Option<Fence> {
        self.registry.fence(&self.key, self.id)
    }

    /// True while no later login has replaced this one.
    pub(super) fn holds(&self) -> bool {
        self.registry.holds(&self.key, self.id)
    }

    /// The client's app went to the background, or came back.
    pub(super) fn set_background(&self, is_background: bool) {
        self.registry
            .set_background(&self.key, self.id, is_background);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.deregister(&self.key, self.id);
    }
}
