//! The gateway under load: a process of the rig's own on free ports and a directory of its own, or one elsewhere.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};
use tempfile::TempDir;

/// What `/auth/user_token` asks for at the rig's own gateway.
const SECRET: &str = "loadtest-secret";
/// One address opens all connections here, which is what the limits at the door are against.
const OPEN_DOOR: [&str; 5] = [
    "listener.handshakes_per_address_max=0",
    "listener.handshakes_per_second_max=0",
    "listener.bad_tokens_per_minute_max=0",
    "listener.handshakes_max=8192",
    "admin.connections_max=4096",
];

/// A gateway that somebody else runs.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) ws: String,
    /// HOST:PORT.
    pub(crate) admin: String,
    pub(crate) secret: String,
}

/// The gateway under load.
#[derive(Debug)]
pub(crate) enum Target {
    Own(Own),
    Remote(Remote),
}

/// The rig's own. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub(crate) struct Own {
    dir: TempDir,
    program: PathBuf,
    settings: Vec<String>,
    place: Remote,
    child: Child,
}

impl Target {
    /// Starts a gateway and waits until it listens.
    pub(crate) async fn start(
        data: Option<PathBuf>,
        settings: Vec<String>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("towncrier");
        if !program.is_file() {
            bail!(
                "no gateway at {}: build it beside the rig with `cargo build --release`, or name one by --ws, --admin and --secret",
                program.display()
            );
        }
        // Beside the program, since a temporary folder is often in memory, where a sync costs nothing.
        let parent = match data {
            Some(data) => data,
            None => program.parent().expect("a file has one").to_owned(),
        };
        let dir = tempfile::Builder::new()
            .prefix("loadtest-data-")
            .tempdir_in(&parent);
        let dir = dir.with_context(|| parent.display().to_string())?;
        let (child, place) = spawn(&program, &dir, &settings, ["127.0.0.1:0", "127.0.0.1:0"])?;
        Ok(Self::Own(Own {
            dir,
            program,
            settings,
            place,
            child,
        }))
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Remote {
        match self {
            Self::Own(own) => &own.place,
            Self::Remote(remote) => remote,
        }
    }

    /// The process, if it is ours to look into.
    pub(crate) fn process_id(&self) -> Option<u32> {
        match self {
            Self::Own(own) => Some(own.child.id()),
            Self::Remote(_) => None,
        }
    }

    /// Where its data is, if that is here.
    pub(crate) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Own(own) => Some(own.dir.path()),
            Self::Remote(_) => None,
        }
    }
}

impl Own {
    /// Kill -9.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts the killed one again on the same ports and data, and returns when it listens.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        let ws = self
            .place
            .ws
            .trim_start_matches("ws://")
            .trim_end_matches("/ws");
        let ports = [ws, &self.place.admin];
        (self.child, self.place) = spawn(&self.program, &self.dir, &self.settings, ports)?;
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It is gone already where this fails.
        let _ = self.kill();
    }
}

fn spawn(
    program: &Path,
    dir: &TempDir,
    settings: &[String],
    [ws, admin]: [&str; 2],
) -> anyhow::Result<(Child, Remote)> {
    let log = dir.path().join("gateway.log");
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TOWNCRIER_") {
            command.env_remove(name);
        }
    }
    command
        .arg("serve")
        .args(["--data".as_ref(), dir.path().join("data").as_os_str()]);
    let secret = format!("auth.secret={SECRET}");
    let ports = [
        format!("listener.listen={ws}"),
        format!("admin.listen={admin}"),
    ];
    let own = OPEN_DOOR.iter().copied().chain([secret.as_str()]);
    let own = own.chain(ports.iter().map(String::as_str));
    for setting in own.chain(settings.iter().map(String::as_str)) {
        command.args(["--set", setting]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(&log)?)
        .spawn()
        .with_context(|| program.display().to_string())?;
    // It ends, and the pipe with it, when it cannot listen: this wait needs no deadline of its own.
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let place = line
        .trim()
        .strip_prefix("listening ws=")
        .and_then(|rest| rest.split_once(" admin="));
    let Some((ws, admin)) = place else {
        let _ = child.kill();
        child.wait()?;
        bail!(
            "the gateway did not start:\n{}",
            std::fs::read_to_string(&log)?
        );
    };
    let place = Remote {
        ws: format!("ws://{ws}/ws"),
        admin: admin.to_owned(),
        secret: SECRET.to_owned(),
    };
    Ok((child, place))
}
