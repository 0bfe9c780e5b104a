//! The rows that tell a reader of the log which unacked messages a removed segment takes with it. They are durable before the
//! segment goes. A retry after a crash writes the same rows again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    EXPIRIES_WANTED, EXPIRY_PREFIX, EXPIRY_SEGMENTS_MAX, Expiry, FeedPosition, ReadError,
    core::Core, record::Record, segment::Segment, table_id::TableId,
};
use crate::{
    ids::{Seq, UserId},
    threads::Pulse,
};

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
    let time_ms = core.clock.now_ms();
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
    let record = |expiry: Expiry| {
        let (key, value) = expiry.row();
        Record::Row {
            table: TableId::Consumers,
            key,
            value: Some(value),
        }
    };
    Ok(expiries.into_iter().map(record).collect())
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
