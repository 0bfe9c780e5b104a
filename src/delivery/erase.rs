//! Erases a user in the log, ends the user's sessions, and removes the devices.

use std::sync::atomic::Ordering::Relaxed;

use super::{Delivery, SendError, send::durable};
use crate::{
    ids::{Platform, UserId},
    log::Erasure,
    metrics::DeviceOutcome,
};

impl Delivery {
    /// Erases a user, durably: see [`Log::erase`](crate::log::Log::erase). All tokens issued until now, by this clock or a later one,
    /// are revoked first and the sessions closed, so that none of them acks after the erasure. Returns the erasure and the number of
    /// closed connections. Not cancel safe: after a drop the user may be erased or not. A repeat does no harm.
    pub async fn erase(&self, user: &UserId) -> Result<(Erasure, usize), SendError> {
        if self.is_draining.load(Relaxed) {
            return Err(SendError::Draining);
        }
        // A refused erasure revokes nothing.
        self.log.check_erasable()?;
        let before_ms = self.revoke_all(user).await?;
        let mut closed = self.log_out_everywhere(user, before_ms).await;
        let erasure = durable(self.log.erase(user.clone(), before_ms)?).await?;
        // Sessions that came with a new token meanwhile have what is erased now.
        closed += self.log_out_everywhere(user, before_ms).await;
        Ok((erasure, closed))
    }

    /// Revokes the user's tokens on all platforms, durably. Returns the time before which they were issued, Unix ms.
    async fn revoke_all(&self, user: &UserId) -> Result<u64, SendError> {
        let mut before_ms = self.clock.now_ms();
        for platform in Platform::ALL {
            let times = self.log.token_times(user, platform).wait().await?;
            before_ms = before_ms.max(times.newest_ms.saturating_add(1));
        }
        // All of them share a sync.
        let revoked: Result<Vec<_>, _> = Platform::ALL
            .into_iter()
            .map(|platform| self.log.revoke(user.clone(), platform, before_ms))
            .collect();
        for pending in revoked? {
            durable(pending).await?;
        }
        Ok(before_ms)
    }

    async fn log_out_everywhere(&self, user: &UserId, before_ms: u64) -> usize {
        let mut closed = 0;
        for platform in Platform::ALL {
            closed += self.close_sessions(user, platform, before_ms).await;
        }
        closed
    }

    /// Removes the devices that the user registered before the erasure. Not cancel safe: after a drop they may be removed or not. A
    /// repeat does no harm.
    pub async fn remove_erased_devices(
        &self,
        user: &UserId,
        erasure: &Erasure,
    ) -> Result<(), SendError> {
        let time_ms = erasure.time_ms;
        let removed = self.remove_devices_of(user, DeviceOutcome::Removed, move |device| {
            device.registered_at_ms <= time_ms
        });
        removed.await.map(drop)
    }
}
