//! The gateways and the places of sessions: the store as a [`FleetStore`].
//!
//! Heartbeats commit synchronously: a primary that is cut off from its standbys answers none. Places are written behind, on a
//! connection of their own, because a crash empties them in any case.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::{
    super::{
        engine::{EngineError, EngineFuture},
        fleet_store::{
            FleetStore, GatewayRow, Heartbeat, Holder, PlaceClaim, PlaceLeft, PlaceLost,
            PlaceOutcome,
        },
    },
    PostgresEngine,
    append::{clamp, user_of},
    link::{Parameters, ServerLink},
    turn,
};
use crate::{
    ids::{ConnectionId, Fence, GatewayId, Platform, SessionKey, UserId},
    log::TurnNumber,
};

const JOIN: &str =
    "INSERT INTO gateway (address, version, seen) VALUES ($1, $2, now()) RETURNING gateway";
/// The rows are those of before: `seen` says whether the caller was silent until now.
const BEAT: &str = "WITH u AS (UPDATE gateway SET seen = now(), address = $2, sessions = $3 WHERE gateway = $1 RETURNING gateway) \
    SELECT g.gateway, g.address, g.sessions, g.seen < now() - interval '10 seconds', EXISTS (SELECT FROM u) FROM gateway g \
    ORDER BY g.gateway";
const TOKEN: &str = "WITH i AS ( \
      INSERT INTO presence (user_id, place_key, platform, device, gateway, connection, fence, since_ms, is_background) \
      SELECT '', '', 0, '', 0, 0, (incarnation << 40) + nextval('fence'), 0, false FROM store \
      WHERE NOT EXISTS (SELECT FROM presence WHERE user_id = '') ON CONFLICT DO NOTHING RETURNING fence) \
    SELECT fence FROM i UNION ALL SELECT fence FROM presence WHERE user_id = ''";
/// The most places that one heartbeat tells as lost. The next one tells more.
const LOST: &str = "WITH n AS MATERIALIZED ( \
      SELECT user_id, place_key, previous_connection FROM presence WHERE previous_gateway = $1 AND gateway <> $1 \
      ORDER BY user_id, place_key LIMIT 10000 FOR UPDATE SKIP LOCKED) \
    UPDATE presence p SET previous_gateway = NULL, previous_connection = NULL FROM n \
    WHERE p.user_id = n.user_id AND p.place_key = n.place_key RETURNING p.user_id, n.previous_connection, p.fence";
const REMOVE_SILENT: &str = "DELETE FROM gateway WHERE gateway IN ( \
      SELECT gateway FROM gateway WHERE gateway <> $1 AND seen < now() - interval '10 seconds' FOR UPDATE SKIP LOCKED)";
const REMOVE: &str = "DELETE FROM gateway WHERE gateway = $1";
/// Places of gateways that are no more, some of them. The row of the token has no gateway.
const CLEAR: &str = "WITH n AS MATERIALIZED ( \
      SELECT p.user_id, p.place_key FROM presence p WHERE p.user_id <> '' \
        AND NOT EXISTS (SELECT FROM gateway g WHERE g.gateway = p.gateway) \
      ORDER BY p.user_id, p.place_key LIMIT 10000 FOR UPDATE SKIP LOCKED) \
    DELETE FROM presence p USING n WHERE p.user_id = n.user_id AND p.place_key = n.place_key RETURNING 1";
/// The fence rises under the row's lock, so the last who gets the lock has the highest.
const REGISTER: &str = "INSERT INTO presence AS p \
      (user_id, place_key, platform, device, gateway, connection, since_ms, is_background, address, fence) \
    SELECT c.*, (s.incarnation << 40) + nextval('fence') \
    FROM store s, unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
      $8::boolean[], $9::text[]) AS c(user_id, place_key, platform, device, gateway, connection, since_ms, is_background, address) \
    ORDER BY c.user_id, c.place_key \
    ON CONFLICT (user_id, place_key) DO UPDATE SET platform = EXCLUDED.platform, device = EXCLUDED.device, \
      gateway = EXCLUDED.gateway, connection = EXCLUDED.connection, since_ms = EXCLUDED.since_ms, \
      is_background = EXCLUDED.is_background, address = EXCLUDED.address, \
      fence = greatest(((SELECT incarnation FROM store) << 40) + nextval('fence'), p.fence + 1), \
      previous_gateway = CASE WHEN (p.gateway, p.connection) = (EXCLUDED.gateway, EXCLUDED.connection) \
        THEN p.previous_gateway ELSE p.gateway END, \
      previous_connection = CASE WHEN (p.gateway, p.connection) = (EXCLUDED.gateway, EXCLUDED.connection) \
        THEN p.previous_connection ELSE p.connection END \
    RETURNING user_id, place_key, fence, previous_gateway, previous_connection";
/// Two sessions of one place never have one fence. So the same fence is the same session, perhaps under an older number of its
/// gateway.
const REGISTER_AGAIN: &str = "INSERT INTO presence AS p \
      (user_id, place_key, platform, device, gateway, connection, since_ms, is_background, address, fence) \
    SELECT c.* FROM unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
      $8::boolean[], $9::text[], $10::bigint[]) \
      AS c(user_id, place_key, platform, device, gateway, connection, since_ms, is_background, address, fence) \
    ORDER BY c.user_id, c.place_key \
    ON CONFLICT (user_id, place_key) DO UPDATE SET platform = EXCLUDED.platform, device = EXCLUDED.device, \
      gateway = EXCLUDED.gateway, connection = EXCLUDED.connection, since_ms = EXCLUDED.since_ms, \
      is_background = EXCLUDED.is_background, address = EXCLUDED.address, fence = EXCLUDED.fence, \
      previous_gateway = CASE WHEN p.fence = EXCLUDED.fence THEN p.previous_gateway ELSE p.gateway END, \
      previous_connection = CASE WHEN p.fence = EXCLUDED.fence THEN p.previous_connection ELSE p.connection END \
      WHERE EXCLUDED.fence >= p.fence \
    RETURNING user_id, place_key, fence, previous_gateway, previous_connection";
const FENCES: &str = "SELECT p.user_id, p.place_key, p.fence FROM unnest($1::text[], $2::text[]) AS c(user_id, place_key) \
    JOIN presence p USING (user_id, place_key)";
const LEAVE: &str = "WITH n AS MATERIALIZED ( \
      SELECT p.user_id, p.place_key FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) \
        AS c(user_id, place_key, gateway, connection) JOIN presence p USING (user_id, place_key, gateway, connection) \
      ORDER BY p.user_id, p.place_key FOR UPDATE OF p) \
    DELETE FROM presence p USING n WHERE p.user_id = n.user_id AND p.place_key = n.place_key";
const HOLDERS: &str = "SELECT p.user_id, p.place_key, p.platform, p.device, p.gateway, p.connection, p.fence, p.since_ms, \
      p.is_background, p.address \
    FROM presence p JOIN gateway g USING (gateway) \
    WHERE p.user_id = ANY($1) AND p.user_id <> '' AND g.seen >= now() - interval '10 seconds'";
const ONLINE: &str = "SELECT DISTINCT p.user_id FROM presence p JOIN gateway g USING (gateway) \
    WHERE p.user_id <> '' AND g.seen >= now() - interval '10 seconds' AND ($2::smallint IS NULL OR p.platform = $2) LIMIT $1";

/// A batch of claims as arrays of their columns.
#[derive(Default)]
struct ClaimColumns<'a> {
    users: Vec<&'a str>,
    place_keys: Vec<&'a str>,
    platforms: Vec<i16>,
    devices: Vec<&'a str>,
    gateways: Vec<i64>,
    connections: Vec<i64>,
    since_ms: Vec<i64>,
    backgrounds: Vec<bool>,
    addresses: Vec<Option<String>>,
    fences: Vec<i64>,
}

impl<'a> ClaimColumns<'a> {
    fn of(claims: impl Iterator<Item = &'a PlaceClaim>) -> Self {
        let mut columns = Self::default();
        for claim in claims {
            columns.users.push(claim.key.user.as_str());
            columns.place_keys.push(&claim.place_key);
            columns.platforms.push(claim.key.platform as i16);
            columns.devices.push(&claim.key.device);
            columns.gateways.push(claim.gateway.0 as i64);
            columns.connections.push(claim.connection.0 as i64);
            columns.since_ms.push(clamp(claim.since_ms));
            columns.backgrounds.push(claim.is_background);
            let address = claim.address.map(|address| address.to_string());
            columns.addresses.push(address);
            columns
                .fences
                .push(claim.fence.unwrap_or_default().0 as i64);
        }
        columns
    }

    async fn register(&self, link: &ServerLink, is_again: bool) -> Result<Vec<Row>, EngineError> {
        let parameters: Parameters<'_> = &[
            &self.users,
            &self.place_keys,
            &self.platforms,
            &self.devices,
            &self.gateways,
            &self.connections,
            &self.since_ms,
            &self.backgrounds,
            &self.addresses,
            &self.fences,
        ];
        match self.users.len() {
            0 => Ok(Vec::new()),
            _ if is_again => link.query(REGISTER_AGAIN, parameters).await,
            _ => link.query(REGISTER, &parameters[..9]).await,
        }
    }
}

fn number(row: &Row, at: usize) -> u64 {
    row.get::<_, i64>(at) as u64
}

fn damaged(what: &'static str) -> EngineError {
    EngineError::Damaged(what.into())
}

fn holder_of(row: &Row) -> Result<Holder, EngineError> {
    let platform = Platform::from_number(row.get::<_, i16>(2) as u32);
    let key = SessionKey {
        user: user_of(row, 0)?,
        platform: platform.map_err(|_| damaged("a stored platform is none"))?,
        device: row.get::<_, &str>(3).into(),
    };
    let address: Option<&str> = row.get(9);
    Ok(Holder {
        key,
        place_key: row.get::<_, &str>(1).into(),
        gateway: GatewayId(number(row, 4)),
        connection: ConnectionId(number(row, 5)),
        fence: Fence(number(row, 6)),
        since_ms: number(row, 7),
        is_background: row.get(8),
        address: address.and_then(|address| address.parse().ok()),
    })
}

impl PostgresEngine {
    async fn beat(
        &self,
        gateway: GatewayId,
        address: &str,
        sessions: u64,
    ) -> Result<Heartbeat, EngineError> {
        let id = gateway.0 as i64;
        let link = &self.heartbeats;
        let rows = link.query(BEAT, &[&id, &address, &clamp(sessions)]).await?;
        let is_removed = !rows.first().is_some_and(|row| row.get(4));
        let gateways = rows.iter().map(|row| {
            let of_row = GatewayId(number(row, 0));
            GatewayRow {
                gateway: of_row,
                address: row.get(1),
                sessions: number(row, 2),
                is_silent: of_row != gateway && row.get(3),
            }
        });
        let mut gateways: Vec<_> = gateways.collect();
        if gateways.iter().any(|row| row.is_silent) {
            link.query(REMOVE_SILENT, &[&id]).await?;
            self.clear().await?;
            gateways.retain(|row| !row.is_silent);
        }
        let token = link.query(TOKEN, &[]).await?;
        let lost = link.query(LOST, &[&id]).await?;
        let lost = lost.iter().map(|row| {
            Ok(PlaceLost {
                user: user_of(row, 0)?,
                connection: ConnectionId(number(row, 1)),
                fence: Fence(number(row, 2)),
            })
        });
        Ok(Heartbeat {
            gateways,
            is_removed,
            token: token.first().map(|row| number(row, 0)),
            lost: lost.collect::<Result<_, EngineError>>()?,
        })
    }

    /// Removes the places of gateways that are no more.
    async fn clear(&self) -> Result<(), EngineError> {
        while !self.places.query(CLEAR, &[]).await?.is_empty() {}
        Ok(())
    }

    async fn take_places(&self, claims: &[PlaceClaim]) -> Result<Vec<PlaceOutcome>, EngineError> {
        let of = |is_again: bool| {
            let claims = claims.iter();
            ClaimColumns::of(claims.filter(move |claim| claim.fence.is_some() == is_again))
        };
        let (new, again) = (of(false), of(true));
        let mut rows = new.register(&self.places, false).await?;
        rows.extend(again.register(&self.places, true).await?);
        let mut outcomes = HashMap::new();
        for row in &rows {
            let previous: Option<i64> = row.get(3);
            let previous = previous.map(|gateway| {
                let connection = ConnectionId(number(row, 4));
                (GatewayId(gateway as u64), connection)
            });
            let fence = Fence(number(row, 2));
            let outcome = PlaceOutcome::Taken { fence, previous };
            outcomes.insert((row.get::<_, &str>(0), row.get::<_, &str>(1)), outcome);
        }
        let newer = match outcomes.len() < claims.len() {
            true => {
                let parameters: Parameters<'_> = &[&again.users, &again.place_keys];
                self.places.query(FENCES, parameters).await?
            }
            false => Vec::new(),
        };
        for row in &newer {
            let lost = PlaceOutcome::Lost(Fence(number(row, 2)));
            let place = (row.get::<_, &str>(0), row.get::<_, &str>(1));
            outcomes.entry(place).or_insert(lost);
        }
        let outcome = |claim: &PlaceClaim| {
            let place = (claim.key.user.as_str(), &*claim.place_key);
            // The newer session left meanwhile: this one is not there either, and is registered with the next look.
            let gone = PlaceOutcome::Taken {
                fence: claim.fence.unwrap_or_default(),
                previous: None,
            };
            outcomes.get(&place).copied().unwrap_or(gone)
        };
        Ok(claims.iter().map(outcome).collect())
    }

    async fn holders_of(&self, users: &[UserId]) -> Result<Vec<Vec<Holder>>, EngineError> {
        let texts: Vec<_> = users.iter().map(UserId::as_str).collect();
        let rows = self.reads.query(HOLDERS, &[&texts]).await?;
        let mut of_user: HashMap<UserId, Vec<Holder>> = HashMap::new();
        for row in &rows {
            let holder = holder_of(row)?;
            let user = holder.key.user.clone();
            of_user.entry(user).or_default().push(holder);
        }
        let holders = |user: &UserId| of_user.get(user).cloned().unwrap_or_default();
        Ok(users.iter().map(holders).collect())
    }
}

impl FleetStore for PostgresEngine {
    fn join(&self, address: String, version: u32) -> EngineFuture<'_, GatewayId> {
        Box::pin(async move {
            let version = version as i32;
            let rows = self.heartbeats.query(JOIN, &[&address, &version]).await?;
            let row = rows
                .first()
                .ok_or_else(|| damaged("a new gateway has no number"))?;
            Ok(GatewayId(number(row, 0)))
        })
    }

    fn heartbeat(
        &self,
        gateway: GatewayId,
        address: String,
        sessions: u64,
    ) -> EngineFuture<'_, Heartbeat> {
        Box::pin(async move { self.beat(gateway, &address, sessions).await })
    }

    fn part(&self, gateway: GatewayId) -> EngineFuture<'_, ()> {
        Box::pin(async move {
            let id = gateway.0 as i64;
            self.heartbeats.query(REMOVE, &[&id]).await?;
            self.clear().await
        })
    }

    fn register(&self, claims: Vec<PlaceClaim>) -> EngineFuture<'_, Vec<PlaceOutcome>> {
        Box::pin(async move { self.take_places(&claims).await })
    }

    fn leave(&self, left: Vec<PlaceLeft>) -> EngineFuture<'_, ()> {
        Box::pin(async move {
            let users: Vec<_> = left.iter().map(|left| left.user.as_str()).collect();
            let places: Vec<_> = left.iter().map(|left| &*left.place_key).collect();
            let gateways: Vec<_> = left.iter().map(|left| left.gateway.0 as i64).collect();
            let connections = left.iter().map(|left| left.connection.0 as i64);
            let connections: Vec<_> = connections.collect();
            let parameters: Parameters<'_> = &[&users, &places, &gateways, &connections];
            self.places.query(LEAVE, parameters).await?;
            Ok(())
        })
    }

    fn holders(&self, users: Vec<UserId>) -> EngineFuture<'_, Vec<Vec<Holder>>> {
        Box::pin(async move { self.holders_of(&users).await })
    }

    fn online(
        &self,
        platform: Option<Platform>,
        limit: usize,
    ) -> EngineFuture<'_, Vec<(UserId, Vec<Holder>)>> {
        Box::pin(async move {
            let platform = platform.map(|platform| platform as i16);
            let limit = clamp(limit as u64);
            let rows = self.reads.query(ONLINE, &[&limit, &platform]).await?;
            let users: Result<Vec<_>, _> = rows.iter().map(|row| user_of(row, 0)).collect();
            let users = users?;
            let holders = self.holders_of(&users).await?;
            Ok(users.into_iter().zip(holders).collect())
        })
    }

    fn take_turn(
        &self,
        gateway: GatewayId,
        held: Option<TurnNumber>,
    ) -> EngineFuture<'_, Option<TurnNumber>> {
        Box::pin(turn::take(&self.heartbeats, gateway, held))
    }

    fn leave_turn(&self, turn: TurnNumber) -> EngineFuture<'_, ()> {
        Box::pin(turn::leave(&self.heartbeats, turn))
    }
}
