//! A PostgreSQL server for gateways of one store: in a directory of its own, on a socket in it, as a user without rights. It ends with its
//! test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{eventually, gateway::towncrier};

/// The user without rights, and its group.
const NOBODY: u32 = 65534;
/// Runs a server until its stdin ends, and removes its directory.
const SCRIPT: &str = "dir=$1; shift; \"$@\" >\"$dir/log\" 2>&1 </dev/null & server=$!; cat >/dev/null; \
    kill -QUIT $server; wait $server; rm -rf \"$dir\"";

/// A running server with the tables of a store.
pub(crate) struct Postgres {
    dir: PathBuf,
    /// Its stdin is held by this process.
    _shell: Child,
}

/// The directory of the server's programs; `None` where they are not installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let dirs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    dirs.filter(|dir| dir.join("initdb").exists()).max()
}

/// A program of the server, as a user without rights: PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Vec<String> {
    let mut words = Vec::new();
    if rustix::process::geteuid().is_root() {
        let drop_rights = "setpriv --reuid=nobody --regid=nogroup --clear-groups";
        words.extend(drop_rights.split(' ').map(str::to_owned));
    }
    words.push(program.display().to_string());
    words
}

impl Postgres {
    /// Starts a server; `None`, with a line that says so, where PostgreSQL is not installed. CI must have it.
    pub(crate) async fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is missing");
            eprintln!("skipped: PostgreSQL is not in /usr/lib/postgresql");
            return None;
        };
        let dir = tempfile::tempdir().unwrap().keep();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.join("data").display().to_string();
        let mut words = unprivileged(&programs.join("initdb"));
        let options = "-U postgres -A trust -k --no-sync -D";
        words.extend(options.split(' ').map(str::to_owned));
        words.push(data.clone());
        let made = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(&dir)
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb failed");
        let mut words = unprivileged(&programs.join("postgres"));
        let socket = dir.display().to_string();
        let options = [
            "-D",
            &data,
            "-k",
            &socket,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ];
        words.extend(options.map(str::to_owned));
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&dir)
            .args(&words)
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let server = Self { dir, _shell: shell };
        eventually("a server with tables", async || server.migrate()).await;
        Some(server)
    }

    /// Makes the tables. False while the server does not answer.
    fn migrate(&self) -> bool {
        let mut migrate = towncrier();
        let store = format!("log.store={}", self.url());
        migrate.args(["store", "migrate", "--set", &store]);
        let made = migrate.current_dir(&self.dir).output().unwrap();
        made.status.success()
    }

    /// The URL for `log.store`.
    pub(crate) fn url(&self) -> String {
        let host = self.dir.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{host}/postgres")
    }
}
