//! The pushes that came to a vendor: each lands in the ledger of the users who are absent.
//!
//! A push carries the key of its message as its `ex`, so the same ledger that checks sessions checks pushes. A push for any other
//! user is one for a user who was online and acked.

use std::{cell::Cell, rc::Rc};

use serde::Deserialize;

use super::CallBooks;
use crate::{
    crowd::{Crowd, Who},
    ledger::{LandedMessage, MessageKey},
};

/// The pushes so far.
#[derive(Debug)]
pub(crate) struct VendorBooks {
    /// The users without a session.
    absent: Rc<Crowd>,
    to_online: Cell<u64>,
    unreadable: Cell<u64>,
}

#[derive(Deserialize)]
struct VendorCallBody {
    data: CalledNotice,
}

#[derive(Deserialize)]
struct CalledNotice {
    user_id: String,
    server_msg_id: String,
    seq: u64,
    ex: String,
}

impl VendorBooks {
    pub(crate) fn new(absent: Rc<Crowd>) -> Rc<Self> {
        Rc::new(Self {
            absent,
            to_online: Cell::new(0),
            unreadable: Cell::new(0),
        })
    }

    /// Calls for users who are not among the absent ones.
    pub(crate) fn to_online(&self) -> u64 {
        self.to_online.get()
    }

    /// Calls whose body is no push.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.get()
    }
}

impl CallBooks for VendorBooks {
    fn call(&self, body: &[u8], is_taken: bool) {
        let Ok(VendorCallBody { data: notice }) = serde_json::from_slice(body) else {
            self.unreadable.set(self.unreadable.get() + 1);
            return;
        };
        let absent = &self.absent;
        let user = absent.ledger.borrow().user_of(&notice.user_id);
        let Some(user) = user else {
            self.to_online.set(self.to_online.get() + 1);
            return;
        };
        if !is_taken {
            return;
        }
        let key: Option<MessageKey> = notice.ex.parse().ok();
        let content = key.map(|key| absent.ledger.borrow().content(key));
        let landed = LandedMessage {
            seq: notice.seq,
            client_msg_id: &notice.ex,
            server_msg_id: &notice.server_msg_id,
            recv_id: &notice.user_id,
            // A push has no content.
            content: content.as_deref().unwrap_or_default().as_bytes(),
        };
        absent.land(Who { user, session: 0 }, &landed, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crowd::Size;

    #[test]
    fn a_push_lands_once_and_one_for_another_user_is_noticed() {
        let size = Size {
            users: 2,
            sessions_each: 1,
            content_bytes: (100, 100),
            is_lean: false,
            patience: Duration::ZERO,
        };
        let absent = Crowd::new(size, 0).unwrap();
        let key = absent.ledger.borrow_mut().issue(0, 1, 1);
        absent.ledger.borrow_mut().accepted(key, 1, "s1");
        let books = VendorBooks::new(absent.clone());
        let user = absent.ledger.borrow().user_id(1);
        let call = |user: &str, is_taken| {
            let body = serde_json::json!({"type": "push", "data": {
                "user_id": user, "server_msg_id": "s1", "seq": 1, "ex": key.to_string(),
            }});
            books.call(body.to_string().as_bytes(), is_taken);
        };
        call(&user, false);
        assert_eq!(absent.ledger.borrow().missing(1, 0), 1);
        call(&user, true);
        assert_eq!(absent.ledger.borrow().missing(1, 0), 0);
        assert_eq!(books.to_online(), 0);
        call("u00000000-1", true);
        assert_eq!(books.to_online(), 1);
        books.call(b"{}", true);
        assert_eq!(books.unreadable(), 1);
    }
}
