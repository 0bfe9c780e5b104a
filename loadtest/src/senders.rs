//! The open loop: messages are due at a constant rate, independent of earlier messages.
//!
//! Lanes take the next due message in turn. So a rig or a server that falls behind sends late, and the wait counts: every
//! latency begins when the message was due.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{task::spawn_local, time::sleep};

use crate::{
    crowd::Crowd,
    parcel::{Parcel, ParcelOutcome, To},
    protocol::{Lane, Protocol},
};

/// The pause between two attempts at a send without an answer.
const RETRY: Duration = Duration::from_millis(50);
/// The time of all attempts, longer than any restart takes. After it the outcome stays unknown.
const TRY_FOR: Duration = Duration::from_secs(60);

/// A load to send.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) to: To,
    pub(crate) messages: u32,
    /// No message is sent after this time.
    pub(crate) lasts: Duration,
    /// Sends a second; `None`: each lane sends as soon as its last send was answered.
    pub(crate) rate: Option<f64>,
    /// Connections that send.
    pub(crate) lanes: usize,
    /// Each message has a text for vendor push.
    pub(crate) has_notice: bool,
    /// Sending ends once a message is this late.
    pub(crate) late_max: Duration,
}

impl Load {
    /// A load at a rate for this long, however late it gets, over 256 lanes.
    pub(crate) fn steady(to: To, rate: f64, seconds: u32) -> Self {
        Self {
            to,
            messages: (rate * f64::from(seconds)).ceil() as u32,
            rate: Some(rate),
            lanes: 256,
            has_notice: false,
            lasts: Duration::MAX,
            late_max: Duration::MAX,
        }
    }

    /// This many messages to each of this many users, in batches, as fast as they are accepted.
    pub(crate) fn reach_all(users: u32, messages_each: u32) -> Self {
        let batch = users.min(100);
        Self {
            to: To::InTurn(batch),
            messages: users.div_ceil(batch) * messages_each,
            rate: None,
            lanes: 16,
            has_notice: false,
            lasts: Duration::MAX,
            late_max: Duration::MAX,
        }
    }
}

/// The result of a load.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct LoadResult {
    /// From the first due time to the last answer.
    pub(crate) took: Duration,
    pub(crate) accepted: u32,
    pub(crate) refused: u32,
    /// True if it fell behind and was given up.
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

/// Sends the load. Returns when every send was answered, or given up.
pub(crate) async fn send(crowd: &Rc<Crowd>, protocol: &Protocol, load: Load) -> LoadResult {
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
        .map(|number| spawn_local(open.clone().serve(protocol.lane(number))))
        .collect();
    for lane in lanes {
        lane.await.expect("a lane does not panic");
    }
    LoadResult {
        took: open.began.elapsed(),
        accepted: open.accepted.get(),
        refused: open.refused.get(),
        is_late: open.is_late.get(),
    }
}

impl Loop {
    async fn serve(self: Rc<Self>, mut lane: Lane) {
        let crowd = &self.crowd;
        while self.next.get() < self.load.messages
            && !self.is_late.get()
            && self.began.elapsed() < self.load.lasts
        {
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
        let parcel = Parcel {
            key,
            to: self.load.to,
            count,
            has_notice: self.load.has_notice,
        };
        let began = Instant::now();
        let mut may_be_stored = false;
        loop {
            match lane.send(crowd, parcel).await {
                ParcelOutcome::Accepted(server_msg_id) => {
                    let now_us = crowd.now_us();
                    let mut ledger = crowd.ledger.borrow_mut();
                    ledger.accepted(key, now_us, &server_msg_id);
                    let latency_us = now_us.saturating_sub(due_us);
                    crowd.meter.borrow_mut().answered(latency_us);
                    self.accepted.set(self.accepted.get() + 1);
                    return;
                }
                // An earlier attempt may have been stored, so the refusal of this one decides nothing.
                ParcelOutcome::Refused(why) if may_be_stored => {
                    crowd.incident(format!("a repeat was refused: {why}"));
                }
                ParcelOutcome::Refused(why) => {
                    crowd.incident(format!("a send was refused: {why}"));
                    crowd.ledger.borrow_mut().refused(key);
                    self.refused.set(self.refused.get() + 1);
                    return;
                }
                ParcelOutcome::Unknown(why) => {
                    crowd.incident(format!("a send whose outcome is unknown: {why}"));
                    may_be_stored = true;
                }
            }
            if began.elapsed() > TRY_FOR {
                return;
            }
            sleep(RETRY).await;
        }
    }
}
