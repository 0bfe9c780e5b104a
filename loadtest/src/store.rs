//! PostgreSQL servers of the rig's own: a primary, and standbys of which it waits for one. Plain processes on free ports, as a user
//! without rights, with their data beside the gateways'.
//!
//! A failover here is a script: it promotes the standby that received most. The old primary comes back as a standby with new data.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::{self, Usage};

/// The longest time to the start of a server, with the recovery after a kill.
const START_WAIT: Duration = Duration::from_secs(60);
/// The interval of checks while a server starts.
const LOOK: Duration = Duration::from_millis(20);
/// The database, and the user who owns it.
const NAME: &str = "towncrier";
/// The user without rights, and its group.
const NOBODY: u32 = 65534;

/// The servers. Dropping it ends them, and removes their data.
#[derive(Debug)]
pub(crate) struct PostgresServers {
    programs: PathBuf,
    servers: Vec<StoreServer>,
    primary: usize,
    dir: TempDir,
}

#[derive(Debug)]
struct StoreServer {
    name: String,
    data: PathBuf,
    port: u16,
    /// `None` while it is down.
    process: Option<Child>,
}

impl PostgresServers {
    /// Starts a primary with this many standbys, with data in a new directory inside `parent`.
    pub(crate) fn start(parent: &Path, standbys: usize) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("loadtest-store-")
            .tempdir_in(parent)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let servers = (0..=standbys).map(|number| {
            let name = format!("s{number}");
            Ok(StoreServer {
                data: dir.path().join(&name),
                name,
                port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
                process: None,
            })
        });
        let mut all = Self {
            programs: programs()?,
            servers: servers.collect::<io::Result<_>>()?,
            primary: 0,
            dir,
        };
        all.make_primary(standbys > 0)?;
        for number in 1..=standbys {
            all.join(number)?;
        }
        all.ask(0, "postgres", &format!("CREATE DATABASE {NAME}"))?;
        Ok(all)
    }

    /// The URL of the database, with all servers.
    pub(crate) fn url(&self) -> String {
        let hosts = self.servers.iter();
        let hosts: Vec<_> = hosts
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        format!(
            "postgres://{NAME}@{}/{NAME}?target_session_attrs=read-write",
            hosts.join(",")
        )
    }

    /// The resources of all their processes that run.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let mut all = Usage::default();
        for process in self
            .servers
            .iter()
            .filter_map(|server| server.process.as_ref())
        {
            all += process::usage(process.id())?;
            for child in process::children(process.id())? {
                // A child may have ended.
                all += process::usage(child).unwrap_or_default();
            }
        }
        Ok(all)
    }

    /// Kill -9 of every process of the primary. Returns its number.
    pub(crate) fn kill_primary(&mut self) -> anyhow::Result<usize> {
        self.servers[self.primary].kill()?;
        Ok(self.primary)
    }

    /// Kill -9 of every process of one standby. Returns its number.
    pub(crate) fn kill_standby(&mut self) -> anyhow::Result<usize> {
        let primary = self.primary;
        let mut standbys = (0..self.servers.len()).filter(|number| *number != primary);
        let number = standbys.next().context("there is no standby")?;
        self.servers[number].kill()?;
        Ok(number)
    }

    /// Starts a killed standby again on its data.
    pub(crate) fn restart_standby(&mut self, number: usize) -> anyhow::Result<()> {
        self.run(number)
    }

    /// Promotes the standby that received most. The others follow it.
    pub(crate) fn promote(&mut self) -> anyhow::Result<()> {
        let running = |number: &usize| self.servers[*number].process.is_some();
        let standbys: Vec<_> = (0..self.servers.len()).filter(running).collect();
        let mut best: Option<(u64, usize)> = None;
        for number in &standbys {
            let received = "SELECT pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')";
            let received: u64 = self.ask(*number, "postgres", received)?.trim().parse()?;
            best = best.max(Some((received, *number)));
        }
        let (_, best) = best.context("there is no standby to promote")?;
        self.ask(best, "postgres", "SELECT pg_promote()")?;
        self.primary = best;
        for number in standbys {
            if number != best {
                let conninfo = format!(
                    "ALTER SYSTEM SET primary_conninfo = '{}'",
                    self.conninfo(number)
                );
                self.ask(number, "postgres", &conninfo)?;
                self.ask(number, "postgres", "SELECT pg_reload_conf()")?;
            }
        }
        Ok(())
    }

    /// Lets a server that is down follow the primary, with a copy of its data.
    pub(crate) fn join(&mut self, number: usize) -> anyhow::Result<()> {
        let data = self.servers[number].data.clone();
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let primary = self.servers[self.primary].port.to_string();
        let mut copy = self.command("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-p", &primary, "-U", NAME])
            .args(["-X", "stream", "-c", "fast", "--no-sync", "-D"])
            .arg(&data);
        done(&mut copy)?;
        let conninfo = format!("primary_conninfo = '{}'\n", self.conninfo(number));
        let settings = data.join("postgresql.auto.conf");
        fs::write(&settings, conninfo)?;
        fs::write(data.join("standby.signal"), "")?;
        if rustix::process::geteuid().is_root() {
            for file in ["postgresql.auto.conf", "standby.signal"] {
                std::os::unix::fs::chown(data.join(file), Some(NOBODY), Some(NOBODY))?;
            }
        }
        self.run(number)
    }

    fn make_primary(&mut self, waits: bool) -> anyhow::Result<()> {
        let data = self.servers[0].data.clone();
        let mut make = self.command("initdb");
        make.args(["-U", NAME, "-A", "trust", "-k", "--no-sync", "-D"])
            .arg(&data);
        done(&mut make)?;
        let names: Vec<_> = self
            .servers
            .iter()
            .map(|server| server.name.as_str())
            .collect();
        let waits_for = match waits {
            true => format!("ANY 1 ({})", names.join(", ")),
            false => String::new(),
        };
        let file = data.join("postgresql.conf");
        let settings = format!(
            "{}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\nshared_buffers = 512MB\n\
             wal_compression = lz4\nmax_wal_size = 4GB\nwal_keep_size = 1GB\nsynchronous_standby_names = '{waits_for}'\n",
            fs::read_to_string(&file)?
        );
        fs::write(&file, settings)?;
        self.run(0)
    }

    /// Starts a server, and returns once it answers.
    fn run(&mut self, number: usize) -> anyhow::Result<()> {
        let log = self
            .dir
            .path()
            .join(format!("{}.log", self.servers[number].name));
        let output = fs::File::options().create(true).append(true).open(&log)?;
        let mut command = self.command("postgres");
        let server = &mut self.servers[number];
        command
            .arg("-D")
            .arg(&server.data)
            .args(["-p", &server.port.to_string()])
            .stdout(output.try_clone()?)
            .stderr(output);
        server.process = Some(command.spawn()?);
        let began = Instant::now();
        while self.ask(number, "postgres", "SELECT 1").is_err() {
            if began.elapsed() > START_WAIT {
                bail!("a server did not start:\n{}", fs::read_to_string(&log)?);
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The answer of a server to a statement.
    fn ask(&self, number: usize, database: &str, statement: &str) -> anyhow::Result<String> {
        let port = self.servers[number].port.to_string();
        let mut ask = self.command("psql");
        ask.args([
            "-X",
            "-q",
            "-t",
            "-A",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            NAME,
        ])
        .args(["-d", database, "-c", statement]);
        done(&mut ask)
    }

    fn conninfo(&self, number: usize) -> String {
        format!(
            "host=127.0.0.1 port={} user={NAME} application_name={}",
            self.servers[self.primary].port, self.servers[number].name
        )
    }

    /// A program of the server, as a user without rights: PostgreSQL does not run as root.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
                    .arg(path);
                command
            }
            false => Command::new(path),
        };
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }
}

impl StoreServer {
    fn kill(&mut self) -> io::Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        // Each of its processes leads a group of its own.
        let children = process::children(process.id())?;
        process.kill()?;
        for child in children {
            if let Some(child) = i32::try_from(child).ok().and_then(Pid::from_raw) {
                // A child may have ended.
                let _ = kill_process(child, Signal::KILL);
            }
        }
        process.wait().map(drop)
    }
}

impl Drop for PostgresServers {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // This fails if the server is already gone.
            let _ = server.kill();
        }
    }
}

/// The directory of the newest server's programs.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql");
    let mut dirs: Vec<_> = versions
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|dir| dir.join("initdb").exists())
        .collect();
    dirs.sort();
    dirs.pop().context(
        "PostgreSQL is not in /usr/lib/postgresql: install it (Debian: postgresql), or leave out --store",
    )
}

/// Runs a command to its end. Returns its output.
fn done(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {text}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
