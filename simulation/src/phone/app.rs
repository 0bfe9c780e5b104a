//! The process of an app: its core, the connection, and what is not stored yet.
//!
//! A Go core answers a ping from its read loop, moves its numbers when it takes a message, and writes the rows later. So an app
//! that dies may have received more than it has.

use std::{cell::RefCell, collections::VecDeque, mem::take, rc::Rc, time::Duration};

use loadtest::{SdkCore, SdkRequest, SdkResponse};
use prost::Message as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Phone,
    connection::{Connection, Heard, Lost},
    messages::{
        Bundle, HEADS, HISTORY, Heads, HistoryQuestion, KICK, NEWEST, Newest, NewestQuestion,
        OwnQuestion, PULL, PUSH, Pull, REACHED, Reached,
    },
    page::Page,
    rules::{Ask, Broken, GoCore, Told},
};
use crate::{
    device::{Crash, Left},
    model::{Model, user_id},
    network::Network,
    trace::{note, violated},
};

/// A Go core that connects again within this time asks nothing.
const ASKS_AFTER: Duration = Duration::from_secs(5);
/// A Go core waits at most this long for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A Go core pings this often, and needs a ping or a pong this often.
const GO_PING: Duration = Duration::from_secs(24);
const GO_LIFE: Duration = Duration::from_secs(30);
/// A page pings this often, and needs a pong before the next ping.
const PAGE_PING: Duration = Duration::from_secs(10);
const PAGE_LIFE: Duration = Duration::from_secs(20);
/// The waits of a Go core before its attempts to connect, over and over; and the one of a page.
const GO_WAITS_S: [u64; 6] = [0, 1, 2, 4, 8, 16];
const PAGE_WAITS_S: [u64; 1] = [5];
/// The longest time until a core has taken what came, and until it has stored what it took, ms.
const WORK_MS_MAX: u64 = 40;

/// The core of an app.
enum Core {
    Go(GoCore),
    Page(Page),
}

impl Core {
    fn ask(&self) -> Option<&Ask> {
        match self {
            Self::Go(core) => core.ask(),
            Self::Page(page) => page.ask(),
        }
    }

    fn take(&mut self, item: Item) -> Result<Vec<Told>, Broken> {
        match (self, item) {
            (Self::Go(core), Item::Connected(asks)) => core.connected(asks),
            (Self::Page(page), Item::Connected(_)) => page.connected(),
            (Self::Go(core), Item::Lost) => return core.lost(),
            (Self::Page(page), Item::Lost) => page.lost(),
            (Self::Go(core), Item::Push(data)) => return core.pushed(decode(&data)?),
            (Self::Page(page), Item::Push(data)) => return Ok(page.tell(decode(&data)?)),
            (Self::Go(core), Item::Answer(frame)) => {
                return match frame.number {
                    REACHED => core.reached(&decode::<Reached>(&frame.data)?),
                    PULL => core.pulled(decode::<Bundle>(&frame.data)?),
                    HISTORY => core.history(decode(&frame.data)?),
                    NEWEST => core.newest(decode::<Newest>(&frame.data)?),
                    _ => Ok(core.heads(decode::<Heads>(&frame.data)?)),
                };
            }
            (Self::Page(page), Item::Answer(frame)) => {
                return match frame.number {
                    PULL => page.pulled(&frame.data, decode(&frame.data)?),
                    HISTORY => page.history(decode(&frame.data)?),
                    _ => Ok(page.heads(decode::<Heads>(&frame.data)?)),
                };
            }
        }
        Ok(Vec::new())
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
    /// `None`: it waits for ever.
    due: Option<Instant>,
}

/// The process of an app.
struct App {
    phone: Rc<Phone>,
    model: Rc<RefCell<Model>>,
    user: String,
    core: Core,
    items: VecDeque<Item>,
    /// The messages that the core took and has not stored.
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
    phone.end();
    let owner = phone.owner;
    let (number, user) = (phone.number, user_id(owner.user).to_string());
    let mut query = format!(
        "sendID={user}&token={token}&platformID={}&operationID=o&isBackground=false",
        owner.platform.number()
    );
    if owner.form.is_gzipped {
        query += "&compression=gzip";
    }
    let (core, waits_s) = match owner.form.core {
        SdkCore::Go => {
            let store = phone.store.borrow();
            (Core::Go(GoCore::new(store.rows.keys())), &GO_WAITS_S[..])
        }
        SdkCore::JavaScript => {
            query += "&sdkType=js&isMsgResp=true";
            (Core::Page(Page::default()), &PAGE_WAITS_S[..])
        }
    };
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
    let mut waits = waits_s.iter().cycle();
    let mut connected_at: Option<Instant> = None;
    loop {
        let lost = match Connection::open(&network, number, &query, owner.form).await {
            Err(lost) => lost,
            Ok(connection) => {
                note(format_args!("phone {number} connected"));
                waits = waits_s.iter().cycle();
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
                let wait = *waits.next().expect("they never end");
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
        let (ping_every, life) = match self.core {
            Core::Go(_) => (GO_PING, GO_LIFE),
            Core::Page(_) => (PAGE_PING, PAGE_LIFE),
        };
        let mut ping_at = Instant::now() + ping_every;
        let mut alive_until = Instant::now() + life;
        loop {
            let due = self.open.as_ref().and_then(|open| open.due);
            tokio::select! {
                biased;
                heard = connection.hear() => match heard {
                    Ok(Heard::Frame(frame)) if frame.number == KICK => return Lost::Kicked,
                    Ok(Heard::Frame(frame)) => self.hear(frame),
                    Ok(Heard::Life) => alive_until = Instant::now() + life,
                    Ok(Heard::Nothing) => {}
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
                    ping_at += ping_every;
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
                match self.core.take(item) {
                    Ok(told) => self.unwritten.extend(told),
                    Err(Broken(fault)) => self.misled(&fault),
                }
            }
        }
        self.go_on();
        Ok(())
    }

    /// Stores all that was taken, at once. The process dies here if the run ordered it.
    fn write(&mut self) -> Result<(), Lost> {
        self.crash(Crash::BeforeCommit)?;
        let told = take(&mut self.unwritten);
        self.phone.keep(told, &mut self.model.borrow_mut());
        self.crash(Crash::AfterCommit)
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
            Ask::History(page) => {
                let pages = vec![page.clone()];
                (HISTORY, HistoryQuestion { user_id, pages }.encode_to_vec())
            }
            Ask::Newest(ids) => {
                let question = NewestQuestion {
                    user_id,
                    conversation_ids: ids.clone(),
                };
                (NEWEST, question.encode_to_vec())
            }
        };
        note(format_args!("phone {} asks {ask:?}", self.phone.number));
        self.requests += 1;
        let open = self.open.insert(OpenRequest {
            number,
            msg_incr: format!("{}_{}", self.user, self.requests),
            due: matches!(self.core, Core::Go(_)).then(|| Instant::now() + ANSWER_TIMEOUT),
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
