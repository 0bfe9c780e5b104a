//! The tables: made by an operator's command, never at a start. Partitions are made ahead, and dropped when they are too old.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    super::engine::EngineError,
    expiries,
    link::{ServerLink, Servers, StoreSession, Taken},
};

/// The version of the tables that this program reads and writes.
const SCHEMA_VERSION: i32 = 1;
/// The step of OpenIM's numbers at a new epoch: more than the messages that one conversation gets between two backups.
pub(super) const EPOCH_BASE_STEP: u32 = 1_000_000;
/// The number of slots. A user's slot never changes.
pub(super) const SLOTS: u32 = 4096;
/// The most partitions that a retention takes: each costs a read some microseconds.
const PARTITIONS_MAX: u64 = 32;
/// Partitions are made this far ahead, so that days without a gateway harm nothing.
const PARTITIONS_AHEAD: i32 = 7;
/// The name of the lock under which tables change.
const SCHEMA_LOCK: i64 = 0x746f_776e_6372;
const SECONDS_OF_DAY: u64 = 86_400;

/// The times for which a store keeps things, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRetention {
    /// Messages are kept this long.
    pub message_days: u32,
    /// Keys are kept for one to two of these periods.
    pub key_days: u32,
}

impl StoreRetention {
    /// Whole days that are at least these times.
    pub fn of(messages: Duration, keys: Duration) -> Self {
        let days = |time: Duration| {
            let days = time.as_secs().div_ceil(SECONDS_OF_DAY).max(1);
            u32::try_from(days).unwrap_or(u32::MAX)
        };
        Self {
            message_days: days(messages),
            key_days: days(keys),
        }
    }
}

/// The work that [`migrate`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// The database was empty and has tables now.
    Created,
    /// The tables are those of this version.
    Nothing,
}

/// Prepares an empty database, or brings an older schema forward. Not cancel safe: a drop leaves open whether it was done.
pub async fn migrate(url: &str, retention: StoreRetention) -> Result<Migration, EngineError> {
    let link = ServerLink::new(Servers::new(url)?);
    let taken = link.take().await?;
    taken.begin("BEGIN").await?;
    let migrated = migrate_in(&taken, retention).await;
    taken.end(migrated).await
}

async fn migrate_in(
    taken: &Taken<'_>,
    retention: StoreRetention,
) -> Result<Migration, EngineError> {
    let session = &taken.session;
    session
        .query("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK])
        .await?;
    if let Some(version) = version(session).await? {
        return match version {
            SCHEMA_VERSION => Ok(Migration::Nothing),
            later => Err(of_later_version(later)),
        };
    }
    session.command(include_str!("schema.sql")).await?;
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    let partition = u64::from(retention.message_days).div_ceil(PARTITIONS_MAX);
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    session
        .query(
            "INSERT INTO store (schema_version, day, floor_day, period_days, partition_days) \
             SELECT $1, d, d - $2 + 1, $3, $4 FROM (SELECT floor(extract(epoch FROM now()) / 86400)::int AS d) t",
            &[
                &SCHEMA_VERSION,
                &days(retention.message_days),
                &days(retention.key_days),
                &partition,
            ],
        )
        .await?;
    let epoch = new_epoch_number();
    let last = SLOTS as i32 - 1;
    session
        .query(
            "INSERT INTO slot (slot, epoch) SELECT s, $1 FROM generate_series(0, $2::int) s",
            &[&epoch, &last],
        )
        .await?;
    make_partitions(session).await?;
    Ok(Migration::Created)
}

/// A random number that names an epoch. It is never 0.
fn new_epoch_number() -> i64 {
    (Uuid::new_v4().as_u64_pair().1 | 1) as i64
}

/// The version of the tables; `None` in a database without them.
async fn version(session: &StoreSession) -> Result<Option<i32>, EngineError> {
    let rows = session
        .query("SELECT to_regclass('store') IS NOT NULL", &[])
        .await?;
    if !rows.first().is_some_and(|row| row.get(0)) {
        return Ok(None);
    }
    let rows = session
        .query("SELECT schema_version FROM store", &[])
        .await?;
    Ok(rows.first().map(|row| row.get(0)))
}

fn of_later_version(version: i32) -> EngineError {
    let text = format!(
        "the store's tables have version {version}, and this program knows {SCHEMA_VERSION}"
    );
    EngineError::Refused(text.into())
}

/// Checks that the tables are those of this version.
pub(super) async fn check(link: &ServerLink) -> Result<(), EngineError> {
    let session = link.session().await?;
    match version(&session).await? {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(version) => Err(of_later_version(version)),
        None => {
            let text = "the database has no tables of a store: run `towncrier store migrate`";
            Err(EngineError::Refused(text.into()))
        }
    }
}

/// Begins another epoch: every client is told that what it knows may be gone. Not cancel safe: a drop leaves open whether it was
/// done.
pub async fn new_epoch(url: &str, base_step: u32) -> Result<(), EngineError> {
    let link = ServerLink::new(Servers::new(url)?);
    check(&link).await?;
    let session = link.session().await?;
    begin_epoch(&session, base_step, 0).await
}

/// Transactions of a database that was restored have other numbers, and positions count in one epoch only.
const NEW_EPOCH: &str = "WITH f AS (DELETE FROM feed), e AS (UPDATE session SET moved = 0), \
      s AS (UPDATE store SET feed_floor = pg_current_xact_id()::text::bigint, epochs = greatest(epochs, $3) + 1) \
    UPDATE slot SET epoch = $1, base = base + $2";

/// Begins another epoch, whose number among all epochs is above `known`.
pub(super) async fn begin_epoch(
    session: &StoreSession,
    base_step: u32,
    known: u64,
) -> Result<(), EngineError> {
    let (epoch, step, known) = (new_epoch_number(), base_step as i32, known as i64);
    let rows = session.query(NEW_EPOCH, &[&epoch, &step, &known]).await;
    rows.map(|_| ())
}

/// Makes the partitions of the coming days. Returns how many there were not.
async fn make_partitions(session: &StoreSession) -> Result<u64, EngineError> {
    let rows = session
        .query(
            "SELECT t.name, t.range, t.at, t.width FROM store s, LATERAL ( \
               SELECT 'place' AS name, 'place_' || at AS range, at, s.partition_days AS width \
                 FROM generate_series(s.floor_day / s.partition_days, (s.day + $1) / s.partition_days + 1) at \
               UNION ALL SELECT 'message', 'message_' || at, at, s.partition_days \
                 FROM generate_series(s.floor_day / s.partition_days, (s.day + $1) / s.partition_days + 1) at \
               UNION ALL SELECT 'feed', 'feed_' || at, at, s.partition_days \
                 FROM generate_series(s.floor_day / s.partition_days, (s.day + $1) / s.partition_days + 1) at \
               UNION ALL SELECT 'idem', 'idem_' || at, at, 1 \
                 FROM generate_series(s.day / s.period_days - 1, (s.day + $1) / s.period_days + 1) at) t \
             WHERE to_regclass(t.range) IS NULL",
            &[&PARTITIONS_AHEAD],
        )
        .await?;
    for row in &rows {
        let (table, name): (&str, &str) = (row.get(0), row.get(1));
        let (at, width): (i32, i32) = (row.get(2), row.get(3));
        let (from, to) = (at * width, (at + 1) * width);
        let text =
            format!("CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ({from}) TO ({to})");
        session.command(&text).await?;
    }
    Ok(rows.len() as u64)
}

/// Lets time pass: moves the day, makes partitions, and drops those that are too old. `today`: the day of the gateway's clock; `None`
/// while it is doubted, and then nothing is dropped. Not cancel safe: a drop leaves open whether it was done.
pub(super) async fn keep(
    link: &Arc<ServerLink>,
    today: Option<u32>,
    retention: StoreRetention,
) -> Result<(), EngineError> {
    let taken = link.take().await?;
    taken.begin("BEGIN").await?;
    let kept = keep_in(&taken.session, today, retention).await;
    let old = taken.end(kept).await?;
    for name in old {
        // Readers may still look at it: the drop waits for them, and nobody waits for the drop for long.
        let text =
            format!("SET lock_timeout = '1s'; DROP TABLE IF EXISTS {name}; RESET lock_timeout");
        let taken = link.take().await?;
        let dropped = taken.session.command(&text).await;
        if let Err(error) = &dropped {
            tracing::debug!(%error, name, "a partition is not dropped yet");
            taken.session.command("RESET lock_timeout").await?;
        } else {
            tracing::info!(name, "a partition was dropped");
        }
        taken.give_back(&dropped);
    }
    Ok(())
}

const FEED_FLOOR: &str = "UPDATE store s SET feed_floor = greatest(s.feed_floor, \
    (SELECT max(f.xid) + 1 FROM feed f WHERE f.day < s.floor_day))";

const ERASURES_OVER: &str = "DELETE FROM erased WHERE until_ms < extract(epoch FROM now()) * 1000";

/// Returns the partitions that are too old.
async fn keep_in(
    session: &StoreSession,
    today: Option<u32>,
    retention: StoreRetention,
) -> Result<Vec<String>, EngineError> {
    session
        .query("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK])
        .await?;
    if let Some(today) = today {
        let days = i32::try_from(retention.message_days).unwrap_or(i32::MAX);
        let today = i32::try_from(today).unwrap_or(i32::MAX);
        let rows = session.query("SELECT floor_day FROM store", &[]).await?;
        let before: Option<i32> = rows.first().map(|row| row.get(0));
        let rows = session
            .query(
                "UPDATE store SET day = greatest(day, d.today), floor_day = greatest(floor_day, greatest(day, d.today) - $2 + 1) \
                 FROM (SELECT least($1, floor(extract(epoch FROM now()) / 86400)::int) AS today) d RETURNING floor_day",
                &[&today, &days],
            )
            .await?;
        let after = rows.first().map(|row| row.get(0));
        if let (Some(before), Some(after)) = (before, after)
            && before < after
        {
            session.query(FEED_FLOOR, &[]).await?;
            session.query(ERASURES_OVER, &[]).await?;
            expiries::tell(session, before, after).await?;
        }
    }
    make_partitions(session).await?;
    let rows = session
        .query(
            "SELECT c.relname::text FROM store s, pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid, \
               LATERAL (SELECT substring(c.relname FROM '[0-9]+$')::int AS at) n \
             WHERE h.inhparent IN ('place'::regclass, 'message'::regclass, 'feed'::regclass) AND (n.at + 1) * s.partition_days <= s.floor_day \
               OR h.inhparent = 'idem'::regclass AND n.at < s.day / s.period_days - 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
