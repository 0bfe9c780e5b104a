//! One batch on its way: when it is sent, what an answer means, and when it is tried again. Pure: times and random numbers are
//! parameters.
//!
//! At most one batch is under way. The batch is tried until the receiver takes it, or refuses it five times. Its events then go one by
//! one, in their order, so that one bad event spoils no other. The order of the events therefore follows from the order in which
//! batches are composed.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    courier::HookReply,
    event::{HookEvent, named},
};
use crate::{log::RowChange, outbound::iso_8601};

/// The first pause after a failure. The pause doubles with each further failure.
pub(super) const WEBHOOK_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause that the receiver did not ask for: a receiver that is back is found within a minute.
pub(super) const WEBHOOK_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The tries of a batch that the receiver refuses. A refusal may be a fault of a moment, e.g. of a deployment.
pub(super) const REFUSALS_MAX: u32 = 5;

/// Events that go out together.
#[derive(Debug)]
pub(super) struct EventBatch {
    /// The id of the request: the event's, or one that follows from the ids of all events.
    pub(super) id: String,
    /// The request's body, the same at each try.
    pub(super) body: bytes::Bytes,
    /// The events, at least one.
    pub(super) events: Vec<HookEvent>,
    /// The rows that say that the batch was told.
    pub(super) done: Vec<RowChange>,
}

#[derive(Serialize)]
struct Several<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Vec<&'a RawValue>,
}

impl EventBatch {
    /// Puts events together. The same events have the same body, also after a crash: its time is that of the newest one.
    pub(super) fn new(events: Vec<HookEvent>, done: Vec<RowChange>) -> Self {
        if let [event] = &events[..] {
            return Self {
                id: event.id.clone(),
                body: event.json.get().as_bytes().to_vec().into(),
                events,
                done,
            };
        }
        let mut digest = Sha256::new();
        events.iter().for_each(|event| digest.update(&event.id));
        let newest_ms = events.iter().map(|event| event.time_ms).max();
        let body = serde_json::to_vec(&Several {
            r#type: "batch",
            timestamp: iso_8601(newest_ms.unwrap_or_default()),
            data: events.iter().map(|event| &*event.json).collect(),
        });
        Self {
            id: named("batch", &digest.finalize()),
            body: body.expect("events are JSON").into(),
            events,
            done,
        }
    }
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DispatchStep {
    /// No batch is under way: compose one.
    Compose,
    /// Send the batch now.
    Send,
    /// Wait until this time, Unix ms.
    Wait(u64),
}

/// The fate of a batch after an answer.
#[derive(Debug)]
pub(super) enum Settled {
    /// Each event of the batch was told or refused.
    Ended(EndedBatch),
    /// The next event of a refused batch goes, alone.
    Next,
    /// The request is tried again.
    Held,
}

/// The outcome of a batch.
#[derive(Debug, Default)]
pub(super) struct EndedBatch {
    /// The number of events that the receiver has.
    pub(super) told: usize,
    /// The events that the receiver refused for good, with its answers in words.
    pub(super) refused: Vec<(HookEvent, String)>,
    /// The rows that say that the batch is over.
    pub(super) done: Vec<RowChange>,
}

/// The batch under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    batch: Option<EventBatch>,
    /// The further events of a refused batch, each a batch of its own.
    alone: VecDeque<EventBatch>,
    /// The outcome so far.
    end: EndedBatch,
    /// Failures since the last success.
    failures: u32,
    /// Refusals of this request.
    refusals: u32,
    not_before_ms: u64,
}

impl Dispatch {
    /// The next thing to do at this time.
    pub(super) fn step(&self, now_ms: u64) -> DispatchStep {
        match &self.batch {
            None => DispatchStep::Compose,
            Some(_) if now_ms < self.not_before_ms => DispatchStep::Wait(self.not_before_ms),
            Some(_) => DispatchStep::Send,
        }
    }

    /// Takes a composed batch.
    ///
    /// # Panics
    /// If there is one already.
    pub(super) fn take(&mut self, batch: EventBatch) {
        assert!(self.batch.is_none(), "one batch at a time");
        self.batch = Some(batch);
        self.refusals = 0;
    }

    /// The batch under way.
    pub(super) fn batch(&self) -> Option<&EventBatch> {
        self.batch.as_ref()
    }

    /// True if the batch, or what is left of a refused one, has this text in it.
    pub(super) fn names(&self, text: &str) -> bool {
        let batches = self.batch.iter().chain(&self.alone);
        let mut events = batches.flat_map(|batch| &batch.events);
        let mut refused = self.end.refused.iter().map(|(event, _)| event);
        events.any(|event| event.json.get().contains(text))
            || refused.any(|event| event.json.get().contains(text))
    }

    /// Drops the batch, which is composed anew. The pauses stay.
    pub(super) fn drop_batch(&mut self) {
        self.batch = None;
        self.alone.clear();
        self.end = EndedBatch::default();
        self.refusals = 0;
    }

    /// Takes the answer to the batch. `chance` is a random number from 0 to 1.
    ///
    /// # Panics
    /// If no batch is under way.
    pub(super) fn answered(&mut self, now_ms: u64, chance: f64, reply: &HookReply) -> Settled {
        let batch = self.batch.take().expect("an answer belongs to a batch");
        self.refusals += u32::from(reply.is_refusal());
        if !reply.is_success() && self.refusals < REFUSALS_MAX {
            self.hold(now_ms, chance, reply);
            self.batch = Some(batch);
            return Settled::Held;
        }
        self.failures = 0;
        self.not_before_ms = 0;
        self.end.done.extend(batch.done);
        let events = batch.events;
        if reply.is_success() {
            self.end.told += events.len();
        } else if events.len() > 1 {
            let alone = events.into_iter();
            self.alone = alone
                .map(|event| EventBatch::new(vec![event], Vec::new()))
                .collect();
        } else {
            let events = events.into_iter();
            let refused = events.map(|event| (event, reply.in_words()));
            self.end.refused.extend(refused);
        }
        self.batch = self.alone.pop_front();
        // The batch had the other tries.
        self.refusals = REFUSALS_MAX - 1;
        match self.batch {
            Some(_) => Settled::Next,
            None => Settled::Ended(std::mem::take(&mut self.end)),
        }
    }

    /// Puts the next try off.
    fn hold(&mut self, now_ms: u64, chance: f64, reply: &HookReply) {
        let asked = match reply {
            HookReply::Status(_, asked) => asked.unwrap_or_default(),
            HookReply::Silence(_) => Duration::ZERO,
        };
        let pause = asked.max(self.pause(chance));
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms.saturating_add(pause.as_millis() as u64);
    }

    /// The pause before the next try: doubled with each failure, and somewhere between its half and the whole, so that many
    /// gateways do not come at once.
    fn pause(&self, chance: f64) -> Duration {
        let whole = WEBHOOK_PAUSE_MIN * 2_u32.saturating_pow(self.failures.min(16));
        whole
            .min(WEBHOOK_PAUSE_MAX)
            .mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}
