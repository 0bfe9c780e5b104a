//! Reads the part of the log that recovery did not read, once after the start, slowly. So damage is found before a reader
//! meets it.

use std::{sync::Weak, time::Duration};

use tokio::time::sleep;

use super::{ReadError, core::Core, record::Position, scan::Scan};

/// Records between two pauses.
pub(super) const RECORDS_AT_ONCE: usize = 4096;
/// The length of each pause. It keeps the scrub under a fifth of a core.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// Reads up to `until`; `None`: nothing. Ends by itself, at the latest when the log is dropped. Blocks between its pauses.
pub(super) async fn run(core: Weak<Core>, until: Option<Position>) {
    let (Some(until), Some(segments)) = (until, core.upgrade().map(|core| core.segments.all()))
    else {
        return;
    };
    for segment in segments.iter().filter(|segment| segment.base < until) {
        let mut scan = Scan::whole(segment);
        'segment: loop {
            for _ in 0..RECORDS_AT_ONCE {
                match scan.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break 'segment,
                    Err(error) => {
                        let Some(core) = core.upgrade() else { return };
                        match error {
                            ReadError::Damaged(damage) => core.report(&damage),
                            error => {
                                tracing::warn!(%error, segment = segment.name(), "the scrub could not read")
                            }
                        }
                        if !matches!(scan.resume_after_damage(), Ok(Some(_))) {
                            break 'segment;
                        }
                    }
                }
            }
            if core.strong_count() == 0 {
                return;
            }
            sleep(PAUSE).await;
        }
    }
}
