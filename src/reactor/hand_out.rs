//! Hands the items in a reactor's mailbox to its connections, in turns.

use std::{rc::Rc, sync::Arc};

use tokio::task::yield_now;

use super::{
    mailbox::{ReactorMailbox, Waiting},
    table::ConnectionTable,
};

/// The items handed out before the connections' tasks run. Without these turns a burst would fill up outboxes although the
/// sockets could take it.
const HANDED_AT_ONCE: usize = 256;

/// Hands out items. Never returns.
pub(super) async fn hand_out(mailbox: Arc<ReactorMailbox>, table: Rc<ConnectionTable>) {
    loop {
        let Waiting {
            items,
            has_overflowed,
            ..
        } = mailbox.take().await;
        let depth = items.len() as f64;
        mailbox.metrics.mailbox_depth.increment(depth);
        let mut handed = 0;
        for (to, item) in items {
            if let Some(handle) = table.get(to) {
                handle.take(item);
            }
            handed += 1;
            if handed % HANDED_AT_ONCE == 0 {
                yield_now().await;
            }
        }
        mailbox.metrics.mailbox_depth.decrement(depth);
        if has_overflowed {
            look_up_heads(&table).await;
        }
    }
}

async fn look_up_heads(table: &ConnectionTable) {
    let mut position = None;
    loop {
        let (handles, next) = table.after(position, HANDED_AT_ONCE);
        handles.iter().for_each(|handle| handle.look_up_head());
        if next.is_none() {
            return;
        }
        position = next;
        yield_now().await;
    }
}
