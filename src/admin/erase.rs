//! `/user/erase`: removes all that the gateway has of a user.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{self, EraseRequest, Erased},
    call::App,
    error::Refusal,
};
use crate::delivery::{AppendError, SendError};

/// Erases a user, durably. The work goes on without a caller that goes away.
pub(super) async fn erase(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: EraseRequest<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let user = body.user_id.required_user("userID")?;
    call.note.user(&user);
    let rooms = Arc::clone(&app);
    let work = tokio::spawn(async move {
        // A profile that is being changed would be written again.
        let order = rooms.profiles.write().await;
        let (erasure, connections) = rooms.eraser.erase(&user).await?;
        drop(order);
        rooms.eraser.finish(&user, &erasure).await?;
        Ok((erasure, connections))
    });
    let erased = async {
        let unknown = || Err(SendError::from(AppendError::OutcomeUnknown));
        work.await.unwrap_or_else(|_| unknown())
    };
    let (erasure, connections) = app.confirmed(erased).await?;
    Ok(bodies::answer(Erased {
        until_ms: erasure.until_ms,
        connections,
    }))
}
