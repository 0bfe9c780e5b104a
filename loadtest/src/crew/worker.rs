//! The part of one process: a crowd that follows commands.

use std::{cell::RefCell, rc::Rc, time::Duration};

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    sync::mpsc,
    task::{JoinHandle, spawn_local},
};

use super::call::{Closed, CrewAnswer, CrewCommand, CrewQuestion};
use crate::{
    crowd::{Crowd, Size},
    protocol::{Protocol, ServerAddress},
    senders,
};

/// The descriptors of a process beside its sessions: lanes, token requests, pipes.
const OTHER_DESCRIPTORS: u64 = 1024;

/// One of the rig's processes.
struct Worker {
    /// The process's number, which gives it source addresses of its own.
    ordinal: u8,
    present: RefCell<Option<Rc<Enlisted>>>,
}

/// A crowd, with everything that its sessions need to start. Dropping it ends them.
struct Enlisted {
    crowd: Rc<Crowd>,
    protocol: Protocol,
    /// The token of each session, in the order of [`Crowd::who`]; none for lean sessions.
    tokens: RefCell<Vec<String>>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// Answers questions until there are no more, then dismisses its crowd.
pub(super) async fn serve(
    ordinal: u8,
    questions: impl AsyncRead + Unpin,
    mut answers: impl AsyncWrite + Unpin + 'static,
) -> anyhow::Result<()> {
    let worker = Rc::new(Worker {
        ordinal,
        present: RefCell::default(),
    });
    // The queue holds at most one line for each question, because the first process waits for each answer.
    let (said, mut saying) = mpsc::unbounded_channel::<Vec<u8>>();
    let speaker = spawn_local(async move {
        while let Some(line) = saying.recv().await {
            answers.write_all(&line).await?;
            answers.flush().await?;
        }
        std::io::Result::Ok(())
    });
    let mut questions = BufReader::new(questions).lines();
    while let Some(line) = questions.next_line().await? {
        let CrewQuestion { number, command } = serde_json::from_str(&line)?;
        let (worker, said) = (Rc::clone(&worker), said.clone());
        spawn_local(async move {
            let result = worker.obey(command).await;
            let result = result.map_err(|error| format!("{error:#}"));
            let mut line =
                serde_json::to_vec(&CrewAnswer { number, result }).expect("answers are plain JSON");
            line.push(b'\n');
            // If the reader is gone, the questions end as well.
            let _ = said.send(line);
        });
    }
    worker.present.take();
    speaker.abort();
    Ok(())
}

impl Worker {
    async fn obey(&self, command: CrewCommand) -> anyhow::Result<Box<RawValue>> {
        match command {
            CrewCommand::Enlist { address, size } => answer(&self.enlist(&address, size).await?),
            CrewCommand::Register => {
                let enlisted = self.enlisted()?;
                let tokens = enlisted.tokens.borrow().clone();
                let (crowd, protocol) = (&enlisted.crowd, &enlisted.protocol);
                answer(&protocol.register_devices(crowd, tokens).await?)
            }
            CrewCommand::Gather { rate } => answer(&self.enlisted()?.gather(rate).await?),
            CrewCommand::Look => answer(&self.crowd()?.counts()),
            CrewCommand::Obey(orders) => answer(&self.crowd()?.obey(orders)),
            CrewCommand::ComeBack => answer(&self.crowd()?.come_back()),
            CrewCommand::Send(load) => {
                let Enlisted {
                    crowd, protocol, ..
                } = &*self.enlisted()?;
                answer(&senders::send(crowd, protocol, load).await)
            }
            CrewCommand::Reset => answer(&self.crowd()?.meter.borrow_mut().reset()),
            CrewCommand::Latencies => answer(&self.crowd()?.meter.borrow().latencies()),
            CrewCommand::Tick => {
                let crowd = self.crowd()?;
                let second = crowd.meter.borrow_mut().tick(crowd.connected.get());
                answer(&second)
            }
            CrewCommand::Close => answer(&self.close().await?),
        }
    }

    async fn enlist(&self, address: &ServerAddress, size: Size) -> anyhow::Result<()> {
        let wanted = u64::from(size.users * size.sessions_each) + OTHER_DESCRIPTORS;
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if wanted > limit {
            bail!(
                "a process of the rig may have {limit} file descriptors and wants {wanted}: raise the limit (ulimit -n), or use more --processes"
            );
        }
        self.present.take();
        let (crowd, protocol) = (
            Crowd::new(size, self.ordinal)?,
            Protocol::enter(address).await?,
        );
        let tokens = match size.is_lean {
            true => Vec::new(),
            false => protocol.tokens(&crowd).await?,
        };
        self.present.replace(Some(Rc::new(Enlisted {
            crowd,
            protocol,
            tokens: tokens.into(),
            tasks: RefCell::default(),
        })));
        Ok(())
    }

    async fn close(&self) -> anyhow::Result<Closed> {
        let crowd = self.crowd()?;
        let tally = crowd.close().await;
        let incidents = crowd.incidents.take();
        self.present.take();
        Ok(Closed { tally, incidents })
    }

    fn enlisted(&self) -> anyhow::Result<Rc<Enlisted>> {
        self.present.borrow().clone().context("there is no crowd")
    }

    fn crowd(&self) -> anyhow::Result<Rc<Crowd>> {
        Ok(self.enlisted()?.crowd.clone())
    }
}

impl Enlisted {
    /// Starts the sessions, this many a second, and returns when all were started. Lean ones start as fast as the server
    /// accepts them, and this returns at once.
    async fn gather(&self, rate: f64) -> anyhow::Result<()> {
        let Self {
            crowd,
            protocol,
            tokens,
            tasks,
        } = self;
        if crowd.size.is_lean {
            tasks.borrow_mut().push(protocol.start_lean(crowd)?);
            return Ok(());
        }
        let began = tokio::time::Instant::now();
        for (at, token) in (0..).zip(tokens.take()) {
            tokio::time::sleep_until(began + Duration::from_secs_f64(f64::from(at) / rate)).await;
            let task = protocol.start(crowd, crowd.who(at), token);
            tasks.borrow_mut().push(task);
        }
        Ok(())
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        for task in self.tasks.take() {
            task.abort();
        }
    }
}

fn answer(of: &impl Serialize) -> anyhow::Result<Box<RawValue>> {
    Ok(to_raw_value(of)?)
}
