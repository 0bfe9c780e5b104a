//! The mailbox: posts from other threads while its reactor takes.

use std::sync::Arc;

use bytes::Bytes;
// Replaces `std::sync`.
use shuttle::sync;

use self::mailbox::{MailboxLimits, ReactorMailbox};
use crate::{
    ids::{ConnectionId, Seq},
    message::{Live, Message, Numbers},
    metrics::Metrics,
    registry::{Item, Mailbox as _},
};

/// The same source file, compiled again with shuttle's locks.
#[expect(unreachable_pub, reason = "the library shows it")]
#[path = "../../../src/reactor/mailbox.rs"]
mod mailbox;

/// Two threads post while the reactor takes until it has everything. No other thread wakes it, so one lost wake-up is a
/// deadlock.
fn post_and_take(metrics: &Arc<Metrics>) {
    const THREADS: u64 = 2;
    const POSTS: u64 = 3;
    let mailbox = ReactorMailbox::new(MailboxLimits::default(), Arc::clone(metrics));
    let mailbox = Arc::new(mailbox);
    for thread in 0..THREADS {
        let mailbox = Arc::clone(&mailbox);
        shuttle::thread::spawn(move || {
            for seq in (0..POSTS).map(Seq) {
                let message = Arc::new(Message::new(Bytes::new()));
                let numbers = Numbers {
                    seq,
                    ..Numbers::default()
                };
                let live = Live { numbers, message };
                mailbox.post(ConnectionId(thread), Item::Live(live));
            }
        });
    }
    let mut next = [0; THREADS as usize];
    shuttle::future::block_on(async {
        while next != [POSTS; THREADS as usize] {
            for (from, item) in mailbox.take().await.items {
                let Item::Live(live) = item else {
                    panic!("nobody posted {item:?}")
                };
                let expected = &mut next[from.0 as usize];
                assert_eq!(live.numbers.seq.0, *expected, "in each thread's order");
                *expected += 1;
            }
        }
    });
}

#[test]
fn whatever_threads_post_comes_in_their_order_and_no_wake_up_is_lost() {
    let metrics = Arc::default();
    let run = move || post_and_take(&metrics);
    shuttle::check_random(run.clone(), 5000);
    shuttle::check_pct(run, 5000, 3);
}
