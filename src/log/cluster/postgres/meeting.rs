//! The first words with another primary: does it have what was confirmed?

use std::sync::Arc;

use super::{
    super::engine::{EngineError, LaneId, LaneMark, StoreMeeting, StoreMemory},
    append::clamp,
    link::{Servers, StoreSession},
    schema::{self, EPOCH_BASE_STEP},
};

/// One gateway at a time meets a primary.
const STORE: &str = "SELECT epochs, incarnation, server, timeline FROM store FOR UPDATE";
const MARKS: &str = "SELECT l.lane, l.last_group, b.n FROM lane l JOIN barrier b USING (lane) WHERE l.lane = ANY($1)";
const PRESENT: &str =
    "UPDATE store SET server = $1, timeline = $2, incarnation = greatest(incarnation, $3) + 1";
const LANES_AGAIN: &str = "WITH l AS (INSERT INTO lane (lane) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING), \
    t AS (INSERT INTO tally (lane) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING) \
    INSERT INTO barrier (lane) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING";
const NUMBERS: &str = "SELECT epochs, incarnation FROM store";

/// See [`Engine::meet`](super::super::engine::Engine::meet).
pub(super) async fn meet(
    servers: &Arc<Servers>,
    memory: &StoreMemory,
) -> Result<StoreMeeting, EngineError> {
    // Dropped in the middle, the connection takes the transaction with it.
    let session = StoreSession::open_any(servers).await?;
    session.command("BEGIN").await?;
    let met = meet_in(&session, memory).await?;
    session.command("COMMIT").await?;
    servers.accept(session.primary);
    Ok(met)
}

async fn meet_in(
    session: &StoreSession,
    memory: &StoreMemory,
) -> Result<StoreMeeting, EngineError> {
    let number = |row: &tokio_postgres::Row, at| row.get::<_, i64>(at) as u64;
    let missing = || EngineError::Damaged("the row of the store is missing".into());
    let rows = session.query(STORE, &[]).await?;
    let row = rows.first().ok_or_else(missing)?;
    let epochs = number(row, 0);
    let primary = session.primary;
    if (row.get::<_, i64>(2), row.get::<_, i64>(3)) != (primary.server, primary.timeline) {
        let known = clamp(memory.incarnation);
        let parameters: super::link::Parameters<'_> = &[&primary.server, &primary.timeline, &known];
        session.query(PRESENT, parameters).await?;
    }
    let lanes: Vec<_> = memory.marks.iter().map(|(lane, _)| lane.0 as i64).collect();
    let rows = session.query(MARKS, &[&lanes]).await?;
    let mark = |row: &tokio_postgres::Row| {
        let mark = LaneMark {
            last_group: number(row, 1),
            barriers: number(row, 2),
        };
        (LaneId(number(row, 0)), mark)
    };
    let stored: Vec<_> = rows.iter().map(mark).collect();
    let lost = memory.lost(&stored);
    if !lost.is_empty() {
        // Another gateway may have been faster.
        if epochs <= memory.epochs {
            schema::begin_epoch(session, EPOCH_BASE_STEP, memory.epochs).await?;
        }
        let again: Vec<_> = lost.iter().map(|lane| lane.0 as i64).collect();
        session.query(LANES_AGAIN, &[&again]).await?;
    }
    let rows = session.query(NUMBERS, &[]).await?;
    let row = rows.first().ok_or_else(missing)?;
    Ok(StoreMeeting {
        lost,
        epochs: number(row, 0),
        incarnation: number(row, 1),
    })
}
