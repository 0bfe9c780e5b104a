//! The changes of rows besides messages.
//!
//! Users who are not known yet get their rows in a transaction of their own. The transaction of the changes then locks the rows of
//! its users in one order, as an append does, so neither waits for the other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::engine::{Durability, EngineError, StoreChange},
    append::clamp,
    link::{Parameters, ServerLink, StoreSession},
    slot_of, turn,
};
use crate::{
    ids::{Epoch, Fence, Platform, Seq, SessionKey, UserId},
    log::{RowChange, RowTable, SessionRow, TokenTimes, TurnNumber},
    message::SettingsChange,
};

const KNOW: &str = "INSERT INTO inbox (user_id, slot) SELECT * FROM unnest($1::text[], $2::smallint[]) AS u(user_id, slot) \
    WHERE NOT EXISTS (SELECT FROM inbox i WHERE i.user_id = u.user_id) ORDER BY user_id ON CONFLICT DO NOTHING";
const LOCK: &str = "SELECT FROM inbox WHERE user_id = ANY($1) ORDER BY user_id FOR NO KEY UPDATE";
/// A session that lost its place does not move the cursor of its successor.
const CURSORS: &str = "INSERT INTO session AS e (uid, platform, device, epoch, cursor, acked_at, fence, moved) \
    SELECT i.uid, c.platform, c.device, c.epoch, c.cursor, c.acked_at, c.fence, \
      pg_current_xact_id()::text::bigint << 16 | (c.ord + $7) \
    FROM unnest($1::text[], $2::smallint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $8::bigint[]) \
      WITH ORDINALITY AS c(user_id, platform, device, epoch, cursor, acked_at, fence, ord) \
      JOIN inbox i USING (user_id) JOIN slot b ON b.slot = i.slot AND b.epoch = c.epoch \
      LEFT JOIN erased x ON x.uid = i.uid \
    WHERE x.uid IS NULL OR c.cursor > x.head OR c.cursor = x.head AND c.acked_at >= x.time_ms \
    ORDER BY i.uid, c.platform, c.device \
    ON CONFLICT (uid, platform, device) DO UPDATE SET \
      epoch = EXCLUDED.epoch, cursor = EXCLUDED.cursor, acked_at = EXCLUDED.acked_at, fence = EXCLUDED.fence, \
      moved = EXCLUDED.moved \
      WHERE EXCLUDED.fence >= e.fence OR EXCLUDED.epoch <> e.epoch";
const PROFILES: &str = "UPDATE inbox i SET profile = u.profile, is_erased = false \
    FROM unnest($1::text[], $2::bytea[]) AS u(user_id, profile) WHERE i.user_id = u.user_id";
const TOKENS: &str = "INSERT INTO token AS t (user_id, platform, before_ms, newest_ms) \
    SELECT * FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[]) AS u(user_id, platform, before_ms, newest_ms) \
    ORDER BY user_id, platform \
    ON CONFLICT (user_id, platform) DO UPDATE SET \
      before_ms = greatest(t.before_ms, EXCLUDED.before_ms), newest_ms = greatest(t.newest_ms, EXCLUDED.newest_ms)";
/// The feed tells bodies also of messages that are removed.
const DELETE: &str = "WITH o AS ( \
      INSERT INTO message (message_id, day, body) SELECT p.message_id, p.day, p.body FROM place p, inbox i, store s \
      WHERE i.user_id = $1 AND p.uid = i.uid AND p.seq = ANY($2) AND p.cid IS NOT NULL AND p.is_removed IS NULL \
        AND p.body IS NOT NULL AND p.day >= s.floor_day ON CONFLICT DO NOTHING), \
    d AS ( \
      UPDATE place p SET body = NULL, ahead = NULL, is_removed = true FROM inbox i, store s \
      WHERE i.user_id = $1 AND p.uid = i.uid AND p.seq = ANY($2) AND p.cid IS NOT NULL AND p.is_removed IS NULL \
        AND p.day >= s.floor_day RETURNING p.uid, p.cid, p.cseq), \
    a AS (SELECT uid, cid, array_agg(cseq) AS cseqs FROM d GROUP BY uid, cid) \
    UPDATE conversation c SET deleted = ( \
      SELECT array_agg(v) FROM unnest(coalesce(c.deleted, '{}') || a.cseqs) v WHERE v > greatest(c.mark, c.cleared)) \
    FROM a WHERE c.uid = a.uid AND c.cid = a.cid";
const SETTINGS: &str = "WITH c AS ( \
      UPDATE conversation c SET is_pinned = coalesce($3, c.is_pinned), receive_option = coalesce($4, c.receive_option), \
        cleared = CASE WHEN $5::bigint IS NULL THEN c.cleared ELSE greatest(c.cleared, least($5, c.head)) END \
      FROM inbox i WHERE i.user_id = $1 AND c.uid = i.uid AND c.conversation_id = $2 RETURNING c.cid, c.cleared), \
    o AS (INSERT INTO message (message_id, day, body) SELECT p.message_id, p.day, p.body FROM place p, c, store s \
      WHERE $5::bigint IS NOT NULL AND p.cid = c.cid AND p.cseq <= c.cleared AND p.is_removed IS NULL \
        AND p.body IS NOT NULL AND p.day >= s.floor_day ON CONFLICT DO NOTHING) \
    UPDATE place p SET body = NULL, ahead = NULL, is_removed = true FROM c, store s \
    WHERE $5::bigint IS NOT NULL AND p.cid = c.cid AND p.cseq <= c.cleared AND p.is_removed IS NULL \
      AND p.day >= s.floor_day";

const REMOVE_FACTS: &str = "DELETE FROM fact f USING unnest($1::smallint[], $2::bytea[]) AS u(kind, key) \
    WHERE f.kind = u.kind AND f.key = u.key";
const PUT_FACTS: &str = "INSERT INTO fact (kind, key, value) \
    SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[]) AS u(kind, key, value) ORDER BY kind, key \
    ON CONFLICT (kind, key) DO UPDATE SET value = EXCLUDED.value";

/// The number of a table of rows in the store. It never changes.
pub(super) fn kind_of(table: RowTable) -> i16 {
    match table {
        RowTable::Devices => 1,
        RowTable::PushTasks => 2,
        RowTable::Consumers => 3,
    }
}

/// The changes of a batch by their kind. Of two that set one row, the later counts.
#[derive(Default)]
struct ChangeBatch<'a> {
    /// Users who get a row.
    known: BTreeMap<&'a UserId, i16>,
    cursors: BTreeMap<&'a SessionKey, BTreeMap<u64, (Fence, SessionRow)>>,
    profiles: BTreeMap<&'a UserId, &'a [u8]>,
    tokens: BTreeMap<(&'a UserId, Platform), TokenTimes>,
    deletions: Vec<(&'a UserId, &'a [Seq])>,
    settings: Vec<(&'a UserId, &'a SettingsChange)>,
    facts: BTreeMap<(i16, &'a [u8]), Option<&'a [u8]>>,
    /// The turns in which rows change.
    turns: BTreeSet<TurnNumber>,
}

impl<'a> ChangeBatch<'a> {
    fn of(changes: &'a [StoreChange]) -> Self {
        let mut batch = Self::default();
        for change in changes {
            match change {
                StoreChange::Cursor(key, Epoch(epoch), fence, row) => {
                    batch.known.insert(&key.user, slot_of(&key.user));
                    let rows = batch.cursors.entry(key).or_default();
                    let newest = rows.entry(*epoch).or_insert((*fence, *row));
                    if *fence >= newest.0 {
                        *newest = (*fence, *row);
                    }
                }
                StoreChange::Register(user, profile) => {
                    batch.known.insert(user, slot_of(user));
                    batch.profiles.insert(user, profile);
                }
                StoreChange::Tokens(user, platform, times) => {
                    let row = batch.tokens.entry((user, *platform)).or_default();
                    row.revoked_before_ms = row.revoked_before_ms.max(times.revoked_before_ms);
                    row.newest_ms = row.newest_ms.max(times.newest_ms);
                }
                StoreChange::Delete(user, seqs) => batch.deletions.push((user, seqs)),
                StoreChange::Settings(user, changes) => {
                    let changes = changes.iter().map(|change| (user, change));
                    batch.settings.extend(changes);
                }
                StoreChange::Rows(rows) | StoreChange::RowsIn(_, rows) => {
                    if let StoreChange::RowsIn(turn, _) = change {
                        batch.turns.insert(*turn);
                    }
                    let row = |row: &'a RowChange| {
                        ((kind_of(row.table), &*row.key), row.value.as_deref())
                    };
                    batch.facts.extend(rows.iter().map(row));
                }
            }
        }
        batch
    }

    /// The users whose rows are locked.
    fn locked(&self) -> Vec<&'a str> {
        let profiles = self.profiles.keys().copied();
        let deletions = self.deletions.iter().map(|(user, _)| *user);
        let settings = self.settings.iter().map(|(user, _)| *user);
        let users = profiles.chain(deletions).chain(settings);
        users.map(UserId::as_str).collect()
    }

    async fn write(&self, session: &StoreSession) -> Result<(), EngineError> {
        for of in &self.turns {
            turn::check(session, *of).await?;
        }
        let locked = self.locked();
        if !locked.is_empty() {
            session.query(LOCK, &[&locked]).await?;
        }
        self.write_cursors(session).await?;
        if !self.profiles.is_empty() {
            let users: Vec<_> = self.profiles.keys().map(|user| user.as_str()).collect();
            let profiles: Vec<_> = self.profiles.values().copied().collect();
            session.query(PROFILES, &[&users, &profiles]).await?;
        }
        if !self.tokens.is_empty() {
            let keys = self.tokens.keys();
            let (users, platforms): (Vec<_>, Vec<_>) = keys
                .map(|(user, platform)| (user.as_str(), *platform as i16))
                .unzip();
            let times = self.tokens.values();
            let (before, newest): (Vec<_>, Vec<_>) = times
                .map(|times| (clamp(times.revoked_before_ms), clamp(times.newest_ms)))
                .unzip();
            let parameters: Parameters<'_> = &[&users, &platforms, &before, &newest];
            session.query(TOKENS, parameters).await?;
        }
        for (user, seqs) in &self.deletions {
            // No entry has a number that the store cannot hold.
            let seqs = seqs.iter().filter_map(|seq| i64::try_from(seq.0).ok());
            let seqs: Vec<_> = seqs.collect();
            session.query(DELETE, &[&user.as_str(), &seqs]).await?;
        }
        for (user, change) in &self.settings {
            let option = change
                .receive_option
                .map(|option| i16::from(option.number()));
            let cleared = change.cleared.map(|seq| clamp(seq.0));
            let (user, id) = (user.as_str(), &change.conversation_id);
            let parameters: Parameters<'_> = &[&user, id, &change.is_pinned, &option, &cleared];
            session.query(SETTINGS, parameters).await?;
        }
        self.write_facts(session).await
    }

    async fn write_facts(&self, session: &StoreSession) -> Result<(), EngineError> {
        let removed = self.facts.iter().filter(|(_, value)| value.is_none());
        let (kinds, keys): (Vec<_>, Vec<_>) = removed.map(|(key, _)| *key).unzip();
        if !keys.is_empty() {
            session.query(REMOVE_FACTS, &[&kinds, &keys]).await?;
        }
        let put = self
            .facts
            .iter()
            .filter_map(|(key, value)| Some((*key, (*value)?)));
        let (keys, values): (Vec<_>, Vec<_>) = put.unzip();
        let (kinds, keys): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        if !keys.is_empty() {
            session.query(PUT_FACTS, &[&kinds, &keys, &values]).await?;
        }
        Ok(())
    }

    /// Writes the cursors of the present epochs. One statement sets a row once, so each older epoch goes first.
    async fn write_cursors(&self, session: &StoreSession) -> Result<(), EngineError> {
        let mut left = self.cursors.clone();
        let mut written = 0;
        while !left.is_empty() {
            let (mut keys, mut rows) = (Vec::new(), Vec::new());
            left.retain(|key, of_epoch| {
                if let Some((epoch, row)) = of_epoch.pop_first() {
                    keys.push((*key, epoch));
                    rows.push(row);
                }
                !of_epoch.is_empty()
            });
            let users: Vec<_> = keys.iter().map(|(key, _)| key.user.as_str()).collect();
            let platforms: Vec<_> = keys.iter().map(|(key, _)| key.platform as i16).collect();
            let devices: Vec<_> = keys.iter().map(|(key, _)| &*key.device).collect();
            let epochs: Vec<_> = keys.iter().map(|(_, epoch)| *epoch as i64).collect();
            let cursors: Vec<_> = rows.iter().map(|(_, row)| clamp(row.cursor.0)).collect();
            let acked: Vec<_> = rows.iter().map(|(_, row)| clamp(row.acked_at_ms)).collect();
            let fences: Vec<_> = rows.iter().map(|(fence, _)| clamp(fence.0)).collect();
            let parameters: Parameters<'_> = &[
                &users, &platforms, &devices, &epochs, &cursors, &acked, &written, &fences,
            ];
            session.query(CURSORS, parameters).await?;
            written += rows.len() as i64;
        }
        Ok(())
    }
}

/// See [`Engine::write`](super::super::engine::Engine::write).
pub(super) async fn write(
    link: &ServerLink,
    changes: &[StoreChange],
    durability: Durability,
) -> Result<(), EngineError> {
    let batch = ChangeBatch::of(changes);
    let begin = match durability {
        Durability::Confirmed => "BEGIN",
        Durability::WrittenBehind => "BEGIN; SET LOCAL synchronous_commit = off",
    };
    let taken = link.take().await?;
    if !batch.known.is_empty() {
        let users: Vec<_> = batch.known.keys().map(|user| user.as_str()).collect();
        let slots: Vec<_> = batch.known.values().copied().collect();
        let known = taken.session.query(KNOW, &[&users, &slots]).await;
        if known.is_err() {
            taken.give_back(&known);
            return known.map(|_| ());
        }
    }
    taken.begin(begin).await?;
    let written = batch.write(&taken.session).await;
    taken.end(written).await
}
