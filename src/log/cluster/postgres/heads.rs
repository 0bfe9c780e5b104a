//! The looks at many users at once: heads of inboxes, and revocations.

use tokio_postgres::Row;

use super::{
    super::engine::EngineError,
    append::{damaged, user_of},
    link::ServerLink,
    reads::{Dated, number, transaction},
    slot_of,
};
use crate::ids::{Epoch, Platform, Seq, UserId};

const HEADS: &str = "SELECT b.epoch, i.head, i.xmin::text::bigint \
    FROM unnest($1::text[], $2::smallint[]) WITH ORDINALITY AS u(user_id, slot, ord) \
    JOIN slot b ON b.slot = u.slot LEFT JOIN inbox i ON i.user_id = u.user_id COLLATE \"C\" ORDER BY u.ord";
const LOGGED_OUT: &str = "SELECT user_id, platform, before_ms FROM token WHERE user_id = ANY($1) AND before_ms > newest_ms";

/// The epoch and the head of each user's inbox; head 0 of a user without one.
pub(super) async fn heads(
    link: &ServerLink,
    users: &[UserId],
) -> Result<Vec<Dated<(Epoch, Seq)>>, EngineError> {
    let slots: Vec<_> = users.iter().map(slot_of).collect();
    let users: Vec<_> = users.iter().map(UserId::as_str).collect();
    let rows = link.query(HEADS, &[&users, &slots]).await?;
    if rows.len() != users.len() {
        return Err(damaged());
    }
    let head = |row: &Row| {
        let head = (Epoch(number(row, 0)), Seq(number(row, 1)));
        (head, transaction(row, 2))
    };
    Ok(rows.iter().map(head).collect())
}

/// The platforms on which no token is known that is younger than the revocation.
pub(super) async fn logged_out(
    link: &ServerLink,
    users: &[UserId],
) -> Result<Vec<(UserId, Platform, u64)>, EngineError> {
    let users: Vec<_> = users.iter().map(UserId::as_str).collect();
    let rows = link.query(LOGGED_OUT, &[&users]).await?;
    let revocation = |row: &Row| {
        let platform = u32::try_from(row.get::<_, i16>(1)).unwrap_or_default();
        let platform = Platform::from_number(platform).map_err(|_| damaged())?;
        Ok((user_of(row, 0)?, platform, number(row, 2)))
    };
    rows.iter().map(revocation).collect()
}
