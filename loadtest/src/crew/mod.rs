//! All processes of the rig. A scenario asks every process the same, and their answers are combined.
//!
//! Each process has its own users: it holds all their sessions, sends only to them, and checks their messages with a ledger
//! of its own. So nothing is shared, and only the machine limits the number of processes. The first process is a worker as
//! well, and speaks to itself as to the others: one process and many take the same path.
//!
//! - `call.rs`: questions and answers
//! - `member.rs`: the first process's end of the line to a worker
//! - `worker.rs`: the other end

mod call;
mod member;
mod worker;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde::de::DeserializeOwned;
use tokio::{
    task::{JoinHandle, spawn_local},
    time::{interval, sleep},
};

pub(crate) use self::call::Closed;
use self::{
    call::CrewCommand,
    member::{Asked, Member},
};
use crate::{
    crowd::{Counts, Orders, Size},
    meter::{Latencies, Recorded, RecordedSecond, Second},
    parcel::To,
    process::{self, Usage},
    progress::Progress,
    protocol::ServerAddress,
    senders::{Load, LoadResult},
};

/// Each has 200 source addresses.
pub(crate) const PROCESSES_MAX: u8 = 200;
/// The interval of checks while waiting for a condition.
const LOOK: Duration = Duration::from_millis(10);
/// The interval at which the progress of a load is shown.
const SHOW: Duration = Duration::from_millis(200);

/// The rig's processes. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Crew {
    address: ServerAddress,
    members: Vec<Member>,
    /// The size of the whole present crowd.
    size: Cell<Size>,
    course: RefCell<Vec<Second>>,
}

/// Works for the process that started this one, until that process ends.
pub(crate) async fn work(ordinal: u8, seed: u64) -> anyhow::Result<()> {
    fastrand::seed(seed);
    worker::serve(ordinal, tokio::io::stdin(), tokio::io::stdout()).await
}

impl Crew {
    /// Starts this many processes, to load the server at `address`. `seed` decides their random choices.
    pub(crate) fn muster(
        processes: u8,
        seed: u64,
        address: &ServerAddress,
    ) -> anyhow::Result<Rc<Self>> {
        fastrand::seed(seed);
        let others =
            (1..processes).map(|ordinal| Member::start(ordinal, seed ^ u64::from(ordinal)));
        let members = std::iter::once(Ok(Member::own(0))).chain(others);
        Ok(Rc::new(Self {
            address: address.clone(),
            members: members.collect::<Result<_, _>>()?,
            size: Cell::default(),
            course: RefCell::default(),
        }))
    }

    /// Prepares the next crowd: dismisses the one before, and fetches the tokens of the new one.
    pub(crate) async fn enlist(&self, size: Size) -> anyhow::Result<()> {
        if size.users < self.members.len() as u32 {
            bail!("each of the rig's processes has at least one user: use fewer --processes");
        }
        self.size.set(size);
        self.ask_each(|at| CrewCommand::Enlist {
            address: self.address.clone(),
            size: Size {
                users: self.share(size.users, at),
                ..size
            },
        })
        .done()
        .await
    }

    /// Registers a device for the user of each session. Between [`enlist`](Self::enlist) and [`gather`](Self::gather).
    pub(crate) async fn register(&self) -> anyhow::Result<()> {
        self.ask_all(&CrewCommand::Register).done().await
    }

    /// Starts the sessions, this many a second, and waits until all are connected.
    pub(crate) async fn gather(&self, rate: f64) -> anyhow::Result<()> {
        let rate = rate / self.members.len() as f64;
        let started = self.ask_all(&CrewCommand::Gather { rate });
        let connected = |counts: &Counts| (counts.connected.into(), self.sessions().into());
        let longest = self.size().patience.saturating_add(Duration::from_secs_f64(
            f64::from(self.sessions()) / (rate * self.members.len() as f64),
        ));
        let is_so = self.until(longest, "connected", connected).await?;
        if !is_so {
            let (connected, sessions) = (self.look().await?.connected, self.sessions());
            let incidents = self.close().await?.incidents;
            bail!("{connected} of {sessions} sessions connected: {incidents:?}");
        }
        started.done().await?;
        Ok(())
    }

    /// [`enlist`](Self::enlist) and [`gather`](Self::gather).
    pub(crate) async fn bring(&self, size: Size, rate: f64) -> anyhow::Result<()> {
        self.enlist(size).await?;
        self.gather(rate).await
    }

    pub(crate) fn size(&self) -> Size {
        self.size.get()
    }

    pub(crate) fn processes(&self) -> u32 {
        self.members.len() as u32
    }

    pub(crate) fn sessions(&self) -> u32 {
        self.size().users * self.size().sessions_each
    }

    /// The present state of all processes together.
    pub(crate) async fn look(&self) -> anyhow::Result<Counts> {
        let parts: Vec<Counts> = self.ask_all(&CrewCommand::Look).answers().await?;
        Ok(parts.into_iter().fold(Counts::default(), |a, b| Counts {
            connected: a.connected + b.connected,
            caught_up: a.caught_up + b.caught_up,
            open: a.open + b.open,
            missing: a.missing + b.missing,
            landed: a.landed + b.landed,
        }))
    }

    /// Waits until `of` is reached, and shows the progress. `false`: not within this time.
    pub(crate) async fn until(
        &self,
        longest: Duration,
        what: &str,
        done: impl Fn(&Counts) -> (u64, u64),
    ) -> anyhow::Result<bool> {
        let (began, progress) = (Instant::now(), Progress::new(what));
        loop {
            let (done, of) = done(&self.look().await?);
            if done >= of {
                return Ok(true);
            }
            if began.elapsed() > longest {
                return Ok(false);
            }
            progress.show(done, of);
            sleep(LOOK).await;
        }
    }

    /// Waits until every accepted message has landed. `false`: not in time.
    pub(crate) async fn settle(&self) -> anyhow::Result<bool> {
        let landed = |counts: &Counts| {
            let Counts {
                landed,
                missing,
                open,
                ..
            } = *counts;
            (landed, landed + missing + open)
        };
        self.until(self.size().patience, "landed", landed).await
    }

    /// Waits until all sessions are connected and have caught up. `false`: not within this time.
    pub(crate) async fn return_of_all(&self, longest: Duration) -> anyhow::Result<bool> {
        let back = |counts: &Counts| {
            let back = counts.connected.min(counts.caught_up);
            (back.into(), self.sessions().into())
        };
        self.until(longest, "back and caught up", back).await
    }

    /// Sessions follow these orders from now on.
    pub(crate) async fn order(&self, orders: Orders) -> anyhow::Result<()> {
        self.ask_all(&CrewCommand::Obey(orders)).done().await
    }

    /// Sessions leave their connections and reconnect.
    pub(crate) async fn come_back(&self) -> anyhow::Result<()> {
        self.ask_all(&CrewCommand::ComeBack).done().await
    }

    /// Sends the load; each process sends its share.
    pub(crate) async fn send(&self, load: Load) -> anyhow::Result<LoadResult> {
        let processes = self.members.len();
        if processes > 1 && load.to == To::Everyone {
            bail!(
                "everyone includes the users of other processes: a broadcast wants one of --processes"
            );
        }
        let sending = self.ask_each(|at| {
            CrewCommand::Send(Load {
                messages: self.share(load.messages, at),
                rate: load.rate.map(|rate| rate / processes as f64),
                lanes: load.lanes.div_ceil(processes),
                ..load
            })
        });
        self.sent(sending, load.messages).await
    }

    /// Sends this many messages to every user, in batches, as fast as they are accepted.
    pub(crate) async fn reach_all(&self, messages_each: u32) -> anyhow::Result<LoadResult> {
        let users = self.size().users;
        let sending = self.ask_each(|at| {
            CrewCommand::Send(Load::reach_all(self.share(users, at), messages_each))
        });
        self.sent(sending, users.saturating_mul(messages_each))
            .await
    }

    async fn sent(&self, sending: CrewCall, of: u32) -> anyhow::Result<LoadResult> {
        let sending = sending.answers::<LoadResult>();
        tokio::pin!(sending);
        let (progress, before) = (Progress::new("sent and landed"), self.look().await?.landed);
        let mut shows = interval(SHOW);
        let parts = loop {
            tokio::select! {
                parts = &mut sending => break parts?,
                _ = shows.tick(), if progress.is_shown() => {
                    progress.show(self.look().await?.landed - before, of.into());
                }
            }
        };
        Ok(parts
            .into_iter()
            .fold(LoadResult::default(), |a, b| LoadResult {
                took: a.took.max(b.took),
                accepted: a.accepted + b.accepted,
                refused: a.refused + b.refused,
                is_late: a.is_late || b.is_late,
            }))
    }

    /// Forgets the latencies so far.
    pub(crate) async fn reset(&self) -> anyhow::Result<()> {
        self.ask_all(&CrewCommand::Reset).done().await
    }

    /// The latencies since the last [`reset`](Self::reset).
    pub(crate) async fn latencies(&self) -> anyhow::Result<Latencies> {
        let mut all = Latencies::default();
        for part in self
            .ask_all(&CrewCommand::Latencies)
            .answers::<Recorded>()
            .await?
        {
            all.add(&part);
        }
        Ok(all)
    }

    /// Records each second from now on, until [`close`](Self::close) or until the task is aborted.
    pub(crate) fn keep_time(self: &Rc<Self>) -> JoinHandle<()> {
        let crew = Rc::downgrade(self);
        spawn_local(async move {
            let mut seconds = interval(Duration::from_secs(1));
            seconds.tick().await;
            loop {
                seconds.tick().await;
                let Some(crew) = crew.upgrade() else { return };
                let parts = crew
                    .ask_all(&CrewCommand::Tick)
                    .answers::<RecordedSecond>()
                    .await;
                let Ok(parts) = parts else { return };
                crew.course.borrow_mut().push(Second::of(&parts));
            }
        })
    }

    /// The seconds so far.
    pub(crate) fn take_course(&self) -> Vec<Second> {
        self.course.take()
    }

    /// Waits for sends under way, checks every inbox with missing messages once more, closes the books and dismisses the
    /// crowd.
    pub(crate) async fn close(&self) -> anyhow::Result<Closed> {
        let mut all = Closed::default();
        for part in self
            .ask_all(&CrewCommand::Close)
            .answers::<Closed>()
            .await?
        {
            all.tally += part.tally;
            for (what, times) in part.incidents {
                *all.incidents.entry(what).or_default() += times;
            }
        }
        Ok(all)
    }

    /// The resources that all processes have used so far.
    pub(crate) fn usage(&self) -> std::io::Result<Usage> {
        let mut all = Usage::default();
        for member in &self.members {
            all += process::usage(member.process_id)?;
        }
        Ok(all)
    }

    /// The part of `all` for one of the processes.
    fn share(&self, all: u32, at: usize) -> u32 {
        let processes = self.members.len() as u32;
        all / processes + u32::from((at as u32) < all % processes)
    }

    /// Asks all of them the same, at once.
    fn ask_all(&self, command: &CrewCommand) -> CrewCall {
        self.ask_each(|_| command.clone())
    }

    /// Asks each of them its own question, at once.
    fn ask_each(&self, command: impl Fn(usize) -> CrewCommand) -> CrewCall {
        let members = self.members.iter().enumerate();
        CrewCall(
            members
                .map(|(at, member)| member.ask(command(at)))
                .collect(),
        )
    }
}

/// A question to every process.
struct CrewCall(Vec<Asked>);

impl CrewCall {
    async fn answers<T: DeserializeOwned>(self) -> anyhow::Result<Vec<T>> {
        let mut answers = Vec::new();
        for asked in self.0 {
            answers.push(asked.answer().await?);
        }
        Ok(answers)
    }

    async fn done(self) -> anyhow::Result<()> {
        self.answers::<()>().await.map(|_| ())
    }
}
