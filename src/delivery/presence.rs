//! The sessions that are connected: at this gateway, and at all others of its fleet.

use super::{Delivery, LogError};
use crate::{
    ids::{GatewayId, Platform, UserId},
    log::cluster::fleet_store::Holder,
    registry::Presence,
};

/// A session that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSession {
    /// The session.
    pub presence: Presence,
    /// The gateway of the fleet that holds it; `None` where there is no fleet.
    pub gateway: Option<GatewayId>,
}

impl SeenSession {
    fn here(presence: Presence) -> Self {
        let gateway = None;
        Self { presence, gateway }
    }

    fn of(holder: Holder) -> Self {
        Self {
            presence: Presence {
                platform: holder.key.platform,
                device: holder.key.device,
                connection: holder.connection,
                since_ms: holder.since_ms,
                is_background: holder.is_background,
                fence: holder.fence,
                address: holder.address,
            },
            gateway: Some(holder.gateway),
        }
    }
}

/// Users who are online, each with all sessions.
pub type SeenUsers = Vec<(UserId, Vec<SeenSession>)>;

impl Delivery {
    /// The connected sessions of each user at all gateways. Cancel safe: it only reads.
    pub async fn presence(&self, users: Vec<UserId>) -> Result<Vec<Vec<SeenSession>>, LogError> {
        let Some(fleet) = self.fleet.get() else {
            let here = users.iter().map(|user| {
                let sessions = self.registry.presence(user.as_str()).into_iter();
                sessions.map(SeenSession::here).collect()
            });
            return Ok(here.collect());
        };
        let holders = fleet.holders(users).await?.into_iter();
        let seen = |of_user: Vec<Holder>| of_user.into_iter().map(SeenSession::of).collect();
        Ok(holders.map(seen).collect())
    }

    /// The number of connected sessions, and up to `limit` users with a session, each with all sessions. With `platform`, users with
    /// a session there. Cancel safe: it only reads.
    pub async fn online(
        &self,
        platform: Option<Platform>,
        limit: usize,
    ) -> Result<(usize, SeenUsers), LogError> {
        let Some(fleet) = self.fleet.get() else {
            let online = self.registry.online(platform, limit).into_iter();
            let users = online.map(|(user, sessions)| {
                let sessions = sessions.into_iter().map(SeenSession::here);
                (user, sessions.collect())
            });
            return Ok((self.registry.sessions(), users.collect()));
        };
        let online = fleet.online(platform, limit).await?.into_iter();
        let users = online.map(|(user, holders)| {
            let sessions = holders.into_iter().map(SeenSession::of);
            (user, sessions.collect())
        });
        Ok((fleet.sessions(), users.collect()))
    }

    /// Closes a user's sessions on a platform at all gateways, once the revocation of their tokens is durable. Returns their number.
    /// A gateway that cannot be told finds the revocation in the store.
    pub(super) async fn close_sessions(
        &self,
        user: &UserId,
        platform: Platform,
        before_ms: u64,
    ) -> usize {
        let here = self.registry.log_out(user, platform);
        let Some(fleet) = self.fleet.get() else {
            return here;
        };
        match fleet.log_out(user, platform, before_ms).await {
            Ok(elsewhere) => here + elsewhere,
            Err(error) => {
                tracing::warn!(%user, %error, "the other gateways were not told of a logout");
                here
            }
        }
    }
}
