//! The server under load: a process of the rig's own on free ports and a directory of its own, or a server elsewhere.

use std::{
    io,
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
};

use anyhow::Context;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::{gateway, mqtt, protocol::ServerAddress};

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

/// The rig's own server. Dropping it kills the process and then removes its data.
#[derive(Debug)]
pub(crate) struct Own {
    /// Stands before its data, because fields are dropped in this order.
    process: Process,
    dir: Arc<TempDir>,
    program: Program,
    address: ServerAddress,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
struct Process(Child);

impl Target {
    /// Starts a server with its data in a new directory inside `data`. Returns when it listens.
    pub(crate) fn start(mut program: Program, data: Option<PathBuf>) -> anyhow::Result<Self> {
        // Beside the rig, because a temporary folder is often in memory, where a sync costs nothing.
        let parent = match data {
            Some(data) => data,
            None => {
                let rig = std::env::current_exe()?;
                rig.parent().expect("a file has one").to_owned()
            }
        };
        let dir = tempfile::Builder::new()
            .prefix("loadtest-data-")
            .tempdir_in(&parent);
        let dir = dir.with_context(|| parent.display().to_string())?;
        let (process, address) = program.spawn(dir.path())?;
        Ok(Self::Own(Box::new(Own {
            process,
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

    /// The process id, if the process is ours.
    pub(crate) fn process_id(&self) -> Option<u32> {
        match self {
            Self::Own(own) => Some(own.process.0.id()),
            Self::Remote(_) => None,
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
    /// Kill -9.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Starts the killed server again on the same ports and data. Returns when it listens.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        let (mut program, dir) = (self.program.clone(), Arc::clone(&self.dir));
        // Sessions reconnect all the while. If the run ends meanwhile, the data is removed after the process.
        let started = spawn_blocking(move || (program.spawn(dir.path()), dir)).await?;
        (self.process, self.address) = started.0?;
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
    /// Starts on free ports the first time, on the same ports later.
    fn spawn(&mut self, dir: &Path) -> anyhow::Result<(Process, ServerAddress)> {
        match self {
            Self::Gateway(program) => {
                let (child, address) = program.spawn(dir)?;
                Ok((Process(child), ServerAddress::Gateway(address)))
            }
            Self::Mosquitto(program) => {
                let (child, address) = program.spawn(dir)?;
                Ok((Process(child), ServerAddress::Mqtt(address)))
            }
        }
    }
}
