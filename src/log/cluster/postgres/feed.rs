//! The feed of commits and that of moved cursors.
//!
//! Positions are in the order of the transactions' numbers, not in that of their commits. So a page ends before the oldest
//! transaction that is open: none with a lower number can commit later. A barrier on the same connection tells which one that is,
//! and confirms all before it. A position is the number of a transaction, and in its lowest 16 bits the place in there.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    super::{
        body,
        engine::{EngineError, LaneId},
    },
    BARRIER,
    append::{clamp, numbers_of, user_of},
    link::{ServerLink, StoreSession},
};
use crate::{
    ids::{Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        CursorMove, CursorPage, FeedCommit, FeedLimit, FeedLoss, FeedPage, FeedPosition, SessionRow,
    },
    message::Numbers,
};

/// The bits of a position below the transaction: a group has at most 1,000 entries.
const PLACE_BITS: u32 = 16;
/// The most transactions of one page: their entries are in memory at once, at most 1,000 each.
const TRANSACTIONS_MAX: i64 = 64;
/// The most moves of cursors of one page.
const MOVES_MAX: usize = 1000;
/// The time to the next look whether older transactions have ended.
const PAUSE: Duration = Duration::from_millis(10);

const END: &str = "SELECT b.epoch, s.feed_floor, coalesce((SELECT max(xid) FROM feed), 0), \
      (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
    FROM store s, slot b WHERE b.slot = 0";
const ENTRIES: &str = "SELECT f.xid, f.day, e.message_id, e.uid, i.user_id, e.seq, e.cseq, e.ahead, e.base, \
      coalesce(e.seq <= x.head, false) FROM ( \
      SELECT f.* FROM feed f, store s WHERE f.xid BETWEEN $1 AND $2 AND f.day >= s.floor_day ORDER BY f.xid LIMIT $3) f, \
      LATERAL unnest(f.message_ids, f.uids, f.seqs, f.cseqs, f.aheads, f.bases) \
        WITH ORDINALITY e(message_id, uid, seq, cseq, ahead, base, ord) JOIN inbox i USING (uid) \
      LEFT JOIN erased x USING (uid) \
    ORDER BY f.xid, e.ord";
/// The bodies up to the one that reaches so many bytes; NULL where there is none.
const BODIES: &str = "SELECT x.body FROM ( \
      SELECT t.n, t.body, coalesce(sum(octet_length(t.body)) \
        OVER (ORDER BY t.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM ( \
        SELECT t.n, coalesce(p.body, m.body) AS body \
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::int[]) WITH ORDINALITY AS t(message_id, uid, seq, day, n) \
          LEFT JOIN LATERAL (SELECT p.body FROM place p \
            WHERE p.uid = t.uid AND p.seq = t.seq AND p.day >= t.day LIMIT 1) p ON true \
          LEFT JOIN LATERAL (SELECT m.body FROM message m \
            WHERE p.body IS NULL AND m.message_id = t.message_id AND m.day >= t.day LIMIT 1) m ON true) t) x \
    WHERE x.before <= $5 ORDER BY x.n";
const MOVES_END: &str =
    "SELECT b.epoch, coalesce((SELECT max(moved) FROM session), 0) FROM slot b WHERE b.slot = 0";
const MOVES: &str = "SELECT e.moved, i.user_id, e.platform, e.device, e.cursor, e.acked_at \
    FROM session e JOIN inbox i USING (uid) JOIN slot b USING (slot) \
    WHERE e.moved BETWEEN $1 AND $2 AND e.epoch = b.epoch ORDER BY e.moved LIMIT $3";

/// The position of this place in a transaction.
fn position(xid: i64, place: usize) -> FeedPosition {
    FeedPosition(((xid as u64) << PLACE_BITS) | place as u64)
}

/// The first position behind a transaction. It is never that of the oldest commit.
fn behind(xid: i64) -> FeedPosition {
    position(xid + 1, 0)
}

fn one(rows: Vec<Row>) -> Result<Row, EngineError> {
    let missing = || EngineError::Damaged("the row of the store is missing".into());
    rows.into_iter().next().ok_or_else(missing)
}

/// Waits until this transaction and all before it are confirmed or nowhere.
async fn confirm(session: &StoreSession, lane: LaneId, xid: i64) -> Result<(), EngineError> {
    let lane = lane.0 as i64;
    loop {
        let row = one(session.query(BARRIER, &[&lane]).await?)?;
        if row.get::<_, i64>(0) > xid {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// A commit without its body.
struct CommitDraft {
    position: FeedPosition,
    message_id: Uuid,
    uid: i64,
    day: i32,
    entries: Vec<(UserId, Numbers)>,
}

/// See [`Engine::feed`](super::super::engine::Engine::feed).
pub(super) async fn feed(
    link: &ServerLink,
    lane: LaneId,
    from: FeedPosition,
    limit: FeedLimit,
) -> Result<FeedPage, EngineError> {
    let taken = link.take().await?;
    let page = page(&taken.session, lane, from, limit).await;
    taken.give_back(&page);
    page
}

async fn page(
    session: &StoreSession,
    lane: LaneId,
    from: FeedPosition,
    limit: FeedLimit,
) -> Result<FeedPage, EngineError> {
    let row = one(session.query(END, &[]).await?)?;
    let (floor, newest, now_ms): (i64, i64, i64) = (row.get(1), row.get(2), row.get(3));
    let end = behind(newest.max(floor - 1));
    let mut page = FeedPage {
        epoch: Epoch(row.get::<_, i64>(0) as u64),
        commits: Vec::new(),
        next: end,
        is_end: true,
        lost: None,
    };
    // A reader that was here before needs no barrier.
    if from == end {
        return Ok(page);
    }
    confirm(session, lane, newest).await?;
    if from == FeedPosition::NEWEST {
        return Ok(page);
    }
    let is_lost = from > end || (from > FeedPosition::OLDEST && from < position(floor, 0));
    if from < end {
        let first = (from.0 >> PLACE_BITS) as i64;
        let parameters: [i64; 3] = [first, newest, TRANSACTIONS_MAX];
        let [first, last, most] = &parameters;
        let rows = session.query(ENTRIES, &[first, last, most]).await?;
        page.fill(session, drafts_of(&rows, from)?, limit).await?;
    }
    if is_lost {
        let first = page.commits.first();
        page.lost = Some(FeedLoss {
            from_time_ms: 0,
            to_time_ms: first.map_or(now_ms as u64, |first| first.send_time_ms),
        });
    }
    Ok(page)
}

/// The commits from a position on, and where the page ends if that is before the end.
fn drafts_of(
    rows: &[Row],
    from: FeedPosition,
) -> Result<(Vec<CommitDraft>, Option<FeedPosition>), EngineError> {
    let mut drafts: Vec<CommitDraft> = Vec::new();
    let (mut transactions, mut place) = (0, 0);
    let mut last: Option<(i64, Uuid)> = None;
    for row in rows {
        let (xid, day, message_id): (i64, i32, Uuid) = (row.get(0), row.get(1), row.get(2));
        let of_last = last.map(|(xid, _)| xid);
        if of_last != Some(xid) {
            (transactions, place) = (transactions + 1, 0);
        } else if last != Some((xid, message_id)) {
            place += 1;
        }
        last = Some((xid, message_id));
        let position = position(xid, place);
        let is_erased: bool = row.get(9);
        if position < from || is_erased {
            continue;
        }
        if drafts.last().is_none_or(|last| last.position != position) {
            drafts.push(CommitDraft {
                position,
                message_id,
                uid: row.get(3),
                day,
                entries: Vec::new(),
            });
        }
        if let Some(draft) = drafts.last_mut() {
            draft.entries.push((user_of(row, 4)?, numbers_of(row, 5)));
        }
    }
    let is_full = transactions == TRANSACTIONS_MAX;
    let next = last.filter(|_| is_full).map(|(xid, _)| behind(xid));
    Ok((drafts, next))
}

impl FeedPage {
    /// Adds these commits with their bodies, as many as the limit allows.
    async fn fill(
        &mut self,
        session: &StoreSession,
        (mut drafts, next): (Vec<CommitDraft>, Option<FeedPosition>),
        limit: FeedLimit,
    ) -> Result<(), EngineError> {
        let mut next = next;
        let most = limit.commits.max(1);
        if let Some(left_out) = drafts.get(most) {
            next = Some(left_out.position);
            drafts.truncate(most);
        }
        let column = |draft: &CommitDraft| (draft.message_id, draft.uid);
        let (ids, uids): (Vec<_>, Vec<_>) = drafts.iter().map(column).unzip();
        let first_seq =
            |draft: &CommitDraft| draft.entries.first().map_or(0, |(_, at)| clamp(at.seq.0));
        let seqs: Vec<_> = drafts.iter().map(first_seq).collect();
        let days: Vec<_> = drafts.iter().map(|draft| draft.day).collect();
        let bytes_max = clamp(limit.bytes as u64);
        let rows = session
            .query(BODIES, &[&ids, &uids, &seqs, &days, &bytes_max])
            .await?;
        let mut bytes = 0;
        let mut bodies = rows.iter();
        for draft in drafts {
            let is_full = !self.commits.is_empty() && bytes >= limit.bytes;
            let row = bodies.next().filter(|_| !is_full);
            let Some(row) = row else {
                next = Some(draft.position);
                break;
            };
            let stored: Option<Vec<u8>> = row.get(0);
            if let Some(commit) = stored.and_then(|stored| draft.commit(stored)) {
                bytes += commit.bytes();
                self.commits.push(commit);
            } else {
                let last_ms = self.commits.last().map_or(0, |last| last.send_time_ms);
                self.lost.get_or_insert(FeedLoss {
                    from_time_ms: last_ms,
                    to_time_ms: last_ms,
                });
            }
        }
        if let Some(next) = next {
            (self.next, self.is_end) = (next, false);
        }
        Ok(())
    }
}

impl CommitDraft {
    /// The commit with this stored body; `None` if the body is damaged.
    fn commit(self, stored: Vec<u8>) -> Option<FeedCommit> {
        let message_id = MessageId(self.message_id.into_bytes());
        let Some((header, body)) = body::decode(stored) else {
            tracing::error!(id = %message_id, "a stored message does not have its checksum");
            return None;
        };
        Some(FeedCommit {
            position: self.position,
            message_id,
            send_time_ms: header.send_time_ms,
            sender: header.sender.into(),
            client_message_id: header.client_message_id.into(),
            body,
            is_marks: header.is_marks,
            entries: self.entries.into(),
        })
    }
}

/// See [`Engine::cursor_feed`](super::super::engine::Engine::cursor_feed).
pub(super) async fn cursor_feed(
    link: &ServerLink,
    lane: LaneId,
    from: FeedPosition,
    limit: usize,
) -> Result<CursorPage, EngineError> {
    let taken = link.take().await?;
    let page = cursor_page(&taken.session, lane, from, limit.min(MOVES_MAX)).await;
    taken.give_back(&page);
    page
}

async fn cursor_page(
    session: &StoreSession,
    lane: LaneId,
    from: FeedPosition,
    limit: usize,
) -> Result<CursorPage, EngineError> {
    let row = one(session.query(MOVES_END, &[]).await?)?;
    let newest: i64 = row.get(1);
    let mut page = CursorPage {
        epoch: Epoch(row.get::<_, i64>(0) as u64),
        cursors: Vec::new(),
        next: FeedPosition(newest as u64 + 1),
        is_end: true,
    };
    if from == page.next {
        return Ok(page);
    }
    confirm(session, lane, newest >> PLACE_BITS).await?;
    if from == FeedPosition::NEWEST || from > page.next {
        return Ok(page);
    }
    let most = clamp(limit as u64);
    let rows = session
        .query(MOVES, &[&clamp(from.0), &newest, &most])
        .await?;
    let moves: Result<Vec<_>, _> = rows.iter().map(move_of).collect();
    page.cursors = moves?;
    if page.cursors.len() == limit
        && let Some(last) = page.cursors.last()
    {
        page.next = FeedPosition(last.position.0 + 1);
        page.is_end = false;
    }
    Ok(page)
}

fn move_of(row: &Row) -> Result<CursorMove, EngineError> {
    let number = |at| row.get::<_, i64>(at) as u64;
    let platform = Platform::from_number(row.get::<_, i16>(2) as u32);
    let unknown = |_| EngineError::Damaged("a stored platform is none".into());
    Ok(CursorMove {
        position: FeedPosition(number(0)),
        session: SessionKey {
            user: user_of(row, 1)?,
            platform: platform.map_err(unknown)?,
            device: row.get::<_, &str>(3).into(),
        },
        row: SessionRow {
            cursor: Seq(number(4)),
            acked_at_ms: number(5),
        },
    })
}
