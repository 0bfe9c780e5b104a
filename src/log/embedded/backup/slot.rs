//! The one backup that is being made, as its callers, its thread and the keeper share it.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{cut::Cut, fault::BackupFault};
use crate::log::{
    BackupState,
    embedded::{Refusing, lock::lock},
};

/// The longest wait for the keeper's cut. A round of the keeper takes a second, and some more while it removes segments.
const CUT_TIMEOUT: Duration = Duration::from_secs(120);
/// The interval at which a backup that waits for its cut looks if the gateway goes down.
const CUT_LOOK: Duration = Duration::from_millis(100);
/// The keeper's answer to a backup.
pub(super) type CutAnswer = Result<Cut, Refusing>;

/// The backups of one log: at most one at a time.
#[derive(Default)]
pub(in crate::log::embedded) struct Backups {
    pub(super) latest: Mutex<Option<Latest>>,
    /// A backup that waits for its cut.
    wanted: Mutex<Option<SyncSender<CutAnswer>>>,
    is_stopping: AtomicBool,
}

/// The latest backup, also after its end.
pub(super) struct Latest {
    pub(super) id: Box<str>,
    pub(super) destination: Arc<Path>,
    pub(super) state: watch::Receiver<BackupState>,
    /// `None` while it is being made.
    pub(super) ended: Option<Instant>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Backups {
    /// Gives the cut to the backup that waits for one. The keeper calls this between two removals of segments.
    pub(in crate::log::embedded) fn give(&self, cut: impl FnOnce() -> CutAnswer) {
        if let Some(wanted) = lock(&self.wanted).take() {
            // The backup may have ended. Then the cut is discarded.
            let _ = wanted.try_send(cut());
        }
    }

    /// True if a backup waits for its cut.
    pub(in crate::log::embedded) fn is_wanted(&self) -> bool {
        lock(&self.wanted).is_some()
    }

    /// Ends the backup that is being made, and refuses further ones. Blocks for the time of one piece.
    pub(in crate::log::embedded) fn stop(&self) {
        self.is_stopping.store(true, Relaxed);
        let thread = lock(&self.latest)
            .as_mut()
            .and_then(|latest| latest.thread.take());
        if let Some(thread) = thread {
            // A panic was logged, and its backup counts as failed.
            let _ = thread.join();
        }
    }

    /// Ends the latest backup in this state. A caller that sees the state may begin another one.
    pub(super) fn end(&self, sender: &watch::Sender<BackupState>, state: BackupState) {
        let mut latest = lock(&self.latest);
        sender.send_replace(state);
        if let Some(latest) = &mut *latest {
            latest.ended = Some(Instant::now());
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    /// Waits for the keeper's cut.
    pub(super) fn cut(&self) -> Result<Cut, BackupFault> {
        let (sender, answer) = mpsc::sync_channel(1);
        *lock(&self.wanted) = Some(sender);
        let deadline = Instant::now() + CUT_TIMEOUT;
        loop {
            match answer.recv_timeout(CUT_LOOK) {
                Ok(cut) => return Ok(cut?),
                Err(RecvTimeoutError::Disconnected) => return Err(BackupFault::NoCut),
                Err(RecvTimeoutError::Timeout) if self.is_stopping() => {
                    return Err(BackupFault::Stopped);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(BackupFault::NoCut);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
