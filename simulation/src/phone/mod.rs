//! A phone: an app with OpenIM's Go core, over the simulated network. It speaks the frames of the real SDKs.
//!
//! A core answers a ping from its read loop, moves its numbers when it takes a message, and writes the rows later. So an app
//! that dies may have received more than it has: its next process asks for that again.
//!
//! - `rules.rs`: what a core takes, and what it asks for
//! - `connection.rs`: one WebSocket; `messages.rs`: the data inside its frames
//! - `calling.rs`: the operations of a schedule on phones; `whole.rs`: phones in a run, and at its end
//! - this file: the app, and its store

mod calling;
mod connection;
mod messages;
mod rules;
mod whole;

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    mem::take,
    rc::Rc,
    time::Duration,
};

use loadtest::{SdkCore, SdkForm, SdkRequest, SdkResponse};
use prost::Message as _;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::{calling::add_phones, messages::PhoneMessage};
use self::{
    connection::{Connection, Heard, Lost},
    messages::{Bundle, HEADS, Heads, KICK, OwnQuestion, PULL, PUSH, Pull, REACHED, Reached},
    rules::{Ask, Broken, GoCore, Told},
};
use super::{
    device::{Crash, Left},
    model::{Model, user_id},
    network::Network,
    trace::{note, violated},
};
use towncrier::{ids::Platform, log::Conversation};

/// A core that connects again within this time asks nothing.
const ASKS_AFTER: Duration = Duration::from_secs(5);
/// A core waits at most this long for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A core pings this often, and needs a ping or a pong this often.
const PING_EVERY: Duration = Duration::from_secs(24);
const LIFE_TIMEOUT: Duration = Duration::from_secs(30);
/// The waits before attempts to connect, over and over.
const WAITS_S: [u64; 6] = [0, 1, 2, 4, 8, 16];
/// The longest time until a core has taken what came, and until it has stored what it took, ms.
const WORK_MS_MAX: u64 = 40;

/// The session of a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PhoneOwner {
    pub(super) user: usize,
    pub(super) platform: Platform,
    pub(super) is_gzipped: bool,
}

/// A phone's disk.
#[derive(Default)]
pub(super) struct PhoneStore {
    /// The id of each message, by conversation and seq.
    rows: BTreeMap<(String, i64), String>,
    /// The newest message of each conversation, and how far it is read.
    read: BTreeMap<String, (i64, i64)>,
    pub(super) crash: Option<Crash>,
}

/// A phone as the other parts of the run see it.
pub(super) struct Phone {
    /// Its number among all devices.
    pub(super) number: usize,
    pub(super) owner: PhoneOwner,
    pub(super) store: RefCell<PhoneStore>,
    /// The token of its last login, until it is refused or the phone is sent away.
    pub(super) token: RefCell<Option<String>>,
}

impl Phone {
    pub(super) fn new(number: usize, owner: PhoneOwner) -> Self {
        Self {
            number,
            owner,
            store: RefCell::default(),
            token: RefCell::default(),
        }
    }

    /// Another device: nothing is stored, and nobody is logged in.
    pub(super) fn reinstall(&self) {
        self.store.take();
        self.token.take();
    }

    /// The first message of a conversation that the phone does not have, or has another one for.
    pub(super) fn lacks(&self, id: &str, messages: &[(u64, String)]) -> Option<u64> {
        let rows = &self.store.borrow().rows;
        let lacks = |(seq, message): &&(u64, String)| {
            rows.get(&(id.to_owned(), *seq as i64)) != Some(message)
        };
        messages.iter().find(lacks).map(|(seq, _)| *seq)
    }

    /// The count of unread messages, if it is not one that the phone may show: the gateway does not tell which unread messages
    /// it deletes or lets expire.
    pub(super) fn miscounts(&self, listed: &Conversation) -> Option<i64> {
        let store = self.store.borrow();
        let (head, read) = store.read.get(&*listed.id).copied().unwrap_or_default();
        let unread = (head - read).max(0);
        let most = listed.head.0 - listed.mark.0;
        let is_good = (listed.unread..=most).contains(&(unread as u64));
        (!is_good).then_some(unread)
    }
}

/// Something that a core still has to take.
enum Item {
    /// A connection began; true: the core asks what there is.
    Connected(bool),
    Lost,
    Push(Vec<u8>),
    /// The answer to the open request.
    Answer(SdkResponse),
}

/// A request without an answer.
struct OpenRequest {
    number: i64,
    msg_incr: String,
    due: Instant,
}

/// The process of an app.
struct App {
    phone: Rc<Phone>,
    model: Rc<RefCell<Model>>,
    user: String,
    core: GoCore,
    items: VecDeque<Item>,
    /// What the core took, and has not stored.
    unwritten: Vec<Told>,
    open: Option<OpenRequest>,
    requests: u64,
    /// The time at which the core goes on.
    works_at: Option<Instant>,
}

/// Runs the phone's app until it ends by itself; dropping this kills it.
pub(super) async fn run(
    phone: Rc<Phone>,
    network: Network,
    token: String,
    model: Rc<RefCell<Model>>,
) -> Left {
    let PhoneOwner {
        user,
        platform,
        is_gzipped,
    } = phone.owner;
    let (number, user) = (phone.number, user_id(user).to_string());
    let form = SdkForm {
        core: SdkCore::Go,
        is_gzipped,
    };
    let compression = if is_gzipped { "&compression=gzip" } else { "" };
    let query = format!(
        "sendID={user}&token={token}&platformID={}&operationID=o&isBackground=false{compression}",
        platform.number()
    );
    let core = GoCore::new(phone.store.borrow().rows.keys());
    let mut app = App {
        phone,
        model,
        user,
        core,
        items: VecDeque::new(),
        unwritten: Vec::new(),
        open: None,
        requests: 0,
        works_at: None,
    };
    let mut waits = WAITS_S.into_iter().cycle();
    let mut connected_at: Option<Instant> = None;
    loop {
        let lost = match Connection::open(&network, number, &query, form).await {
            Err(lost) => lost,
            Ok(connection) => {
                note(format_args!("phone {number} connected"));
                waits = WAITS_S.into_iter().cycle();
                let before = connected_at.replace(Instant::now());
                let asks = before.is_none_or(|before| before.elapsed() >= ASKS_AFTER);
                app.take(Item::Connected(asks));
                let lost = app.attend(connection).await;
                app.open = None;
                app.take(Item::Lost);
                lost
            }
        };
        note(format_args!("phone {number} lost: {lost}"));
        let left = match lost {
            Lost::Kicked => Left::Replaced,
            Lost::Refused(_) => Left::LoggedOut,
            Lost::Died => Left::Crashed,
            Lost::Gone(_) | Lost::Silent => {
                let wait = waits.next().unwrap_or_default();
                if app.rest(Duration::from_secs(wait)).await.is_err() {
                    return Left::Crashed;
                }
                continue;
            }
        };
        if left != Left::Crashed {
            app.phone.token.take();
        }
        return left;
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl App {
    /// The core will take this, after what came before.
    fn take(&mut self, item: Item) {
        self.items.push_back(item);
        self.go_on();
    }

    /// Goes on in a moment, if there is something to do.
    fn go_on(&mut self) {
        if self.works_at.is_none() && !(self.items.is_empty() && self.unwritten.is_empty()) {
            let wait = Duration::from_millis(fastrand::u64(..WORK_MS_MAX));
            self.works_at = Some(Instant::now() + wait);
        }
    }

    /// Works for some time without a connection.
    async fn rest(&mut self, time: Duration) -> Result<(), Lost> {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = until(self.works_at) => self.work()?,
                () = &mut over => return Ok(()),
            }
        }
    }

    /// Runs one connection to its end.
    async fn attend(&mut self, mut connection: Connection) -> Lost {
        let mut ping_at = Instant::now() + PING_EVERY;
        let mut alive_until = Instant::now() + LIFE_TIMEOUT;
        loop {
            let due = self.open.as_ref().map(|open| open.due);
            tokio::select! {
                biased;
                heard = connection.hear() => match heard {
                    Ok(Heard::Frame(frame)) if frame.number == KICK => return Lost::Kicked,
                    Ok(Heard::Frame(frame)) => self.hear(frame),
                    Ok(Heard::Life) => alive_until = Instant::now() + LIFE_TIMEOUT,
                    Ok(Heard::Fault(fault)) => self.misled(&fault),
                    Err(lost) => return lost,
                },
                () = until(self.works_at) => {
                    if let Err(lost) = self.work() {
                        return lost;
                    }
                    self.ask(&connection);
                }
                () = until(due) => return Lost::Silent,
                () = sleep_until(alive_until) => return Lost::Silent,
                () = sleep_until(ping_at) => {
                    connection.ping();
                    ping_at += PING_EVERY;
                }
            }
        }
    }

    fn hear(&mut self, frame: SdkResponse) {
        if frame.number == PUSH {
            // Without it a core makes no conversation of the message.
            if frame.operation_id.is_empty() {
                self.misled("a push without operationID");
            }
            return self.take(Item::Push(frame.data));
        }
        match self.open.take() {
            Some(open) if (open.number, &open.msg_incr) == (frame.number, &frame.msg_incr) => {}
            _ => return self.misled(&format!("{frame:?}, which nobody asked for")),
        }
        if frame.error != 0 {
            self.misled(&format!("{} is answered with {}", frame.number, frame.text));
        }
        self.take(Item::Answer(frame));
    }

    fn misled(&self, fault: &str) {
        violated(
            "protocol",
            format_args!("phone {}: {fault}", self.phone.number),
        );
    }

    /// Stores what was taken. Otherwise takes what came.
    fn work(&mut self) -> Result<(), Lost> {
        self.works_at = None;
        if !self.unwritten.is_empty() {
            self.write()?;
        } else {
            for item in take(&mut self.items) {
                match self.taken(item) {
                    Ok(told) => self.unwritten.extend(told),
                    Err(Broken(fault)) => self.misled(&fault),
                }
            }
        }
        self.go_on();
        Ok(())
    }

    fn taken(&mut self, item: Item) -> Result<Vec<Told>, Broken> {
        let core = &mut self.core;
        match item {
            Item::Connected(asks) => {
                core.connected(asks);
                Ok(Vec::new())
            }
            Item::Lost => core.lost(),
            Item::Push(data) => core.pushed(decode(&data)?),
            Item::Answer(frame) => match frame.number {
                REACHED => core.reached(&decode::<Reached>(&frame.data)?),
                PULL => core.pulled(decode::<Bundle>(&frame.data)?),
                _ => Ok(core.heads(decode::<Heads>(&frame.data)?)),
            },
        }
    }

    /// Stores all that was taken, at once. The process dies here if the run ordered it.
    fn write(&mut self) -> Result<(), Lost> {
        self.crash(Crash::BeforeCommit)?;
        let told = take(&mut self.unwritten);
        self.keep(told);
        self.crash(Crash::AfterCommit)
    }

    fn keep(&self, told: Vec<Told>) {
        let number = self.phone.number;
        let store = &mut *self.phone.store.borrow_mut();
        let model = &mut *self.model.borrow_mut();
        let user = self.phone.owner.user;
        for told in told {
            match told {
                Told::Message(_, message) if message.seq == 0 => {
                    note(format_args!("phone {number} online-only"));
                    model.told_only(user, &message);
                }
                Told::Message(id, message) => {
                    let seq = message.seq;
                    note(format_args!("phone {number} stores {id}/{seq}"));
                    model.stored_by_phone(user, &id, &message);
                    let newest = store.rows.range(..(id.clone(), i64::MAX)).next_back();
                    let newest = newest.filter(|((of, _), _)| *of == id);
                    if let Some(((_, newest), _)) = newest
                        && *newest >= seq
                    {
                        violated(
                            "P5",
                            format_args!("phone {number} is told {id}/{seq} after {newest}"),
                        );
                    }
                    let read = store.read.entry(id.clone()).or_default();
                    read.0 = read.0.max(seq);
                    store.rows.insert((id, seq), message.server_msg_id);
                }
                Told::Mark(id, seq) => {
                    note(format_args!("phone {number} is told of {id} to {seq}"));
                    model.mark_told(user, &id, seq as u64);
                    let read = store.read.entry(id).or_default();
                    read.1 = read.1.max(seq);
                }
                Told::Head(id, head, has_read) => {
                    let read = store.read.entry(id).or_default();
                    *read = (read.0.max(head), has_read);
                }
            }
        }
    }

    fn crash(&self, at: Crash) -> Result<(), Lost> {
        let crash = &mut self.phone.store.borrow_mut().crash;
        if *crash != Some(at) {
            return Ok(());
        }
        *crash = None;
        note(format_args!("phone {} dies {at:?}", self.phone.number));
        Err(Lost::Died)
    }

    /// Sends the next request, if none waits for its answer, and the core knows of this connection.
    fn ask(&mut self, connection: &Connection) {
        let mut items = self.items.iter();
        if !items.all(|item| matches!(item, Item::Push(_))) {
            return;
        }
        let Some(ask) = self.core.ask().filter(|_| self.open.is_none()) else {
            return;
        };
        let user_id = self.user.clone();
        let (number, data) = match ask {
            Ask::Reached => (REACHED, OwnQuestion { user_id }.encode_to_vec()),
            Ask::Heads => (HEADS, OwnQuestion { user_id }.encode_to_vec()),
            Ask::Pull(ranges) => {
                let ranges = ranges.clone();
                (PULL, Pull { user_id, ranges }.encode_to_vec())
            }
        };
        note(format_args!("phone {} asks {ask:?}", self.phone.number));
        self.requests += 1;
        let open = self.open.insert(OpenRequest {
            number,
            msg_incr: format!("{}_{}", self.user, self.requests),
            due: Instant::now() + ANSWER_TIMEOUT,
        });
        connection.ask(&SdkRequest {
            number,
            send_id: &self.user,
            operation_id: "o",
            msg_incr: &open.msg_incr,
            data: &data,
        });
    }
}

fn decode<M: prost::Message + Default>(data: &[u8]) -> Result<M, Broken> {
    M::decode(data).map_err(|error| Broken(error.to_string()))
}
