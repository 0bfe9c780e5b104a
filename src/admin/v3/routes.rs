//! The table of OpenIM v3's paths.

use axum::routing::post;
use schemars::SchemaGenerator;

use super::{
    super::{
        bodies::{Nothing, Sent},
        route::{Access, Route},
    },
    auth,
    bodies::{
        AccountCheckRequest, AccountsChecked, AddNotifier, AdminTokenRequest, AnswerV3,
        BatchSentV3, BusinessRequest, ForceLogoutRequest, Notifier, NotifiersFound, OnlineStatus,
        ParseTokenRequest, ParsedV3, RegisterUsers, SearchNotifiers, SendV3, ServerTimeData,
        TokenV3, UpdateNotifier, UpdateUserInfo, UserIds, UserTokenRequest, UsersInfoData,
    },
    notification, send, user,
};

/// Every call of OpenIM v3.
pub(in crate::admin) fn routes() -> [Route; 16] {
    [
        Route {
            paths: &["/auth/get_admin_token"],
            summary: "Issues an administrator's token",
            access: Access::Secret,
            request: Some(SchemaGenerator::subschema_for::<AdminTokenRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<TokenV3<'_>>>),
            handler: || post(auth::get_admin_token),
        },
        Route {
            paths: &["/auth/get_user_token"],
            summary: "Issues a registered user's token",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<UserTokenRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<TokenV3<'_>>>),
            handler: || post(auth::get_user_token),
        },
        Route {
            paths: &["/auth/parse_token"],
            summary: "Says whom the token in the body stands for",
            access: Access::Open,
            request: Some(SchemaGenerator::subschema_for::<ParseTokenRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<ParsedV3<'_>>>),
            handler: || post(auth::parse_token),
        },
        Route {
            paths: &["/auth/force_logout"],
            summary: "Revokes a user's tokens on one platform and closes its connections",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<ForceLogoutRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Nothing>>),
            handler: || post(auth::force_logout),
        },
        Route {
            paths: &["/user/user_register"],
            summary: "Registers users",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<RegisterUsers<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Nothing>>),
            handler: || post(user::user_register),
        },
        Route {
            paths: &["/user/update_user_info_ex"],
            summary: "Changes a user's profile",
            access: Access::Token,
            request: Some(SchemaGenerator::subschema_for::<UpdateUserInfo<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Nothing>>),
            handler: || post(user::update_user_info_ex),
        },
        Route {
            paths: &["/user/account_check"],
            summary: "Which users are registered",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<AccountCheckRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<AccountsChecked<'_>>>),
            handler: || post(user::account_check),
        },
        Route {
            paths: &["/user/get_users_info"],
            summary: "The profiles of registered users",
            access: Access::Token,
            request: Some(SchemaGenerator::subschema_for::<UserIds<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<UsersInfoData>>),
            handler: || post(user::get_users_info),
        },
        Route {
            paths: &["/user/get_users_online_status"],
            summary: "Who is online, and on which platforms",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<UserIds<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Vec<OnlineStatus<'_>>>>),
            handler: || post(user::get_users_online_status),
        },
        Route {
            paths: &["/user/add_notification_account"],
            summary: "Registers a notification account",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<AddNotifier<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Notifier>>),
            handler: || post(notification::add_notification_account),
        },
        Route {
            paths: &["/user/update_notification_account"],
            summary: "Changes a notification account",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<UpdateNotifier<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Nothing>>),
            handler: || post(notification::update_notification_account),
        },
        Route {
            paths: &["/user/search_notification_account"],
            summary: "Notification accounts by a part of their id or name",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<SearchNotifiers<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<NotifiersFound>>),
            handler: || post(notification::search_notification_account),
        },
        Route {
            paths: &["/msg/send_msg"],
            summary: "Sends one message to one user",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<SendV3<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Sent<'_>>>),
            handler: || post(send::send_msg),
        },
        Route {
            paths: &["/msg/batch_send_msg"],
            summary: "Sends one message to many users, or to all",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<SendV3<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<BatchSentV3<'_>>>),
            handler: || post(send::batch_send_msg),
        },
        Route {
            paths: &["/msg/send_business_notification"],
            summary: "Sends an app's own notice to a user who is online",
            access: Access::Admin,
            request: Some(SchemaGenerator::subschema_for::<BusinessRequest<'_>>),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<Sent<'_>>>),
            handler: || post(send::send_business_notification),
        },
        Route {
            paths: &["/msg/get_server_time"],
            summary: "The gateway's clock",
            access: Access::Token,
            request: Some(|_| schemars::json_schema!({ "type": "object" })),
            answer: Some(SchemaGenerator::subschema_for::<AnswerV3<ServerTimeData>>),
            handler: || post(user::get_server_time),
        },
    ]
}
