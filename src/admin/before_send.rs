//! The question to another system before a send: after the look for a repeat, and before the append.

use super::{call::App, content, error::Refusal, shape, v3::BUSINESS};
use crate::{
    delivery::{Receivers, Send},
    webhooks::{BeforeSendHook, Ruling, SendQuestion},
};

impl App {
    /// Asks about a send, if the configuration says so, and changes its content if the answer does. A repeat of an accepted
    /// send is not asked about.
    pub(super) async fn check_with_hook(&self, send: &mut Send) -> Result<(), Refusal> {
        let Some(hook) = &self.hooks.before_send else {
            return Ok(());
        };
        let message = &send.message;
        if !message.client_msg_id.is_empty() && !send.is_online_only {
            let known = self
                .delivery
                .is_known(&message.send_id, &message.client_msg_id);
            if self.answered(known).await? {
                return Ok(());
            }
        }
        self.ask(hook, send).await
    }

    async fn ask(&self, hook: &BeforeSendHook, send: &mut Send) -> Result<(), Refusal> {
        let question = SendQuestion {
            message: &send.message,
            receivers: match &send.receivers {
                Receivers::List(list) => Some(list),
                Receivers::Everyone => None,
            },
            is_online_only: send.is_online_only,
        };
        let content = match hook.ask(&question).await {
            Ruling::Allowed => return Ok(()),
            Ruling::Changed(content) => content,
            Ruling::Refused { code, text } => return Err(Refusal::Hook { code, text }),
            Ruling::Unanswered => return Err(Refusal::HookUnanswered),
        };
        let number = send.message.content_type;
        let business = Some(&BUSINESS).filter(|business| business.number == number);
        let known = content::content_type(number).or(business);
        let text = std::str::from_utf8(&content).unwrap_or_default();
        let is_good = text.starts_with('{')
            && text.len() <= self.content_bytes_max
            && known.is_some_and(|known| shape::check(known.fields, text).is_ok());
        if !is_good {
            tracing::warn!(
                content_type = number,
                "before_send gave a content that no send may have: the send is refused"
            );
            return Err(Refusal::HookUnanswered);
        }
        send.message.content = content;
        Ok(())
    }
}
