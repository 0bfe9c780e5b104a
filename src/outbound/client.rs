//! The client and its connections.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, Uri,
    header::{HeaderValue, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use towncrier_client::Trust;

use super::{
    addresses::{Reach, Resolver},
    failure::CallError,
};

/// The largest body of an answer, in bytes: a vendor's word on each device of a list of 1,000 has some 200 KB. A larger one is
/// dropped.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Connections are closed when they have been idle for this long: Node.js and Apache close theirs after 5 s, and a request
/// that meets the end of its connection fails.
pub const SHORT_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The same for servers that ask for long connections, as APNs does.
pub const LONG_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Idle connections to one server. More calls at once are no steady load.
const IDLE_CONNECTIONS_MAX: usize = 16;
/// The time to connect, all addresses of the host together: two packets may be lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is probed this often by the kernel. Routers forget connections after some minutes.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// During a call over HTTP/2 silence of this length is answered with a ping, and as much silence again with the end of the
/// connection. Otherwise each call over a connection whose peer has gone would wait for its deadline.
const PING_AFTER: Duration = Duration::from_secs(3);
/// The largest head of an answer over HTTP/1, in bytes. Some servers send many cookies.
const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Name and version of the caller, for the server's logs.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("towncrier/", env!("CARGO_PKG_VERSION")));

/// A client. Cheap to clone; clones share their connections. Its connections live on the runtime that made the first call, so
/// all calls belong to one runtime.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
}

impl Outbound {
    /// A client without connections. `idle_timeout` is [`SHORT_IDLE_TIMEOUT`] or [`LONG_IDLE_TIMEOUT`].
    pub fn new(trust: &Trust, reach: Reach, idle_timeout: Duration) -> Self {
        let mut http = HttpConnector::new_with_resolver(Resolver::new(reach));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_keepalive(Some(PROBE_INTERVAL));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config((*trust.config()).clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle_timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PING_AFTER)
            .build(connector);
        Self { client, reach }
    }

    /// Makes a call, and waits for the whole answer for at most `timeout`. An answer of any status is `Ok`, a redirect too. An
    /// answer with more than [`ANSWER_BYTES_MAX`] bytes comes with its head and without its body: its status still says what
    /// became of the request.
    ///
    /// The request names scheme and host in its URI. Errors: [`CallError`]. Cancel safe: a call whose future is dropped may
    /// have reached the server.
    pub async fn call(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        if !address_in(request.uri()).is_none_or(|address| self.reach.allows(address)) {
            return Err(CallError::PrivateAddress);
        }
        let mut request = request.map(Full::new);
        request.headers_mut().insert(USER_AGENT, AGENT);
        tokio::time::timeout(timeout, self.exchange(request))
            .await
            .unwrap_or(Err(CallError::Timeout(timeout)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, CallError> {
        let answer = self.client.request(request).await;
        let (head, body) = answer.map_err(|error| CallError::of(&error))?.into_parts();
        let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
            Err(_) => return Err(CallError::Cut),
        };
        Ok(Response::from_parts(head, body))
    }
}

/// The address that stands in a URI in place of a name. The look-up of names never sees it.
fn address_in(uri: &Uri) -> Option<IpAddr> {
    let host = uri.host()?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.parse().ok()
}

#[cfg(test)]
mod tests;
