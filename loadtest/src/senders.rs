//! The open loop: messages are due at a constant rate, whatever becomes of those before them.
//!
//! Lanes take the next due message in turn, so a rig or a gateway that falls behind sends late, and the wait counts:
//! every latency begins when the message was due.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::{task::spawn_local, time::sleep};

use crate::{
    crowd::{ADMIN, Crowd},
    lane::Lane,
    ledger::Key,
};

/// The gateway's code for "it may or may not be on disk": the same as no answer.
const OUTCOME_UNKNOWN: i64 = 50304;
/// Between two tries of a send without an answer.
const RETRY: Duration = Duration::from_millis(50);
/// Tried for longer than any restart takes; then the outcome stays unknown.
const TRY_FOR: Duration = Duration::from_secs(60);

/// Who gets each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// One user, by chance.
    One,
    /// So many in a row, from one by chance.
    Batch(u32),
    /// So many in a row, in turn.
    InTurn(u32),
    /// Everyone the gateway knows.
    Everyone,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) to: To,
    pub(crate) messages: u32,
    /// Sends a second; `None`: each lane sends as soon as its last one was answered.
    pub(crate) rate: Option<f64>,
    /// HTTP connections.
    pub(crate) lanes: usize,
    /// Nothing more is sent once a message is so late.
    pub(crate) late_max: Duration,
}

/// How it went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// From the first due time to the last answer.
    pub(crate) took: Duration,
    pub(crate) accepted: u32,
    pub(crate) refused: u32,
    /// It fell behind and was given up.
    pub(crate) is_late: bool,
}

struct Loop {
    crowd: Rc<Crowd>,
    load: Load,
    began: Instant,
    began_us: u64,
    next: Cell<u32>,
    accepted: Cell<u32>,
    refused: Cell<u32>,
    is_late: Cell<bool>,
}

/// Sends it all. Returns when everything was answered, or given up.
pub(crate) async fn send(crowd: &Rc<Crowd>, load: Load) -> Sent {
    let open = Rc::new(Loop {
        crowd: crowd.clone(),
        load,
        began: Instant::now(),
        began_us: crowd.now_us(),
        next: Cell::new(0),
        accepted: Cell::new(0),
        refused: Cell::new(0),
        is_late: Cell::new(false),
    });
    let lanes: Vec<_> = (0..load.lanes)
        .map(|_| spawn_local(open.clone().lane()))
        .collect();
    for lane in lanes {
        lane.await.expect("a lane does not panic");
    }
    Sent {
        took: open.began.elapsed(),
        accepted: open.accepted.get(),
        refused: open.refused.get(),
        is_late: open.is_late.get(),
    }
}

impl Loop {
    async fn lane(self: Rc<Self>) {
        let crowd = &self.crowd;
        let mut lane = Lane::new(&crowd.place.admin, &crowd.admin_token);
        while self.next.get() < self.load.messages && !self.is_late.get() {
            let number = self.next.replace(self.next.get() + 1);
            let due_us = match self.load.rate {
                Some(rate) => {
                    let after = Duration::from_secs_f64(f64::from(number) / rate);
                    tokio::time::sleep_until((self.began + after).into()).await;
                    self.began_us + after.as_micros() as u64
                }
                None => crowd.now_us(),
            };
            if crowd.now_us().saturating_sub(due_us) > self.load.late_max.as_micros() as u64 {
                self.is_late.set(true);
                return;
            }
            self.send_one(&mut lane, number, due_us).await;
        }
    }

    async fn send_one(&self, lane: &mut Lane, number: u32, due_us: u64) {
        let crowd = &self.crowd;
        let users = crowd.size.users;
        let (first, count) = match self.load.to {
            To::One => (fastrand::u32(..users), 1),
            To::Batch(count) => (fastrand::u32(..users), count.min(users)),
            To::InTurn(count) => (
                (u64::from(number) * u64::from(count) % u64::from(users)) as u32,
                count.min(users),
            ),
            To::Everyone => (0, users),
        };
        let key = crowd.ledger.borrow_mut().issue(due_us, first, count);
        let (path, body) = self.request(key, count);
        let began = Instant::now();
        loop {
            match lane.post(path, &body).await {
                Ok(answer) if answer.code == 0 => {
                    let server_msg_id = answer.data.and_then(|data| server_msg_id(data.get()));
                    let now_us = crowd.now_us();
                    crowd.ledger.borrow_mut().accepted(
                        key,
                        now_us,
                        server_msg_id.unwrap_or_default(),
                    );
                    crowd
                        .meter
                        .borrow_mut()
                        .answered(now_us.saturating_sub(due_us));
                    self.accepted.set(self.accepted.get() + 1);
                    return;
                }
                Ok(answer) if answer.code != OUTCOME_UNKNOWN => {
                    crowd.incident(format!(
                        "a send was refused: {} {}",
                        answer.code, answer.text
                    ));
                    crowd.ledger.borrow_mut().refused(key);
                    self.refused.set(self.refused.get() + 1);
                    return;
                }
                Ok(_) => crowd.incident("a send whose outcome is unknown".to_owned()),
                Err(error) => crowd.incident(format!("a send without an answer: {error}")),
            }
            if began.elapsed() > TRY_FOR {
                return;
            }
            sleep(RETRY).await;
        }
    }

    fn request(&self, key: Key, count: u32) -> (&'static str, String) {
        let ledger = self.crowd.ledger.borrow();
        let content = ledger.content(key);
        let (path, to) = match self.load.to {
            To::One => (
                "/manager/send_msg",
                format!(r#""recvID":"{}""#, ledger.user_id(key.first)),
            ),
            To::Everyone => ("/manager/batch_send_msg", r#""isSendAll":true"#.to_owned()),
            To::Batch(_) | To::InTurn(_) => {
                let users = (key.first..key.first + count).map(|user| user % self.crowd.size.users);
                let list: Vec<_> = users
                    .map(|user| format!(r#""{}""#, ledger.user_id(user)))
                    .collect();
                (
                    "/manager/batch_send_msg",
                    format!(r#""recvIDList":[{}]"#, list.join(",")),
                )
            }
        };
        let body = format!(
            r#"{{"operationID":"loadtest","sendID":"{ADMIN}",{to},"clientMsgID":"{key}","senderPlatformID":10,"contentType":101,"sessionType":1,"content":{content}}}"#
        );
        (path, body)
    }
}

/// From the `data` of either kind of answer; a batch has one for all its receivers.
fn server_msg_id(data: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct One<'a> {
        #[serde(rename = "serverMsgID", borrow)]
        server_msg_id: &'a str,
    }
    #[derive(Deserialize)]
    struct Many<'a> {
        #[serde(rename = "resultList", borrow)]
        results: Vec<One<'a>>,
    }
    if let Ok(one) = serde_json::from_str::<One<'_>>(data) {
        return Some(one.server_msg_id);
    }
    let many: Many<'_> = serde_json::from_str(data).ok()?;
    Some(many.results.first()?.server_msg_id)
}
