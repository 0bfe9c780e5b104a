//! The table of OpenIM v2's and our own calls, and the router of both versions. The mounted calls are exactly those that `/openapi.json` describes.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, Uri},
    middleware,
    response::IntoResponse as _,
    routing::{MethodRouter, get, post},
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use schemars::SchemaGenerator;

use super::{
    access::Access,
    auth, backup, batch,
    bodies::{
        BackupRequest, BackupTold, BatchSent, ClockAccepted, ConversationsListed,
        DeadLettersListed, DeleteRequest, DeviceRequest, DevicesListed, DevicesRemoved, Envelope,
        EraseRequest, Erased, ListConversations, ListDeadLetters, LoggedOut, LogoutRequest,
        MarkRead, NewestSeq, NewestSeqRequest, Nothing, OnlineRequest, OnlineUsers, Operation,
        OperationStatus, PresenceRequest, Profile, PullRequest, Pulled, SendDeadLetters,
        SendRequest, Sent, SentDeadLetters, TokenIssued, TokenParsed, TokenRequest, TraceRequest,
        Traced, UserPresence,
    },
    call::App,
    console, conversation, dead_letters, device, erase,
    error::Refusal,
    guard, health, inbox, presence, pull,
    route::Route,
    send, trace, v3,
};
use crate::config::Role;

/// Every call.
pub(super) fn routes() -> [Route; 27] {
    [
        Route {
            paths: &["/manager/send_msg", "/msg/manage_send_msg"],
            summary: "Sends one message to one user",
            access: Access::Admin(Role::Send),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<SendRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<Sent<'_>>>),
            handler: || post(send::send_msg),
        },
        Route {
            paths: &["/manager/batch_send_msg", "/msg/batch_send_msg"],
            summary: "Sends one message to many users, or to all",
            access: Access::Admin(Role::Send),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<SendRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<BatchSent<'_>>>),
            handler: || post(batch::batch_send_msg),
        },
        Route {
            paths: &["/msg/check_msg_is_send_success"],
            summary: "What became of the newest send with an operationID",
            access: Access::Admin(Role::Send),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<Operation<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<OperationStatus>),
            handler: || post(send::check_msg_is_send_success),
        },
        Route {
            paths: &["/msg/trace"],
            summary: "Where a message stands, for each receiver and session",
            access: Access::Admin(Role::Read),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<TraceRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<Traced<'_>>>),
            handler: || post(trace::trace),
        },
        Route {
            paths: &["/auth/user_token"],
            summary: "Issues a token",
            access: Access::Secret,
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<TokenRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<TokenIssued<'_>>>),
            handler: || post(auth::user_token),
        },
        Route {
            paths: &["/auth/user_register"],
            summary: "Makes a user known and issues a token",
            access: Access::Secret,
            changes: true,
            request: Some(|generator| {
                let both = [
                    generator.subschema_for::<TokenRequest<'_>>(),
                    generator.subschema_for::<Profile<'_>>(),
                ];
                schemars::json_schema!({ "allOf": both })
            }),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<TokenIssued<'_>>>),
            handler: || post(auth::user_register),
        },
        Route {
            paths: &["/auth/parse_token"],
            summary: "Says whom the token in the header stands for",
            access: Access::Token,
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<Operation<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<TokenParsed<'_>>>),
            handler: || post(auth::parse_token),
        },
        Route {
            paths: &["/auth/force_logout"],
            summary: "Revokes a user's tokens on one platform and closes its connections",
            access: Access::Admin(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<LogoutRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<LoggedOut>>),
            handler: || post(auth::force_logout),
        },
        Route {
            paths: &[
                "/user/get_users_online_status",
                "/manager/get_users_online_status",
            ],
            summary: "Who is online, and on which platforms",
            access: Access::User(Role::Read),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<PresenceRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<Vec<UserPresence<'_>>>>),
            handler: || post(presence::get_users_online_status),
        },
        Route {
            paths: &["/user/get_online_users"],
            summary: "Who is online now, of all users",
            access: Access::Admin(Role::Read),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<OnlineRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<OnlineUsers>>),
            handler: || post(presence::get_online_users),
        },
        Route {
            paths: &["/gateway/config"],
            summary: "The configuration in force, secrets masked",
            access: Access::Admin(Role::Read),
            changes: false,
            request: None,
            answer: Some(|_| schemars::json_schema!({ "type": "object" })),
            handler: || get(console::config),
        },
        Route {
            paths: &["/clock/accept"],
            summary: "Confirms that the wall clock is right after it jumped",
            access: Access::Admin(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<Operation<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<ClockAccepted>>),
            handler: || post(console::accept_clock),
        },
        Route {
            paths: &["/log/backup"],
            summary: "Copies the log into a directory of the gateway's machine, or tells how far the copy has come",
            access: Access::Admin(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<BackupRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<BackupTold>>),
            handler: || post(backup::back_up),
        },
        Route {
            paths: &["/msg/newest_seq"],
            summary: "The bounds of an inbox",
            access: Access::Own(Role::Read),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<NewestSeqRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<NewestSeq>),
            handler: || post(inbox::newest_seq),
        },
        Route {
            paths: &["/msg/pull_msg_by_seq"],
            summary: "Messages of an inbox by their seqs, or by those in a conversation",
            access: Access::Own(Role::Read),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<PullRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Pulled>),
            handler: || post(pull::pull_msg_by_seq),
        },
        Route {
            paths: &["/msg/del_msg"],
            summary: "Removes messages from an inbox",
            access: Access::Own(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<DeleteRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<Nothing>>),
            handler: || post(inbox::del_msg),
        },
        Route {
            paths: &["/conversation/list"],
            summary: "A user's conversations, with what the user has read",
            access: Access::Own(Role::Read),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<ListConversations<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<ConversationsListed<'_>>>),
            handler: || post(conversation::list),
        },
        Route {
            paths: &["/conversation/mark_read"],
            summary: "Marks a conversation as read on all of a user's devices",
            access: Access::Own(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<MarkRead<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<Nothing>>),
            handler: || post(conversation::mark_read),
        },
        Route {
            paths: &["/device/list"],
            summary: "A user's devices for push",
            access: Access::Admin(Role::Operate),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<DeviceRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<DevicesListed<'_>>>),
            handler: || post(device::list),
        },
        Route {
            paths: &["/device/remove"],
            summary: "Removes a user's devices for push",
            access: Access::Admin(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<DeviceRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<DevicesRemoved>>),
            handler: || post(device::remove),
        },
        Route {
            paths: &["/user/erase"],
            summary: "Erases a user: all that the gateway has of it",
            access: Access::Admin(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<EraseRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<Erased>>),
            handler: || post(erase::erase),
        },
        Route {
            paths: &["/webhook/dead_letters"],
            summary: "The events that the receiver of webhooks refused",
            access: Access::Admin(Role::Read),
            changes: false,
            request: Some(SchemaGenerator::subschema_for::<ListDeadLetters<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<DeadLettersListed>>),
            handler: || post(dead_letters::list),
        },
        Route {
            paths: &["/webhook/send_again"],
            summary: "Sends refused events to the receiver of webhooks again",
            access: Access::Admin(Role::Operate),
            changes: true,
            request: Some(SchemaGenerator::subschema_for::<SendDeadLetters<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<Envelope<SentDeadLetters>>),
            handler: || post(dead_letters::send_again),
        },
        Route {
            paths: &["/healthz"],
            summary: "The process answers",
            access: Access::Open,
            changes: false,
            request: None,
            answer: None,
            handler: || get(health::healthz),
        },
        Route {
            paths: &["/readyz"],
            summary: "Sends are accepted; 503 and the reason where not",
            access: Access::Open,
            changes: false,
            request: None,
            answer: None,
            handler: || get(health::readyz),
        },
        Route {
            paths: &["/metrics"],
            summary: "Metrics in Prometheus' text format",
            access: Access::Open,
            changes: false,
            request: None,
            answer: None,
            handler: || get(health::metrics),
        },
        Route {
            paths: &["/openapi.json"],
            summary: "This document",
            access: Access::Open,
            changes: false,
            request: None,
            answer: Some(|_| schemars::json_schema!({ "type": "object" })),
            handler: || get(health::openapi),
        },
    ]
}

/// Mounts every call under every spelling, each guarded.
pub(super) fn router(app: Arc<App>) -> Router {
    let guarded = |router: MethodRouter<Arc<App>>, name, (access, changes): (_, bool), refuse| {
        let guarded = guard::Guarded {
            counted: app.metrics.admin_route(name),
            access,
            is_audited: changes,
            refuse,
        };
        router
            .layer(middleware::from_fn_with_state(
                Arc::new(guarded),
                guard::guard,
            ))
            .with_state(Arc::clone(&app))
    };
    // Both versions have some of the paths. There the header decides.
    let mut calls: BTreeMap<&str, (Option<MethodRouter>, Option<MethodRouter>)> = BTreeMap::new();
    for route in routes() {
        let handler = (route.handler)()
            .options(guard::preflight)
            .fallback(async || Refusal::NoMethod);
        let handler = guarded(
            handler,
            route.paths[0],
            (route.access, route.changes),
            Refusal::into_response,
        );
        for path in route.paths {
            calls.entry(path).or_default().0 = Some(handler.clone());
        }
    }
    for route in v3::routes() {
        let handler = (route.handler)()
            .route_layer(middleware::from_fn(v3::check_operation))
            .options(guard::preflight)
            .fallback(async || v3::V3Refusal::from(Refusal::NoMethod));
        for path in route.paths {
            let handler = guarded(
                handler.clone(),
                path,
                (route.access, route.changes),
                v3::refuse,
            );
            calls.entry(path).or_default().1 = Some(handler);
        }
    }
    let mut router = Router::new();
    for (path, call) in calls {
        router = match call {
            (Some(v2), Some(v3)) => router.route(path, v3::either(v2, v3)),
            (v2, v3) => router.route(path, v2.or(v3).unwrap_or_default()),
        };
    }
    // The page does not belong to the API.
    for (path, handler) in [
        ("/console", get(console::redirect)),
        (console::HOME, get(console::index)),
        ("/console/{file}", get(console::file)),
    ] {
        let handler = handler.fallback(async || Refusal::NoMethod);
        router = router.route(
            path,
            guarded(
                handler,
                "console",
                (Access::Open, false),
                Refusal::into_response,
            ),
        );
    }
    let unknown = MethodRouter::new()
        .fallback(async |headers: HeaderMap| v3::in_words_of(&headers, Refusal::NoPath));
    let unknown = guarded(
        unknown,
        "other",
        (Access::Open, false),
        Refusal::into_response,
    );
    // Only paths without a route are looked up a second time.
    let tidied = TowerToHyperService::new(router.clone().fallback_service(unknown));
    router.fallback(move |mut request: Request| {
        if let Some(uri) = tidy(request.uri()) {
            *request.uri_mut() = uri;
        }
        tidied.call(request)
    })
}

/// The same address without empty parts in its path: a base address that ends in a slash makes `//manager/send_msg`.
fn tidy(uri: &Uri) -> Option<Uri> {
    let mut path: String = uri
        .path()
        .split('/')
        .filter(|piece| !piece.is_empty())
        .flat_map(|piece| ["/", piece])
        .collect();
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}
