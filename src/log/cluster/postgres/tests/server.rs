//! A PostgreSQL server of the tests' own: in a directory of its own, on a socket in it, as a user without rights.
//!
//! The server ends with the process of the tests, which holds the other end of its stdin. Each test has a database of its own.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::super::{PostgresEngine, StoreRetention, link, migrate, schema};

/// The longest time to the start of a server.
const START_WAIT: Duration = Duration::from_secs(30);
/// The user without rights, and its group.
const NOBODY: u32 = 65534;
/// The port of a server that listens on its socket only.
const PORT: u16 = 5432;
/// A test may let messages expire this many times, less one.
const DAYS: u32 = 10;

/// Runs a server until its stdin ends, and removes its directory.
const SCRIPT: &str = "dir=$1; shift; \"$@\" >\"$dir/log\" 2>&1 </dev/null & server=$!; cat >/dev/null; \
    kill -QUIT $server; wait $server; rm -rf \"$dir\"";

/// A running server.
pub(crate) struct Server {
    dir: PathBuf,
    /// The port is a part of the socket's name as well.
    port: u16,
    databases: AtomicU32,
    /// Its stdin is held by this process.
    _shell: Child,
}

/// The directory of the server's programs; `None` where they are not installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut dirs: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|dir| dir.join("initdb").exists())
        .collect();
    dirs.sort();
    dirs.pop()
}

/// A program of the server, as a user without rights: PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Vec<String> {
    let mut words = Vec::new();
    if rustix::process::geteuid().is_root() {
        let words_of = "setpriv --reuid=nobody --regid=nogroup --clear-groups";
        words.extend(words_of.split(' ').map(str::to_owned));
    }
    words.push(program.display().to_string());
    words
}

/// An empty directory of that user.
fn directory() -> PathBuf {
    let dir = tempfile::tempdir().unwrap().keep();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    dir
}

/// Runs a program of the server to its end.
fn run(program: &Path, options: &[&str], dir: &Path) {
    let mut words = unprivileged(program);
    words.extend(options.iter().map(|word| (*word).to_owned()));
    let made = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(dir)
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success(), "{} failed", program.display());
}

impl Server {
    fn start(programs: &Path, settings: &[&str]) -> Self {
        let dir = directory();
        let data = dir.join("data").display().to_string();
        let options = [
            "-D",
            &data,
            "-U",
            "towncrier",
            "-A",
            "trust",
            "-k",
            "--no-sync",
        ];
        run(&programs.join("initdb"), &options, &dir);
        let server = Self::serve(programs, dir, settings, PORT);
        server.prepare();
        server
    }

    /// Waits for the server, and prepares a database.
    fn prepare(&self) {
        let server = self;
        let begun = Instant::now();
        while runtime()
            .block_on(server.command("postgres", "SELECT 1"))
            .is_err()
        {
            let log = || std::fs::read_to_string(server.dir.join("log"));
            assert!(begun.elapsed() < START_WAIT, "{:?}", log());
            std::thread::yield_now();
        }
        runtime().block_on(async {
            let made = server.command("postgres", "CREATE DATABASE prepared").await;
            made.unwrap();
            let retention = StoreRetention {
                message_days: DAYS,
                key_days: DAYS,
            };
            migrate(&server.url("prepared"), retention).await.unwrap();
        });
    }

    /// Begins to serve the data in this directory.
    fn serve(programs: &Path, dir: PathBuf, settings: &[&str], port: u16) -> Self {
        let data = dir.join("data").display().to_string();
        let mut words = unprivileged(&programs.join("postgres"));
        let socket = dir.display().to_string();
        let number = port.to_string();
        let options = ["-D", &data, "-k", &socket, "-p", &number];
        words.extend(options.map(str::to_owned));
        for setting in ["listen_addresses=", "max_connections=200"]
            .iter()
            .chain(settings)
        {
            words.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&dir)
            .args(&words)
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            dir,
            port,
            databases: AtomicU32::new(0),
            _shell: shell,
        }
    }

    /// A standby of this server. It ends with the process.
    pub(crate) async fn standby(&'static self) -> &'static Self {
        let start = || {
            let programs = programs().expect("this server runs");
            let dir = directory();
            let [data, primary] = [dir.join("data"), self.dir.clone()];
            let [data, primary] = [data, primary].map(|path| path.display().to_string());
            let options = [
                "-D",
                &data,
                "-h",
                &primary,
                "-U",
                "towncrier",
                "-R",
                "-c",
                "fast",
                "--no-sync",
            ];
            run(&programs.join("pg_basebackup"), &options, &dir);
            let standby = Self::serve(&programs, dir, &["shared_buffers=64MB"], PORT);
            &*Box::leak(Box::new(standby))
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    /// A server that listens on a port of this machine, with a certificate for `localhost`; and the file of the certificate. It ends with
    /// the process.
    pub(crate) async fn with_certificate() -> Option<(u16, PathBuf)> {
        let start = || {
            let programs = programs()?;
            let dir = directory();
            let data = dir.join("data").display().to_string();
            let options = ["-D", &data, "-U", "towncrier", "-A", "trust", "--no-sync"];
            run(&programs.join("initdb"), &options, &dir);
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let [certificate, key] = ["certificate", "key"].map(|name| dir.join(name));
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(&key, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            // Nobody else has the port that was free a moment ago.
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let file = |name: &str, path: &Path| format!("{name}={}", path.display());
            let [with, by] = [
                file("ssl_cert_file", &certificate),
                file("ssl_key_file", &key),
            ];
            let settings = ["listen_addresses=127.0.0.1", "ssl=on", &with, &by];
            let server = Self::serve(&programs, dir, &settings, port);
            server.prepare();
            Box::leak(Box::new(server));
            Some((port, certificate))
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    /// Ends the server at once, as a crash would.
    pub(crate) fn kill(&self) {
        let text = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let pid = text.lines().next().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
    }

    /// Runs a statement of an administrator, also on a standby.
    pub(crate) fn administer(&self, text: &str) {
        let psql = programs().expect("this server runs").join("psql");
        let host = self.dir.display().to_string();
        let options = ["-h", &host, "-U", "towncrier", "-d", "postgres", "-c", text];
        run(&psql, &options, &self.dir);
    }

    /// The server of this process; `None`, with a line that says so, where PostgreSQL is not installed. CI must have it.
    pub(crate) fn of_process() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            let programs = programs();
            if programs.is_none() {
                assert!(std::env::var_os("CI").is_none(), "PostgreSQL is missing");
                eprintln!("skipped: PostgreSQL is not in /usr/lib/postgresql");
            }
            programs.map(|programs| Self::start(&programs, &["fsync=off", "shared_buffers=64MB"]))
        });
        server.as_ref()
    }

    /// A server of this test alone, with the usual settings. It ends with the process.
    pub(crate) async fn of_its_own() -> Option<&'static Self> {
        let start = || {
            let settings = ["shared_buffers=768MB", "max_wal_size=4GB"];
            let server = Self::start(&programs()?, &settings);
            Some(&*Box::leak(Box::new(server)))
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    /// The CPU time of all processes of the server so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let text = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let postmaster = text.lines().next().unwrap().to_owned();
        let of_process = |stat: String| {
            // The name of the process may have spaces.
            let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let is_ours = fields[1] == postmaster || stat.starts_with(&format!("{postmaster} "));
            let ticks = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
            is_ours.then_some(ticks / 100.0)
        };
        let processes = std::fs::read_dir("/proc").unwrap();
        let stats = processes
            .filter_map(|process| std::fs::read_to_string(process.ok()?.path().join("stat")).ok());
        stats.filter_map(of_process).sum()
    }

    /// The bytes of each table with its indexes, as text.
    pub(crate) async fn bytes_of(&self, url: &str) -> String {
        let link = link::ServerLink::new(link::Servers::new(url).unwrap());
        let text = "SELECT string_agg(name || ' ' || bytes, ', ') FROM ( \
            SELECT regexp_replace(relname, '_[0-9]+$', '') AS name, sum(pg_total_relation_size(oid))::text AS bytes \
            FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY 1 ORDER BY 1) t";
        let rows = link.query(text, &[]).await.unwrap();
        rows[0].get(0)
    }

    fn url(&self, database: &str) -> String {
        let host = self.dir.display().to_string().replace('/', "%2F");
        format!("postgres://towncrier@{host}:{}/{database}", self.port)
    }

    async fn command(&self, database: &str, text: &str) -> Result<(), String> {
        let link = link::ServerLink::new(link::Servers::new(&self.url(database)).unwrap());
        let session = link.session().await.map_err(|error| error.to_string())?;
        let made = session.command(text).await;
        made.map_err(|error| error.to_string())
    }

    /// An empty database with the tables of a store.
    pub(crate) fn database(&'static self) -> Database {
        let number = self.databases.fetch_add(1, Relaxed);
        let name = format!("test_{number}");
        let text = format!("CREATE DATABASE {name} TEMPLATE prepared");
        // One at a time: nobody else may use the template.
        static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _making = MAKING.lock().unwrap();
        let made = runtime().block_on(self.command("postgres", &text));
        made.unwrap();
        Database { server: self, name }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A database of a test.
pub(crate) struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// The URL of this database on its server and on a standby.
    pub(crate) fn url_with(&self, standby: &Server) -> String {
        let host = |server: &Server| server.dir.display().to_string().replace('/', "%2F");
        let (first, second) = (host(self.server), host(standby));
        format!("postgres://towncrier@{first},{second}/{}", self.name)
    }

    /// Makes commands over a connection of their own.
    pub(crate) async fn command(&self, text: &str) {
        self.server.command(&self.name, text).await.unwrap();
    }

    /// The number that a statement returns.
    pub(crate) async fn number(&self, text: &'static str) -> i64 {
        let link = link::ServerLink::new(link::Servers::new(&self.url()).unwrap());
        let rows = link.query(text, &[]).await.unwrap();
        rows[0].get(0)
    }

    /// Makes retention remove every message: days pass, and their partition is dropped.
    pub(crate) async fn expire(&self, engine: &Arc<PostgresEngine>) {
        self.command(
            "UPDATE place p SET day = s.floor_day FROM store s; \
             UPDATE message m SET day = s.floor_day FROM store s; \
             UPDATE feed f SET day = s.floor_day FROM store s; \
             UPDATE inbox i SET day = s.floor_day, first_day = s.floor_day FROM store s; \
             UPDATE conversation c SET day = s.floor_day, first_day = s.floor_day FROM store s",
        )
        .await;
        let rows = engine
            .reads
            .query("SELECT day - floor_day, day FROM store", &[])
            .await
            .unwrap();
        let (days, today): (i32, i32) = (rows[0].get(0), rows[0].get(1));
        let retention = StoreRetention {
            message_days: days as u32,
            key_days: DAYS,
        };
        schema::keep(&engine.writes, Some(today as u32), retention)
            .await
            .unwrap();
    }
}
