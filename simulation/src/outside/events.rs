//! The promise of webhooks: each event at least once, the same at each repeat, in order for each user and kind; nothing that was not
//! so.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value;

use crate::trace::violated;
use towncrier::webhooks::HookReply;

/// The tries after which a refused batch becomes dead letters.
const TRIES: u32 = 5;

/// A session in an event: user, platform, device.
pub(super) type SessionName = (String, u64, String);

/// All that the receiver was told.
#[derive(Default)]
pub(super) struct Events {
    /// The content of each event that ever came, by its id.
    contents: BTreeMap<String, String>,
    /// The bodies of batches.
    bodies: BTreeMap<String, Bytes>,
    taken: BTreeSet<String>,
    refusals: BTreeMap<String, u32>,
    /// The receivers, with their seqs, of each message that was told.
    pub(super) accepted: BTreeMap<String, BTreeSet<(String, u64)>>,
    highest: BTreeMap<String, u64>,
    pub(super) acked: BTreeMap<SessionName, u64>,
    /// Losses that were announced: the kind, and the times.
    pub(super) lost: Vec<(String, u64, u64)>,
    /// Users and ranges that were announced as expired, and are not judged yet.
    pub(super) expired: Vec<(String, u64, u64)>,
    /// The vendors' words in events of push.
    pub(super) pushes: BTreeSet<String>,
    /// True while the gateway may lose acks of the log, or messages, for a reason of its machine.
    pub(super) is_excused: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Events {
    /// Another log begins.
    pub(super) fn begin(&mut self) {
        self.refusals.clear();
        self.accepted.clear();
        self.highest.clear();
        self.acked.clear();
        self.lost.clear();
        self.expired.clear();
        self.pushes.clear();
        self.is_excused = false;
    }

    /// Events of messages and pushes that were refused to the end and not taken since.
    pub(super) fn dead(&self) -> usize {
        let refused = self.refusals.iter().filter(|(_, tries)| **tries >= TRIES);
        let dead = refused.filter(|(id, _)| !self.taken.contains(*id));
        // Presence is told at best, and a loss that grew meanwhile is another event.
        let is_kept = |content: &String| {
            !content.contains("\"type\":\"user.") && !content.contains("\"type\":\"events.lost")
        };
        dead.filter(|(id, _)| self.contents.get(*id).is_some_and(is_kept))
            .count()
    }

    /// A request arrives, and gets this answer.
    pub(super) fn arrives(&mut self, id: &str, body: &Bytes, reply: &HookReply) {
        let known = self.bodies.entry(id.to_owned()).or_insert(body.clone());
        if known != body {
            violated(
                "webhooks",
                format_args!("request {id} changed: {known:?} and {body:?}"),
            );
        }
        let Ok(whole) = serde_json::from_slice::<Value>(body) else {
            return violated("webhooks", format_args!("request {id} is no JSON"));
        };
        let events = match whole["type"].as_str() {
            Some("batch") => whole["data"].as_array().cloned().unwrap_or_default(),
            _ => vec![whole],
        };
        if events.is_empty() {
            violated("webhooks", format_args!("request {id} is empty"));
        }
        for event in &events {
            let (id, content) = (text(&event["id"]), event.to_string());
            let known = self.contents.entry(id).or_insert_with(|| content.clone());
            if *known != content {
                violated(
                    "webhooks",
                    format_args!("an event changed: {known} and {content}"),
                );
            }
        }
        match reply {
            HookReply::Status(200..=299, _) => {
                for event in &events {
                    let is_in_turn = !self.is_refused(&text(&event["id"]));
                    self.tell(event, is_in_turn);
                    self.taken.insert(text(&event["id"]));
                }
            }
            HookReply::Status(400, _) => {
                for event in &events {
                    let id = text(&event["id"]);
                    *self.refusals.entry(id.clone()).or_default() += 1;
                    if self.refusals[&id] == TRIES && !self.taken.contains(&id) {
                        self.moves_ack(event);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_refused(&self, id: &str) -> bool {
        self.refusals.get(id).is_some_and(|tries| *tries >= TRIES)
    }

    fn tell(&mut self, event: &Value, is_in_turn: bool) {
        if self.taken.contains(&text(&event["id"])) {
            return;
        }
        let data = &event["data"];
        match event["type"].as_str().unwrap_or_default() {
            "message.accepted" => self.tell_accepted(event, is_in_turn),
            "message.acked" if is_in_turn => self.moves_ack(event),
            "message.expired" => {
                let range = (data["from_seq"].as_u64(), data["to_seq"].as_u64());
                let (Some(from), Some(to)) = range else {
                    return violated("webhooks", format_args!("no range: {event}"));
                };
                self.expired.push((text(&data["user_id"]), from, to));
            }
            "push.sent" => drop(self.pushes.insert(text(&data["id"]))),
            "push.failed" => drop(self.pushes.insert(text(&data["reason"]))),
            "events.lost" => {
                let times = (data["from_time"].as_u64(), data["to_time"].as_u64());
                let (Some(from_ms), Some(to_ms)) = times else {
                    return violated("webhooks", format_args!("no times: {event}"));
                };
                self.lost.push((text(&data["type"]), from_ms, to_ms));
            }
            _ => {}
        }
    }

    fn tell_accepted(&mut self, event: &Value, is_in_turn: bool) {
        let data = &event["data"];
        let told = self
            .accepted
            .entry(text(&data["server_msg_id"]))
            .or_default();
        for receiver in data["receivers"].as_array().into_iter().flatten() {
            let (user, seq) = (text(&receiver["user_id"]), receiver["seq"].as_u64());
            let seq = seq.unwrap_or_default();
            told.insert((user.clone(), seq));
            let highest = self.highest.entry(user).or_default();
            if is_in_turn && seq <= *highest {
                violated(
                    "webhooks",
                    format_args!("out of order, behind {highest}: {event}"),
                );
            }
            *highest = seq.max(*highest);
        }
    }

    /// The ranges of a session's acks go on without a hole.
    fn moves_ack(&mut self, event: &Value) {
        let data = &event["data"];
        let (Some(from), Some(to)) = (data["from_seq"].as_u64(), data["to_seq"].as_u64()) else {
            return;
        };
        let session = (
            text(&data["user_id"]),
            data["platform"].as_u64().unwrap_or_default(),
            text(&data["device_id"]),
        );
        let told = self.acked.get(&session).copied();
        if let Some(told) = told
            // A session that the log forgot begins anew: what was told of it may come again.
            && from > told + 1
            && !self.is_excused
        {
            violated(
                "webhooks",
                format_args!("acks do not go on from {told}: {event}"),
            );
        }
        self.acked.insert(session, to);
    }
}
