//! The moves of sessions' cursors, in the log's order, from any position. The keeper writes them down behind the acks, and
//! retention writes the present ones again before their segment goes. So a reader misses no cursor's last move.

use super::{
    CursorMove, CursorPage, FeedPosition, ReadError,
    core::Core,
    record::{Position, Record},
    scan::Scan,
    segment::Segment,
};
use crate::log::SessionRow;

/// A page ends after this many bytes of the log, so that a part of the log without cursors does not hold a thread for long.
const CURSOR_SCAN_BYTES_MAX: u64 = 16 << 20;

impl Core {
    /// See [`super::Log::cursor_feed`].
    pub(super) fn cursor_feed(
        &self,
        from: FeedPosition,
        limit: usize,
    ) -> Result<CursorPage, ReadError> {
        let end = self.reached().position;
        let mut page = CursorPage {
            epoch: self.epoch,
            cursors: Vec::new(),
            next: FeedPosition(end.0),
            is_end: true,
        };
        let mut at = Position(from.0);
        let mut scanned = 0;
        for segment in self.segments.all() {
            if segment.end() <= at || at >= end {
                continue;
            }
            let first = at.max(segment.first_record());
            let stopped = page.read_segment(self, &segment, (first, end), limit, &mut scanned)?;
            if let Some(next) = stopped {
                page.next = FeedPosition(next.0);
                page.is_end = false;
                return Ok(page);
            }
            at = segment.end();
        }
        Ok(page)
    }
}

impl CursorPage {
    /// Reads a segment. Returns the position of the next record if the page is full before the segment's end.
    fn read_segment(
        &mut self,
        core: &Core,
        segment: &Segment,
        (from, end): (Position, Position),
        limit: usize,
        scanned: &mut u64,
    ) -> Result<Option<Position>, ReadError> {
        let mut scan = Scan::from(segment, from, None);
        while scan.position() < end {
            let at = scan.position();
            if self.cursors.len() >= limit || *scanned > CURSOR_SCAN_BYTES_MAX {
                return Ok(Some(at));
            }
            match scan.next() {
                Ok(Some(next)) => {
                    if let Record::Cursor {
                        session,
                        cursor,
                        acked_at_ms,
                    } = next.record
                    {
                        let row = SessionRow {
                            cursor,
                            acked_at_ms,
                        };
                        if !core
                            .state
                            .erasures
                            .has_erased_session(&session.user, &row)?
                        {
                            self.cursors.push(CursorMove {
                                position: FeedPosition(at.0),
                                session,
                                row,
                            });
                        }
                    }
                }
                Ok(None) => break,
                Err(ReadError::Damaged(damage)) => {
                    core.report(&damage);
                    let damaged = Position(segment.base.0 + damage.offset);
                    scan = Scan::from(segment, damaged, None);
                    if scan.resume_after_damage()?.is_none() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
            *scanned += scan.position().0.saturating_sub(at.0);
        }
        Ok(None)
    }
}
