//! OpenIM v3's calls against a log in memory.
//!
//! - `every_call.rs`: the refusals that all calls share
//! - `version.rs`: the header decides
//! - `auth.rs`, `user.rs`, `notification.rs`, `send.rs`: the calls
//! - `content.rs`: the translation of content

mod auth;
mod content;
mod every_call;
mod notification;
mod send;
mod user;
mod version;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

pub(in crate::admin) use self::every_call::good;
use crate::admin::tests::{ADMIN, Gateway, Reply, SECRET, with, without};

impl Gateway {
    /// Posts with the header `operationID`, with any token.
    async fn v3_with(&self, token: Option<&str>, path: &str, body: impl Into<Body>) -> Reply {
        let mut request = Request::post(path).header("operationID", "op");
        if let Some(token) = token {
            request = request.header("token", token);
        }
        self.ask(request.body(body.into()).unwrap()).await
    }

    pub(in crate::admin) async fn v3_as(&self, user: &str, path: &str, body: &Value) -> Reply {
        let token = self.token(user);
        self.v3_with(Some(&token), path, body.to_string()).await
    }

    /// Posts as an administrator.
    async fn v3(&self, path: &str, body: &Value) -> Reply {
        self.v3_as(ADMIN, path, body).await
    }

    /// Registers a user, and a notification account.
    pub(in crate::admin) async fn register_both(&self) {
        let users =
            json!({ "users": [{ "userID": "u1", "nickname": "One", "faceURL": "f", "ex": "e" }] });
        self.v3("/user/user_register", &users).await.data_v3();
        let account = json!({ "userID": "n1", "nickName": "News", "faceURL": "g" });
        self.v3("/user/add_notification_account", &account)
            .await
            .data_v3();
    }
}

impl Reply {
    /// The data of the answer, which must be a v3 success.
    #[track_caller]
    fn data_v3(&self) -> Value {
        let answer = self.json();
        assert_eq!(self.verdict(), (200, 0), "{}", self.body);
        assert_eq!(
            (&answer["errMsg"], &answer["errDlt"]),
            (&json!(""), &json!(""))
        );
        answer["data"].clone()
    }

    /// The answer must be this v3 refusal. Returns the sentence.
    #[track_caller]
    fn refused_v3(&self, code: u64, name: &str) -> String {
        let answer = self.json();
        assert_eq!(self.verdict(), (200, code), "{}", self.body);
        assert_eq!(answer["errMsg"], name);
        assert!(answer.get("data").is_none());
        answer["errDlt"].as_str().unwrap().to_owned()
    }
}

/// A text for one user, in v3's form.
fn text_v3() -> Value {
    json!({
        "sendID": ADMIN,
        "recvID": "u1",
        "content": { "content": "hello" },
        "contentType": 101,
        "sessionType": 1,
    })
}
