//! `/console/`: the administrators' page, and `/gateway/config`, which it shows. The page itself holds no secret: it asks
//! for an administrator's token and calls the API with it, like every other caller.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, RawQuery, Request, State},
    http::HeaderMap,
    response::{IntoResponse as _, Redirect, Response},
};

use super::{
    bodies::{self, ClockAccepted, Operation},
    call::App,
    error::Refusal,
};

/// The path of the page. Its files stand beside it.
pub(super) const HOME: &str = "/console/";

/// Redirects the address that people type to the path that the page's files are relative to.
pub(super) async fn redirect() -> Response {
    // The redirect is relative, because a proxy may have put both under a path of its own.
    Redirect::permanent(HOME.trim_start_matches('/')).into_response()
}

/// The page.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    app.console_file("", None, &headers)
}

/// A file of the page.
pub(super) async fn file(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    app.console_file(&name, query.as_deref(), &headers)
}

/// The configuration in force, secrets masked.
pub(super) async fn config(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    app.admin(request).await?;
    Ok(bodies::answer(&app.settings))
}

/// Accepts the wall clock's time as the gateway's, at once.
pub(super) async fn accept_clock(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: Operation<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let before_ms = app.delivery.now_ms();
    app.delivery.accept_clock();
    let time_ms = app.delivery.now_ms();
    Ok(bodies::answer(ClockAccepted {
        time_ms,
        moved_ms: time_ms as i64 - before_ms as i64,
    }))
}

impl App {
    fn console_file(
        &self,
        name: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let answer = self.console.answer(name, query, headers);
        answer
            .map(|answer| answer.map(Body::from))
            .ok_or(Refusal::NoPath)
    }
}
