//! The admin API over HTTP: tokens and sends, for tools, tests and load.
//!
//! It uses hyper's pooled client: asynchronous, so that one thread can have many requests under way, and already part of
//! the gateway's build through axum. An error answer and a missing answer are different for the sender. After an error
//! answer nothing was sent (P2). After a missing answer, only a retry with the same `clientMsgID` tells if it was sent
//! (P3).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::trust::Trust;

/// Longer than the gateway's own `admin.request_timeout`, so that the gateway answers first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// A batch of 100,000 receivers has an answer of about 150 bytes each.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The gateway's code for "it may or may not be on disk": the same as no answer.
pub const OUTCOME_UNKNOWN: i64 = 50304;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The base URL is not valid.
    #[error("{0}: expected http://HOST[:PORT], or https://")]
    Url(String),
    /// The gateway could not be reached at all: nothing was sent.
    #[error("{url}: {error}")]
    Unreachable {
        /// The URL of the call.
        url: Uri,
        /// The reason.
        error: Box<hyper_util::client::legacy::Error>,
    },
    /// The connection was lost, or timed out, before the answer. The gateway may have acted.
    #[error("{0}: no answer")]
    NoAnswer(Uri),
    /// The answer does not come from an admin API.
    #[error("{url} answered HTTP {status} with something else than JSON")]
    Unreadable {
        /// The URL of the call.
        url: Uri,
        /// HTTP status.
        status: u16,
    },
    /// The gateway refused the call.
    #[error("refused with {code} (HTTP {status}): {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `errCode`.
        code: i64,
        /// `errMsg`.
        text: String,
        /// The delay of `Retry-After`.
        retry_after: Option<Duration>,
    },
}

impl AdminError {
    /// True if the gateway may have done what was asked. A retry with the same `clientMsgID` tells.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::NoAnswer(_) | Self::Unreadable { .. } => true,
            Self::Refused { code, .. } => *code == OUTCOME_UNKNOWN,
            Self::Url(_) | Self::Unreachable { .. } => false,
        }
    }
}

/// The answer of `/auth/user_token`.
#[derive(Debug, Clone, Deserialize)]
pub struct Token {
    /// The user of the token.
    #[serde(rename = "userID")]
    pub user_id: String,
    /// The JWT.
    pub token: String,
    /// The expiry, Unix seconds.
    #[serde(rename = "expiredTime")]
    pub expires_at_s: i64,
}

/// A send without its receivers: the fields of `/manager/send_msg`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SendFields {
    /// For the gateway's stderr log.
    #[serde(rename = "operationID")]
    pub operation_id: String,
    /// The user in whose name it is sent.
    #[serde(rename = "sendID")]
    pub send_id: String,
    /// If empty, the gateway makes one, and a retry is another send.
    #[serde(rename = "clientMsgID", skip_serializing_if = "String::is_empty")]
    pub client_msg_id: String,
    /// Shown as the sender's name.
    pub sender_nickname: String,
    /// The sender's avatar.
    #[serde(rename = "senderFaceURL")]
    pub sender_face_url: String,
    /// 1 single, 4 notification.
    pub session_type: i32,
    /// 101–112, 114, 1400.
    pub content_type: i32,
    /// The JSON object of that type, delivered unchanged.
    pub content: Box<RawValue>,
    /// True: push only to sessions that are online now; nothing is stored.
    pub is_online_only: bool,
}

/// The answer to a send.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendAnswer {
    /// The server's id.
    #[serde(rename = "serverMsgID")]
    pub server_msg_id: String,
    /// The sender's id for the message, or one that the server made.
    #[serde(rename = "clientMsgID")]
    pub client_msg_id: String,
    /// The time at which it was accepted, Unix ms.
    pub send_time: i64,
}

/// The answer to a batch.
#[derive(Debug, Clone, Deserialize)]
pub struct SentBatch {
    /// One result for each receiver for which it was accepted.
    #[serde(rename = "resultList", default)]
    pub results: Option<Vec<ReceiverAnswer>>,
    /// The receivers that were refused.
    #[serde(rename = "FailedIDList", default)]
    pub failed: Option<Vec<String>>,
    /// In place of the results of a batch to everyone with more receivers than the gateway lists.
    #[serde(flatten)]
    pub count: Option<BatchCount>,
}

/// The answer to a batch with more receivers than the gateway lists.
#[derive(Debug, Clone, Deserialize)]
pub struct BatchCount {
    /// The number of receivers.
    #[serde(rename = "receiversTotal")]
    pub receivers_total: u64,
    /// The same as the answer to one send.
    #[serde(flatten)]
    pub sent: SendAnswer,
}

/// The result for one receiver of a batch.
#[derive(Debug, Clone, Deserialize)]
pub struct ReceiverAnswer {
    /// The receiver.
    #[serde(rename = "recvID")]
    pub recv_id: String,
    /// The same as the answer to one send.
    #[serde(flatten)]
    pub sent: SendAnswer,
}

/// The receivers of a batch.
#[derive(Debug, Clone, Copy)]
pub enum BatchReceivers<'a> {
    /// These users.
    List(&'a [String]),
    /// Every user the gateway knows.
    Everyone,
}

/// The admin API of one gateway. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct AdminClient {
    base: String,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

#[derive(Serialize)]
struct SingleBody<'a> {
    #[serde(flatten)]
    send: &'a SendFields,
    #[serde(rename = "recvID")]
    recv_id: &'a str,
}

#[derive(Serialize)]
struct BatchBody<'a> {
    #[serde(flatten)]
    send: &'a SendFields,
    #[serde(rename = "recvIDList")]
    recv_ids: &'a [String],
    #[serde(rename = "isSendAll")]
    is_send_all: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenBody<'a> {
    #[serde(rename = "operationID")]
    operation_id: &'a str,
    secret: &'a str,
    platform: u32,
    #[serde(rename = "userID")]
    user_id: &'a str,
}

#[derive(Deserialize)]
struct AdminAnswer<'a> {
    #[serde(rename = "errCode")]
    code: i64,
    #[serde(rename = "errMsg", default)]
    text: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl AdminClient {
    /// Calls the gateway at `base`, e.g. `http://127.0.0.1:10000`. Connects when needed. Over `https://` it trusts the
    /// certificates that this machine trusts.
    pub fn new(base: &str) -> Result<Self, AdminError> {
        Self::trusting(base, &Trust::default())
    }

    /// The same, but over `https://` it trusts `trust`.
    pub fn trusting(base: &str, trust: &Trust) -> Result<Self, AdminError> {
        let base = base.trim_end_matches('/').to_owned();
        let uri: Option<Uri> = base.parse().ok();
        let scheme = uri.as_ref().filter(|uri| uri.host().is_some());
        let is_secure = match scheme.and_then(Uri::scheme_str) {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(AdminError::Url(base)),
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        connector.enforce_http(false);
        let tls = if is_secure {
            trust.config()
        } else {
            Trust::nobody()
        };
        Ok(Self {
            base,
            http: Client::builder(TokioExecutor::new())
                .build(HttpsConnector::from((connector, tls))),
        })
    }

    /// A token for a user on a platform (OpenIM's number). Cancel safe: it changes nothing.
    pub async fn user_token(
        &self,
        secret: &str,
        user_id: &str,
        platform: u32,
    ) -> Result<Token, AdminError> {
        let request = TokenBody {
            operation_id: "token",
            secret,
            platform,
            user_id,
        };
        self.call("/auth/user_token", None, &request).await
    }

    /// Sends to one user. Not cancel safe: after a drop, only a retry with the same `clientMsgID` tells if it was sent.
    pub async fn send(
        &self,
        token: &str,
        send: &SendFields,
        recv_id: &str,
    ) -> Result<SendAnswer, AdminError> {
        let body = SingleBody { send, recv_id };
        self.call("/manager/send_msg", Some(token), &body).await
    }

    /// Sends to many users. Not cancel safe, for the same reason.
    pub async fn send_batch(
        &self,
        token: &str,
        send: &SendFields,
        receivers: BatchReceivers<'_>,
    ) -> Result<SentBatch, AdminError> {
        let (recv_ids, is_send_all) = match receivers {
            BatchReceivers::List(list) => (list, false),
            BatchReceivers::Everyone => (&[][..], true),
        };
        let body = BatchBody {
            send,
            recv_ids,
            is_send_all,
        };
        self.call("/manager/batch_send_msg", Some(token), &body)
            .await
    }

    /// Makes any call: sends `body` as JSON, returns the answer's `data`. Not cancel safe: after a drop the gateway may have done
    /// what was asked, or not.
    pub async fn call<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        token: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(body).expect("requests are plain JSON");
        let mut request = Request::post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header("token", token);
        }
        let request = request
            .body(Full::from(body))
            .map_err(|_| AdminError::Url(self.base.clone()))?;
        let url = request.uri().clone();
        let (status, retry_after, bytes) = self.exchange(request).await?;
        let unreadable = || AdminError::Unreadable {
            url: url.clone(),
            status: status.as_u16(),
        };
        let answer: AdminAnswer<'_> = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
        if answer.code != 0 || !status.is_success() {
            return Err(AdminError::Refused {
                status: status.as_u16(),
                code: answer.code,
                text: answer.text,
                retry_after,
            });
        }
        let data = answer.data.map_or("null", RawValue::get);
        serde_json::from_str(data).map_err(|_| unreadable())
    }

    /// Makes a `GET`, e.g. of `/readyz` or `/metrics`. Returns status and text. Cancel safe: it changes nothing.
    pub async fn get(&self, path: &str) -> Result<(u16, String), AdminError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}{path}", self.base))
            .body(Full::default())
            .map_err(|_| AdminError::Url(self.base.clone()))?;
        let (status, _, bytes) = self.exchange(request).await?;
        Ok((
            status.as_u16(),
            String::from_utf8_lossy(&bytes).into_owned(),
        ))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Option<Duration>, Bytes), AdminError> {
        let url = request.uri().clone();
        let no_answer = || AdminError::NoAnswer(url.clone());
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| {
                if error.is_connect() {
                    AdminError::Unreachable {
                        url: url.clone(),
                        error: Box::new(error),
                    }
                } else {
                    no_answer()
                }
            })?;
            let retry_after = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                .map(Duration::from_secs);
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let bytes = body.collect().await.map_err(|_| no_answer())?.to_bytes();
            Ok((status, retry_after, bytes))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(no_answer()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_is_written_as_the_admin_api_reads_it() {
        let send = SendFields {
            operation_id: "op".into(),
            send_id: "openIM123456".into(),
            client_msg_id: String::new(),
            sender_nickname: "n".into(),
            sender_face_url: "f".into(),
            session_type: 4,
            content_type: 1400,
            content: RawValue::from_string(r#"{"z":1,"a":2}"#.into()).unwrap(),
            is_online_only: false,
        };
        let body = serde_json::to_string(&SingleBody {
            send: &send,
            recv_id: "u1",
        });
        assert_eq!(
            body.unwrap(),
            r#"{"operationID":"op","sendID":"openIM123456","senderNickname":"n","senderFaceURL":"f","sessionType":4,"contentType":1400,"content":{"z":1,"a":2},"isOnlineOnly":false,"recvID":"u1"}"#
        );
    }

    #[test]
    fn only_http_urls_are_taken() {
        assert!(AdminClient::new("http://127.0.0.1:10000/").is_ok());
        assert!(AdminClient::new("https://gateway.example").is_ok());
        for url in ["", "127.0.0.1:10000", "ws://x", "wss://x"] {
            assert!(
                matches!(AdminClient::new(url), Err(AdminError::Url(_))),
                "{url}"
            );
        }
    }
}
