//! A Mosquitto of the rig's own: WebSocket for the sessions, plain TCP for the senders, on free loopback ports.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{BrokerAddress, Qos, Url};

/// Mosquitto takes seconds to read back the state of 100,000 sessions.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval of checks if it listens.
const LOOK: Duration = Duration::from_millis(5);
/// Another process may take a free port before Mosquitto listens on it.
const TRIES: usize = 3;
/// Debian installs it in a folder that only administrators' shells search.
const ALSO_IN: &str = "/usr/sbin";

/// The data that it keeps on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Everything, written after every turn in which something changed: its strictest persistence. It acks before the
    /// write.
    All,
    Nothing,
}

#[derive(Debug, Clone)]
pub(crate) struct Mosquitto {
    path: PathBuf,
    keeps: Keeps,
    qos: Qos,
    /// The ports on which it listened last.
    ports: Option<Ports>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    sessions: u16,
    senders: u16,
}

impl Mosquitto {
    pub(crate) fn find(keeps: Keeps, qos: Qos) -> anyhow::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain([ALSO_IN.into()]);
        let found = dirs
            .map(|dir| dir.join("mosquitto"))
            .find(|path| path.is_file());
        let Some(path) = found else {
            bail!(
                "no mosquitto on the PATH: `apt-get install mosquitto`, or name a broker by --target mqtt+ws://HOST:PORT"
            );
        };
        Ok(Self {
            path,
            keeps,
            qos,
            ports: None,
        })
    }

    /// Starts it on the data in `dir`, on free ports the first time and on the same ports later. Returns when it listens.
    pub(crate) fn spawn(&mut self, dir: &Path) -> anyhow::Result<(Child, BrokerAddress)> {
        let (child, ports) = match self.ports {
            Some(ports) => (self.spawn_on(dir, ports)?, ports),
            None => self.spawn_on_free(dir)?,
        };
        self.ports = Some(ports);
        let url = |port, path| Url {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
            path,
        };
        let address = BrokerAddress {
            sessions: url(ports.sessions, Some("/mqtt".to_owned())),
            senders: url(ports.senders, None),
            qos: self.qos,
        };
        Ok((child, address))
    }

    fn spawn_on_free(&self, dir: &Path) -> anyhow::Result<(Child, Ports)> {
        let mut tries = 0..TRIES;
        loop {
            tries.next();
            let ports = Ports::free()?;
            match self.spawn_on(dir, ports) {
                Ok(child) => return Ok((child, ports)),
                Err(error) if tries.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn spawn_on(&self, dir: &Path, ports: Ports) -> anyhow::Result<Child> {
        let [config, log] = ["mosquitto.conf", "mosquitto.log"].map(|name| dir.join(name));
        fs::write(&config, self.config(dir, ports))?;
        let mut child = Command::new(&self.path)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .with_context(|| self.path.display().to_string())?;
        let began = Instant::now();
        for port in [ports.sessions, ports.senders] {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            while TcpStream::connect_timeout(&address, LOOK).is_err() {
                let has_ended = child.try_wait()?.is_some();
                if has_ended || began.elapsed() > START_TIMEOUT {
                    let _ = child.kill();
                    child.wait()?;
                    bail!("mosquitto did not start:\n{}", fs::read_to_string(&log)?);
                }
                thread::sleep(LOOK);
            }
        }
        Ok(child)
    }

    fn config(&self, dir: &Path, ports: Ports) -> String {
        let Ports { sessions, senders } = ports;
        let mut config = format!(
            "listener {sessions} 127.0.0.1\nprotocol websockets\nlistener {senders} 127.0.0.1\nprotocol mqtt\n"
        );
        // All limits are off that would make it refuse or drop messages which a gateway has to keep. Started by root, it
        // would otherwise become a user who cannot write here.
        config += "allow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\nmax_queued_bytes 0\nuser root\n\
                   log_type error\nlog_dest stderr\n";
        if self.keeps == Keeps::All {
            write!(
                config,
                "persistence true\npersistence_location {}/\nautosave_on_changes true\nautosave_interval 1\n",
                dir.display()
            )
            .expect("a String takes all");
        }
        config
    }
}

impl Ports {
    /// Two ports that were free a moment ago.
    fn free() -> anyhow::Result<Self> {
        let find = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let [one, other] = [find()?, find()?];
        Ok(Self {
            sessions: one.local_addr()?.port(),
            senders: other.local_addr()?.port(),
        })
    }
}
