//! Messages to everyone. The row of such a message says up to which user it has got. It is locked while a piece is made, so each
//! user gets one entry, whoever makes the piece.

use std::sync::LazyLock;

use bytes::Bytes;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    super::{
        body,
        engine::{EngineError, Placement, SpreadPiece, Unfinished},
    },
    append::{GroupArrays, clamp, damaged, digest_of_key, numbers_of, user_of},
    link::{Parameters, ServerLink, StoreSession},
    reads::IS_KNOWN,
};
use crate::{
    ids::{Epoch, MessageId, UserId},
    log::Append,
    message::Numbers,
};

const ACCEPT: &str = "WITH s AS ( \
      SELECT least(floor(extract(epoch FROM now()) / 86400)::int, day + 1) AS day, period_days FROM store), \
    k AS ( \
      INSERT INTO idem (digest, print, message_id, period) \
      SELECT $2::uuid, $3::uuid, $1::uuid, s.day / s.period_days FROM s WHERE $2::uuid IS NOT NULL \
        AND NOT EXISTS (SELECT FROM idem o WHERE o.digest = $2 AND o.period = s.day / s.period_days - 1) \
      ON CONFLICT DO NOTHING RETURNING digest) \
    INSERT INTO spread (message_id, print, day, body, upto_uid) \
    SELECT $1, $3, s.day, $4::bytea, coalesce((SELECT max(uid) FROM inbox), 0) FROM s \
    WHERE $2::uuid IS NULL OR EXISTS (SELECT FROM k) \
    ON CONFLICT DO NOTHING RETURNING message_id";

/// See [`Engine::accept_to_everyone`](super::super::engine::Engine::accept_to_everyone).
pub(super) async fn accept(link: &ServerLink, append: &Append) -> Result<Placement, EngineError> {
    let id = Uuid::from_bytes(append.message_id.0);
    let digest = digest_of_key(&append.sender, &append.client_message_id);
    let digest = append.is_keyed.then_some(digest);
    let print = Uuid::from_bytes(append.fingerprint);
    let bytes = body::encode(append);
    let taken = link.take().await?;
    let accepted = taken
        .session
        .query(ACCEPT, &[&id, &digest, &print, &bytes])
        .await;
    taken.give_back(&accepted);
    Ok(match accepted?.is_empty() {
        true => Placement::Repeated,
        false => Placement::Placed {
            epoch: Epoch(0),
            entries: [].into(),
        },
    })
}

const LOCKED: &str =
    "SELECT upto_uid, done_uid, placed, is_done, body FROM spread WHERE message_id = $1 FOR UPDATE";
static NEXT_USERS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT i.uid, i.user_id FROM inbox i LEFT JOIN erased x USING (uid) \
         WHERE i.uid > $1 AND i.uid <= $2 AND {IS_KNOWN} \
           AND (x.uid IS NULL OR x.erased_at < (SELECT accepted_at FROM spread WHERE message_id = $4)) ORDER BY i.uid LIMIT $3"
    )
});
const LOCKED_USERS: &str =
    "SELECT FROM inbox WHERE user_id = ANY($1) ORDER BY user_id FOR NO KEY UPDATE";
const MADE: &str = "SELECT i.user_id, b.epoch, p.seq, p.cseq, p.ahead, p.base \
    FROM place p JOIN inbox i USING (uid) JOIN slot b USING (slot) JOIN spread x USING (message_id) \
    WHERE p.message_id = $1 AND p.day >= x.day AND p.uid > $2 AND p.uid <= $3 ORDER BY p.ord";
const DONE: &str =
    "UPDATE spread SET done_uid = $2, placed = placed + $3, is_done = $4 WHERE message_id = $1";

/// See [`Engine::spread`](super::super::engine::Engine::spread).
pub(super) async fn spread(
    link: &ServerLink,
    message: MessageId,
    after: u64,
    limit: usize,
) -> Result<SpreadPiece, EngineError> {
    let taken = link.take().await?;
    taken.begin("BEGIN").await?;
    let piece = piece(&taken.session, message, after, limit).await;
    taken.end(piece).await
}

async fn piece(
    session: &StoreSession,
    message: MessageId,
    after: u64,
    limit: usize,
) -> Result<SpreadPiece, EngineError> {
    let (id, after) = (Uuid::from_bytes(message.0), clamp(after));
    let rows = session.query(LOCKED, &[&id]).await?;
    let missing = || EngineError::Refused("no such message to everyone".into());
    let row = rows.first().ok_or_else(missing)?;
    let (upto, done, placed): (i64, i64, i32) = (row.get(0), row.get(1), row.get(2));
    let is_done: bool = row.get(3);
    if done > after || is_done {
        let made = session.query(MADE, &[&id, &after, &done]).await?;
        let entry = |row: &Row| Ok((user_of(row, 0)?, numbers_of(row, 2)));
        let entries: Result<Vec<_>, EngineError> = made.iter().map(entry).collect();
        let epoch = made.first().map_or(0, |row| row.get::<_, i64>(1));
        return Ok(SpreadPiece {
            epoch: Epoch(epoch as u64),
            entries: entries?.into(),
            upto: done as u64,
            is_last: is_done,
        });
    }
    let most = clamp(limit as u64);
    let parameters: Parameters<'_> = &[&after, &upto, &most, &id];
    let users = session.query(&NEXT_USERS, parameters).await?;
    let is_last = users.len() < limit;
    let last = users.last().map_or(upto, |row| row.get(0));
    let ids: Vec<&str> = users.iter().map(|row| row.get(1)).collect();
    session.query(LOCKED_USERS, &[&ids]).await?;
    // Nobody of them is erased from here on, and those who were erased meanwhile are no longer among them.
    let parameters: Parameters<'_> = &[&after, &last, &most, &id];
    let users = session.query(&NEXT_USERS, parameters).await?;
    let receivers: Result<Vec<UserId>, _> = users.iter().map(|row| user_of(row, 1)).collect();
    let (epoch, entries) = place(session, row, message, receivers?, placed).await?;
    let count = entries.len() as i32;
    session.query(DONE, &[&id, &last, &count, &is_last]).await?;
    Ok(SpreadPiece {
        epoch,
        entries: entries.into(),
        upto: last as u64,
        is_last,
    })
}

/// Gives these users their entry. `row` has the message's stored bytes, `placed` of which have theirs already.
async fn place(
    session: &StoreSession,
    row: &Row,
    message_id: MessageId,
    receivers: Vec<UserId>,
    placed: i32,
) -> Result<(Epoch, Vec<(UserId, Numbers)>), EngineError> {
    if receivers.is_empty() {
        return Ok((Epoch(0), Vec::new()));
    }
    let bytes: Vec<u8> = row.get(4);
    let (header, body) = body::decode(bytes.clone()).ok_or_else(damaged)?;
    let append = Append {
        message_id,
        send_time_ms: header.send_time_ms,
        sender: header.sender.into(),
        client_message_id: header.client_message_id.into(),
        // The key was taken when the message was accepted.
        is_keyed: false,
        fingerprint: [0; 16],
        body,
        is_marks: false,
        receivers,
    };
    let mut arrays = GroupArrays::default();
    arrays.add(&append, bytes, placed as usize, true);
    let rows = arrays.append_piece(session).await?;
    let mut entries = vec![None; append.receivers.len()];
    let mut epoch = Epoch(0);
    for row in &rows {
        if let Ok(ord) = usize::try_from(row.get::<_, i32>(1)) {
            epoch = Epoch(row.get::<_, i64>(6) as u64);
            entries[ord - placed as usize] = Some(numbers_of(row, 2));
        }
    }
    let entries = append.receivers.into_iter().zip(entries);
    let entries = entries.filter_map(|(user, numbers)| Some((user, numbers?)));
    Ok((epoch, entries.collect()))
}

/// See [`Engine::unfinished`](super::super::engine::Engine::unfinished).
pub(super) async fn unfinished(link: &ServerLink) -> Result<Vec<Unfinished>, EngineError> {
    let text =
        "SELECT message_id, done_uid, body FROM spread WHERE NOT is_done ORDER BY message_id";
    let rows = link.query(text, &[]).await?;
    let message = |row: &Row| {
        let (id, upto): (Uuid, i64) = (row.get(0), row.get(1));
        let (_, body): (_, Bytes) = body::decode(row.get(2)).ok_or_else(damaged)?;
        Ok(Unfinished {
            message_id: MessageId(id.into_bytes()),
            body,
            upto: upto as u64,
        })
    };
    rows.iter().map(message).collect()
}
