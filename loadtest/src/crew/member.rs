//! The first process's end of the line to a worker.

use std::{cell::RefCell, collections::HashMap, process::Stdio, rc::Rc};

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, duplex, split},
    process::{Child, Command as Process},
    sync::{mpsc, oneshot},
    task::spawn_local,
};

use super::{
    call::{CrewAnswer, CrewCommand, CrewQuestion},
    worker,
};

/// An answer, or the reason why there is none.
type AnswerResult = Result<Box<RawValue>, String>;

/// The pipe between a process and itself.
const PIPE_BYTES: usize = 64 * 1024;

/// A worker, as the first process sees it. Dropping it ends the worker.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) process_id: u32,
    waiting: Rc<RefCell<OpenQuestions>>,
    said: mpsc::UnboundedSender<Vec<u8>>,
    /// Killed when dropped.
    _process: Option<Child>,
}

/// A question that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    process_id: u32,
    answer: oneshot::Receiver<AnswerResult>,
}

/// Questions without an answer.
#[derive(Debug, Default)]
struct OpenQuestions {
    asked: u64,
    /// `None`: the worker is gone.
    open: Option<HashMap<u64, oneshot::Sender<AnswerResult>>>,
}

impl Member {
    /// The worker in this very process.
    pub(super) fn own(ordinal: u8) -> Self {
        let (here, there) = duplex(PIPE_BYTES);
        let (questions, answers) = split(there);
        spawn_local(async move {
            if let Err(error) = worker::serve(ordinal, questions, answers).await {
                eprintln!("loadtest: {error:#}");
            }
        });
        let (answers, questions) = split(here);
        Self::new(std::process::id(), None, answers, questions)
    }

    /// A worker in a process of its own.
    pub(super) fn start(ordinal: u8, seed: u64) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut process = Process::new(&program)
            .args(["worker", &ordinal.to_string(), &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let process_id = process.id().context("a process that ended at once")?;
        let answers = process.stdout.take().expect("it is piped");
        let questions = process.stdin.take().expect("it is piped");
        Ok(Self::new(process_id, Some(process), answers, questions))
    }

    fn new(
        process_id: u32,
        process: Option<Child>,
        answers: impl AsyncRead + Unpin + 'static,
        mut questions: impl AsyncWrite + Unpin + 'static,
    ) -> Self {
        let waiting = Rc::new(RefCell::new(OpenQuestions {
            asked: 0,
            open: Some(HashMap::new()),
        }));
        // The queue holds at most one line for each caller, because every caller waits for the answer.
        let (said, mut saying) = mpsc::unbounded_channel::<Vec<u8>>();
        spawn_local(async move {
            while let Some(line) = saying.recv().await {
                questions.write_all(&line).await?;
                questions.flush().await?;
            }
            std::io::Result::Ok(())
        });
        let listening = Rc::clone(&waiting);
        spawn_local(async move {
            let mut answers = BufReader::new(answers).lines();
            while let Ok(Some(line)) = answers.next_line().await {
                let Ok(CrewAnswer { number, result }) = serde_json::from_str(&line) else {
                    break;
                };
                let mut waiting = listening.borrow_mut();
                let caller = waiting.open.as_mut().and_then(|open| open.remove(&number));
                if let Some(caller) = caller {
                    // The caller may have stopped waiting.
                    let _ = caller.send(result);
                }
            }
            // Drops the callers' ends, so that they learn that no answer comes.
            listening.borrow_mut().open = None;
        });
        Self {
            process_id,
            waiting,
            said,
            _process: process,
        }
    }

    /// Asks at once.
    pub(super) fn ask(&self, command: CrewCommand) -> Asked {
        let (caller, answer) = oneshot::channel();
        let waiting = &mut *self.waiting.borrow_mut();
        let number = waiting.asked;
        waiting.asked += 1;
        if let Some(open) = &mut waiting.open {
            open.insert(number, caller);
            let question = CrewQuestion { number, command };
            let mut line = serde_json::to_vec(&question).expect("questions are plain JSON");
            line.push(b'\n');
            // If the worker is gone, the caller's end is dropped soon.
            let _ = self.said.send(line);
        }
        Asked {
            process_id: self.process_id,
            answer,
        }
    }
}

impl Asked {
    /// Waits for the answer.
    pub(super) async fn answer<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let answer = self.answer.await;
        let answer =
            answer.with_context(|| format!("process {} of the rig has ended", self.process_id))?;
        let answer = answer.map_err(|error| anyhow!(error))?;
        Ok(serde_json::from_str(answer.get())?)
    }
}
