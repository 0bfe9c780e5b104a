//! The REST calls of the client port, beside the WebSocket: those of apps for their devices, and those of OpenIM's SDKs.
//!
//! Promises: a call has the admission, the origins and the deadlines of every request of this port. Its connection goes on after
//! it, without TLS as well, and may then ask for anything that the port serves. A client is not cut off for another one while
//! its call is answered, and is the last to give way afterwards. A preflight is answered here. Leaves to others: the calls themselves, which a router answers in bounded time.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{
        HeaderName, HeaderValue, Method, Request, Response, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
            CONTENT_LENGTH, EXPECT, ORIGIN, VARY,
        },
    },
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};

use super::{
    admission::Arrival,
    body::{self, BodyFault},
    response::{encode, ends},
};

/// The longest silence between two calls of a connection. It is longer than callers keep an idle connection (nginx 60 s, Go 90
/// s), so that no call meets a connection that this port is about to close. A silent connection keeps nobody out: it is an
/// arrival, and the oldest gives way.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(100);
/// The time for which a browser remembers a preflight: two days, OpenIM's number.
const PREFLIGHT_LIFE_S: u64 = 172_800;
/// The methods of calls.
const CALL_METHODS: [Method; 3] = [Method::GET, Method::POST, Method::DELETE];
/// The header with a caller's token.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// The mark of an answer to a call without a good token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stranger {
    /// True if the token was signed by no key of ours. It counts against the caller's address.
    pub(crate) is_forger: bool,
}

/// The calls, and the paths that are theirs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rest {
    groups: Vec<CallGroup>,
    /// True if they are the calls of OpenIM's SDKs, among others. Whoever serves these calls serves the SDKs' sessions.
    pub(super) is_for_sdks: bool,
}

/// Calls that one router answers.
#[derive(Clone)]
struct CallGroup {
    calls: TowerToHyperService<Router>,
    is_call: fn(&Method, &str) -> bool,
}

/// An answer as bytes. The connection ends after the last one.
pub(super) struct RestAnswer {
    pub(super) bytes: Vec<u8>,
    pub(super) is_last: bool,
}

impl Rest {
    /// `router` answers the requests with the methods and on the paths for which `is_call` is true.
    pub(crate) fn new(router: Router, is_call: fn(&Method, &str) -> bool) -> Self {
        Self {
            groups: vec![CallGroup {
                calls: TowerToHyperService::new(router),
                is_call,
            }],
            is_for_sdks: false,
        }
    }

    /// The same calls, which are those of OpenIM's SDKs.
    pub(crate) fn for_sdks(self) -> Self {
        Self {
            is_for_sdks: true,
            ..self
        }
    }

    /// These calls and the others.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.groups.extend(others.groups);
        self.is_for_sdks |= others.is_for_sdks;
        self
    }

    /// True if the request is a call, or a preflight of one.
    pub(super) fn takes(&self, request: &Request<()>) -> bool {
        self.group_of(request).is_some()
    }

    fn group_of(&self, request: &Request<()>) -> Option<&CallGroup> {
        let path = request.uri().path();
        let is_call = |group: &&CallGroup| match request.method() {
            &Method::OPTIONS => CALL_METHODS
                .iter()
                .any(|method| (group.is_call)(method, path)),
            method => (group.is_call)(method, path),
        };
        self.groups.iter().find(is_call)
    }

    /// Reads the body, which is due at `by`, and answers the call. `bytes` were read behind the head of the request, and in the end
    /// are those behind its body. `has_any_origin`: pages of every origin may call. `None`: the client is gone or too slow. Not
    /// cancel safe: a drop loses the call, which may have been done.
    pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        request: &Request<()>,
        stream: &mut S,
        bytes: &mut Vec<u8>,
        (arrival, by): (&Arrival, Instant),
        has_any_origin: bool,
    ) -> Option<RestAnswer> {
        if request.headers().contains_key(EXPECT) {
            let go_on = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            timeout_at(by, go_on).await.ok()?.ok()?;
        }
        let read = timeout_at(by, body::read(request, stream, bytes))
            .await
            .ok()?;
        let origin = request.headers().get(ORIGIN).cloned();
        let mut is_last = ends(request) || read.is_err();
        let mut response = match read {
            Err(BodyFault::Gone) => return None,
            Err(BodyFault::Malformed) => status(StatusCode::BAD_REQUEST),
            Err(BodyFault::TooLarge) => status(StatusCode::PAYLOAD_TOO_LARGE),
            Ok(_) if request.method() == Method::OPTIONS => preflight(request),
            Ok(body) => {
                let engaged = arrival.engage();
                let response = self.call(request, body).await;
                drop(engaged);
                match response.extensions().get() {
                    None => arrival.renew(),
                    Some(Stranger { is_forger: false }) => {}
                    Some(Stranger { is_forger: true }) => {
                        let token = request.headers().get(TOKEN);
                        let token = token.and_then(|token| token.to_str().ok());
                        arrival.note_bad_token(token.unwrap_or_default());
                    }
                }
                response
            }
        };
        is_last |= response.status().is_server_error();
        allow(&mut response, origin, has_any_origin);
        // The answer to a preflight or a call has its body also when the method is not GET.
        let bytes = encode(&response, &Method::POST, is_last);
        Some(RestAnswer { bytes, is_last })
    }

    async fn call(&self, request: &Request<()>, body: Vec<u8>) -> Response<Bytes> {
        let Some(group) = self.group_of(request) else {
            return status(StatusCode::NOT_FOUND);
        };
        let request = request.clone().map(|()| Body::from(body));
        let Ok(response) = group.calls.call(request).await;
        let (mut parts, body) = response.into_parts();
        // `encode` writes the length.
        parts.headers.remove(CONTENT_LENGTH);
        match body.collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// The answer to a browser that asks if a page may make a call: with any method, and the headers that it asks for.
fn preflight(request: &Request<()>) -> Response<Bytes> {
    let mut response = status(StatusCode::OK);
    let any = HeaderValue::from_static("*");
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked.cloned().unwrap_or_else(|| any.clone());
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, any);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_LIFE_S.into());
    response
}

/// Lets the page read the answer. A token is in a header that the page must know, and never in a cookie that the browser would
/// add. So a foreign page gains nothing from the permission.
fn allow(response: &mut Response<Bytes>, origin: Option<HeaderValue>, has_any_origin: bool) {
    let headers = response.headers_mut();
    if has_any_origin {
        let any = HeaderValue::from_static("*");
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    } else if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::Ipv4Addr, rc::Rc, sync::Arc};

    use axum::{extract::Request, response::IntoResponse as _};
    use tokio::{
        io::{AsyncReadExt as _, DuplexStream, duplex},
        task::{AbortHandle, LocalSet, spawn_local},
        time::{sleep, timeout},
    };

    use super::*;
    use crate::{
        config,
        door::{Admitted, ClientHost, ClientPort, Entrance, Stream, accept::Gate as _},
    };

    /// A host that counts the WebSockets that it is given.
    #[derive(Clone, Default)]
    struct Host {
        upgraded: Rc<Cell<usize>>,
        is_draining: Rc<Cell<bool>>,
    }

    impl ClientHost for Host {
        fn is_serving(&self) -> bool {
            !self.is_draining.get()
        }

        async fn refuse(&self, _: &dyn crate::protocol::Codec, _: &Arrival) -> Option<Bytes> {
            None
        }

        fn let_in<S: Stream>(&self, client: Admitted<S>) -> AbortHandle {
            self.upgraded.set(self.upgraded.get() + 1);
            spawn_local(async move { drop(client) }).abort_handle()
        }
    }

    /// Answers with the body. The call `/call/forged` came with a forged token.
    async fn echo(request: Request) -> axum::response::Response {
        let is_forged = request.uri().path().ends_with("forged");
        let mut response = request.into_body().into_response();
        if is_forged {
            let forger = Stranger { is_forger: true };
            response.extensions_mut().insert(forger);
        }
        response
    }

    struct World {
        port: ClientPort<Host>,
        host: Host,
    }

    impl World {
        fn new(config: config::Listener) -> Self {
            let host = Host::default();
            let router = Router::new().fallback(echo);
            let rest = Rest::new(router, |method, path| {
                *method == Method::POST && path.starts_with("/call")
            });
            let entrance = Entrance::new(&config, None, Arc::default());
            Self {
                port: ClientPort::new(entrance.with_rest(Some(rest)), host.clone()),
                host,
            }
        }

        fn dial(&self) -> DuplexStream {
            let (ours, theirs) = duplex(256 * 1024);
            self.port.receive(ours, Ipv4Addr::LOCALHOST.into());
            theirs
        }
    }

    /// Runs a test, in which time passes only while all wait.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    fn post(path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
    }

    /// The answers on a connection that stays open, in lower case.
    async fn heard(stream: &mut DuplexStream) -> String {
        let mut bytes = vec![0; 256 * 1024];
        let count = timeout(Duration::from_secs(1), stream.read(&mut bytes)).await;
        bytes.truncate(count.unwrap_or(Ok(0)).unwrap());
        String::from_utf8_lossy(&bytes).to_lowercase()
    }

    async fn ask(stream: &mut DuplexStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        heard(stream).await
    }

    #[test]
    fn a_connection_goes_on_after_a_call_and_may_become_a_websocket() {
        run(async {
            let world = World::new(config::Listener::default());
            let mut stream = world.dial();
            for body in ["one", "two"] {
                let answer = ask(&mut stream, &post("/call", "", body)).await;
                assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
                assert!(
                    answer.ends_with(&format!("content-length: 3\r\n\r\n{body}")),
                    "{answer}"
                );
                assert!(
                    answer.contains("access-control-allow-origin: *\r\n"),
                    "{answer}"
                );
                assert!(!answer.contains("connection: close"), "{answer}");
            }
            sleep(IDLE_TIMEOUT - Duration::from_secs(5)).await;
            let both = [post("/call", "", "three"), post("/call", "", "four")].concat();
            stream.write_all(both.as_bytes()).await.unwrap();
            let answers = [heard(&mut stream).await, heard(&mut stream).await].concat();
            assert!(
                answers.contains("three") && answers.ends_with("four"),
                "{answers}"
            );
            let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            let answer = ask(&mut stream, upgrade).await;
            assert!(answer.starts_with("http/1.1 101 "), "{answer}");
            assert_eq!(world.host.upgraded.get(), 1);
        });
    }

    #[test]
    fn a_connection_without_calls_is_closed_after_100_s_and_half_a_body_after_5() {
        run(async {
            let world = World::new(config::Listener::default());
            let mut idle = world.dial();
            ask(&mut idle, &post("/call", "", "one")).await;
            let begun = Instant::now();
            assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(begun.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
            let mut half = world.dial();
            let begun = Instant::now();
            let request = post("/call", "", "body");
            half.write_all(&request.as_bytes()[..request.len() - 1])
                .await
                .unwrap();
            assert_eq!(half.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(begun.elapsed(), config::Listener::default().upgrade_timeout);
        });
    }

    #[test]
    fn a_call_has_its_methods_and_several_groups_stand_side_by_side() {
        let calls = |is_call| Rest::new(Router::new().fallback(echo), is_call);
        let of_apps =
            calls(|method, path| path == "/own" && [Method::GET, Method::DELETE].contains(method));
        assert!(!of_apps.is_for_sdks);
        let of_sdks = calls(|method, path| *method == Method::POST && path == "/call").for_sdks();
        let both = of_apps.and(of_sdks);
        assert!(both.is_for_sdks);
        for (method, path, is_taken) in [
            (Method::GET, "/own", true),
            (Method::DELETE, "/own", true),
            (Method::POST, "/own", false),
            (Method::PUT, "/own", false),
            (Method::OPTIONS, "/own", true),
            (Method::GET, "/own/", false),
            (Method::POST, "/call", true),
            (Method::GET, "/call", false),
            (Method::OPTIONS, "/call", true),
            (Method::OPTIONS, "/other", false),
        ] {
            let request = Request::builder().method(method.clone()).uri(path);
            let request = request.body(()).unwrap();
            assert_eq!(both.takes(&request), is_taken, "{method} {path}");
        }
    }

    #[test]
    fn a_client_that_calls_gives_way_after_those_that_are_silent() {
        run(async {
            let world = World::new(config::Listener {
                handshakes_per_address_max: 2,
                ..config::Listener::default()
            });
            let mut calling = world.dial();
            ask(&mut calling, &post("/call", "", "one")).await;
            let mut silent = world.dial();
            ask(&mut calling, &post("/call", "", "two")).await;
            let _next = world.dial();
            assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "cut off");
            let answer = ask(&mut calling, &post("/call", "", "three")).await;
            assert!(answer.ends_with("three"), "{answer}");
        });
        run(async {
            let world = World::new(config::Listener {
                handshakes_per_address_max: 2,
                ..config::Listener::default()
            });
            let mut forging = world.dial();
            let _silent = world.dial();
            ask(&mut forging, &post("/call/forged", "", "one")).await;
            let _next = world.dial();
            assert_eq!(forging.read(&mut [0]).await.unwrap(), 0, "cut off");
        });
    }

    #[test]
    fn a_preflight_is_told_that_a_page_may_send_what_it_asks_for() {
        run(async {
            let world = World::new(config::Listener::default());
            let request = "OPTIONS /call HTTP/1.1\r\nHost: a\r\nOrigin: https://oa.example\r\n\
                Access-Control-Request-Headers: content-type,operationid,token\r\n\r\n";
            let answer = ask(&mut world.dial(), request).await;
            assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
            for header in [
                "access-control-allow-origin: *",
                "access-control-allow-headers: content-type,operationid,token",
                "access-control-allow-methods: *",
                "access-control-max-age: 172800",
                "content-length: 0",
            ] {
                assert!(answer.contains(&format!("{header}\r\n")), "{answer}");
            }
        });
    }

    #[test]
    fn with_a_list_of_origins_pages_of_others_may_not_call() {
        run(async {
            let world = World::new(config::Listener {
                origins: vec!["https://oa.example".into()],
                ..config::Listener::default()
            });
            let from = |origin: &str| post("/call", &format!("Origin: {origin}\r\n"), "x");
            let ours = ask(&mut world.dial(), &from("https://oa.example")).await;
            assert!(
                ours.contains("access-control-allow-origin: https://oa.example\r\n"),
                "{ours}"
            );
            assert!(ours.contains("vary: origin\r\n"), "{ours}");
            let other = ask(&mut world.dial(), &from("https://evil.example")).await;
            assert!(other.starts_with("http/1.1 403 "), "{other}");
            // An app is no page.
            let none = ask(&mut world.dial(), &post("/call", "", "x")).await;
            assert!(none.starts_with("http/1.1 200 "), "{none}");
        });
    }

    #[test]
    fn a_call_has_the_admission_of_every_request() {
        run(async {
            let world = World::new(config::Listener {
                bad_tokens_per_minute_max: 1,
                ..config::Listener::default()
            });
            for token in ["a", "b"] {
                let call = post("/call/forged", &format!("token: {token}\r\n"), "x");
                ask(&mut world.dial(), &call).await;
            }
            let refused = ask(&mut world.dial(), &post("/call", "", "x")).await;
            assert!(refused.starts_with("http/1.1 429 "), "{refused}");
            let world = World::new(config::Listener::default());
            world.host.is_draining.set(true);
            let refused = ask(&mut world.dial(), &post("/call", "", "x")).await;
            assert!(refused.starts_with("http/1.1 503 "), "{refused}");
            assert!(refused.contains("retry-after: "), "{refused}");
        });
    }

    #[test]
    fn a_body_too_large_and_one_without_an_end_are_refused() {
        run(async {
            let world = World::new(config::Listener::default());
            let large = post("/call", "", &"x".repeat(body::BODY_BYTES_MAX + 1));
            let answer = ask(&mut world.dial(), &large).await;
            assert!(answer.starts_with("http/1.1 413 "), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            let chunked = "transfer-encoding: chunked\r\n";
            let answer = ask(&mut world.dial(), &post("/call", chunked, "x")).await;
            assert!(answer.starts_with("http/1.1 400 "), "{answer}");
            let expecting = post("/call", "Expect: 100-continue\r\n", "");
            let mut stream = world.dial();
            let answer = ask(&mut stream, &expecting).await;
            assert!(
                answer.starts_with("http/1.1 100 continue\r\n\r\n"),
                "{answer}"
            );
        });
    }

    #[test]
    fn the_port_for_calls_alone_serves_nothing_else() {
        run(async {
            let world = World::new(config::Listener::default());
            let port = world.port.for_calls();
            let dial = || {
                let (ours, theirs) = duplex(64 * 1024);
                port.receive(ours, Ipv4Addr::LOCALHOST.into());
                theirs
            };
            let answer = ask(&mut dial(), &post("/call", "", "x")).await;
            assert!(answer.starts_with("http/1.1 200 "), "{answer}");
            for other in [
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n",
            ] {
                let answer = ask(&mut dial(), other).await;
                assert!(answer.starts_with("http/1.1 404 "), "{answer}");
            }
            let elsewhere = ask(&mut dial(), &post("/other", "", "x")).await;
            assert!(elsewhere.starts_with("http/1.1 404 "), "{elsewhere}");
        });
    }
}
