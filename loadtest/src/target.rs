//! The server under load: processes of the rig's own on free ports and a directory of its own, or a server elsewhere.

use std::{
    io,
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::{
    gateway, mqtt,
    process::{self, Usage},
    protocol::ServerAddress,
    store::PostgresServers,
};

/// The server under load.
#[derive(Debug)]
pub(crate) enum Target {
    Own(Box<Own>),
    Remote(ServerAddress),
}

/// The programs that the rig can start.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    Gateway(gateway::GatewayProgram),
    Mosquitto(mqtt::Mosquitto),
}

/// The rig's own server: a process, or the gateways of a fleet. Dropping it kills the processes and then removes their data.
#[derive(Debug)]
pub(crate) struct Own {
    /// `None`: killed. They stand before their data, because fields are dropped in this order.
    processes: Vec<Option<Process>>,
    store: Option<PostgresServers>,
    dir: Arc<TempDir>,
    program: Program,
    address: ServerAddress,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
struct Process(Child);

impl Target {
    /// Starts a server with its data in a new directory inside `data`. Returns when it listens.
    pub(crate) fn start(program: Program, data: Option<PathBuf>) -> anyhow::Result<Self> {
        let parent = parent(data)?;
        Self::start_on(program, None, &parent)
    }

    /// Starts this many gateways on PostgreSQL servers of the rig's own.
    pub(crate) fn start_fleet(
        program: gateway::GatewayProgram,
        gateways: usize,
        standbys: usize,
        data: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let parent = parent(data)?;
        let store = PostgresServers::start(&parent, standbys)?;
        let program = program.on_store(store.url(), gateways)?;
        Self::start_on(Program::Gateway(program), Some(store), &parent)
    }

    fn start_on(
        mut program: Program,
        store: Option<PostgresServers>,
        parent: &Path,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("loadtest-data-")
            .tempdir_in(parent);
        let dir = dir.with_context(|| parent.display().to_string())?;
        let (process, mut address) = program.spawn(dir.path(), 0)?;
        let mut processes = vec![Some(process)];
        for number in 1..program.count() {
            let (process, addresses) = program.spawn(dir.path(), number)?;
            processes.push(Some(process));
            address = addresses;
        }
        Ok(Self::Own(Box::new(Own {
            processes,
            store,
            dir: Arc::new(dir),
            program,
            address,
        })))
    }

    /// The addresses of the server.
    pub(crate) fn address(&self) -> &ServerAddress {
        match self {
            Self::Own(own) => &own.address,
            Self::Remote(address) => address,
        }
    }

    /// The resources of its processes that run, if they are ours.
    pub(crate) fn usage(&self) -> io::Result<Option<Usage>> {
        let Self::Own(own) = self else {
            return Ok(None);
        };
        let mut all = Usage::default();
        for process in own.processes.iter().flatten() {
            all += process::usage(process.0.id())?;
        }
        Ok(Some(all))
    }

    /// The id of its first process that runs, if it is ours.
    pub(crate) fn process_id(&self) -> Option<u32> {
        match self {
            Self::Own(own) => own.processes.iter().flatten().map(|one| one.0.id()).next(),
            Self::Remote(_) => None,
        }
    }

    /// The resources of the servers of its store, if they are ours.
    pub(crate) fn store_usage(&self) -> io::Result<Option<Usage>> {
        match self {
            Self::Own(own) => own.store.as_ref().map(PostgresServers::usage).transpose(),
            Self::Remote(_) => Ok(None),
        }
    }

    /// The data directory, if it is on this machine.
    pub(crate) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Own(own) => Some(own.dir.path()),
            Self::Remote(_) => None,
        }
    }
}

impl Own {
    /// The number of processes: more than one for a fleet.
    pub(crate) fn count(&self) -> usize {
        self.processes.len()
    }

    /// Lends the servers of a fleet's store, until they are given back.
    pub(crate) fn take_store(&mut self) -> Option<PostgresServers> {
        self.store.take()
    }

    pub(crate) fn give_store(&mut self, servers: PostgresServers) {
        self.store = Some(servers);
    }

    /// Kill -9 of the process of this number.
    pub(crate) fn kill(&mut self, number: usize) -> io::Result<()> {
        match self.processes[number].take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Stops the process of this number, which keeps its sockets, or lets it go on.
    pub(crate) fn freeze(&self, number: usize, is_frozen: bool) -> io::Result<()> {
        let signal = if is_frozen {
            Signal::STOP
        } else {
            Signal::CONT
        };
        match &self.processes[number] {
            Some(process) => Ok(kill_process(Pid::from_child(&process.0), signal)?),
            None => Ok(()),
        }
    }

    /// Starts the killed process again on the same ports and data. Returns when it listens.
    pub(crate) async fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        let (mut program, dir) = (self.program.clone(), Arc::clone(&self.dir));
        // Sessions reconnect all the while. If the run ends meanwhile, the data is removed after the process.
        let started = spawn_blocking(move || (program.spawn(dir.path(), number), dir)).await?;
        let (process, address) = started.0?;
        self.processes[number] = Some(process);
        self.address = address;
        Ok(())
    }
}

impl Process {
    fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // This fails if the process is already gone.
        let _ = self.kill();
    }
}

impl Program {
    fn count(&self) -> usize {
        match self {
            Self::Gateway(program) => program.gateways(),
            Self::Mosquitto(_) => 1,
        }
    }

    /// Starts on free ports the first time, on the same ports later.
    fn spawn(&mut self, dir: &Path, number: usize) -> anyhow::Result<(Process, ServerAddress)> {
        match self {
            Self::Gateway(program) => {
                let (child, address) = program.spawn(dir, number)?;
                Ok((Process(child), ServerAddress::Gateway(address)))
            }
            Self::Mosquitto(program) => {
                let (child, address) = program.spawn(dir)?;
                Ok((Process(child), ServerAddress::Mqtt(address)))
            }
        }
    }
}

/// The directory that takes the data. Beside the rig by default, because a temporary folder is often in memory, where a sync costs
/// nothing.
fn parent(data: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    Ok(match data {
        Some(data) => data,
        None => {
            let rig = std::env::current_exe()?;
            rig.parent().expect("a file has one").to_owned()
        }
    })
}
