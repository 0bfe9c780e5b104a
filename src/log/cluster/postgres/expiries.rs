//! The rows that tell a reader which unacked messages retention removed. They are written in the transaction that moves the floor,
//! before any partition goes. So each is written once. Retention removes whole days, and a day stands for a segment.

use super::{super::engine::EngineError, link::StoreSession, writes::kind_of};
use crate::log::{
    EXPIRIES_WANTED, EXPIRY_PREFIX, EXPIRY_SEGMENTS_MAX, Expiry, FeedPosition, RowTable,
};

/// The number of days whose rows wait, if somebody wants such rows.
const WAITING: &str = "SELECT (SELECT count(DISTINCT substring(f.key FROM length($3::bytea) + 1 FOR 8)) FROM fact f \
      WHERE f.kind = $1 AND f.key > $3 AND f.key < $3 || '\\xff'::bytea), \
    (extract(epoch FROM now()) * 1000)::bigint \
    FROM fact w WHERE w.kind = $1 AND w.key = $2";
/// Writes a row for each user, in the form of [`Expiry::row`].
const OF_USERS: &str = "INSERT INTO fact (kind, key, value) \
    SELECT $1, $2::bytea || int8send($4) || convert_to(i.user_id, 'UTF8'), \
      int8send(greatest(x.first, a.acked + 1)) || int8send(x.last) || int8send($5) \
    FROM (SELECT p.uid, min(p.seq) AS first, max(p.seq) AS last FROM place p \
        WHERE p.day >= $3 AND p.day < $4 AND p.cid IS NOT NULL AND p.is_removed IS NULL GROUP BY p.uid) x \
      JOIN inbox i USING (uid) JOIN slot b USING (slot), LATERAL ( \
        SELECT coalesce(max(e.cursor), 0) AS acked FROM session e WHERE e.uid = x.uid AND e.epoch = b.epoch) a \
    WHERE x.last > a.acked ON CONFLICT DO NOTHING";
const OF_ALL: &str =
    "INSERT INTO fact (kind, key, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const MS_OF_DAY: u64 = 86_400_000;

/// Tells of the messages of these days, of which `end` is the first that stays. Not cancel safe: it is part of a transaction.
pub(super) async fn tell(session: &StoreSession, first: i32, end: i32) -> Result<(), EngineError> {
    let kind = kind_of(RowTable::Consumers);
    let wanted = session
        .query(WAITING, &[&kind, &EXPIRIES_WANTED, &EXPIRY_PREFIX])
        .await?;
    let Some(wanted) = wanted.first() else {
        return Ok(());
    };
    let (waiting, now_ms): (i64, i64) = (wanted.get(0), wanted.get(1));
    if (waiting as usize) < EXPIRY_SEGMENTS_MAX {
        session
            .query(OF_USERS, &[&kind, &EXPIRY_PREFIX, &first, &end, &now_ms])
            .await?;
        return Ok(());
    }
    let begin_ms = |day: i32| day.max(0) as u64 * MS_OF_DAY;
    let expiry = Expiry {
        position: FeedPosition(end.max(0) as u64),
        user: None,
        range: (begin_ms(first), begin_ms(end)),
        time_ms: now_ms as u64,
    };
    let (key, value) = expiry.row();
    session
        .query(OF_ALL, &[&kind, &&key[..], &&value[..]])
        .await?;
    Ok(())
}
