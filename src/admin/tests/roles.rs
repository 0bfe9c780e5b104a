//! Each call with each role: an administrator does what one of its roles allows, and nothing else.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::{Value, json};

use super::{ADMIN, Gateway, Reply, SECRET, UNKNOWN, admin_config, text_send, with, without};
use crate::{
    admin::{access::Access, route::Route, routes::routes, v3},
    config::{self, Role},
};

const SEND: Access = Access::Admin(Role::Send);
const READ: Access = Access::Admin(Role::Read);
const OPERATE: Access = Access::Admin(Role::Operate);
const OWN_READ: Access = Access::Own(Role::Read);
const OWN_OPERATE: Access = Access::Own(Role::Operate);

/// The access to each call of OpenIM v2 and of our own.
const V2: [(&str, Access); 27] = [
    ("/manager/send_msg", SEND),
    ("/manager/batch_send_msg", SEND),
    ("/msg/check_msg_is_send_success", SEND),
    ("/msg/trace", READ),
    ("/auth/user_token", Access::Secret),
    ("/auth/user_register", Access::Secret),
    ("/auth/parse_token", Access::Token),
    ("/auth/force_logout", OPERATE),
    ("/user/get_users_online_status", Access::User(Role::Read)),
    ("/user/get_online_users", READ),
    ("/gateway/config", READ),
    ("/clock/accept", OPERATE),
    ("/msg/newest_seq", OWN_READ),
    ("/msg/pull_msg_by_seq", OWN_READ),
    ("/msg/del_msg", OWN_OPERATE),
    ("/conversation/list", OWN_READ),
    ("/conversation/mark_read", OWN_OPERATE),
    ("/device/list", OPERATE),
    ("/device/remove", OPERATE),
    ("/user/erase", OPERATE),
    ("/log/backup", OPERATE),
    ("/webhook/dead_letters", READ),
    ("/webhook/send_again", OPERATE),
    ("/healthz", Access::Open),
    ("/readyz", Access::Open),
    ("/metrics", Access::Open),
    ("/openapi.json", Access::Open),
];

/// The same for OpenIM v3.
const V3: [(&str, Access); 16] = [
    ("/auth/get_admin_token", Access::Secret),
    ("/auth/get_user_token", OPERATE),
    ("/auth/parse_token", Access::Open),
    ("/auth/force_logout", OPERATE),
    ("/user/user_register", OPERATE),
    ("/user/update_user_info_ex", OWN_OPERATE),
    ("/user/account_check", READ),
    ("/user/get_users_info", Access::Token),
    ("/user/get_users_online_status", READ),
    ("/user/add_notification_account", OPERATE),
    ("/user/update_notification_account", OPERATE),
    ("/user/search_notification_account", READ),
    ("/msg/send_msg", SEND),
    ("/msg/batch_send_msg", SEND),
    ("/msg/send_business_notification", SEND),
    ("/msg/get_server_time", Access::Token),
];

/// The callers, each with its roles; `None`: no administrator.
const CALLERS: [(&str, Option<&[Role]>); 6] = [
    (ADMIN, Some(&Role::ALL)),
    ("sender", Some(&[Role::Send])),
    ("reader", Some(&[Role::Read])),
    ("operator", Some(&[Role::Operate])),
    ("both", Some(&[Role::Send, Role::Operate])),
    ("u9", None),
];

/// A body about the user `u1` that v2's call is asked with.
fn body_v2(path: &str) -> Value {
    let body = json!({ "operationID": "op", "userID": "u1" });
    match path {
        "/manager/send_msg" => text_send(),
        "/manager/batch_send_msg" => {
            with(without(text_send(), "recvID"), "recvIDList", json!(["u1"]))
        }
        "/msg/trace" => json!({ "serverMsgID": UNKNOWN.to_string() }),
        "/auth/user_token" | "/auth/user_register" => {
            json!({ "operationID": "op", "userID": "u1", "platform": 5, "secret": SECRET })
        }
        "/auth/force_logout" => json!({ "operationID": "op", "fromUserID": "u1", "platform": 5 }),
        "/user/get_users_online_status" => json!({ "operationID": "op", "userIDList": ["u1"] }),
        "/msg/newest_seq" | "/msg/pull_msg_by_seq" => {
            json!({ "operationID": "op", "reqIdentifier": 1, "msgIncr": 1, "sendID": "u1" })
        }
        "/msg/del_msg" => with(body, "seqList", json!([1])),
        "/conversation/mark_read" => with(
            with(body, "conversationID", json!("si_a_b")),
            "conversationSeq",
            json!(1),
        ),
        "/webhook/send_again" => with(body, "all", json!(true)),
        _ => body,
    }
}

fn config() -> config::Admin {
    let roles = CALLERS[1..].iter().filter_map(|(user, roles)| {
        let roles = roles.as_ref()?.to_vec();
        Some(((*user).to_owned(), roles))
    });
    let roles: BTreeMap<_, _> = roles.collect();
    let named = roles.keys().cloned();
    config::Admin {
        user_ids: named.chain([ADMIN.to_owned()]).collect(),
        roles,
        ..admin_config()
    }
}

/// The expected access, which the table must have.
fn listed(table: &[(&str, Access)], route: &Route) -> Access {
    let path = route.paths[0];
    let row = table.iter().find(|row| row.0 == path);
    let row = row.unwrap_or_else(|| panic!("{path} is not in the table of this test"));
    assert_eq!(route.access, row.1, "{path}");
    row.1
}

/// True if a caller with these roles gets past the check of the token.
fn may(access: Access, roles: Option<&[Role]>) -> bool {
    let role = match access {
        Access::Open | Access::Secret | Access::Token => return true,
        Access::User(_) if roles.is_none() => return true,
        Access::User(role) | Access::Own(role) | Access::Admin(role) => role,
    };
    roles.is_some_and(|roles| roles.contains(&role))
}

#[tokio::test]
async fn each_call_of_v2_and_of_our_own_is_answered_for_the_roles_of_its_row_alone() {
    assert_eq!(routes().len(), V2.len());
    for route in routes() {
        let access = listed(&V2, &route);
        for (path, (caller, roles)) in route
            .paths
            .iter()
            .flat_map(|path| CALLERS.map(|caller| (*path, caller)))
        {
            let gateway = Gateway::with(&config());
            let ask = async |caller: &str| -> Reply {
                let method = route.request.map_or(Method::GET, |_| Method::POST);
                let request = Request::builder().method(method).uri(path);
                let request = request.header("token", gateway.token(caller));
                let body = Body::from(body_v2(route.paths[0]).to_string());
                gateway.ask(request.body(body).unwrap()).await
            };
            let reply = ask(caller).await;
            if may(access, roles) {
                assert!(
                    !reply.body.contains("not authorized"),
                    "{path} {caller}: {}",
                    reply.body
                );
                continue;
            }
            let code = match roles {
                None if path != "/auth/force_logout" => 400,
                _ => 801,
            };
            assert_eq!(reply.verdict(), (400, code), "{path} {caller}");
            assert_eq!(gateway.appended(), 0, "{path} {caller}");
            if let (Access::Own(_), None) = (access, roles) {
                let own = ask("u1").await;
                assert!(!own.body.contains("not authorized"), "{path}: {}", own.body);
            }
        }
    }
}

#[tokio::test]
async fn each_call_of_v3_is_answered_for_the_roles_of_its_row_alone() {
    assert_eq!(v3::routes().len(), V3.len());
    for route in v3::routes() {
        let access = listed(&V3, &route);
        let path = route.paths[0];
        for (caller, roles) in CALLERS {
            let gateway = Gateway::with(&config());
            gateway.register_both().await;
            let (body, _) = v3::tests::good(path, &gateway);
            let reply = gateway.v3_as(caller, path, &body).await;
            if may(access, roles) {
                assert_eq!(reply.verdict(), (200, 0), "{path} {caller}: {}", reply.body);
                continue;
            }
            assert_eq!(reply.verdict(), (200, 1002), "{path} {caller}");
            let said = reply.json()["errDlt"].as_str().unwrap().to_owned();
            assert_eq!(said.contains("admin.roles"), roles.is_some(), "{said}");
            if let (Access::Own(_), None) = (access, roles) {
                let own = gateway.v3_as("u1", path, &body).await;
                assert_eq!(own.verdict(), (200, 0), "{path}");
            }
        }
    }
}
