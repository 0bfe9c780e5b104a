//! The rows that tell a reader of the log which unacked messages a removed segment takes with it. They are durable before the
//! segment goes. A retry after a crash or a failure writes the same rows again, with the time of the first attempt: the reader may have
//! taken the rows of that attempt already. Another row keeps that time.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    EXPIRIES_WANTED, EXPIRY_PREFIX, EXPIRY_SEGMENTS_MAX, Expiry, FeedPosition, ReadError,
    core::Core,
    record::{Position, Record},
    segment::Segment,
    table_id::TableId,
};
use crate::{
    ids::{Seq, UserId},
    threads::Pulse,
};

/// The row of the segment that was the last to leave with unacked messages: its position and the time of the first attempt to remove
/// it, Unix ms, both u64, big endian.
const LEAVING: &[u8] = b"leaving";

/// The records that tell of unacked messages up to these seqs, which leave with the segment. None, if nobody wants them.
pub(super) fn expiry_records(
    core: &Core,
    segment: &Segment,
    highest: &BTreeMap<UserId, Seq>,
    pulse: &Pulse,
) -> Result<Vec<Record>, ReadError> {
    if core
        .state
        .row(TableId::Consumers, EXPIRIES_WANTED)?
        .is_none()
    {
        return Ok(Vec::new());
    }
    let position = FeedPosition(segment.base.0);
    let begun_ms = begun_ms(core, segment.base)?;
    let time_ms = begun_ms.unwrap_or_else(|| core.clock.now_ms());
    let mut expiries = Vec::new();
    for (user, highest) in highest {
        pulse.beat();
        let row = core.state.users.get(user)?;
        let first = row.first.max(row.acked.next());
        if first <= *highest && row.pending().messages > 0 {
            expiries.push(Expiry {
                position,
                user: Some(user.clone()),
                range: (first.0, highest.0),
                time_ms,
            });
        }
    }
    if !expiries.is_empty() && waiting_segments(core, position)? >= EXPIRY_SEGMENTS_MAX {
        expiries = vec![Expiry {
            position,
            user: None,
            range: (segment.created_ms, time_ms),
            time_ms,
        }];
    }
    let record = |(key, value)| Record::Row {
        table: TableId::Consumers,
        key,
        value: Some(value),
    };
    let is_first = begun_ms.is_none() && !expiries.is_empty();
    // In front of the others, so that none of them is durable without it.
    let begin = is_first.then(|| begin_row(segment.base, time_ms));
    let rows = expiries.iter().map(Expiry::row);
    Ok(begin.into_iter().chain(rows).map(record).collect())
}

fn begin_row(base: Position, time_ms: u64) -> (Bytes, Bytes) {
    let value = [base.0, time_ms].map(u64::to_be_bytes).concat();
    (Bytes::from_static(LEAVING), value.into())
}

/// The time of the first attempt to remove this segment, Unix ms; `None`: there was none, or nothing was to be told then.
fn begun_ms(core: &Core, base: Position) -> Result<Option<u64>, ReadError> {
    let row = core.state.row(TableId::Consumers, LEAVING)?;
    let numbers = row.and_then(|row| {
        let (base, time_ms) = row.split_first_chunk()?;
        Some((*base, time_ms.try_into().ok()?))
    });
    let numbers =
        numbers.map(|(base, time_ms)| (u64::from_be_bytes(base), u64::from_be_bytes(time_ms)));
    Ok(numbers.and_then(|(of, time_ms)| (of == base.0).then_some(time_ms)))
}

/// The number of other segments whose expiries wait, counted up to its bound.
fn waiting_segments(core: &Core, own: FeedPosition) -> Result<usize, ReadError> {
    let mut after = Vec::new();
    let mut segments = 0;
    while segments < EXPIRY_SEGMENTS_MAX {
        let page = core
            .state
            .page_of(TableId::Consumers, EXPIRY_PREFIX, &after, 1)?;
        let Some(expiry) = page.first().and_then(read) else {
            break;
        };
        segments += usize::from(expiry.position != own);
        // Behind all users of that segment: no id has such a byte.
        after = [EXPIRY_PREFIX, &expiry.position.0.to_be_bytes(), &[0xff]].concat();
    }
    Ok(segments)
}

fn read((key, value): &(Bytes, Bytes)) -> Option<Expiry> {
    Expiry::read(key, value)
}
