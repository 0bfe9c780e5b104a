//! The erasure of a user, in one transaction. The user's row stays, so that no seq is given twice; a row of the erasure stays as long as
//! the store may hold bytes of before it.

use std::sync::LazyLock;

use tokio_postgres::Row;

use super::{
    super::engine::EngineError,
    append::clamp,
    link::{Parameters, ServerLink, StoreSession},
    slot_of,
    writes::kind_of,
};
use crate::{
    ids::{Platform, Seq, UserId},
    log::{Erasure, RowTable, erasing_key},
};

/// The columns of an erasure, of a row `x`.
pub(super) const ERASURE_COLUMNS: &str = "x.head, x.time_ms, x.before_ms, x.until_ms";

const KNOW: &str =
    "INSERT INTO inbox (user_id, slot, is_erased) VALUES ($1, $2, true) ON CONFLICT DO NOTHING";
const LOCK: &str = "SELECT FROM inbox WHERE user_id = $1 FOR NO KEY UPDATE";
/// The user's number, whether something new came since the last erasure, and that erasure.
static BEFORE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT i.uid, i.is_erased \
      AND NOT EXISTS (SELECT FROM session e WHERE e.uid = i.uid) \
      AND NOT EXISTS (SELECT FROM token t WHERE t.user_id = i.user_id AND t.newest_ms >= x.before_ms), \
    {ERASURE_COLUMNS} FROM inbox i LEFT JOIN erased x USING (uid) WHERE i.user_id = $1"
    )
});
/// The bytes are gone with the partition of the newest day, or before.
const ERASED: &str = "INSERT INTO erased AS x (uid, erased_at, head, time_ms, before_ms, until_ms) \
    SELECT i.uid, clock_timestamp(), i.head, t.time_ms, $2, t.time_ms + (s.day - s.floor_day + 2 + s.partition_days) * 86400000::bigint \
    FROM inbox i, store s, LATERAL (SELECT greatest((extract(epoch FROM now()) * 1000)::bigint, \
        1 + coalesce((SELECT max(acked_at) FROM session e WHERE e.uid = i.uid), 0)) AS time_ms) t \
    WHERE i.uid = $1 \
    ON CONFLICT (uid) DO UPDATE SET erased_at = EXCLUDED.erased_at, head = EXCLUDED.head, time_ms = EXCLUDED.time_ms, \
      before_ms = EXCLUDED.before_ms, until_ms = EXCLUDED.until_ms \
    RETURNING x.head, x.time_ms, x.before_ms, x.until_ms";
const PLACES: &str = "DELETE FROM place WHERE uid = $1";
const CONVERSATIONS: &str = "UPDATE conversation c SET first = c.head + 1, first_day = s.day, mark = 0, last_time = 0, \
      time_before = 0, last_seq = 0, deleted = NULL, is_pinned = false, receive_option = 0, cleared = 0 \
    FROM store s WHERE c.uid = $1";
const SESSIONS: &str = "DELETE FROM session WHERE uid = $1";
const INBOX: &str = "UPDATE inbox i SET first = i.head + 1, first_day = greatest(i.day, s.day), profile = NULL, is_erased = true \
    FROM store s WHERE i.uid = $1";
const TOKENS: &str = "INSERT INTO token AS t (user_id, platform, before_ms, newest_ms) \
    SELECT $1, p, $3, 0 FROM unnest($2::smallint[]) p ORDER BY p \
    ON CONFLICT (user_id, platform) DO UPDATE SET before_ms = greatest(t.before_ms, EXCLUDED.before_ms), \
      newest_ms = CASE WHEN t.newest_ms < EXCLUDED.before_ms THEN 0 ELSE t.newest_ms END";
const NAME: &str =
    "INSERT INTO fact (kind, key, value) VALUES ($1, $2, '') ON CONFLICT (kind, key) DO NOTHING";

static OF_USER: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {ERASURE_COLUMNS} FROM erased x JOIN inbox i USING (uid) WHERE i.user_id = $1")
});

/// The erasure in the columns from this one on; `None` where there is none.
pub(super) fn erasure_of(row: &Row, at: usize) -> Option<Erasure> {
    let number = |at| row.get::<_, Option<i64>>(at).map(|number| number as u64);
    Some(Erasure {
        head: Seq(number(at)?),
        time_ms: number(at + 1)?,
        revoked_before_ms: number(at + 2)?,
        until_ms: number(at + 3)?,
    })
}

/// See [`Engine::erase`](super::super::engine::Engine::erase).
pub(super) async fn erase(
    link: &ServerLink,
    user: &UserId,
    before_ms: u64,
) -> Result<Erasure, EngineError> {
    let taken = link.take().await?;
    taken.begin("BEGIN").await?;
    let erased = erase_in(&taken.session, user, before_ms).await;
    taken.end(erased).await
}

async fn erase_in(
    session: &StoreSession,
    user: &UserId,
    before_ms: u64,
) -> Result<Erasure, EngineError> {
    let missing = || EngineError::Damaged("the row of a user is missing".into());
    let (id, before_ms) = (user.as_str(), clamp(before_ms));
    session.query(KNOW, &[&id, &slot_of(user)]).await?;
    // A statement of its own: the next one sees what this one waited for.
    session.query(LOCK, &[&id]).await?;
    let before = session.query(&BEFORE, &[&id]).await?;
    let row = before.first().ok_or_else(missing)?;
    let uid: i64 = row.get(0);
    if row.get::<_, Option<bool>>(1) == Some(true)
        && let Some(erasure) = erasure_of(row, 2)
    {
        return Ok(erasure);
    }
    let erased = session.query(ERASED, &[&uid, &before_ms]).await?;
    let erased = erased.first().and_then(|row| erasure_of(row, 0));
    let erasure = erased.ok_or_else(missing)?;
    for text in [PLACES, CONVERSATIONS, SESSIONS, INBOX] {
        session.query(text, &[&uid]).await?;
    }
    let platforms = Platform::ALL.map(|platform| platform as i16).to_vec();
    let parameters: Parameters<'_> = &[&id, &platforms, &before_ms];
    session.query(TOKENS, parameters).await?;
    let (kind, key) = (kind_of(RowTable::Consumers), erasing_key(user));
    session.query(NAME, &[&kind, &&key[..]]).await?;
    Ok(erasure)
}

/// See [`Engine::erasure`](super::super::engine::Engine::erasure).
pub(super) async fn erasure(
    link: &ServerLink,
    user: &UserId,
) -> Result<Option<Erasure>, EngineError> {
    let rows = link.query(&OF_USER, &[&user.as_str()]).await?;
    Ok(rows.first().and_then(|row| erasure_of(row, 0)))
}
