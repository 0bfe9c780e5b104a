//! Online-only messages for sessions at other gateways. Nothing stores them, so a lost one is lost.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Delivery;
use crate::{fleet::FleetFrame, ids::UserId};

/// The most users of one look-up, and of one frame.
const ELSEWHERE_MAX: usize = 1000;

impl Delivery {
    /// Hands a message to the other gateways that hold sessions of these users. Without the store only this gateway's sessions have it.
    pub(super) async fn push_elsewhere(&self, body: &Bytes, users: &[UserId]) {
        let Some(fleet) = self.fleet.get() else {
            return;
        };
        if fleet.gateways().borrow().is_empty() {
            return;
        }
        for some in users.chunks(ELSEWHERE_MAX) {
            let holders = match fleet.holders(some.to_vec()).await {
                Ok(holders) => holders,
                Err(error) => {
                    tracing::debug!(%error, "an online-only message reaches this gateway's sessions only");
                    return;
                }
            };
            let own = fleet.gateway();
            let mut users_at: BTreeMap<_, Vec<UserId>> = BTreeMap::new();
            for holder in holders.into_iter().flatten() {
                if holder.gateway != own {
                    let users = users_at.entry(holder.gateway).or_default();
                    // The sessions of one user come together.
                    if users.last() != Some(&holder.key.user) {
                        users.push(holder.key.user);
                    }
                }
            }
            for (gateway, users) in users_at {
                let body = body.clone();
                fleet.tell(gateway, FleetFrame::OnlineOnly { body, users });
            }
        }
    }
}
