//! The way to the receiver: one request over HTTP, and the answer to it.

use std::time::Duration;

use axum::http::Uri;
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::outbound::{self, Outbound, WebhookSecrets};

/// The system that is told of events.
pub trait HookReceiver: Send + Sync {
    /// Takes a request to the receiver and waits for its answer, for a bounded time. `id` is that of the request; `now_ms` is the time
    /// of this try, Unix ms. Cancel safe: the receiver may have got the request.
    fn take<'a>(&'a self, id: &'a str, now_ms: u64, body: &'a Bytes) -> BoxFuture<'a, HookReply>;
}

/// The receiver's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookReply {
    /// The receiver answered with this HTTP status, and perhaps asked to be left alone for a while.
    Status(u16, Option<Duration>),
    /// The receiver did not answer, for this reason.
    Silence(String),
}

impl HookReply {
    /// The answer in words, for an operator.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Status(status, _) => format!("HTTP {status}"),
            Self::Silence(reason) => reason.clone(),
        }
    }

    /// True if the receiver has the events.
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Status(200..=299, _))
    }

    /// True if a repeat of the same request would be refused again. A request that took too long, or came too early, would not.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Status(400..=499, _)) && !matches!(self, Self::Status(408 | 429, _))
    }
}

/// Sends signed requests to an address.
pub(super) struct Courier {
    pub(super) outbound: Outbound,
    pub(super) url: Uri,
    pub(super) secrets: WebhookSecrets,
    pub(super) timeout: Duration,
}

impl HookReceiver for Courier {
    fn take<'a>(&'a self, id: &'a str, now_ms: u64, body: &'a Bytes) -> BoxFuture<'a, HookReply> {
        Box::pin(async move {
            let request = self
                .secrets
                .post(&self.url, id, now_ms / 1000, body.clone());
            match self.outbound.call(request, self.timeout).await {
                Ok(answer) => {
                    let wait = outbound::retry_after(answer.headers());
                    HookReply::Status(answer.status().as_u16(), wait)
                }
                Err(error) => HookReply::Silence(error.to_string()),
            }
        })
    }
}
