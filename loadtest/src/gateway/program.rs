//! A gateway process of the rig's own.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};

use super::{GatewayAddress, Speech};

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
    /// The addresses at which it listened last.
    address: Option<GatewayAddress>,
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
            address: None,
        })
    }

    /// Starts it on the data in `dir`, on free ports the first time and on the same ports later. Returns when it listens.
    pub(crate) fn spawn(&mut self, dir: &Path) -> anyhow::Result<(Child, GatewayAddress)> {
        let log = dir.join("gateway.log");
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TOWNCRIER_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .args(["--data".as_ref(), dir.join("data").as_os_str()]);
        let (ws, admin) = self
            .address
            .as_ref()
            .map_or(("127.0.0.1:0", "127.0.0.1:0"), |address| {
                let ws = address
                    .ws
                    .trim_start_matches("ws://")
                    .trim_end_matches("/ws");
                (ws, address.admin.trim_start_matches("http://"))
            });
        let own = [
            format!("auth.secret={SECRET}"),
            format!("auth.token_key={TOKEN_KEY}"),
            format!("listener.listen={ws}"),
            format!("admin.listen={admin}"),
        ];
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
        let address = GatewayAddress {
            ws: format!("ws://{ws}/ws"),
            admin: format!("http://{admin}"),
            secret: SECRET.to_owned(),
            ca: None,
            token_key: Some(TOKEN_KEY.to_owned()),
            speech: self.speech,
        };
        self.address = Some(address.clone());
        Ok((child, address))
    }
}
