//! The inbox page is served beside the WebSocket, and gives no token away.

use super::*;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn with_inbox() -> config::Listener {
    config::Listener {
        inbox: true,
        ..config()
    }
}

#[tokio::test]
async fn the_inbox_page_is_beside_the_websocket_where_it_is_wanted() {
    let gateway = start(&with_inbox());
    let html = gateway.answer(&get("/")).await;
    assert!(html.starts_with("HTTP/1.1 200 OK\r\n"), "{html}");
    let (head, body) = html.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-security-policy: default-src 'none';"),
        "{head}"
    );
    assert!(
        head.contains(&format!("content-length: {}\r\n", body.len())),
        "{head}"
    );
    let script = body
        .split('"')
        .find(|value| value.starts_with("app.js?"))
        .unwrap();
    let script = gateway.answer(&get(&format!("/{script}"))).await;
    assert!(
        script.contains("\r\ncontent-type: text/javascript"),
        "{script}"
    );
    let unknown = gateway.answer(&get("/../Cargo.toml")).await;
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    gateway.log_in("u").await;
}

#[tokio::test]
async fn without_tls_a_page_ends_its_connection() {
    let gateway = start(&with_inbox());
    // The answer is complete when the connection ends.
    let answer = gateway
        .answer("GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

/// A proxy on this machine forwards a stranger's request from here and, by default, under a name of this machine. Such a
/// request cannot be told from the request of a local user.
#[tokio::test]
async fn nobody_gets_a_token_from_the_client_port() {
    let mut config = Config::default();
    config.listener.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    for demo in [false, true] {
        config.listener.demo = demo;
        let gateway = start_with(&config);
        for path in [
            "/demo",
            "/demo/token",
            "/demo/token?userID=u",
            "/auth/user_token",
        ] {
            let answer = gateway.answer(&get(path)).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
            assert!(!answer.contains("eyJ"), "{path}: {answer}");
        }
    }
}
