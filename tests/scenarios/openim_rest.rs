//! The REST calls of OpenIM's SDKs against a real gateway: beside the WebSocket, over TLS, and on a port of their own.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{ADMIN, Gateway, IOS, WEB, authority::Authority, notice, within};

const INCREMENTAL: &str = "/api/conversation/get_incremental_conversations";
const MARK: &str = "/api/msg/mark_conversation_as_read";

/// An SDK's HTTP: one kept connection, and the user's token.
struct Sdk<S> {
    stream: S,
    token: String,
}

impl Sdk<TcpStream> {
    async fn dial(address: SocketAddr, token: String) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream, token }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sdk<S> {
    /// Sends a request and returns the head of the answer, and its body.
    async fn ask(&mut self, request: &str) -> (String, String) {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = within("the head of an answer", self.stream.read_u8()).await;
            head.push(byte.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let (length, _) = length.split_once("\r\n").unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        let read = self.stream.read_exact(&mut body);
        within("the body of an answer", read).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Makes a call, which must be answered with HTTP 200 and JSON on a connection that goes on.
    async fn call(&mut self, path: &str, body: &Value) -> Value {
        let (token, body) = (&self.token, body.to_string());
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: oa.example\r\noperationID: scenario\r\ntoken: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let (head, body) = self.ask(&request).await;
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(!head.contains("connection: close"), "{head}");
        serde_json::from_str(&body).unwrap()
    }
}

/// The conversations of the caller that the gateway lists.
async fn listed(sdk: &mut Sdk<TcpStream>) -> Vec<String> {
    let answer = sdk.call(INCREMENTAL, &json!({})).await;
    let list = answer["data"]["insert"].as_array().unwrap().iter();
    list.map(|one| one["conversationID"].as_str().unwrap().to_owned())
        .collect()
}

/// Head and mark of u1's conversation with the administrator.
async fn seqs(sdk: &mut Sdk<TcpStream>) -> (u64, u64) {
    let answer = sdk
        .call("/msg/get_conversations_has_read_and_max_seq", &json!({}))
        .await;
    let seqs = &answer["data"]["seqs"][format!("sn_{ADMIN}_u1")];
    let seq = |name: &str| seqs[name].as_u64().unwrap();
    (seq("maxSeq"), seq("hasReadSeq"))
}

#[tokio::test]
async fn an_sdk_lists_conversations_and_marks_them_read_across_a_kill() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    for text in ["one", "two", "three"] {
        admin.send(&notice("u1", text)).await;
    }
    let conversation = format!("sn_{ADMIN}_u1");
    let token = gateway.token("u1", WEB).await;
    let mut sdk = Sdk::dial(gateway.place().clients, token.clone()).await;
    assert_eq!(listed(&mut sdk).await, [&*conversation]);
    let infos = json!({ "userIDs": [ADMIN, "u1"] });
    let infos = sdk.call("/user/get_users_info", &infos).await;
    assert_eq!(infos["data"]["usersInfo"][0]["nickname"], "Office");
    assert_eq!(infos["data"]["usersInfo"][1]["userID"], "u1");
    assert_eq!(seqs(&mut sdk).await, (3, 0));
    let mark =
        json!({ "conversationID": conversation, "userID": "u1", "hasReadSeq": 2, "seqs": null });
    assert_eq!(sdk.call(MARK, &mark).await["errCode"], 0);
    gateway.kill();
    gateway.restart().await;
    let mut sdk = Sdk::dial(gateway.place().clients, token).await;
    assert_eq!(seqs(&mut sdk).await, (3, 2));
    assert_eq!(listed(&mut sdk).await, [&*conversation]);
}

#[tokio::test]
async fn a_call_is_its_tokens_users_until_the_user_is_logged_out() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("u1", "one")).await;
    let token = gateway.token("u2", IOS).await;
    let mut sdk = Sdk::dial(gateway.place().clients, token).await;
    assert_eq!(listed(&mut sdk).await, [""; 0]);
    let foreign = sdk.call(INCREMENTAL, &json!({ "userID": "u1" })).await;
    assert_eq!(foreign["errCode"], 1002);
    admin.force_logout("u2", IOS).await;
    let refused = sdk.call(INCREMENTAL, &json!({})).await;
    assert_eq!(refused["errCode"], 1506);
    sdk.token = "no token".into();
    let refused = sdk.call(INCREMENTAL, &json!({})).await;
    assert_eq!(refused["errCode"], 1503);
}

#[tokio::test]
async fn a_page_asks_first_and_a_connection_that_carried_calls_still_serves_the_page() {
    let gateway = Gateway::start(&[]).await;
    let token = gateway.token("u1", WEB).await;
    let mut sdk = Sdk::dial(gateway.place().clients, token).await;
    let preflight = format!(
        "OPTIONS {INCREMENTAL} HTTP/1.1\r\nHost: a\r\nOrigin: https://oa.example\r\n\
         Access-Control-Request-Headers: content-type,operationid,token,reqfuncname\r\n\r\n"
    );
    let (head, _) = sdk.ask(&preflight).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains(
            "access-control-allow-headers: content-type,operationid,token,reqfuncname\r\n"
        )
    );
    assert_eq!(sdk.call(INCREMENTAL, &json!({})).await["errCode"], 0);
    let (head, page) = sdk.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        head.starts_with("http/1.1 200 ") && page.contains("</html>"),
        "{head}"
    );
    let mut other = Sdk::dial(gateway.place().clients, String::new()).await;
    let (head, _) = other
        .ask("POST /auth/user_token HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert!(
        head.starts_with("http/1.1 404 "),
        "no call of the admin port: {head}"
    );
}

#[tokio::test]
async fn calls_are_served_over_tls_as_well() {
    let authority = Authority::new();
    let settings = authority.settings("listener");
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let gateway = Gateway::start(&settings).await;
    let token = gateway.token("u1", WEB).await;
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(authority.ca()).unwrap();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let clients = gateway.place().clients;
    let stream = TcpStream::connect(clients).await.unwrap();
    let tls = TlsConnector::from(Arc::new(config)).connect(ServerName::from(clients.ip()), stream);
    let stream = within("the TLS handshake", tls).await.unwrap();
    let mut sdk = Sdk { stream, token };
    for _ in 0..2 {
        assert_eq!(sdk.call(INCREMENTAL, &json!({})).await["errCode"], 0);
    }
}

#[tokio::test]
async fn a_port_for_calls_alone_serves_them_and_nothing_else() {
    let gateway = Gateway::start(&["openim.api_listen=127.0.0.1:0"]).await;
    let calls = gateway.place().calls.expect("a port for calls");
    let token = gateway.token("u1", WEB).await;
    let mut sdk = Sdk::dial(calls, token).await;
    let answer = sdk
        .call("/friend/get_black_list", &json!({ "userID": "u1" }))
        .await;
    assert_eq!(
        answer,
        json!({ "errCode": 0, "errMsg": "", "errDlt": "", "data": {} })
    );
    let (head, _) = sdk.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
}

#[tokio::test]
async fn without_clients_of_openim_there_are_no_calls() {
    let gateway = Gateway::start(&["openim.enabled=false"]).await;
    let mut sdk = Sdk::dial(gateway.place().clients, String::new()).await;
    let request = format!("POST {INCREMENTAL} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let (head, _) = sdk.ask(&request).await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
}
