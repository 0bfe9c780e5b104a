//! The trace of a message: its entry in each receiver's inbox, and the progress of each of their sessions.

use std::sync::Arc;

use super::Delivery;
use crate::{
    ids::{MessageId, Platform, Seq, SessionKey, UserId},
    log::{LogError, Lookup, Receipt, SessionRow},
    message::Numbers,
};

/// The receivers in the answer.
#[derive(Debug, Clone)]
pub struct TracePage {
    /// Only this receiver.
    pub user: Option<UserId>,
    /// The receivers left out at the beginning.
    pub offset: usize,
    /// The most receivers in the answer.
    pub limit: usize,
}

/// The progress of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The server's id.
    pub message_id: MessageId,
    /// The sender's id for the message.
    pub client_message_id: Box<str>,
    /// The sender of the message.
    pub sender: Box<str>,
    /// The time at which the message was accepted, Unix ms.
    pub send_time_ms: u64,
    /// The number of receivers of which [`TracePage`] is a part: all of them. If the page names one receiver: one or none.
    pub receivers_total: usize,
    /// The receivers of the requested page.
    pub receivers: Vec<TraceReceiver>,
}

/// The progress of a message at one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceReceiver {
    /// The receiver.
    pub user: UserId,
    /// The message's seq in the inbox.
    pub seq: Seq,
    /// The furthest state of the message at any session.
    pub state: TraceState,
    /// All sessions of the receiver that were ever seen.
    pub sessions: Vec<TraceSession>,
}

/// The progress of a message at one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSession {
    /// The session's platform.
    pub platform: Platform,
    /// The session's device, if the policy allows several.
    pub device: Arc<str>,
    /// The message's state at this session.
    pub state: TraceState,
    /// The time at which the message was handed to the socket, Unix ms; `None` when it was not, or too long ago to be
    /// remembered.
    pub sent_at_ms: Option<u64>,
    /// The time of the message's ack or receipt, Unix ms. If that was long ago: the time of the session's last one.
    pub acked_at_ms: Option<u64>,
}

/// The states of a message, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceState {
    /// Retention removed it before any ack.
    Expired,
    /// The message is stored, and was not handed to a socket yet.
    Pending,
    /// The message was handed to a socket.
    Sent,
    /// The WebSocket of an OpenIM client received it. OpenIM's clients do not say what they stored.
    Received,
    /// The client stored it.
    Acked,
}

impl Delivery {
    /// The trace of a message; `None` when no such message is retained. Cancel safe: it only reads.
    pub async fn trace(&self, lookup: Lookup, page: TracePage) -> Result<Option<Trace>, LogError> {
        let Some(receipt) = self.log.find(lookup).wait().await? else {
            return Ok(None);
        };
        let is_listed = receipt.entries.len() as u64 == receipt.receivers;
        let (receivers_total, entries) = if is_listed {
            page_of(&receipt.entries, &page)
        } else {
            self.page_of_everyone(&receipt, &page).await?
        };
        let mut traced = Vec::new();
        for (user, numbers) in entries {
            traced.push(self.trace_receiver(&user, numbers.seq).await?);
        }
        Ok(Some(Trace {
            message_id: receipt.message_id,
            client_message_id: receipt.client_message_id,
            sender: receipt.sender,
            send_time_ms: receipt.send_time_ms,
            receivers_total,
            receivers: traced,
        }))
    }

    /// The entries of a page of a message to everyone, and the number of receivers of which the page is a part.
    async fn page_of_everyone(
        &self,
        receipt: &Receipt,
        page: &TracePage,
    ) -> Result<(usize, Vec<(UserId, Numbers)>), LogError> {
        let id = receipt.message_id;
        if let Some(user) = &page.user {
            let entry = self.log.entry_of(id, user).wait().await?;
            let entry = entry.map(|numbers| (user.clone(), numbers));
            return Ok((usize::from(entry.is_some()), entry.into_iter().collect()));
        }
        let entries = self.log.entries(id, page.offset, page.limit).wait().await?;
        Ok((receipt.receivers as usize, entries))
    }

    async fn trace_receiver(&self, user: &UserId, seq: Seq) -> Result<TraceReceiver, LogError> {
        let is_retained = seq >= self.log.inbox(user).wait().await?.first;
        let least = if is_retained {
            TraceState::Pending
        } else {
            TraceState::Expired
        };
        let sessions = self.log.sessions(user).wait().await?;
        let sessions: Vec<_> = sessions
            .into_iter()
            .map(|(key, row)| self.trace_session(key, row, seq, least))
            .collect();
        let state = sessions
            .iter()
            .map(|session| session.state)
            .max()
            .unwrap_or(least);
        Ok(TraceReceiver {
            user: user.clone(),
            seq,
            state,
            sessions,
        })
    }

    fn trace_session(
        &self,
        key: SessionKey,
        row: SessionRow,
        seq: Seq,
        least: TraceState,
    ) -> TraceSession {
        let sent_at_ms = self.pushed.when(&key, seq);
        let is_acked = row.cursor >= seq;
        let acked_at_ms = is_acked.then(|| self.acked.when(&key, seq).unwrap_or(row.acked_at_ms));
        let state = match sent_at_ms {
            _ if is_acked && key.is_openim() => TraceState::Received,
            _ if is_acked => TraceState::Acked,
            Some(_) => TraceState::Sent,
            None => least,
        };
        TraceSession {
            platform: key.platform,
            device: key.device,
            state,
            sent_at_ms,
            acked_at_ms,
        }
    }
}

/// The entries of a page, and the number of receivers of which the page is a part.
fn page_of(all: &[(UserId, Numbers)], page: &TracePage) -> (usize, Vec<(UserId, Numbers)>) {
    let is_asked_for = |user: &UserId| page.user.as_ref().is_none_or(|only| only == user);
    let receivers = all.iter().filter(|(user, _)| is_asked_for(user));
    let entries = receivers.clone().skip(page.offset).take(page.limit);
    (receivers.count(), entries.cloned().collect())
}
