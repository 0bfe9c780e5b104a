//! The writer's queue, bounded in requests and in bytes.
//!
//! A caller that gives up leaves its request in the queue. So the number of callers and their patience do not bound the queue
//! while a disk hangs. Above either bound a request is refused and not stored.
//!
//! Two counters hold the bytes: the bytes put into the queue, and the bytes taken out. Callers write the first one, one
//! after the other, under the lock of the queue's owner. Only the writer writes the second one. So neither needs an atomic
//! addition.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{Append, AppendError, Erasure, Receipt, Refusing, record::Record, table_id::TableId};
use crate::{
    ids::{Seq, UserId},
    message::SettingsChange,
};

/// No further request is taken while this many bytes wait: 32 full groups, which a disk with 100 MB/s writes in less than two
/// seconds. All of `log.queue_max` fit with 2 KiB each.
pub(super) const QUEUE_BYTES_MAX: u64 = 128 << 20;
/// The counts of a shared text, besides its bytes.
const SHARED_BYTES: usize = 2 * size_of::<usize>();

/// A request to the writer.
pub(super) enum Work {
    /// A message for its receivers.
    Append(Append, oneshot::Sender<Result<Receipt, AppendError>>),
    /// A message for everyone.
    Everyone(Append, oneshot::Sender<Result<Receipt, AppendError>>),
    /// Records that belong to no message.
    Records(Vec<Record>, oneshot::Sender<Result<(), AppendError>>),
    /// Deletions of a user's messages.
    Delete(UserId, Vec<Seq>, oneshot::Sender<Result<(), AppendError>>),
    /// Changes of a user's settings.
    Settings(
        UserId,
        Vec<SettingsChange>,
        oneshot::Sender<Result<(), AppendError>>,
    ),
    /// The erasure of a user, and of the user's tokens issued before this Unix ms.
    Erase(UserId, u64, oneshot::Sender<Result<Erasure, AppendError>>),
    /// Facts that must outlive a segment. They are written again with their values at the time of the write, so that no newer
    /// value is undone.
    Carry(Vec<Carried>, oneshot::Sender<Result<(), AppendError>>),
}

impl Work {
    /// Answers the caller that it is not done.
    pub(super) fn refuse(self, error: &AppendError) {
        let error = error.clone();
        // The receiver may have been dropped. Then the answer is discarded.
        match self {
            Self::Append(_, sender) | Self::Everyone(_, sender) => drop(sender.send(Err(error))),
            Self::Records(_, sender)
            | Self::Delete(_, _, sender)
            | Self::Settings(_, _, sender)
            | Self::Carry(_, sender) => drop(sender.send(Err(error))),
            Self::Erase(_, _, sender) => drop(sender.send(Err(error))),
        }
    }
}

/// A fact that must outlive a segment, by its key.
#[derive(Clone)]
pub(super) enum Carried {
    /// The profile of a registered user.
    Profile(UserId),
    /// A row of a table.
    Row(TableId, Bytes),
    /// The erasure of a user who got nothing since.
    Erasure(UserId),
}

/// A request, and the bytes that were counted for it.
type Queued = (Work, u64);

/// A queue for this many requests.
pub(super) fn queue(requests_max: usize) -> (WorkSender, WorkReceiver) {
    let (sender, receiver) = mpsc::channel(requests_max);
    let bytes = Arc::new(QueueBytes::default());
    let sender = WorkSender {
        sender,
        bytes: Arc::clone(&bytes),
    };
    (sender, WorkReceiver { receiver, bytes })
}

/// The bytes that were put into the queue and taken out of it, since the log was opened.
#[derive(Default)]
struct QueueBytes {
    put: AtomicU64,
    taken: AtomicU64,
}

impl QueueBytes {
    fn waiting(&self) -> u64 {
        let put = self.put.load(Relaxed);
        put.saturating_sub(self.taken.load(Relaxed))
    }
}

/// The end of the queue for callers. Its owner holds it under a lock.
pub(super) struct WorkSender {
    sender: mpsc::Sender<Queued>,
    bytes: Arc<QueueBytes>,
}

impl WorkSender {
    /// Puts a request into the queue, or refuses it. The last request is taken whole.
    pub(super) fn put(&mut self, work: Work) -> Result<(), AppendError> {
        if self.bytes.waiting() >= QUEUE_BYTES_MAX {
            return Err(AppendError::QueueFull);
        }
        let bytes = bytes_of(&work);
        let before = self.bytes.put.load(Relaxed);
        // The writer subtracts these bytes when it has the request, so they are added first.
        self.bytes.put.store(before + bytes, Relaxed);
        self.sender.try_send((work, bytes)).map_err(|error| {
            self.bytes.put.store(before, Relaxed);
            match error {
                TrySendError::Full(_) => AppendError::QueueFull,
                TrySendError::Closed(_) => Refusing::Closed.into(),
            }
        })
    }

    /// The end of the queue for the keeper.
    pub(super) fn uncounted(&self) -> UncountedSender {
        UncountedSender(self.sender.clone())
    }
}

/// The end of the queue for the keeper. Its requests are not counted: the keeper waits for the answer to each, and bounds each
/// by itself.
pub(super) struct UncountedSender(mpsc::Sender<Queued>);

impl UncountedSender {
    /// Waits for room and puts a request into the queue. False: the writer has ended.
    pub(super) async fn send(&self, work: Work) -> bool {
        self.0.send((work, 0)).await.is_ok()
    }
}

/// The writer's end of the queue.
pub(super) struct WorkReceiver {
    receiver: mpsc::Receiver<Queued>,
    bytes: Arc<QueueBytes>,
}

impl WorkReceiver {
    /// The next request; `None` once the queue is closed and empty. Cancel safe.
    pub(super) async fn recv(&mut self) -> Option<Work> {
        let queued = self.receiver.recv().await;
        self.take(queued)
    }

    /// The next request, if there is one.
    pub(super) fn try_recv(&mut self) -> Option<Work> {
        let queued = self.receiver.try_recv().ok();
        self.take(queued)
    }

    fn take(&self, queued: Option<Queued>) -> Option<Work> {
        let (work, bytes) = queued?;
        let taken = &self.bytes.taken;
        taken.store(taken.load(Relaxed) + bytes, Relaxed);
        Some(work)
    }

    /// The number of requests that wait.
    pub(super) fn len(&self) -> usize {
        self.receiver.len()
    }

    /// The bytes of the requests that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.waiting()
    }
}

/// The memory of a request, about.
fn bytes_of(work: &Work) -> u64 {
    let bytes = match work {
        Work::Append(append, _) | Work::Everyone(append, _) => bytes_of_append(append),
        Work::Records(records, _) => records.iter().map(bytes_of_record).sum(),
        Work::Delete(user, seqs, _) => SHARED_BYTES + user.as_str().len() + size_of_val(&seqs[..]),
        Work::Settings(user, changes, _) => {
            let ids = changes.iter().map(|change| change.conversation_id.len());
            let ids: usize = ids.sum();
            SHARED_BYTES + user.as_str().len() + ids + size_of_val(&changes[..])
        }
        Work::Carry(facts, _) => size_of_val(&facts[..]),
        Work::Erase(user, ..) => SHARED_BYTES + user.as_str().len(),
    };
    (size_of::<Queued>() + bytes) as u64
}

fn bytes_of_append(append: &Append) -> usize {
    let receiver = |user: &UserId| size_of::<UserId>() + SHARED_BYTES + user.as_str().len();
    let receivers: usize = append.receivers.iter().map(receiver).sum();
    append.body.len() + append.sender.len() + append.client_message_id.len() + receivers
}

fn bytes_of_record(record: &Record) -> usize {
    let held = match record {
        Record::Register { profile, .. } => profile.len(),
        Record::Row { key, value, .. } => key.len() + value.as_ref().map_or(0, Bytes::len),
        _ => 0,
    };
    size_of::<Record>() + held
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A registration with a profile of this many bytes.
    fn registration(bytes: usize) -> Work {
        let record = Record::Register {
            user: UserId::new("alice").unwrap(),
            profile: vec![0; bytes].into(),
        };
        Work::Records(vec![record], oneshot::channel().0)
    }

    fn is_refused(sender: &mut WorkSender, bytes: usize) -> bool {
        match sender.put(registration(bytes)) {
            Ok(()) => false,
            Err(AppendError::QueueFull) => true,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn requests_that_wait_have_a_bound_in_bytes_and_give_it_back() {
        let (mut sender, mut receiver) = queue(1000);
        let many = QUEUE_BYTES_MAX as usize / 4;
        for _ in 0..3 {
            for _ in 0..4 {
                assert!(!is_refused(&mut sender, many));
            }
            assert!(is_refused(&mut sender, 1));
            assert!(receiver.bytes() >= QUEUE_BYTES_MAX);
            assert!(receiver.try_recv().is_some());
            assert!(!is_refused(&mut sender, many), "there is room again");
            while receiver.try_recv().is_some() {}
            assert_eq!(receiver.bytes(), 0);
        }
    }

    #[test]
    fn a_request_for_which_there_is_no_slot_takes_no_bytes() {
        let (mut sender, receiver) = queue(1);
        assert!(!is_refused(&mut sender, 100));
        let bytes = receiver.bytes();
        assert!(is_refused(&mut sender, 100));
        assert_eq!((receiver.len(), receiver.bytes()), (1, bytes));
    }

    #[test]
    fn a_send_counts_its_message_and_each_receiver() {
        let send = |receivers: usize| {
            let append = Append {
                receivers: vec![UserId::new(&"u".repeat(64)).unwrap(); receivers],
                body: Bytes::from(vec![0; 1000]),
                ..crate::log::tests::conformance::message(1, &[], None, "")
            };
            bytes_of(&Work::Append(append, oneshot::channel().0))
        };
        assert!(send(0) >= 1000);
        assert!(send(10_000) - send(0) >= 10_000 * 64);
    }

    #[tokio::test]
    async fn the_keepers_requests_take_no_bytes() {
        let (sender, mut receiver) = queue(1);
        assert!(sender.uncounted().send(registration(100)).await);
        assert_eq!(receiver.bytes(), 0);
        assert!(receiver.recv().await.is_some());
        assert_eq!(receiver.bytes(), 0);
    }
}
