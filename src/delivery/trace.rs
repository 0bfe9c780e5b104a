//! Where is my message: its place in each receiver's inbox, and how far each of their sessions has come.

use std::sync::Arc;

use super::Delivery;
use crate::{
    ids::{MessageId, Platform, Seq, SessionKey, UserId},
    log::{LogError, Lookup, SessionRow},
};

/// By what a message is looked up.
#[derive(Debug, Clone)]
pub enum TraceLookup {
    /// The server's id.
    Id(MessageId),
    /// The sender's ids.
    Key {
        /// Who sent it.
        sender: Box<str>,
        /// The sender's id for it.
        client_message_id: Box<str>,
    },
}

/// Which receivers are told of.
#[derive(Debug, Clone)]
pub struct TracePage {
    /// Only this one.
    pub user: Option<UserId>,
    /// Receivers left out at the beginning.
    pub offset: usize,
    /// Receivers told of, at most.
    pub limit: usize,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The server's id.
    pub message_id: MessageId,
    /// The sender's id for it.
    pub client_message_id: Box<str>,
    /// Who sent it.
    pub sender: Box<str>,
    /// When it was accepted, Unix ms.
    pub send_time_ms: u64,
    /// How many receivers [`TracePage`] is a page of: all, or one or none where one is named.
    pub receivers_total: usize,
    /// The receivers of the page asked for.
    pub receivers: Vec<TraceReceiver>,
}

/// What became of it at one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceReceiver {
    /// Who.
    pub user: UserId,
    /// Its place in the inbox.
    pub seq: Seq,
    /// The furthest that any session has come with it.
    pub state: TraceState,
    /// Every session of the receiver that was ever seen.
    pub sessions: Vec<TraceSession>,
}

/// What became of it at one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSession {
    /// The session's platform.
    pub platform: Platform,
    /// The session's device, where the policy tells them apart.
    pub device: Arc<str>,
    /// How far it came.
    pub state: TraceState,
    /// When it was handed to the socket, Unix ms; `None` when not, or too long ago to be remembered.
    pub sent_at_ms: Option<u64>,
    /// When it was acked, Unix ms; long ago: when the session last acked anything.
    pub acked_at_ms: Option<u64>,
}

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceState {
    /// Removed by retention before any ack.
    Expired,
    /// Stored, and not sent to a socket yet.
    Pending,
    /// Handed to a socket.
    Sent,
    /// Stored by the client.
    Acked,
}

impl Delivery {
    /// What became of a message; `None` when no such one is retained. Reads the disk on a blocking thread.
    pub async fn trace(
        self: Arc<Self>,
        lookup: TraceLookup,
        page: TracePage,
    ) -> Result<Option<Trace>, LogError> {
        let me = self.clone();
        self.aside(move || me.trace_blocking(&lookup, &page)).await
    }

    fn trace_blocking(
        &self,
        lookup: &TraceLookup,
        page: &TracePage,
    ) -> Result<Option<Trace>, LogError> {
        let lookup = match lookup {
            TraceLookup::Id(id) => Lookup::Id(*id),
            TraceLookup::Key {
                sender,
                client_message_id,
            } => Lookup::Key {
                sender,
                client_message_id,
            },
        };
        let Some(receipt) = self.log.find(lookup)? else {
            return Ok(None);
        };
        let is_asked_for = |user: &UserId| page.user.as_ref().is_none_or(|only| only == user);
        let receivers = receipt.placed.iter().filter(|(user, _)| is_asked_for(user));
        let receivers_total = receivers.clone().count();
        let receivers = receivers.skip(page.offset).take(page.limit);
        let receivers: Result<_, _> = receivers
            .map(|(user, seq)| self.trace_receiver(user, *seq))
            .collect();
        Ok(Some(Trace {
            message_id: receipt.message_id,
            client_message_id: receipt.client_message_id,
            sender: receipt.sender,
            send_time_ms: receipt.send_time_ms,
            receivers_total,
            receivers: receivers?,
        }))
    }

    fn trace_receiver(&self, user: &UserId, seq: Seq) -> Result<TraceReceiver, LogError> {
        let is_retained = seq >= self.log.inbox(user)?.first;
        let least = if is_retained {
            TraceState::Pending
        } else {
            TraceState::Expired
        };
        let sessions = self.log.sessions(user)?;
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
        let sent_at_ms = self.sent.when(&key, seq);
        let is_acked = row.cursor >= seq;
        let acked_at_ms = is_acked.then(|| self.acked.when(&key, seq).unwrap_or(row.acked_at_ms));
        let state = match sent_at_ms {
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
