//! The client against servers on this machine: answers, failures, connections.

use std::{convert::Infallible, fs, sync::Arc};

use hyper::{StatusCode, Version, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

fn client() -> Outbound {
    Outbound::new(&Trust::default(), Reach::Anywhere, SHORT_IDLE_TIMEOUT)
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

/// A server that hands each connection to `serve`, and its URL.
async fn server<S>(serve: impl Fn(TcpStream) -> S + Send + 'static) -> String
where
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    format!("http://{address}/path?secret=s3cret")
}

/// A server that reads one request on each connection, writes `answer` and closes.
async fn says(answer: impl Into<Vec<u8>>) -> String {
    let answer = Arc::new(answer.into());
    server(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_of_any_status_comes_with_head_and_body() {
    let url = says("HTTP/1.1 503 Later\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy").await;
    let answer = client().call(get(&url), LONG).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let wait = super::super::retry_after(answer.headers());
    assert_eq!(wait, Some(Duration::from_secs(7)));
    assert_eq!(&answer.body()[..], b"busy");
}

#[tokio::test]
async fn an_answer_that_is_too_large_has_its_head_and_no_body() {
    for (status, bytes, expected) in [
        (200, ANSWER_BYTES_MAX, ANSWER_BYTES_MAX),
        (200, ANSWER_BYTES_MAX + 1, 0),
        (503, 2 * ANSWER_BYTES_MAX, 0),
    ] {
        let head = format!("HTTP/1.1 {status} X\r\nretry-after: 7\r\nconnection: close\r\n\r\n");
        let url = says([head.into_bytes(), vec![b'x'; bytes]].concat()).await;
        let answer = client().call(get(&url), LONG).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.body().len(), expected);
        let wait = super::super::retry_after(answer.headers());
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let head = format!("HTTP/1.1 307 Moved\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
    let answer = client().call(get(&says(head).await), LONG).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let url = server(|mut stream| async move {
        // Each answer has the number of the request on its connection.
        let mut request = [0; 4096];
        for number in 0.. {
            if stream.read(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client();
    for number in ["0", "1", "2"] {
        let answer = client.call(get(&url), LONG).await.unwrap();
        assert_eq!(&answer.body()[..], number.as_bytes());
    }
}

#[tokio::test]
async fn each_failure_has_its_own_error_and_none_shows_the_url() {
    let silent = server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let half = says("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let garbage = says("SSH-2.0-OpenSSH_9.9\r\n").await;
    let nothing = says("").await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let no_name = format!("http://{}/", "x".repeat(64));
    let short = Duration::from_millis(50);
    for (url, timeout, expected) in [
        (silent, short, CallError::Timeout(short)),
        (half, LONG, CallError::Cut),
        (garbage, LONG, CallError::Cut),
        (nothing, LONG, CallError::Cut),
        (
            closed,
            LONG,
            CallError::Connect(std::io::ErrorKind::ConnectionRefused),
        ),
        (no_name, LONG, CallError::Resolve),
    ] {
        let error = client().call(get(&url), timeout).await.unwrap_err();
        assert_eq!(error, expected);
        let text = error.to_string();
        assert!(
            !text.contains("s3cret") && !text.contains("127.0.0.1"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_users_url_never_leads_into_the_own_network() {
    let client = Outbound::new(&Trust::default(), Reach::Public, SHORT_IDLE_TIMEOUT);
    for host in [
        "127.0.0.1",
        "[::1]",
        "localhost",
        "[::ffff:10.0.0.1]",
        "169.254.169.254",
    ] {
        let answer = client.call(get(&format!("http://{host}:9/")), LONG).await;
        assert_eq!(answer.unwrap_err(), CallError::PrivateAddress, "{host}");
    }
}

/// A server for HTTP/2 over TLS, its URL, and the trust in its certificate.
async fn tls_server() -> (String, Trust) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let url = server(move |stream| {
        let accepting = acceptor.accept(stream);
        async move {
            let Ok(stream) = accepting.await else { return };
            let answer = async |request: Request<Incoming>| {
                assert_eq!(request.version(), Version::HTTP_2);
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"two"))))
            };
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    fs::write(&path, cert.pem()).unwrap();
    (
        url.replace("http://", "https://"),
        Trust::only(&path).unwrap(),
    )
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_offers_it() {
    let (url, trust) = tls_server().await;
    let client = Outbound::new(&trust, Reach::Anywhere, LONG_IDLE_TIMEOUT);
    let answer = client.call(get(&url), LONG).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(&answer.body()[..], b"two");
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_not_trusted() {
    let (url, _) = tls_server().await;
    let (_, other) = tls_server().await;
    let client = Outbound::new(&other, Reach::Anywhere, SHORT_IDLE_TIMEOUT);
    let error = client.call(get(&url), LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Tls(_)), "{error}");
}

#[test]
fn the_look_up_of_a_name_waits_for_no_thread_of_the_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let url = url.replace("127.0.0.1", "localhost");
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let holds = tokio::task::spawn_blocking(move || ended.recv());
        let answer = client().call(get(&url), LONG).await;
        drop(end);
        assert!(holds.await.unwrap().is_err());
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    });
}
