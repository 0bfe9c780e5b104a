//! The turn: the row with the gateway that does what only one may do at a time.

use super::{
    super::engine::EngineError,
    link::{ServerLink, StoreSession},
};
use crate::{ids::GatewayId, log::TurnNumber};

/// Only writes in the turn itself lock the row meanwhile.
const KEEP: &str = "UPDATE turn SET gateway = $1, until = now() + interval '10 seconds' WHERE number = $2 RETURNING number";
/// A write that holds the row is waited for with the next attempt: this connection has to tell that the gateway lives. The number rises
/// also with another primary that lost the newest turn.
const TAKE: &str = "WITH n AS MATERIALIZED ( \
      SELECT number FROM turn WHERE gateway = $1 OR until < now() FOR UPDATE SKIP LOCKED) \
    UPDATE turn t SET gateway = $1, until = now() + interval '10 seconds', \
      number = greatest(((SELECT incarnation FROM store) << 40) + nextval('fence'), n.number + 1) \
    FROM n RETURNING t.number";
const LEAVE: &str = "UPDATE turn SET until = '-infinity' WHERE number = $1";
/// Another gateway takes the turn before the check or after the commit.
const CHECK: &str = "SELECT FROM turn WHERE number = $1 FOR SHARE";

/// See [`FleetStore::take_turn`](super::super::fleet_store::FleetStore::take_turn).
pub(super) async fn take(
    link: &ServerLink,
    gateway: GatewayId,
    held: Option<TurnNumber>,
) -> Result<Option<TurnNumber>, EngineError> {
    let id = gateway.0 as i64;
    if let Some(TurnNumber(held)) = held {
        let kept = link.query(KEEP, &[&id, &(held as i64)]).await?;
        if !kept.is_empty() {
            return Ok(Some(TurnNumber(held)));
        }
    }
    let rows = link.query(TAKE, &[&id]).await?;
    let number = rows.first().map(|row| row.get::<_, i64>(0) as u64);
    Ok(number.map(TurnNumber))
}

/// See [`FleetStore::leave_turn`](super::super::fleet_store::FleetStore::leave_turn).
pub(super) async fn leave(link: &ServerLink, turn: TurnNumber) -> Result<(), EngineError> {
    link.query(LEAVE, &[&(turn.0 as i64)]).await.map(|_| ())
}

/// Refuses unless this turn is the present one. It then stays so until the transaction ends.
pub(super) async fn check(session: &StoreSession, turn: TurnNumber) -> Result<(), EngineError> {
    match session.query(CHECK, &[&(turn.0 as i64)]).await?.len() {
        0 => Err(EngineError::Refused("another gateway has the turn".into())),
        _ => Ok(()),
    }
}
