//! The promise that lets a session do without a queue: a commit can be read before a consumer takes it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, mpsc},
    thread,
    time::Duration,
};

use super::fixture::{ALL, Subject, user};
use crate::{
    ids::{Seq, UserId},
    log::{Commit, Consumer, InboxRead, Log, LogAnswer},
    message::{Content, Numbers},
};

every_log! {
    a_commit_can_be_read_before_a_consumer_takes_it
}

/// The longest time from the answer of an append to the read of its consumer.
const READ_WAIT: Duration = Duration::from_secs(30);

/// A read that a consumer began while it took the entry.
struct Begun {
    user: UserId,
    seq: Seq,
    answer: LogAnswer<InboxRead>,
}

/// Begins a read of each entry that it takes.
struct Reader {
    log: Weak<dyn Log>,
    /// False for the log in memory: it holds its rows until its consumers have taken a commit, so another thread begins the read
    /// and waits for them.
    reads_inside: bool,
    begun: mpsc::Sender<Begun>,
}

impl Consumer for Reader {
    fn take(&self, commits: &[Commit]) {
        let entries = commits.iter().flat_map(|commit| commit.entries.to_vec());
        let entries: Vec<_> = entries.collect();
        let (log, begun) = (self.log.clone(), self.begun.clone());
        let begin = move || {
            let read = |(user, Numbers { seq, .. }): (UserId, Numbers)| {
                let log = log.upgrade().expect("the test has it");
                let answer = log.read(&user, seq.previous(), ALL);
                Begun { user, seq, answer }
            };
            // The test may end with the last of these, and its log with it.
            let reads: Vec<_> = entries.into_iter().map(read).collect();
            reads.into_iter().for_each(|read| drop(begun.send(read)));
        };
        match self.reads_inside {
            true => begin(),
            false => drop(thread::spawn(begin)),
        }
    }
}

fn a_commit_can_be_read_before_a_consumer_takes_it(subject: &Subject) {
    let (begun, reads) = mpsc::channel();
    subject.log.commits(Arc::new(Reader {
        log: Arc::downgrade(&subject.log),
        reads_inside: subject.can_be_read_by_consumers,
        begun,
    }));
    let bodies = ["a", "b", "c"];
    for body in bodies {
        subject.send(&["u1", "u2"], body);
    }
    let mut found = BTreeMap::new();
    while found.len() < 2 * bodies.len() {
        let Begun { user, seq, answer } = reads.recv_timeout(READ_WAIT).expect("a read");
        let read = answer.blocking_wait().unwrap();
        assert!(read.inbox.head >= seq, "{user}: {seq} is above the head");
        let first = read.entries.into_iter().next().expect("the entry is there");
        assert_eq!(first.numbers.seq, seq, "{user}");
        found.insert((user, seq), first.content);
    }
    for (seq, body) in (1..).map(Seq).zip(bodies) {
        for name in ["u1", "u2"] {
            let content = Content::Message(body.into());
            assert_eq!(found[&(user(name), seq)], content, "{name}");
        }
    }
}
