//! `/log/backup`: a copy of the log in a directory of the gateway's machine.

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::Response,
};
use tokio::time::timeout;

use super::{
    bodies::{self, BackupMade, BackupRequest, BackupTold},
    call::App,
    error::Refusal,
};
use crate::delivery::BackupState;

/// A backup that is not done by then is answered with its progress: short enough for every proxy, and no load.
const BACKUP_WAIT: Duration = Duration::from_secs(10);
/// The longest path of a destination, as in Linux.
const DESTINATION_BYTES_MAX: usize = 4096;

/// Begins a backup, or tells how far it has come.
pub(super) async fn back_up(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: BackupRequest<'_> = call.json()?;
    let id = body.operation_id.required("operationID")?;
    let destination = body.destination.required("destination")?;
    if destination.len() > DESTINATION_BYTES_MAX {
        return Err(Refusal::Rule("destination may have at most 4096 bytes"));
    }
    let mut state = app.delivery.back_up(id, Path::new(destination))?;
    let is_over = |state: &BackupState| !matches!(state, BackupState::Running { .. });
    let wait = BACKUP_WAIT.min(app.request_timeout);
    // Without an end in time, and where the thread has gone, the state says what there is.
    let _ = timeout(wait, state.wait_for(is_over)).await;
    let state = state.borrow().clone();
    match state {
        BackupState::Running {
            done_bytes,
            all_bytes,
        } => Ok(bodies::answer(BackupTold {
            state: "running",
            done_bytes,
            all_bytes,
            backup: None,
        })),
        BackupState::Done(report) => Ok(bodies::answer(BackupTold {
            state: "done",
            done_bytes: report.bytes,
            all_bytes: report.bytes,
            backup: Some(BackupMade {
                epoch: format!("{:016x}", report.epoch),
                position: report.position,
                taken_time: report.taken_ms,
                segments: report.segments,
                copied_bytes: report.copied_bytes,
                took_ms: report.took_ms,
            }),
        })),
        BackupState::Refused(text) => Err(Refusal::Destination(text)),
        BackupState::Failed(text) => Err(Refusal::BackupFailed(text)),
    }
}
