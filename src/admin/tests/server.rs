//! The port itself, over a real socket.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

use super::{ADMIN, Fault, Gateway, SEED, admin_config, whole_config};
use crate::{
    admin::{self, Opening},
    config,
    door::{BindError, Server},
    threads::watched,
};

fn bind(gateway: &Gateway, config: &config::Admin) -> Result<(Server, Opening), BindError> {
    let (metrics, watch) = (Arc::clone(&gateway.metrics), Arc::clone(&gateway.watch));
    admin::bind(config, None, metrics, watch)
}

/// Serves until the sender is used or dropped.
fn serve(
    gateway: &Gateway,
) -> (
    SocketAddr,
    oneshot::Sender<()>,
    JoinHandle<std::io::Result<()>>,
) {
    let config = admin_config();
    let (server, opening) = bind(gateway, &config).unwrap();
    opening
        .open(&whole_config(&config), gateway.rooms())
        .unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.serve(watched("admin").0, async {
        let _ = stopped.await;
        Duration::from_secs(5)
    }));
    (address, stop, served)
}

fn request(gateway: &Gateway, body: &str) -> String {
    let token = gateway.token(ADMIN);
    let length = body.len();
    format!(
        "POST /manager/send_msg HTTP/1.1\r\nhost: a\r\ntoken: {token}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Reads one answer with a content-length; the connection may stay open.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a content-length").parse().unwrap();
            if body.len() >= length {
                return text.into_owned();
            }
        }
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert_ne!(read, 0, "closed within the answer: {answer:?}");
    }
}

#[tokio::test]
async fn a_caller_that_ended_its_own_direction_gets_its_answer() {
    let gateway = Gateway::new();
    let (address, _stop, _served) = serve(&gateway);
    let mut caller = TcpStream::connect(address).await.unwrap();
    let request = request(&gateway, SEED);
    caller.write_all(request.as_bytes()).await.unwrap();
    caller.shutdown().await.unwrap();
    let answer = read_answer(&mut caller).await;
    assert!(answer.contains(r#""errCode":0"#), "{answer}");
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "the gateway ends the connection then");
}

#[tokio::test]
async fn one_connection_carries_many_requests_without_a_content_type() {
    let gateway = Gateway::new();
    let (address, stop, served) = serve(&gateway);
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(request(&gateway, SEED).as_bytes())
            .await
            .unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\"errCode\":0"), "{answer}");
    }
    drop(stop);
    served.await.unwrap().unwrap();
    assert_eq!(gateway.appended(), 3);
}

#[tokio::test]
async fn a_body_announced_too_large_is_refused_before_it_is_sent() {
    let gateway = Gateway::new();
    let (address, _stop, _served) = serve(&gateway);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = gateway.token(ADMIN);
    let head = format!(
        "POST /manager/send_msg HTTP/1.1\r\nhost: a\r\ntoken: {token}\r\nexpect: 100-continue\r\ncontent-length: 999999999\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_body_too_large_is_read_and_then_refused() {
    let gateway = Gateway::new();
    let body_bytes_max = admin_config().body_bytes_max;
    let (address, _stop, _served) = serve(&gateway);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(request(&gateway, &"x".repeat(8 * body_bytes_max)).as_bytes())
        .await
        .unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"errCode\":413"), "{answer}");
}

#[tokio::test]
async fn the_request_under_way_is_answered_at_shutdown_and_idle_connections_close() {
    let gateway = Gateway::new();
    let (address, stop, served) = serve(&gateway);
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(request(&gateway, SEED).as_bytes())
        .await
        .unwrap();
    read_answer(&mut idle).await;

    let mut busy = TcpStream::connect(address).await.unwrap();
    let text = request(&gateway, SEED);
    let text = text.replacen("token", "expect: 100-continue\r\ntoken", 1);
    let (sent_before, sent_after) = text.split_at(text.len() - 10);
    busy.write_all(sent_before.as_bytes()).await.unwrap();
    // The request is under way once the server asks for the body.
    let mut go_on = [0; 25];
    busy.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stop.send(()).unwrap();
    assert_eq!(
        idle.read(&mut [0]).await.unwrap(),
        0,
        "the idle connection is closed"
    );
    busy.write_all(sent_after.as_bytes()).await.unwrap();
    let answer = read_answer(&mut busy).await;
    assert!(answer.contains("\"errCode\":0"), "{answer}");
    served.await.unwrap().unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nothing listens any more"
    );
}

#[tokio::test]
async fn the_end_is_bounded_when_a_request_hangs() {
    let gateway = Gateway::new();
    gateway.log.fail(Fault::Hang);
    let (address, stop, served) = serve(&gateway);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(request(&gateway, SEED).as_bytes())
        .await
        .unwrap();
    while gateway.log.rows().hanging.is_empty() {
        tokio::task::yield_now().await;
    }
    // From here on only the clock can end the wait.
    tokio::time::pause();
    drop(stop);
    served.await.unwrap().unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty(),
        "cut off, not answered: {}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn before_the_log_is_open_probes_are_answered_and_callers_told_to_come_back() {
    let gateway = Gateway::new();
    let config = admin_config();
    let (server, opening) = bind(&gateway, &config).unwrap();
    let address = server.local_addr();
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.serve(watched("admin").0, async {
        let _ = stopped.await;
        Duration::ZERO
    }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut get = async |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        read_answer(&mut stream).await
    };
    let is = |answer: &str, status: &str| answer.starts_with(&format!("HTTP/1.1 {status} "));
    let answer = get("/healthz").await;
    assert!(is(&answer, "200"), "{answer}");
    let answer = get("/metrics").await;
    assert!(is(&answer, "200"), "{answer}");
    let answer = get("/readyz").await;
    assert!(
        is(&answer, "503") && answer.contains("starting"),
        "{answer}"
    );
    let answer = get("/console/").await;
    assert!(is(&answer, "503") && answer.contains("50309"), "{answer}");
    assert!(answer.contains("retry-after"), "{answer}");
    opening
        .open(&whole_config(&config), gateway.rooms())
        .unwrap();
    let answer = get("/readyz").await;
    assert!(is(&answer, "200"), "the same connection: {answer}");
}

#[tokio::test]
async fn what_cannot_be_bound_is_named() {
    let gateway = Gateway::new();
    let (first, opening) = bind(&gateway, &admin_config()).unwrap();
    let taken = config::Admin {
        listen: first.local_addr(),
        ..admin_config()
    };
    let error = bind(&gateway, &taken).err().unwrap().to_string();
    assert!(error.contains(&first.local_addr().to_string()), "{error}");
    let nobody = config::Admin {
        user_ids: vec!["".into()],
        ..admin_config()
    };
    let opened = opening.open(&whole_config(&nobody), gateway.rooms());
    let error = opened.unwrap_err().to_string();
    assert_eq!(error, "admin.user_ids: \"\" is empty");
}
