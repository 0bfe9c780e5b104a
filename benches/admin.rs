//! The admin API: the cost of reading a request and checking it. The calls are online-only and no session is online, so
//! nothing is stored and nothing pushed.
//!
//! The room shows only its port. So each figure contains a request over a connection of this machine, with both ends on one
//! thread; the first bench is only that and the token's signature, with a minimal body. Contents of 400 bytes; seeded.
//!
//! `cargo bench --bench admin`

#[path = "support/message.rs"]
mod message;

use std::{future::pending, sync::Arc};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use fastrand::Rng;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use message::{CONTENT_BYTES, message};
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    task::{LocalSet, spawn_local},
};
use towncrier::{
    admin::{self, Rooms},
    clock::Clock,
    config::Config,
    gateway::Base,
    ids::{Platform, UserId},
    log::embedded::EmbeddedLog,
    metrics::Metrics,
    threads::watched,
    webhooks::Hooks,
};

/// One of the configuration's administrators.
const ADMIN: &str = "openIM123456";
/// The largest content that a gateway accepts by default.
const LARGE_BYTES: usize = 48 * 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    config.log.dir = dir.path().join("log");
    let mut caller = Caller::new(&config);
    let mut group = criterion.benchmark_group("admin");

    let mut random = Rng::with_seed(1);
    let least = r#"{"operationID":"bench"}"#.to_owned();
    let small = send(
        &content(&mut random, CONTENT_BYTES),
        r#""recvID":"user-0001234""#,
    );
    let large = send(
        &content(&mut random, LARGE_BYTES),
        r#""recvID":"user-0001234""#,
    );
    for (name, path, body) in [
        ("the least call", "/msg/check_msg_is_send_success", least),
        ("send of 400 bytes", "/manager/send_msg", small),
        ("send of 48 KiB", "/manager/send_msg", large),
    ] {
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: body.len() as u64,
        });
        let body = Bytes::from(body);
        group.bench_function(name, |bencher| bencher.iter(|| caller.call(path, &body)));
    }
    for (name, receivers) in [("batch of 100", 100), ("batch of 10,000", 10_000)] {
        let users = (0..receivers).map(|user| format!(r#""user-{user:07}""#));
        let users = users.collect::<Vec<_>>().join(",");
        let content = content(&mut random, CONTENT_BYTES);
        let body = send(&content, &format!(r#""recvIDList":[{users}]"#));
        group.throughput(Throughput::ElementsAndBytes {
            elements: receivers,
            bytes: body.len() as u64,
        });
        let body = Bytes::from(body);
        let path = "/manager/batch_send_msg";
        group.bench_function(name, |bencher| bencher.iter(|| caller.call(path, &body)));
    }
    group.finish();
    criterion.final_summary();
}

fn content(random: &mut Rng, bytes: usize) -> String {
    let content = message(random, bytes).content;
    String::from_utf8(content.into()).expect("it is JSON")
}

/// The body of a send, with every field that such callers fill in.
fn send(content: &str, receivers: &str) -> String {
    format!(
        r#"{{"operationID":"bench","sendID":"{ADMIN}",{receivers},"senderPlatformID":2,"senderFaceURL":"http://www.head.com","senderNickname":"OA","content":{content},"contentType":1400,"sessionType":4,"isOnlineOnly":true,"offlinePushInfo":{{"title":"a notice","desc":"","ex":"","iOSPushSound":"default","iOSBadgeCount":false}}}}"#
    )
}

/// A kept connection to an admin port, and the thread's runtime, on which both ends of it run.
struct Caller {
    runtime: Runtime,
    local: LocalSet,
    connection: http1::SendRequest<Full<Bytes>>,
    token: String,
}

impl Caller {
    fn new(config: &Config) -> Self {
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(Clock::system());
        let log = EmbeddedLog::open(&config.log, clock.clone(), metrics.clone());
        let log = log.expect("the log opens");
        let base = Base::build(config, metrics.clone(), clock, log);
        let eraser = base.eraser(None, None);
        let delivery = base.delivery;
        let admin = UserId::new(ADMIN).expect("an id");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let issued = runtime.block_on(delivery.issue_token(&admin, Platform::Admin));
        let token = issued.expect("the log reads").token;
        let watch = Arc::default();
        let bound = admin::bind(
            &config.admin,
            None,
            Arc::clone(&metrics),
            Arc::clone(&watch),
        );
        let (server, opening) = bound.expect("a port is free");
        let rooms = Rooms {
            delivery,
            metrics,
            watch,
            seen: None,
            hooks: Hooks::default(),
            eraser,
        };
        opening.open(config, rooms).expect("a good configuration");
        let local = LocalSet::new();
        let connection = local.block_on(&runtime, async {
            let address = server.local_addr();
            spawn_local(server.serve(watched("admin").0, pending()));
            let stream = TcpStream::connect(address).await.expect("it listens");
            stream.set_nodelay(true).expect("a socket");
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
            spawn_local(connection);
            sender
        });
        Self {
            runtime,
            local,
            connection,
            token,
        }
    }

    /// Makes the call, which must succeed.
    fn call(&mut self, path: &str, body: &Bytes) -> Bytes {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("token", &self.token)
            .body(Full::new(body.clone()))
            .expect("a request");
        let exchange = async {
            self.connection.ready().await.expect("a kept connection");
            let answer = self.connection.send_request(request).await;
            let (head, body) = answer.expect("an answer").into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            assert_eq!(head.status, 200, "{body:?}");
            body
        };
        self.local.block_on(&self.runtime, exchange)
    }
}
