//! `/device/list`, `/device/remove`: the devices for push of a user, for administrators.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use sha2::{Digest as _, Sha256};

use super::{
    bodies::{self, DeviceRequest, DevicesListed, DevicesRemoved, ListedDevice},
    call::App,
    error::Refusal,
};
use crate::{
    ids::{Platform, UserId},
    message::Device,
};

/// The devices of a user.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let user = app.user_with_devices(request).await?;
    let devices = app.answered(app.delivery.devices(&user)).await?;
    Ok(bodies::answer(DevicesListed {
        list: devices.iter().map(listed).collect(),
    }))
}

/// Removes all devices of a user, durably.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let user = app.user_with_devices(request).await?;
    let removed = app.confirmed(app.delivery.remove_devices(&user)).await?;
    Ok(bodies::answer(DevicesRemoved { removed }))
}

impl App {
    async fn user_with_devices(&self, request: Request) -> Result<UserId, Refusal> {
        let call = self.admin(request).await?;
        let body: DeviceRequest<'_> = call.json()?;
        body.operation_id.required("operationID")?;
        body.user_id.required_user("userID")
    }
}

/// The parts of a device that its user may tell an administrator. The vendor's token is not among them: whoever has it may push to the
/// device.
fn listed(device: &Device) -> ListedDevice<'_> {
    let digest = Sha256::digest(device.token.as_bytes());
    let short = digest.first_chunk().copied().map(u32::from_be_bytes);
    ListedDevice {
        id: format!("{:08x}", short.unwrap_or_default()),
        provider: device.provider.name(),
        platform: device.platform.map_or("", Platform::name),
        app: &device.app,
        lang: &device.lang,
        registered_at_ms: device.registered_at_ms,
    }
}
