//! One session as an SDK holds it: it connects, lands, lets its pongs go, and reconnects.
//!
//! A message lands here when it is entered in the ledger, before the pong to the ping behind it leaves.

use std::{convert::Infallible, rc::Rc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    SdkCore, SdkForm,
    connection::{SdkConnection, SdkHeard, SdkLost},
    messages::{
        Bunch, HEADS, HeadsAnswer, KICK, PRESENCE, PULL, PUSH, REACHED, ReachedAnswer, SdkMessage,
        SdkPull, SdkQuestion, SdkRequest, SdkResponse,
    },
    store::{SdkAsk, SdkStore},
};
use crate::{
    crowd::{Crowd, Orders, SLOW_PAUSE, Who, end_of_life, until},
    gateway::{ADMIN, GatewayAccess},
    ledger::LandedMessage,
};

/// A Go core that connects again within this time asks nothing.
const ASKS_AFTER: Duration = Duration::from_secs(5);
/// The wait before the rig asks for the heads, where a Go core would ask nothing. The gateway pushes after one second
/// without a question.
const HEADS_AFTER: Duration = Duration::from_millis(1200);
/// An SDK waits at most this long for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pings of a Go core, and of the JavaScript SDK. Each is answered before the next one.
const GO_PING: Duration = Duration::from_secs(24);
const JAVASCRIPT_PING: Duration = Duration::from_secs(10);
/// The waits of a Go core before its attempts to reconnect, over and over; and the one wait of the JavaScript SDK.
const GO_WAITS_S: [u64; 6] = [0, 1, 2, 4, 8, 16];
const JAVASCRIPT_WAIT: Duration = Duration::from_secs(5);
const OPERATION: &str = "loadtest";

/// Why a session left its connection.
enum SdkExit {
    /// The session was ordered to leave, or its connection's life was over.
    Told,
    Lost(SdkLost),
}

impl<E: Into<SdkLost>> From<E> for SdkExit {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// A request that was sent.
struct OpenRequest {
    number: i64,
    msg_incr: String,
    /// The time by which the answer has to be there.
    due: Instant,
}

/// Runs until it may not reconnect any more.
pub(crate) async fn run(
    crowd: Rc<Crowd>,
    who: Who,
    access: Rc<GatewayAccess>,
    form: SdkForm,
    token: String,
) {
    let user_id = crowd.ledger.borrow().user_id(who.user);
    let mut session = SdkSession {
        orders: crowd.orders.subscribe(),
        gateway: who.user as usize,
        token,
        conversation_id: conversation_id(&user_id),
        store: SdkStore::new(form.core),
        open: None,
        requests: 0,
        generation: 0,
        is_back: false,
        dies_before_receipt: false,
        attempts: 0,
        last_connect: None,
        away_since: Instant::now(),
        connected_at: Instant::now(),
        reading_since_us: 0,
        user_id,
        crowd,
        who,
        access,
        form,
    };
    // The wait fails when the crowd is gone.
    while session.orders.wait_for(|orders| !orders.away).await.is_ok() {
        let exit = session.attend().await;
        session.away_since = Instant::now();
        session.crowd.set_connected(who, false);
        if let SdkExit::Lost(lost) = exit {
            session.crowd.incident(lost.to_string());
            if !lost.may_come_back() {
                return;
            }
            session.gateway += 1;
        }
        sleep(session.wait()).await;
    }
}

/// The URL with the query of an SDK. `ws` may end with the path of the gateway's own protocol, which has no place here.
fn url(ws: &str, form: SdkForm, user_id: &str, platform: u32, token: &str) -> String {
    let base = ws.strip_suffix("/ws").unwrap_or(ws);
    let authority = base.split_once("://").map_or(base, |(_, rest)| rest);
    let path = if authority.contains('/') { "" } else { "/" };
    let gzip = if form.is_gzipped {
        "&compression=gzip"
    } else {
        ""
    };
    let core = match form.core {
        SdkCore::Go => "",
        SdkCore::JavaScript => "&sdkType=js&isMsgResp=true",
    };
    format!(
        "{base}{path}?sendID={user_id}&token={token}&platformID={platform}&operationID={OPERATION}&isBackground=false{gzip}{core}"
    )
}

/// The id of the conversation in which the administrator's messages come.
fn conversation_id(user_id: &str) -> String {
    let mut ids = [ADMIN, user_id];
    ids.sort_unstable();
    format!("si_{}_{}", ids[0], ids[1])
}

struct SdkSession {
    crowd: Rc<Crowd>,
    who: Who,
    access: Rc<GatewayAccess>,
    form: SdkForm,
    /// The number of its gateway.
    gateway: usize,
    token: String,
    user_id: String,
    conversation_id: String,
    orders: watch::Receiver<Orders>,
    store: SdkStore,
    /// The request without an answer.
    open: Option<OpenRequest>,
    /// All requests so far, which are numbered.
    requests: u64,
    /// The generation in which the present connection was opened.
    generation: u32,
    /// True once this connection has brought everything that was there when it was opened.
    is_back: bool,
    /// The connection ends at the next landing, before a pong.
    dies_before_receipt: bool,
    /// Attempts to connect since the last that succeeded.
    attempts: usize,
    /// The last connect that succeeded.
    last_connect: Option<Instant>,
    /// The end of the last connection, and the opening of the present one.
    away_since: Instant,
    connected_at: Instant,
    /// The time on the crowd's clock since which it reads. A message that was due earlier counts as hindered.
    reading_since_us: u64,
}

impl SdkSession {
    /// The SDK's wait before its next attempt.
    fn wait(&mut self) -> Duration {
        match self.form.core {
            SdkCore::JavaScript => JAVASCRIPT_WAIT,
            SdkCore::Go => {
                let wait = GO_WAITS_S[self.attempts % GO_WAITS_S.len()];
                self.attempts += 1;
                Duration::from_secs(wait)
            }
        }
    }

    /// Runs one connection, from its opening to its end.
    async fn attend(&mut self) -> SdkExit {
        let mut orders = *self.orders.borrow_and_update();
        self.generation = orders.generation;
        self.is_back = false;
        self.dies_before_receipt = false;
        self.open = None;
        match self.attend_under(&mut orders).await {
            Ok(never) => match never {},
            Err(exit) => exit,
        }
    }

    async fn attend_under(&mut self, orders: &mut Orders) -> Result<Infallible, SdkExit> {
        let network = &self.crowd.sources;
        let ws = &self.access.gateway(self.gateway).ws;
        let platform = self.who.session + 1;
        let url = url(ws, self.form, &self.user_id, platform, &self.token);
        let mut connection =
            SdkConnection::open(&network, &self.access.trust, &url, self.form).await?;
        self.attempts = 0;
        self.connected_at = Instant::now();
        self.reading_since_us = self.crowd.now_us();
        let before = self.last_connect.replace(self.connected_at);
        let asks = before.is_none_or(|before| before + ASKS_AFTER <= self.connected_at);
        self.store.connected(asks);
        self.go_on(&mut connection).await?;
        let ping_every = match self.form.core {
            SdkCore::Go => GO_PING,
            SdkCore::JavaScript => JAVASCRIPT_PING,
        };
        let ping = sleep(ping_every.mul_f64(fastrand::f64()));
        tokio::pin!(ping);
        let mut awaits_pong = false;
        let mut heads_at = Some(self.connected_at + HEADS_AFTER);
        let mut end = end_of_life(orders);
        let mut rests_until = None;
        loop {
            let is_deaf = orders.deaf.holds(self.who.user, self.crowd.size.users);
            let is_slow = orders.slow.holds(self.who.user, self.crowd.size.users);
            let is_ready = !is_deaf && !is_slow;
            let due = self.open.as_ref().map(|open| open.due);
            tokio::select! {
                () = until(rests_until), if rests_until.is_some() => rests_until = None,
                heard = connection.hear(), if !is_deaf && rests_until.is_none() => {
                    rests_until = is_slow.then(|| Instant::now() + SLOW_PAUSE);
                    match heard? {
                        SdkHeard::Pong => awaits_pong = false,
                        SdkHeard::Frame(frame) => {
                            self.take(frame)?;
                            self.go_on(&mut connection).await?;
                        }
                    }
                }
                () = until(due), if is_ready => return Err(SdkLost::Silent.into()),
                () = until(heads_at), if !is_deaf => {
                    heads_at = None;
                    self.store.ask_heads();
                    self.go_on(&mut connection).await?;
                }
                () = &mut ping, if !is_deaf => {
                    if std::mem::replace(&mut awaits_pong, is_ready) {
                        return Err(SdkLost::Silent.into());
                    }
                    connection.ping().await?;
                    ping.as_mut().reset(Instant::now() + ping_every);
                }
                () = until(end) => {
                    // Half of them end between landing and receipt. Such an end has to wait until a message lands.
                    if fastrand::bool() {
                        return Err(SdkExit::Told);
                    }
                    self.dies_before_receipt = true;
                    end = None;
                }
                _ = self.orders.changed() => {
                    let before = std::mem::replace(orders, *self.orders.borrow_and_update());
                    if orders.generation != before.generation || orders.away {
                        return Err(SdkExit::Told);
                    }
                    if orders.deaf != before.deaf {
                        self.reading_since_us = self.crowd.now_us();
                    }
                    if orders.deaf != before.deaf || orders.slow != before.slow {
                        awaits_pong = false;
                        if let Some(open) = &mut self.open {
                            open.due = Instant::now() + ANSWER_TIMEOUT;
                        }
                    }
                    if orders.lifetime != before.lifetime {
                        end = end_of_life(orders);
                    }
                }
            }
        }
    }

    /// Takes a frame of the server.
    fn take(&mut self, frame: SdkResponse) -> Result<(), SdkExit> {
        match frame.number {
            KICK => return Err(SdkLost::Kicked.into()),
            PRESENCE => return Ok(()),
            // Without it, a Go core makes no conversation of a new sender's message.
            PUSH if frame.operation_id.is_empty() => {
                return Err(SdkLost::misled("a push without operationID").into());
            }
            PUSH => {}
            _ => self.check_answer(&frame)?,
        }
        let Self {
            store,
            crowd,
            who,
            conversation_id,
            reading_since_us,
            ..
        } = self;
        let mut has_landed = false;
        let mut land = |id: &str, message: &SdkMessage| {
            has_landed = true;
            let content = message.sent_content().unwrap_or_default();
            let landed = LandedMessage {
                seq: u64::try_from(message.seq).unwrap_or_default(),
                client_msg_id: &message.client_msg_id,
                server_msg_id: &message.server_msg_id,
                // A message in another conversation is not this user's.
                recv_id: if id == conversation_id {
                    &message.recv_id
                } else {
                    ""
                },
                content: content.as_bytes(),
            };
            crowd.land(*who, &landed, *reading_since_us);
        };
        let data = &frame.data[..];
        match frame.number {
            PUSH => store.pushed(decode(data)?, &mut land)?,
            REACHED => store.reached(&decode::<ReachedAnswer>(data)?, &mut land)?,
            PULL => store.pulled(decode::<Bunch>(data)?, &mut land)?,
            HEADS => store.heads(&decode::<HeadsAnswer>(data)?),
            number => {
                return Err(SdkLost::misled(format!("a frame with the number {number}")).into());
            }
        }
        if has_landed && self.dies_before_receipt {
            return Err(SdkExit::Told);
        }
        Ok(())
    }

    /// Checks that the frame answers the open request, which is then over.
    fn check_answer(&mut self, frame: &SdkResponse) -> Result<(), SdkLost> {
        let open = self.open.take();
        match open {
            Some(open) if open.number == frame.number && open.msg_incr == frame.msg_incr => {}
            _ => return Err(SdkLost::misled("an answer that nobody asked for")),
        }
        match frame.error {
            0 => Ok(()),
            code => Err(SdkLost::misled(format!(
                "{} answered with {code} {}",
                frame.number, frame.text
            ))),
        }
    }

    /// Notes how far the session is, and sends its next request.
    async fn go_on(&mut self, connection: &mut SdkConnection) -> Result<(), SdkLost> {
        if self.store.has_arrived() {
            self.crowd.set_connected(self.who, true);
        }
        if !self.is_back && self.store.is_caught_up() {
            self.is_back = true;
            self.crowd.set_caught_up(self.who, self.generation);
            let mut meter = self.crowd.meter.borrow_mut();
            meter.returned(self.away_since.elapsed(), self.connected_at.elapsed());
        }
        let Some(ask) = self.store.ask().filter(|_| self.open.is_none()) else {
            return Ok(());
        };
        let question = SdkQuestion {
            user_id: self.user_id.clone(),
        };
        let (number, data) = match ask {
            SdkAsk::Reached => (REACHED, question.encode_to_vec()),
            SdkAsk::Heads => (HEADS, question.encode_to_vec()),
            SdkAsk::Pull(range) => {
                let pull = SdkPull {
                    user_id: self.user_id.clone(),
                    ranges: vec![range.clone()],
                };
                (PULL, pull.encode_to_vec())
            }
        };
        self.requests += 1;
        let open = self.open.insert(OpenRequest {
            number,
            msg_incr: format!("{}_{}", self.user_id, self.requests),
            due: Instant::now() + ANSWER_TIMEOUT,
        });
        let request = SdkRequest {
            number,
            send_id: &self.user_id,
            operation_id: OPERATION,
            msg_incr: &open.msg_incr,
            data: &data,
        };
        connection.ask(&request).await
    }
}

fn decode<M: prost::Message + Default>(data: &[u8]) -> Result<M, SdkLost> {
    M::decode(data).map_err(|error| SdkLost::misled(format!("undecodable data: {error}")))
}
