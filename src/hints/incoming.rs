//! From frames of other gateways to the sessions of this one. A frame about a session that is not here any more changes nothing.

use std::sync::Arc;

use super::repair::RepairCalls;
use crate::{
    fleet::FleetFrame,
    ids::GatewayId,
    log::{Commit, CommitGroup, Consumer},
    mesh::{FramesMissed, MeshEar},
    message::{Message, Numbers},
    registry::Registry,
};

/// The ear of this gateway.
pub(super) struct FleetEar {
    pub(super) registry: Arc<Registry>,
    pub(super) fan_out: Arc<dyn Consumer>,
    pub(super) calls: Arc<RepairCalls>,
}

impl MeshEar for FleetEar {
    fn hear(&self, _: GatewayId, frame: FleetFrame) {
        match frame {
            FleetFrame::Hint {
                lane,
                group,
                epoch,
                body,
                entries,
            } => self.fan_out.take(&[Commit {
                epoch,
                body,
                entries: entries.into(),
                group: CommitGroup {
                    lane,
                    number: group,
                },
            }]),
            FleetFrame::Replaced {
                user,
                connection,
                fence,
            } => self.registry.replace(&user, connection, fence),
            FleetFrame::LoggedOut { user, platform, .. } => {
                self.registry.log_out(&user, platform);
            }
            FleetFrame::OnlineOnly { body, users } => {
                let message = Arc::new(Message::new(body));
                for user in &users {
                    let numbers = Numbers::default();
                    self.registry.deliver(user.as_str(), numbers, &message);
                }
            }
        }
    }

    fn missed(&self, _: GatewayId, _: FramesMissed) {
        self.calls.call();
    }
}
