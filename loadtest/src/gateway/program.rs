//! Gateway processes of the rig's own: one, or several on one store.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};

use super::{GatewayAddress, GatewayPorts, Speech};

/// The secret for `/auth/user_token`.
const SECRET: &str = "loadtest-secret";
const TOKEN_KEY: &str = "loadtest-token-key";
/// Settings that switch off the limits by address, because one address opens all connections here.
const OPEN_DOOR: [&str; 5] = [
    "listener.handshakes_per_address_max=0",
    "listener.handshakes_per_second_max=0",
    "listener.bad_tokens_per_minute_max=0",
    "listener.handshakes_max=8192",
    "admin.connections_max=4096",
];

/// The gateway program beside the rig's, and its settings.
#[derive(Debug, Clone)]
pub(crate) struct GatewayProgram {
    path: PathBuf,
    settings: Vec<String>,
    /// The protocol of the sessions.
    speech: Speech,
    /// The URL of the store that all gateways share; `None`: one gateway, with a log of its own.
    store: Option<String>,
    /// The ports at which each gateway listened last.
    ports: Vec<Option<GatewayPorts>>,
    /// The ports for each other of the gateways of a fleet.
    mesh: Vec<u16>,
}

impl GatewayProgram {
    pub(crate) fn find(settings: Vec<String>, speech: Speech) -> anyhow::Result<Self> {
        let path = std::env::current_exe()?.with_file_name("towncrier");
        if !path.is_file() {
            bail!(
                "no gateway at {}: build it beside the rig with `cargo build --release`, or name one by --ws, --admin and --secret",
                path.display()
            );
        }
        Ok(Self {
            path,
            settings,
            speech,
            store: None,
            ports: vec![None],
            mesh: Vec::new(),
        })
    }

    /// The same program as this many gateways on the store at this URL, whose tables it makes.
    pub(crate) fn on_store(mut self, url: String, gateways: usize) -> anyhow::Result<Self> {
        let mut command = self.command();
        let migrated = command
            .args(["store", "migrate", "--set", &format!("log.store={url}")])
            .stdin(Stdio::null())
            .output()?;
        if !migrated.status.success() {
            bail!(
                "the store cannot be prepared:\n{}",
                String::from_utf8_lossy(&migrated.stderr)
            );
        }
        self.store = Some(url);
        self.ports = vec![None; gateways];
        let free = (0..gateways).map(|_| TcpListener::bind("127.0.0.1:0"));
        // All are held until each has its port.
        let free = free.collect::<Result<Vec<_>, _>>()?;
        for listener in free {
            self.mesh.push(listener.local_addr()?.port());
        }
        Ok(self)
    }

    pub(crate) fn gateways(&self) -> usize {
        self.ports.len()
    }

    /// The program without the settings of this process's environment.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TOWNCRIER_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// The addresses at which the gateways listen that were started.
    fn address(&self) -> GatewayAddress {
        GatewayAddress {
            gateways: self.ports.iter().flatten().cloned().collect(),
            secret: SECRET.to_owned(),
            ca: None,
            token_key: Some(TOKEN_KEY.to_owned()),
            speech: self.speech,
        }
    }

    /// Starts the gateway of this number on the data in `dir`, on free ports the first time and on the same ports later. Returns when
    /// it listens.
    pub(crate) fn spawn(
        &mut self,
        dir: &Path,
        number: usize,
    ) -> anyhow::Result<(Child, GatewayAddress)> {
        let name = match self.store {
            None => "data".to_owned(),
            Some(_) => format!("data-{number}"),
        };
        let log = dir.join(format!("gateway-{number}.log"));
        let mut command = self.command();
        command
            .arg("serve")
            .args(["--data".as_ref(), dir.join(name).as_os_str()]);
        let (ws, admin) =
            self.ports[number]
                .as_ref()
                .map_or(("127.0.0.1:0", "127.0.0.1:0"), |ports| {
                    let ws = ports.ws.trim_start_matches("ws://").trim_end_matches("/ws");
                    (ws, ports.admin.trim_start_matches("http://"))
                });
        let mut own = vec![
            format!("auth.secret={SECRET}"),
            format!("auth.token_key={TOKEN_KEY}"),
            format!("listener.listen={ws}"),
            format!("admin.listen={admin}"),
        ];
        if let Some(url) = &self.store {
            own.push(format!("log.store={url}"));
            if self.mesh.len() > 1 {
                own.push(format!("mesh.listen=127.0.0.1:{}", self.mesh[number]));
            }
        }
        let own = OPEN_DOOR.into_iter().chain(own.iter().map(String::as_str));
        for setting in own.chain(self.settings.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .with_context(|| self.path.display().to_string())?;
        // If it cannot listen, it ends, and the pipe with it. So this wait needs no deadline of its own.
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let ports = line
            .trim()
            .strip_prefix("listening ws=")
            .and_then(|rest| rest.split_once(" admin="));
        let Some((ws, admin)) = ports else {
            let _ = child.kill();
            child.wait()?;
            bail!(
                "the gateway did not start:\n{}",
                std::fs::read_to_string(&log)?
            );
        };
        self.ports[number] = Some(GatewayPorts {
            ws: format!("ws://{ws}/ws"),
            admin: format!("http://{admin}"),
        });
        Ok((child, self.address()))
    }
}
