//! The admin API from a caller's side: one kept connection, an answer or none.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    gateway::{SECRET, Whereabouts},
    within,
};

/// The connection broke before the answer was complete. The outcome of the request is unknown.
#[derive(Debug)]
pub(crate) struct NoAnswer;

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) retry_after: Option<String>,
}

/// The answer to an accepted send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) server_msg_id: String,
    pub(crate) client_msg_id: String,
    pub(crate) send_time: u64,
}

/// One caller. It follows its gateway across restarts.
pub(crate) struct Admin {
    whereabouts: Whereabouts,
    pub(crate) token: String,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|_| panic!("expected JSON, got {} {:?}", self.status, self.text))
    }

    pub(crate) fn code(&self) -> u64 {
        self.json()["errCode"].as_u64().expect("an errCode")
    }

    /// The answer of a send that was accepted.
    pub(crate) fn sent(&self) -> Sent {
        let json = self.json();
        assert_eq!((self.status, self.code()), (200, 0), "{json}");
        let text = |key: &str| json["data"][key].as_str().expect(key).to_owned();
        Sent {
            server_msg_id: text("serverMsgID"),
            client_msg_id: text("clientMsgID"),
            send_time: json["data"]["sendTime"].as_u64().expect("sendTime"),
        }
    }
}

impl Admin {
    pub(crate) fn new(whereabouts: Whereabouts, token: String) -> Self {
        Self {
            whereabouts,
            token,
            connection: None,
        }
    }

    /// Another caller with the same token.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.whereabouts.clone(), self.token.clone())
    }

    /// Makes one request and returns its answer, or none. Waits until the gateway runs, but repeats no request by itself.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        let answered = self.exchange(method, path, headers, body.into());
        let answered = within(&format!("an answer to {path}"), answered).await;
        if answered.is_err() {
            self.connection = None;
        }
        answered
    }

    async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let usable = self
            .connection
            .take()
            .filter(|connection| !connection.is_closed());
        let mut connection = match usable {
            Some(connection) => connection,
            None => self.dial().await?,
        };
        connection.ready().await.map_err(|_| NoAnswer)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "towncrier");
        if !self.token.is_empty() {
            request = request.header("token", &self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        let response = connection
            .send_request(request)
            .await
            .map_err(|_| NoAnswer)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
        self.connection = Some(connection);
        let header = parts.headers.get("retry-after");
        Ok(Answer {
            status: parts.status.as_u16(),
            text: String::from_utf8(body.into()).expect("UTF-8"),
            retry_after: header.map(|value| value.to_str().expect("ASCII").to_owned()),
        })
    }

    async fn dial(&mut self) -> Result<http1::SendRequest<Full<Bytes>>, NoAnswer> {
        let place = *self
            .whereabouts
            .wait_for(Option::is_some)
            .await
            .map_err(|_| NoAnswer)?;
        let place = place.expect("waited for");
        let stream = TcpStream::connect(place.admin)
            .await
            .map_err(|_| NoAnswer)?;
        stream.set_nodelay(true).map_err(|_| NoAnswer)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| NoAnswer)?;
        tokio::spawn(driver);
        Ok(connection)
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[], body.to_string())
            .await
            .unwrap_or_else(|_| panic!("no answer from {path}"))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, &[], "")
            .await
            .unwrap_or_else(|_| panic!("no answer from {path}"))
    }

    /// Makes a send that must be accepted.
    pub(crate) async fn send(&mut self, body: &Value) -> Sent {
        self.post("/manager/send_msg", body).await.sent()
    }

    pub(crate) async fn token(&mut self, user: &str, platform: u32) -> String {
        let body = json!({"secret": SECRET, "platform": platform, "userID": user, "operationID": "scenario"});
        let answer = self.post("/auth/user_token", &body).await;
        assert_eq!(answer.code(), 0, "{answer:?}");
        answer.json()["data"]["token"]
            .as_str()
            .expect("a token")
            .to_owned()
    }

    /// Revokes all tokens of the user on this platform.
    pub(crate) async fn force_logout(&mut self, user: &str, platform: u32) {
        let body = json!({"platform": platform, "fromUserID": user, "operationID": "scenario"});
        let answer = self.post("/auth/force_logout", &body).await;
        assert_eq!(answer.code(), 0, "{answer:?}");
    }

    /// The oldest retained and the highest seq of a user's inbox.
    pub(crate) async fn bounds(&mut self, user: &str) -> (u64, u64) {
        let body =
            json!({"reqIdentifier": 1001, "sendID": user, "operationID": "scenario", "msgIncr": 1});
        let answer = self.post("/msg/newest_seq", &body).await.json();
        let seq = |key: &str| answer["data"][key].as_u64().expect(key);
        (seq("minSeq"), seq("maxSeq"))
    }

    /// Platforms on which the user is connected, by name.
    pub(crate) async fn presence(&mut self, user: &str) -> Vec<String> {
        let body = json!({"userIDList": [user], "operationID": "scenario"});
        let answer = self
            .post("/user/get_users_online_status", &body)
            .await
            .json();
        let platforms = answer["data"][0]["detailPlatformStatus"].as_array();
        let name = |status: &Value| status["platform"].as_str().expect("a name").to_owned();
        platforms.map_or_else(Vec::new, |list| list.iter().map(name).collect())
    }

    /// The sum of the lines of `/metrics` with this name, with these labels if the name has some; 0 while there is none.
    pub(crate) async fn metric(&mut self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text;
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_named = labels.is_empty() || labels.starts_with('{');
            is_named.then(|| value.parse::<f64>().expect("a number"))
        };
        text.lines().filter_map(value).sum()
    }

    /// The number of connections that the gateway closed with this code.
    pub(crate) async fn closed(&mut self, code: u16) -> f64 {
        let name = format!("towncrier_connections_closed_total{{code=\"{code}\"}}");
        self.metric(&name).await
    }
}
