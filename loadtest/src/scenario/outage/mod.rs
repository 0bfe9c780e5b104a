//! Sends go on while another program takes the gateway down and up again, round after round, and every message is accounted
//! for.
//!
//! Each user has three sessions in the ledger. One listens all the time, over every loss. One connects only after an
//! outage, so it reads the whole round from the disk as the outage left it. For some users there is one elsewhere, whose
//! store on disk goes through the outages as well.
//!
//! The program that makes the outages (`loadtest/vm/power-cut`) talks with the rig in lines. The rig says `users ID …`
//! (whose stores are elsewhere), and in each round `sending`; it hears `struck NANOSECONDS` (the machine's monotonic clock
//! just before) and `back` (the gateway listens again), and says `round …`. Then it hears `again` for another round, or
//! `farewell`: it sends a last message to each of the stores, says `heads ID SEQ …`, and hears `stores FOLDER`.
//!
//! - `inbox.rs`: a session of a user

mod inbox;

use std::{
    cell::{Cell, RefCell},
    io::{BufRead, Write},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde_json::value::RawValue;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_local,
    time::{sleep, timeout},
};
use towncrier_client::{
    AdminClient, AdminError, DiskStore, StorePosition, admin::SendFields, proto::Message,
};

use self::inbox::LedgerStore;
use super::ScenarioStage;
use crate::{
    gateway::{ADMIN, ADMIN_PLATFORM},
    ledger::{LandedMessage, Ledger, LedgerTally, MessageKey, SessionStanding},
    protocol::ServerAddress,
    target::Target,
};

/// A user's sessions in the ledger. The first two are on the platforms 1 and 2.
const LISTENING: u32 = 0;
const READING: u32 = 1;
const STORED: u32 = 2;
const SESSIONS: u32 = 3;
/// One of this many sends must be refused.
const REFUSED_EVERY: u32 = 20;
/// The interval of checks while waiting for a condition.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct OutagePlan {
    /// Users.
    #[arg(long, default_value_t = 40)]
    users: u32,
    /// This many users, the first ones, also have a store elsewhere: the file USERID.redb in the folder that is told at the
    /// end.
    #[arg(long, default_value_t = 4)]
    stored: u32,
    /// Senders at once, each with one send after the other. Every second sender repeats a send without an answer when the
    /// gateway is back; the others leave its outcome unknown.
    #[arg(long, default_value_t = 16)]
    at_once: u32,
}

/// The phases of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loaded,
    Struck,
    Back,
}

/// The state that a whole run shares.
struct Books {
    plan: OutagePlan,
    patience: Duration,
    ws: String,
    admin: AdminClient,
    admin_token: String,
    ledger: RefCell<Ledger>,
    phase: watch::Sender<Phase>,
    began: Instant,
    /// The monotonic clock at that moment.
    began_us: u64,
    /// The times of this round's answers.
    answers: RefCell<Vec<u64>>,
    repeated: Cell<u64>,
    /// Faults that the ledger does not see.
    incidents: RefCell<Vec<String>>,
}

/// The books at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    listening: LedgerTally,
    reading: LedgerTally,
    repeated: u64,
}

pub(crate) async fn run(plan: OutagePlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let Target::Remote(ServerAddress::Gateway(address)) = &stage.target else {
        bail!("somebody else runs this gateway: name it by --ws, --admin and --secret");
    };
    ensure!(
        (1..=plan.users).contains(&plan.stored),
        "1 to all users have stores"
    );
    let [gateway] = &address.gateways[..] else {
        bail!("an outage is one gateway's");
    };
    let admin = AdminClient::new(&gateway.admin)?;
    let now = clock_gettime(ClockId::Monotonic);
    let books = Rc::new(Books {
        plan,
        patience: stage.patience,
        ws: gateway.ws.clone(),
        admin_token: admin
            .user_token(&address.secret, ADMIN, ADMIN_PLATFORM)
            .await?
            .token,
        admin,
        ledger: Ledger::new(plan.users, SESSIONS, (60, 600)).into(),
        phase: watch::Sender::new(Phase::Back),
        began: Instant::now(),
        began_us: now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000,
        answers: RefCell::default(),
        repeated: Cell::new(0),
        incidents: RefCell::default(),
    });
    let mut heard = lines();
    let (listening, reading) = open_inboxes(&books, &address.secret).await?;
    let stored: Vec<_> = (0..plan.stored).map(|user| books.user_id(user)).collect();
    say(&format!("users {}", stored.join(" ")));

    let mut before = Sum::default();
    loop {
        let moment = round(&books, &mut heard, &listening, &reading).await?;
        let now = books.sum();
        say(&format!("round {} {moment}", now.since(before)));
        before = now;
        match &*hear(&mut heard).await? {
            "again" => {}
            "farewell" => break,
            other => bail!("after a round comes `again` or `farewell`, not `{other}`"),
        }
    }
    let heads = farewell(&books, &listening).await?;
    read_all(&reading).await?;
    say(&format!("heads {}", heads.join(" ")));
    let answer = hear(&mut heard).await?;
    let folder = answer
        .strip_prefix("stores ")
        .context("after `heads` comes `stores`")?;
    read_stores(&books, &listening, Path::new(folder))?;

    let tally = &mut stage.report.tally;
    *tally = books.tally(|session| session != STORED);
    let stores = books.tally(|session| session == STORED);
    say(&format!("stores {stores}"));
    tally.accepted += stores.accepted;
    tally.landed += stores.landed;
    tally.lost += stores.lost;
    let incidents = books.incidents.borrow();
    ensure!(incidents.is_empty(), "{}", incidents.join("; "));
    Ok(())
}

/// One round: load, outage, and every inbox read again. Returns the facts about the moment of the outage.
async fn round(
    books: &Rc<Books>,
    heard: &mut mpsc::Receiver<String>,
    listening: &[LedgerStore],
    reading: &[LedgerStore],
) -> anyhow::Result<String> {
    books.answers.borrow_mut().clear();
    books.phase.send_replace(Phase::Loaded);
    let senders: Vec<_> = (0..books.plan.at_once)
        .map(|number| spawn_local(send(books.clone(), number % 2 == 0)))
        .collect();
    say("sending");
    let answer = hear(heard).await?;
    let struck = answer
        .strip_prefix("struck ")
        .context("after `sending` comes `struck`")?;
    books.phase.send_replace(Phase::Struck);
    let moment = books.moment(struck.parse::<u64>()? / 1000);
    ensure!(hear(heard).await? == "back", "after `struck` comes `back`");
    books.phase.send_replace(Phase::Back);
    for sender in senders {
        let ended = timeout(books.patience, sender).await;
        ended.context("a sender waits too long for its answer")??;
    }
    // Nothing is sent any more, so a session that has caught up has everything.
    read_all(reading).await?;
    let began = Instant::now();
    let heads = || listening.iter().zip(reading);
    while heads().any(|(one, other)| one.position != other.position) {
        ensure!(
            began.elapsed() < books.patience,
            "who listens is not caught up: {:?}",
            books.incidents.borrow()
        );
        sleep(LOOK).await;
    }
    Ok(moment)
}

/// Reads every inbox to its end.
async fn read_all(reading: &[LedgerStore]) -> anyhow::Result<()> {
    let readers = reading
        .iter()
        .map(|inbox| spawn_local(inbox.clone().read()));
    for reader in readers.collect::<Vec<_>>() {
        reader.await??;
    }
    Ok(())
}

/// For every user, the session that listens and the session that will read.
async fn open_inboxes(
    books: &Rc<Books>,
    secret: &str,
) -> anyhow::Result<(Vec<LedgerStore>, Vec<LedgerStore>)> {
    let mut inboxes = (Vec::new(), Vec::new());
    for user in 0..books.plan.users {
        let user_id = books.user_id(user);
        for (session, into) in [(LISTENING, &mut inboxes.0), (READING, &mut inboxes.1)] {
            let token = books.admin.user_token(secret, &user_id, session + 1);
            into.push(LedgerStore {
                books: books.clone(),
                user,
                session,
                position: Rc::default(),
                token: token.await?.token,
            });
        }
        spawn_local(inboxes.0[user as usize].clone().listen());
    }
    Ok(inboxes)
}

/// Sends one after the other while the gateway is loaded.
async fn send(books: Rc<Books>, gives_up: bool) {
    while *books.phase.borrow() == Phase::Loaded {
        let is_good = fastrand::u32(..REFUSED_EVERY) > 0;
        let user = fastrand::u32(..books.plan.users);
        let key = books.ledger.borrow_mut().issue(books.now_us(), user, 1);
        while !books.send_once(key, is_good).await {
            let mut phase = books.phase.subscribe();
            phase
                .wait_for(|phase| *phase == Phase::Back)
                .await
                .expect("the books hold it");
            if gives_up {
                break;
            }
            books.repeated.set(books.repeated.get() + 1);
        }
    }
}

/// Sends one last message to each of the stores. Returns userID and seq of each.
async fn farewell(books: &Rc<Books>, listening: &[LedgerStore]) -> anyhow::Result<Vec<String>> {
    let mut heads = Vec::new();
    for inbox in &listening[..books.plan.stored as usize] {
        let before = inbox.position.get();
        let key = books
            .ledger
            .borrow_mut()
            .issue(books.now_us(), inbox.user, 1);
        ensure!(
            books.send_once(key, true).await,
            "the last message is not accepted"
        );
        let began = Instant::now();
        while inbox.position.get() == before {
            ensure!(
                began.elapsed() < books.patience,
                "the last message does not land"
            );
            sleep(LOOK).await;
        }
        heads.push(format!(
            "{} {}",
            books.user_id(inbox.user),
            inbox.position.get().cursor
        ));
    }
    Ok(heads)
}

/// Enters the messages in the stores elsewhere.
fn read_stores(books: &Books, listening: &[LedgerStore], folder: &Path) -> anyhow::Result<()> {
    for inbox in &listening[..books.plan.stored as usize] {
        let path = folder
            .join(books.user_id(inbox.user))
            .with_extension("redb");
        let store = DiskStore::open(&path)?;
        let landed = store.landed()?;
        for (epoch, seq) in &landed {
            books.land(inbox.user, STORED, &store.message(*epoch, *seq)?);
        }
        let StorePosition { epoch, cursor } = inbox.position.get();
        let whole = (1..=cursor).map(|seq| (epoch, seq));
        if !whole.eq(landed) {
            books.incident(format!("{} is not 1 to {cursor}", path.display()));
        }
    }
    Ok(())
}

impl Books {
    fn user_id(&self, user: u32) -> String {
        self.ledger.borrow().user_id(user)
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn incident(&self, what: String) {
        say(&format!("incident {what}"));
        self.incidents.borrow_mut().push(what);
    }

    fn land(&self, user: u32, session: u32, message: &Message) {
        let landed = LandedMessage {
            seq: message.seq,
            client_msg_id: &message.client_msg_id,
            server_msg_id: &message.server_msg_id,
            recv_id: &message.recv_id,
            content: &message.content,
        };
        self.ledger.borrow_mut().landed(user, session, &landed);
    }

    /// Sends once. `false`: the outcome is unknown. A send that is not good is a notice without its name.
    async fn send_once(&self, key: MessageKey, is_good: bool) -> bool {
        let content = self.ledger.borrow().content(key);
        let (session_type, content_type) = if is_good { (1, 101) } else { (4, 1400) };
        let send = SendFields {
            operation_id: "outage".into(),
            send_id: ADMIN.into(),
            client_msg_id: key.to_string(),
            sender_nickname: String::new(),
            sender_face_url: String::new(),
            session_type,
            content_type,
            content: RawValue::from_string(content).expect("the ledger writes JSON"),
            is_online_only: false,
        };
        let user_id = self.user_id(key.first);
        let answer = self.admin.send(&self.admin_token, &send, &user_id).await;
        let now_us = self.now_us();
        let mut ledger = self.ledger.borrow_mut();
        match answer {
            Ok(sent) => {
                ledger.accepted(key, now_us, &sent.server_msg_id);
                self.answers.borrow_mut().push(now_us);
                if !is_good {
                    self.incident(format!("{key} was accepted, and must not be"));
                }
            }
            Err(AdminError::Unreachable { .. }) => return false,
            Err(error) if error.is_outcome_unknown() => return false,
            Err(_) => ledger.refused(key),
        }
        true
    }

    /// The facts about the answers around an outage at `us` of the monotonic clock: the time from the last answer to the
    /// outage, the number of answers in the last second, and the number that were read after it.
    fn moment(&self, us: u64) -> String {
        let struck_us = us.saturating_sub(self.began_us);
        let answers = self.answers.borrow();
        let (before, after): (Vec<u64>, Vec<u64>) =
            answers.iter().partition(|at| **at <= struck_us);
        let last_ms = before.last().map_or(0, |at| (struck_us - at) / 1000);
        let second = before
            .iter()
            .filter(|at| **at + 1_000_000 > struck_us)
            .count();
        format!(
            "last-ms {last_ms} last-second {second} read-after {}",
            after.len()
        )
    }

    fn tally(&self, is_counted: impl Fn(u32) -> bool) -> LedgerTally {
        let stored = self.plan.stored;
        self.ledger.borrow().tally(|user, session| {
            match is_counted(session) && (session != STORED || user < stored) {
                true => SessionStanding::CaughtUp,
                false => SessionStanding::Absent,
            }
        })
    }

    fn sum(&self) -> Sum {
        Sum {
            listening: self.tally(|session| session == LISTENING),
            reading: self.tally(|session| session == READING),
            repeated: self.repeated.get(),
        }
    }
}

impl Sum {
    /// The result of a round.
    fn since(self, before: Self) -> String {
        let (now, was) = (self.reading, before.reading);
        format!(
            "accepted {} listening {} disk {} lost {} duplicated {} reordered {} ghost {} refused {} unknown {} repeated {}",
            now.accepted - was.accepted,
            self.listening.landed - before.listening.landed,
            now.landed - was.landed,
            self.listening.lost + now.lost - before.listening.lost - was.lost,
            now.duplicated - was.duplicated,
            now.reordered - was.reordered,
            now.ghost - was.ghost,
            now.refused - was.refused,
            now.unknown - was.unknown,
            self.repeated - before.repeated,
        )
    }
}

/// The lines of stdin. A thread waits for them.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let all = std::io::stdin().lock().lines().map_while(Result::ok);
        all.take_while(|line| sender.blocking_send(line.clone()).is_ok())
            .for_each(drop);
    });
    lines
}

async fn hear(lines: &mut mpsc::Receiver<String>) -> anyhow::Result<String> {
    lines
        .recv()
        .await
        .context("whoever makes the outages has gone")
}

fn say(line: &str) {
    // The reader may be gone, which its next line would tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}
