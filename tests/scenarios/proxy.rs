//! P7 behind a proxy: clients count by their own addresses, and nobody else can choose an address.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Client, Gateway, WEB, client::knock_from, eventually, notice, text_of};

/// An address that is no proxy's.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];
/// The proxy's address.
const PROXY: [u8; 4] = [127, 0, 0, 1];

/// Asks for a session of OpenIM's with a token that no key of ours signed. Returns the status: 429 for an address that sent too
/// many. None: the connection ended without an answer.
async fn guess(from: [u8; 4], to: SocketAddr, preface: &[u8], headers: &str) -> Option<u16> {
    let token = format!("guess-{:x}", fastrand::u64(..));
    let request = format!(
        "GET /?sendID=u1&token={token}&platformID=5 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    let mut stream = knock_from(from, to).await.unwrap();
    stream
        .write_all(&[preface, request.as_bytes()].concat())
        .await
        .unwrap();
    status(&mut stream).await
}

/// The status of the answer. A proxy may keep the connection.
async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') {
        answer.push(stream.read_u8().await.ok()?);
    }
    let line = String::from_utf8_lossy(&answer).into_owned();
    line.split(' ').nth(1)?.parse().ok()
}

/// Guesses until the client with these words of a proxy is told to wait, and expects that nobody else is.
async fn expect_limit(
    gateway: &Gateway,
    from: [u8; 4],
    guilty: (&[u8], &str),
    others: &[(&[u8], &str)],
) {
    let clients = gateway.place().clients;
    for _ in 0..3 {
        assert_eq!(guess(from, clients, guilty.0, guilty.1).await, Some(200));
    }
    assert_eq!(guess(from, clients, guilty.0, guilty.1).await, Some(429));
    for (preface, headers) in others {
        let asked = guess(from, clients, preface, headers).await;
        assert_eq!(asked, Some(200), "{headers} {preface:?}");
    }
}

#[tokio::test]
async fn limits_count_by_the_address_that_a_trusted_proxy_names_in_a_header() {
    let settings = [
        "listener.bad_tokens_per_minute_max=3",
        "listener.trusted_proxies=127.0.0.1,10.0.0.0/8",
    ];
    let gateway = Gateway::start(&settings).await;
    // The client chose what stands on the left; another proxy of ours stands between.
    let guilty = "X-Forwarded-For: 203.0.113.1, 192.0.2.7, 10.0.0.2\r\n";
    let others: [(&[u8], &str); 3] = [
        (b"", "X-Forwarded-For: 192.0.2.7, 192.0.2.8\r\n"),
        (b"", "Forwarded: for=\"[2001:db8::7]\"\r\n"),
        // Headers that disagree name nobody.
        (
            b"",
            "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.9\r\n",
        ),
    ];
    expect_limit(&gateway, PROXY, (b"", guilty), &others).await;
    // A network that is not listed is believed nothing: all of it counts under its own address.
    let clients = gateway.place().clients;
    for client in 1..=3 {
        let lie = format!("X-Forwarded-For: 198.51.100.{client}\r\n");
        assert_eq!(guess(ELSEWHERE, clients, b"", &lie).await, Some(200));
    }
    let lie = "X-Forwarded-For: 198.51.100.4\r\n";
    assert_eq!(guess(ELSEWHERE, clients, b"", lie).await, Some(429));
}

/// Version 2 of the PROXY protocol, for a client at 192.0.2.`last`.
fn binary(last: u8) -> Vec<u8> {
    let ends = [192, 0, 2, last, 127, 0, 0, 1, 0x12, 0x34, 0x27, 0x11];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &ends].concat()
}

#[tokio::test]
async fn limits_count_by_the_address_in_the_proxy_protocol() {
    let settings = [
        "listener.bad_tokens_per_minute_max=3",
        "listener.trusted_proxies=127.0.0.1",
        "listener.proxy_protocol=true",
    ];
    let gateway = Gateway::start(&settings).await;
    let line = b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 10001\r\n";
    let (other, lie) = (binary(8), "X-Forwarded-For: 198.51.100.4\r\n");
    let others: [(&[u8], &str); 2] = [(&other, ""), (b"PROXY UNKNOWN\r\n", "")];
    // Behind the protocol stands no further proxy that would be believed.
    expect_limit(&gateway, PROXY, (line, lie), &others).await;
    let clients = gateway.place().clients;
    assert_eq!(guess(PROXY, clients, &binary(7), "").await, Some(429));
    // Without the protocol a proxy gets nothing; with it nobody else does.
    assert_eq!(guess(PROXY, clients, b"", "").await, None);
    assert_eq!(guess(ELSEWHERE, clients, line, "").await, Some(400));
    assert_eq!(guess(ELSEWHERE, clients, b"", "").await, Some(200));
    // The same on the admin port, but for commands on the proxy's machine.
    let admin = gateway.place().admin;
    let probe = async |from: [u8; 4], preface: &[u8]| {
        let mut stream = knock_from(from, admin).await.unwrap();
        let request = [preface, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        stream.write_all(&request).await.unwrap();
        status(&mut stream).await
    };
    assert_eq!(probe(PROXY, line).await, Some(200));
    assert_eq!(probe(PROXY, &binary(7)).await, Some(200));
    assert_eq!(probe(PROXY, b"").await, Some(200));
    assert_eq!(probe(PROXY, b"PROXY nobody\r\n").await, None);
    assert_eq!(probe(ELSEWHERE, b"").await, Some(200));
    assert_eq!(probe(ELSEWHERE, line).await, Some(400));
    // Half of it, and then silence: the connection ends, and nobody else waits.
    let mut half = knock_from(PROXY, clients).await.unwrap();
    half.write_all(&line[..20]).await.unwrap();
    assert_eq!(guess(ELSEWHERE, clients, b"", "").await, Some(200));
    half.shutdown().await.unwrap();
    assert_eq!(status(&mut half).await, None);
}

/// A proxy of a Debian package, on a free port of its own.
struct ReverseProxy {
    kind: &'static ProxyKind,
    child: Child,
    dir: tempfile::TempDir,
    address: SocketAddr,
}

/// A proxy that the operator's page names.
struct ProxyKind {
    program: &'static str,
    /// Its configuration, in `tests/support/proxies/`. It stands behind these arguments.
    file: &'static str,
    arguments: &'static [&'static str],
    reload: Reload,
    /// The gateway's settings behind it.
    settings: &'static [&'static str],
}

/// The way in which a proxy loads its configuration anew, as an operator asks for it after a change.
enum Reload {
    Signal(Signal),
    /// Its command with these arguments and the configuration. Sessions through it end.
    Command(&'static [&'static str]),
}

const NGINX: ProxyKind = ProxyKind {
    program: "/usr/sbin/nginx",
    file: "nginx.conf",
    arguments: &["-e", "stderr", "-c"],
    reload: Reload::Signal(Signal::HUP),
    settings: &[],
};
const HAPROXY: ProxyKind = ProxyKind {
    program: "/usr/sbin/haproxy",
    file: "haproxy.cfg",
    arguments: &["-W", "-f"],
    reload: Reload::Signal(Signal::USR2),
    settings: &["listener.proxy_protocol=true"],
};
const CADDY: ProxyKind = ProxyKind {
    program: "/usr/bin/caddy",
    file: "Caddyfile",
    arguments: &["run", "--config"],
    reload: Reload::Command(&["reload", "--force", "--config"]),
    settings: &[],
};

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        // Its workers end with it, which they would not after SIGKILL.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

impl ReverseProxy {
    /// Starts it. `None`: its package is not installed.
    async fn start(kind: &'static ProxyKind, clients: SocketAddr) -> Option<Self> {
        if !Path::new(kind.program).exists() {
            eprintln!("{} is not installed: left out", kind.program);
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // Free until the proxy takes it: no other program on this machine asks for this very port.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/proxies");
        let text = fs::read_to_string(place.join(kind.file)).unwrap();
        let text = text
            .replace("DIRECTORY", dir.path().to_str().unwrap())
            .replace("LISTEN", &address.to_string())
            .replace("PORT", &address.port().to_string())
            .replace("GATEWAY", &clients.to_string());
        fs::write(dir.path().join(kind.file), text).unwrap();
        let child = Self::command(kind, kind.arguments, &dir).spawn().unwrap();
        let proxy = Self {
            kind,
            child,
            dir,
            address,
        };
        eventually("the proxy to listen", async || {
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        Some(proxy)
    }

    fn command(kind: &ProxyKind, arguments: &[&str], dir: &tempfile::TempDir) -> Command {
        let mut command = Command::new(kind.program);
        command
            .args(arguments)
            .arg(dir.path().join(kind.file))
            .env("HOME", dir.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// True if its sessions survive.
    fn reload(&self) -> bool {
        match self.kind.reload {
            Reload::Signal(signal) => {
                kill_process(Pid::from_child(&self.child), signal).unwrap();
                true
            }
            Reload::Command(arguments) => {
                let mut command = Self::command(self.kind, arguments, &self.dir);
                assert!(command.status().unwrap().success());
                false
            }
        }
    }
}

/// Sessions through the proxy land what is sent, also after its reload, and the limits count by the clients' addresses.
async fn expect_all_is_well_behind(kind: &'static ProxyKind) {
    let common = [
        "listener.bad_tokens_per_minute_max=3",
        "listener.trusted_proxies=127.0.0.1",
    ];
    let gateway = Gateway::start(&[&common, kind.settings].concat()).await;
    let Some(proxy) = ReverseProxy::start(kind, gateway.place().clients).await else {
        return;
    };
    let mut admin = gateway.admin().await;
    let mut before = log_in(&gateway, proxy.address, "alice").await;
    admin.send(&notice("alice", "one")).await;
    assert_eq!(text_of(&before.expect_push().await), "one");
    if !proxy.reload() {
        before = log_in(&gateway, proxy.address, "alice").await;
        // The message was pushed and not acked.
        assert_eq!(text_of(&before.expect_push().await), "one");
    }
    admin.send(&notice("alice", "two")).await;
    assert_eq!(text_of(&before.expect_push().await), "two");
    let mut after = log_in(&gateway, proxy.address, "bob").await;
    admin.send(&notice("bob", "three")).await;
    assert_eq!(text_of(&after.expect_push().await), "three");

    // A lying header changes nothing: the proxy says the truth behind it.
    for number in 0..3 {
        let lie = format!("X-Forwarded-For: 198.51.100.{number}\r\n");
        assert_eq!(guess(ELSEWHERE, proxy.address, b"", &lie).await, Some(200));
    }
    assert_eq!(guess(ELSEWHERE, proxy.address, b"", "").await, Some(429));
    assert_eq!(
        guess([127, 0, 0, 3], proxy.address, b"", "").await,
        Some(200)
    );
}

async fn log_in(gateway: &Gateway, address: SocketAddr, user: &str) -> Client {
    let mut client = Client::dial(address).await.expect("the proxy passes it on");
    let token = gateway.token(user, WEB).await;
    client
        .log_in(towncrier::protocol::towncrier_v1::proto::Connect {
            token,
            ..Default::default()
        })
        .await;
    client
}

#[tokio::test]
async fn nginx_names_its_clients_in_a_header() {
    expect_all_is_well_behind(&NGINX).await;
}

#[tokio::test]
async fn haproxy_names_its_clients_in_the_proxy_protocol() {
    expect_all_is_well_behind(&HAPROXY).await;
}

#[tokio::test]
async fn caddy_names_its_clients_in_a_header() {
    expect_all_is_well_behind(&CADDY).await;
}
