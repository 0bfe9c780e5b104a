//! Devices for push against a real gateway: they survive a kill, need no client of OpenIM, and end with a logout.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{client_async, tungstenite::Message as Socket};

use crate::support::{Gateway, IOS, WEB, admin::Admin, eventually, within};

/// The answer to a call of an app on a connection of its own: HTTP status and JSON.
async fn ask(address: SocketAddr, method: &str, token: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "{method} /devices HTTP/1.1\r\nHost: oa.example\r\ntoken: {token}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = within("the answer to a call", asked).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn device(token: &str) -> Value {
    json!({ "provider": "fcm", "token": token, "app": "oa", "lang": "zh-CN" })
}

async fn listed(admin: &mut Admin) -> usize {
    let body = json!({ "operationID": "op", "userID": "u1" });
    let answer = admin.post("/device/list", &body).await;
    let answer: Value = serde_json::from_str(&answer.text).unwrap();
    answer["data"]["list"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_device_survives_a_kill_without_clients_of_openim_and_ends_with_a_forced_logout() {
    let mut gateway = Gateway::start(&["openim.enabled=false"]).await;
    let (phone, page) = (
        gateway.token("u1", IOS).await,
        gateway.token("u1", WEB).await,
    );
    let clients = gateway.place().clients;
    for (token, name) in [(&phone, "phone"), (&page, "page")] {
        let answer = ask(clients, "POST", token, &device(name)).await;
        assert_eq!(answer, (200, json!({})));
    }
    let (status, keys) = ask(clients, "GET", &page, &Value::Null).await;
    assert_eq!(status, 200);
    assert!(keys.as_object().unwrap().contains_key("webpush_key"));
    let (status, refused) = ask(clients, "POST", "no token", &device("other")).await;
    assert_eq!((status, &refused["errCode"]), (401, &json!(401)));
    gateway.kill();
    gateway.restart().await;
    let mut admin = gateway.admin().await;
    assert_eq!(listed(&mut admin).await, 2);
    admin.force_logout("u1", IOS).await;
    assert_eq!(listed(&mut admin).await, 1);
    let clients = gateway.place().clients;
    let answer = ask(clients, "DELETE", &page, &device("page")).await;
    assert_eq!(answer, (200, json!({})));
    assert_eq!(listed(&mut admin).await, 0);
}

#[tokio::test]
async fn the_logout_of_an_sdk_removes_the_device_of_its_login() {
    let gateway = Gateway::start(&[]).await;
    let clients = gateway.place().clients;
    let token = gateway.token("u1", WEB).await;
    let answer = ask(clients, "POST", &token, &device("page")).await;
    assert_eq!(answer, (200, json!({})));
    let mut admin = gateway.admin().await;
    assert_eq!(listed(&mut admin).await, 1);
    let stream = TcpStream::connect(clients).await.unwrap();
    let query =
        format!("sendID=u1&platformID={WEB}&token={token}&operationID=o&isMsgResp=true&sdkType=js");
    let upgrade = client_async(format!("ws://{clients}/?{query}"), stream);
    let (mut sdk, _) = within("the upgrade", upgrade).await.unwrap();
    let request = json!({ "reqIdentifier": 2003, "msgIncr": "1", "sendID": "u1", "operationID": "o", "data": "CgJ1MQ==" });
    sdk.send(Socket::Binary(request.to_string().into()))
        .await
        .unwrap();
    while let Some(Ok(heard)) = within("the end of the session", sdk.next()).await {
        if matches!(heard, Socket::Close(_)) {
            break;
        }
    }
    eventually("the device is removed", async || {
        listed(&mut admin).await == 0
    })
    .await;
}
