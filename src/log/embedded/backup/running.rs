//! The thread of a backup, and its pace.
//!
//! The thread has a low priority, and rests after each piece as long as the piece took. So it has half of a disk's time at most,
//! and a sync of the log waits for one piece at most.

use std::{path::Path, sync::Arc, thread, time::Duration};

use tokio::sync::watch;

use super::{
    destination::Destination,
    fault::BackupFault,
    pieces::{AfterPiece, Piece},
    slot::Latest,
    take::take,
};
use crate::log::{
    BackupError, BackupReport, BackupState,
    embedded::{core::Core, lock::lock, open::EmbeddedLog},
};

/// The shortest rest after a piece. With it a backup copies 200 MB a second at most, on any disk.
const REST_MIN: Duration = Duration::from_millis(5);
/// The longest rest after a piece. On a disk that hangs the backup waits for the disk anyway.
const REST_MAX: Duration = Duration::from_millis(500);
/// The end of a backup is told to repeats of its call for this long: a caller may have lost the answer.
const END_TOLD: Duration = Duration::from_secs(60);

impl EmbeddedLog {
    /// The same as [`Log::back_up`](crate::log::Log::back_up).
    pub(in crate::log::embedded) fn begin_backup(
        &self,
        id: &str,
        destination: &Path,
    ) -> Result<watch::Receiver<BackupState>, BackupError> {
        let backups = &self.core.backups;
        let mut latest = lock(&backups.latest);
        if backups.is_stopping() {
            return Err(BackupError::Closed);
        }
        if let Some(latest) = &*latest {
            let is_same = *latest.id == *id && *latest.destination == *destination;
            let is_told = latest.ended.is_none_or(|ended| ended.elapsed() < END_TOLD);
            if is_same && is_told {
                return Ok(latest.state.clone());
            }
            if latest.ended.is_none() {
                return Err(BackupError::Busy(latest.destination.clone()));
            }
        }
        let running = BackupState::Running {
            done_bytes: 0,
            all_bytes: 0,
        };
        let (sender, state) = watch::channel(running);
        let destination: Arc<Path> = destination.into();
        let (core, data, dir) = (self.core.clone(), self.dir.clone(), destination.clone());
        let thread = thread::Builder::new()
            .name("log-backup".into())
            .spawn(move || run(&core, &data, &dir, sender));
        let thread = thread.map_err(|error| BackupError::Thread(error.kind()))?;
        *latest = Some(Latest {
            id: id.into(),
            destination,
            state: state.clone(),
            ended: None,
            thread: Some(thread),
        });
        Ok(state)
    }
}

/// The thread of a backup.
fn run(core: &Core, data: &Path, dir: &Path, sender: watch::Sender<BackupState>) {
    // A lower priority helps, but the thread works without it.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
    let ending = Ending {
        core,
        sender: &sender,
    };
    let made = make(core, data, dir, &sender);
    let metrics = &core.metrics.backup;
    let state = match made {
        Ok(report) => {
            let BackupReport {
                segments,
                bytes,
                copied_bytes,
                took_ms,
                ..
            } = report;
            tracing::info!(segments, bytes, copied_bytes, took_ms, "a backup was made");
            metrics.made(report.taken_ms, took_ms, bytes);
            BackupState::Done(report)
        }
        Err(fault) => {
            tracing::error!(error = %fault, destination = %dir.display(), "a backup was not made");
            metrics.failed.increment(1);
            let text = fault.to_string().into();
            if fault.is_refusal() {
                BackupState::Refused(text)
            } else {
                BackupState::Failed(text)
            }
        }
    };
    core.backups.end(&sender, state);
    drop(ending);
}

/// Marks the latest backup as failed when its thread panics.
struct Ending<'a> {
    core: &'a Core,
    sender: &'a watch::Sender<BackupState>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let failed = BackupState::Failed("the gateway failed: the stderr log says why".into());
            self.core.backups.end(self.sender, failed);
        }
    }
}

fn make(
    core: &Core,
    data: &Path,
    dir: &Path,
    sender: &watch::Sender<BackupState>,
) -> Result<BackupReport, BackupFault> {
    // A destination that is refused needs no cut.
    let destination = Destination::open(dir, data)?;
    let cut = core.backups.cut()?;
    let all_bytes = cut.bytes();
    let mut done_bytes = 0;
    let after: AfterPiece<'_, BackupFault> = &mut |piece: Piece| {
        done_bytes += piece.done_bytes;
        sender.send_replace(BackupState::Running {
            done_bytes,
            all_bytes,
        });
        if core.backups.is_stopping() {
            return Err(BackupFault::Stopped);
        }
        if !piece.took.is_zero() {
            thread::sleep(piece.took.clamp(REST_MIN, REST_MAX));
        }
        Ok(())
    };
    destination.write_erasures(&core.erasures()?.text())?;
    take(&cut, &destination, after)
}
