//! The gateway as a process of its own on a directory of its own, so that a test can kill it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{oneshot, watch},
};
use towncrier::protocol::towncrier_v1::proto::Connect;

use super::{ADMIN, IOS, admin::Admin, client::Client, within};

/// The secret for `/auth/user_token` in every scenario.
pub(crate) const SECRET: &str = "scenario-secret";

/// The addresses of a running gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The port for OpenIM's REST calls alone, if there is one.
    pub(crate) calls: Option<SocketAddr>,
}

/// The addresses of a gateway from start to start. Each start has other ports.
pub(crate) type Whereabouts = watch::Receiver<Option<Place>>;

/// A gateway on a temporary directory. Dropping it kills the process.
pub(crate) struct Gateway {
    dir: TempDir,
    settings: Vec<String>,
    place: watch::Sender<Option<Place>>,
    child: Option<Child>,
}

impl Gateway {
    /// Starts a gateway with these `section.key=value`, and waits until it listens.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let mut gateway = Self::prepare();
        gateway.restart_with(settings).await;
        gateway
    }

    /// The same, but its log goes to `stderr`, so [`said`](Self::said) is empty.
    pub(crate) async fn start_logging_to(stderr: impl Into<Stdio>) -> Self {
        let mut gateway = Self::prepare();
        gateway.spawn(stderr).await;
        gateway
    }

    fn prepare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        // A key of its own, so that no two gateways of a test run accept each other's tokens.
        let key = format!("{:032x}", fastrand::u128(..));
        let file = format!(
            "listener.listen = \"127.0.0.1:0\"\nlistener.reactors = 2\nadmin.listen = \"127.0.0.1:0\"\n\
             log.dir = {data:?}\nauth.secret = \"{SECRET}\"\nauth.token_key = \"{key}\"\ndrain.period = \"0s\"\n"
        );
        fs::write(dir.path().join("towncrier.toml"), file).unwrap();
        Self {
            dir,
            settings: Vec::new(),
            place: watch::Sender::new(None),
            child: None,
        }
    }

    /// Starts it again on the same directory with the same settings.
    pub(crate) async fn restart(&mut self) {
        let settings = self.settings.clone();
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        self.restart_with(&settings).await;
    }

    /// Starts it again on the same directory with other settings.
    pub(crate) async fn restart_with(&mut self, settings: &[&str]) {
        assert!(self.child.is_none(), "it still runs");
        self.settings = settings.iter().map(|&setting| setting.into()).collect();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        self.spawn(log).await;
    }

    async fn spawn(&mut self, stderr: impl Into<Stdio>) {
        let mut child = self
            .command("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        self.child = Some(child);
        let (first, line) = oneshot::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let _ = first.send(lines.next());
            // Reads on, so that the gateway never waits for us.
            lines.for_each(drop);
        });
        let line = within("the gateway's `listening` line", line)
            .await
            .ok()
            .flatten();
        let place = line.as_deref().and_then(read_place);
        let place = place.unwrap_or_else(|| panic!("expected `listening ws=… admin=…`: {line:?}"));
        self.place.send_replace(Some(place));
    }

    /// `towncrier COMMAND` with the gateway's configuration, which holds the gateway's present addresses.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = towncrier();
        command.current_dir(self.dir.path());
        command.args([name, "--config", "towncrier.toml"]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        if let Some(place) = *self.place.borrow() {
            command.args(["--set", &format!("listener.listen={}", place.clients)]);
            command.args(["--set", &format!("admin.listen={}", place.admin)]);
        }
        command
    }

    /// Kill -9: the process is gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.place.send_replace(None);
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: it does nothing until [`wake`](Self::wake).
    pub(crate) fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_child(&child);
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        let status = tokio::time::timeout(super::DEADLINE, ended).await;
        self.place.send_replace(None);
        let Ok(status) = status else {
            let _ = kill_process(pid, Signal::KILL);
            panic!("the gateway did not end");
        };
        status.unwrap()
    }

    /// The id of the running process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Memory of the running process.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its log so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("gateway.log")
    }

    /// Its addresses, now and after restarts.
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        self.place.subscribe()
    }

    /// Its present addresses.
    pub(crate) fn place(&self) -> Place {
        self.place.borrow().expect("it runs")
    }

    /// The admin API with an administrator's token.
    pub(crate) async fn admin(&self) -> Admin {
        let token = self.token(ADMIN, IOS).await;
        Admin::new(self.whereabouts(), token)
    }

    /// A fresh token.
    pub(crate) async fn token(&self, user: &str, platform: u32) -> String {
        Admin::new(self.whereabouts(), String::new())
            .token(user, platform)
            .await
    }

    /// Registers a device of the user of this token, at the stand-in of a vendor.
    pub(crate) async fn register_device(&self, token: &str, device: &str) {
        let body = json!({ "provider": "http", "token": device, "lang": "en" }).to_string();
        let length = body.len();
        let request = format!(
            "POST /devices HTTP/1.1\r\nHost: oa.example\r\ntoken: {token}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.place().clients).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        within("the answer to a registration", read).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// An open, silent WebSocket.
    pub(crate) async fn dial(&self) -> Client {
        Client::dial(self.place().clients).await.expect("upgraded")
    }

    /// A session that claims no cursor.
    pub(crate) async fn connect(&self, user: &str, platform: u32) -> Client {
        let token = self.token(user, platform).await;
        self.connect_as(Connect {
            token,
            ..Connect::default()
        })
        .await
    }

    /// A session that claims the position of its store.
    pub(crate) async fn resume(
        &self,
        user: &str,
        platform: u32,
        epoch: u64,
        cursor: u64,
    ) -> Client {
        let token = self.token(user, platform).await;
        self.connect_as(Connect {
            token,
            epoch,
            cursor: Some(cursor),
            ..Connect::default()
        })
        .await
    }

    /// A session with exactly this `Connect`.
    pub(crate) async fn connect_as(&self, connect: Connect) -> Client {
        let mut client = self.dial().await;
        client.log_in(connect).await;
        client
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}---", self.said());
        }
    }
}

/// The program under test, without the settings of this machine's environment.
pub(crate) fn towncrier() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_towncrier"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TOWNCRIER_") {
            command.env_remove(name);
        }
    }
    command
}

fn read_place(line: &str) -> Option<Place> {
    let (clients, admin) = line.strip_prefix("listening ws=")?.split_once(" admin=")?;
    let (admin, calls) = match admin.split_once(" api=") {
        Some((admin, calls)) => (admin, Some(calls.parse().ok()?)),
        None => (admin, None),
    };
    Some(Place {
        clients: clients.parse().ok()?,
        admin: admin.parse().ok()?,
        calls,
    })
}
