//! Secrets that all gateways of a store share. The first gateway that needs one makes it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{super::engine::EngineError, PostgresEngine};

/// The name of the secret by which gateways know each other.
const MESH: &str = "mesh";
/// The row is written again by a gateway that comes second. Its answer then confirms the first one's as well.
const KEEP: &str = "INSERT INTO secret AS s (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = s.value RETURNING value";
const SECRET: &str = "SELECT value FROM secret WHERE name = $1";

impl PostgresEngine {
    /// The secret of this name; `None` before a gateway made it. Cancel safe.
    pub async fn secret(&self, name: &str) -> Result<Option<String>, EngineError> {
        let rows = self.reads.query(SECRET, &[&name]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// The secret of this name, which is `offered` if there was none. Every gateway gets the same. Not cancel safe: a drop leaves open
    /// whether the offered one is kept.
    pub async fn keep_secret(&self, name: &str, offered: &str) -> Result<String, EngineError> {
        let taken = self.writes.take().await?;
        let kept = taken.session.query(KEEP, &[&name, &offered]).await;
        taken.give_back(&kept);
        let missing = || EngineError::Damaged("the store keeps no secrets".into());
        let row = kept?.into_iter().next().ok_or_else(missing)?;
        Ok(row.get(0))
    }

    /// The secret by which the gateways of this store know each other. Not cancel safe, as `keep_secret`.
    pub async fn mesh_secret(&self) -> Result<[u8; 32], EngineError> {
        let mut offered = [0_u8; 32];
        let filled = SystemRandom::new().fill(&mut offered);
        filled.map_err(|_| EngineError::Refused("the system has no random numbers".into()))?;
        let offered = BASE64_STANDARD.encode(offered);
        let kept = self.keep_secret(MESH, &offered).await?;
        let bytes = BASE64_STANDARD.decode(kept).ok();
        let secret = bytes.and_then(|bytes| bytes.try_into().ok());
        let damaged =
            "the mesh's secret in the store is damaged: remove its row, then restart all gateways";
        secret.ok_or_else(|| EngineError::Damaged(damaged.into()))
    }
}
