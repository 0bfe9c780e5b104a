//! Reads the part of the log that recovery did not, once after the start, slowly: damage is found before a reader meets it.

use std::{io, sync::Arc, time::Duration};

use super::{ReadError, core::Core, record::Position, scan::Scan};

/// Records between two pauses.
const RECORDS_AT_ONCE: usize = 4096;
/// How long each pause is: keeps the scrub under a fifth of a core.
const PAUSE: Duration = Duration::from_millis(10);

/// Starts the thread, which ends by itself, at the latest when the log is dropped. Reads up to `until`; `None`: nothing.
pub(super) fn start(core: &Arc<Core>, until: Option<Position>) -> io::Result<()> {
    let Some(until) = until else { return Ok(()) };
    let core = Arc::downgrade(core);
    let scrub = move || {
        let Some(segments) = core.upgrade().map(|core| core.segments.all()) else {
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
                std::thread::sleep(PAUSE);
            }
        }
    };
    std::thread::Builder::new()
        .name("log-scrub".into())
        .spawn(scrub)
        .map(drop)
}
