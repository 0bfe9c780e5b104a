//! The turn: the row with the gateway that does what only one may do at a time.

use super::{
    super::engine::EngineError,
    link::{ServerLink, StoreSession},
};
use crate::{ids::GatewayId, log::TurnNumber};

/// The number rises also with another primary that lost the newest turn.
const TAKE: &str = "INSERT INTO turn AS t (number, gateway, until) \
      SELECT (incarnation << 40) + nextval('fence'), $1, now() + interval '10 seconds' FROM store \
    ON CONFLICT (is_only) DO UPDATE SET \
      number = CASE WHEN t.number = $2 THEN t.number ELSE greatest(EXCLUDED.number, t.number + 1) END, \
      gateway = EXCLUDED.gateway, until = EXCLUDED.until \
      WHERE t.number = $2 OR t.gateway = EXCLUDED.gateway OR t.until < now() \
    RETURNING number";
const LEAVE: &str = "UPDATE turn SET until = '-infinity' WHERE number = $1";
/// Another gateway takes the turn before the check or after the commit.
const CHECK: &str = "SELECT FROM turn WHERE number = $1 FOR SHARE";

/// See [`FleetStore::take_turn`](super::super::fleet_store::FleetStore::take_turn).
pub(super) async fn take(
    link: &ServerLink,
    gateway: GatewayId,
    held: Option<TurnNumber>,
) -> Result<Option<TurnNumber>, EngineError> {
    let held = held.map_or(-1, |held| held.0 as i64);
    let rows = link.query(TAKE, &[&(gateway.0 as i64), &held]).await?;
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
