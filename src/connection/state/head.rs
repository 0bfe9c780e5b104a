//! A connection looks up the head of its user's inbox, after it missed something.

use tokio::task::spawn_local;

use super::Connection;
use crate::{
    connection::life::Life,
    delivery::{Inbox, LogAnswer, LogError},
    ids::{Epoch, Seq},
    session::{Event, SessionFault},
};

impl Connection {
    /// The mailbox dropped live items. Looks up the head of the inbox.
    pub fn look_up_head(&mut self) {
        let open = match &mut self.life {
            Life::Greeting { greeting, .. } => return greeting.miss(),
            Life::Open(open) => open,
            Life::Closing { .. } | Life::Over(_) => return,
        };
        match self.context.delivery.inbox(&open.registered.key.user) {
            LogAnswer::Now(inbox) => self.take_head(inbox),
            later => {
                let me = self.me.clone();
                spawn_local(async move {
                    let inbox = later.wait().await;
                    // The connection may be gone by then.
                    if let Some(me) = me.upgrade() {
                        me.borrow_mut().take_head(inbox);
                    }
                });
            }
        }
    }

    fn take_head(&mut self, inbox: Result<Inbox, LogError>) {
        // If this failed, the read that would follow fails as well, and reports the reason.
        if let Ok(inbox) = inbox {
            self.hear_head(inbox.epoch, inbox.head);
        }
    }

    /// The head of the inbox is known.
    pub(super) fn hear_head(&mut self, epoch: Epoch, head: Seq) {
        let own = match &mut self.life {
            Life::Greeting { greeting, .. } => return greeting.miss(),
            Life::Open(open) => open.session.epoch(),
            Life::Closing { .. } | Life::Over(_) => return,
        };
        self.happen(if epoch == own {
            Event::Head(head)
        } else {
            Event::Failed(SessionFault::EpochOver)
        });
        self.wake();
    }
}
