//! The section `webhooks`: the events that another system gets over HTTP, and the question before each send.

use std::{fmt, time::Duration};

use axum::http::Uri;
use serde::{Deserialize, Serialize};

use super::{
    check::{Invalid, lasts, within},
    duration, mask,
};
use crate::outbound::WebhookSecrets;

/// A receiver has to hold a whole batch. More events in one gain nothing.
const EVENTS_IN_BATCH_MAX: usize = 1000;

/// The first format of the log that has rows.
const EVENTS_SINCE: u8 = 3;

const SECOND: Duration = Duration::from_secs(1);

/// Events for another system, and its word on each send. No print shows a secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// The address that gets the events; empty: there are none.
    pub url: String,
    /// One or two secrets that sign each request: `whsec_` and base64. During a rotation both sign.
    #[serde(serialize_with = "mask::mask_each")]
    pub secrets: Vec<String>,
    /// The kinds of events that are sent; empty: all. `events.lost` and `user.state` always come.
    pub events: Vec<EventKind>,
    /// The most events in one request.
    pub batch_max: usize,
    /// The longest time for the answer to one request.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The question before each send.
    pub before_send: BeforeSend,
}

/// The question before each send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BeforeSend {
    /// The address that is asked; empty: none is.
    pub url: String,
    /// The longest time for the answer.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The outcome of a send when there is no answer.
    pub on_failure: OnFailure,
}

/// The outcome of a send when there is no answer to the question before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The send is refused, and its caller may repeat it.
    Refuse,
    /// The send is done unchanged.
    Allow,
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A message became durable.
    #[serde(rename = "message.accepted")]
    MessageAccepted,
    /// A session acked messages.
    #[serde(rename = "message.acked")]
    MessageAcked,
    /// Retention removed messages that no session acked.
    #[serde(rename = "message.expired")]
    MessageExpired,
    /// A vendor took a push.
    #[serde(rename = "push.sent")]
    PushSent,
    /// A push ended without a vendor that took it.
    #[serde(rename = "push.failed")]
    PushFailed,
    /// A session came online.
    #[serde(rename = "user.online")]
    UserOnline,
    /// A session went offline.
    #[serde(rename = "user.offline")]
    UserOffline,
    /// The sessions online, once after each start.
    #[serde(rename = "user.state")]
    UserState,
    /// Events that cannot be told any more.
    #[serde(rename = "events.lost")]
    EventsLost,
}

impl EventKind {
    /// The kind's name in a request and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageAccepted => "message.accepted",
            Self::MessageAcked => "message.acked",
            Self::MessageExpired => "message.expired",
            Self::PushSent => "push.sent",
            Self::PushFailed => "push.failed",
            Self::UserOnline => "user.online",
            Self::UserOffline => "user.offline",
            Self::UserState => "user.state",
            Self::EventsLost => "events.lost",
        }
    }
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            url: String::new(),
            secrets: Vec::new(),
            events: Vec::new(),
            batch_max: 100,
            timeout: Duration::from_secs(5),
            before_send: BeforeSend::default(),
        }
    }
}

impl Default for BeforeSend {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout: Duration::from_secs(1),
            on_failure: OnFailure::Refuse,
        }
    }
}

impl Webhooks {
    /// True if events of this kind are sent.
    pub fn wants(&self, kind: EventKind) -> bool {
        let always = [EventKind::EventsLost, EventKind::UserState];
        self.events.is_empty() || always.contains(&kind) || self.events.contains(&kind)
    }
}

impl fmt::Debug for Webhooks {
    /// Never prints a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks")
            .field("url", &self.url)
            .field("events", &self.events)
            .field("batch_max", &self.batch_max)
            .field("timeout", &self.timeout)
            .field("before_send", &self.before_send)
            .finish_non_exhaustive()
    }
}

/// The first rule that the section breaks.
pub(super) fn check(webhooks: &Webhooks, log_format: u8) -> Result<(), Invalid> {
    let invalid = |key, rule: &str| {
        Err(Invalid {
            key,
            rule: rule.into(),
        })
    };
    let hook = &webhooks.before_send;
    for (key, url) in [
        ("webhooks.url", &webhooks.url),
        ("webhooks.before_send.url", &hook.url),
    ] {
        if url.is_empty() {
            continue;
        }
        if let Some(rule) = broken_rule(url) {
            return invalid(key, rule);
        }
        if webhooks.secrets.is_empty() {
            return invalid(
                "webhooks.secrets",
                "is empty: the requests need one to be signed with",
            );
        }
    }
    if !webhooks.url.is_empty() && log_format < EVENTS_SINCE {
        return invalid(
            "webhooks.url",
            "needs log.format 3: an older log cannot keep how far the receiver was told",
        );
    }
    if !webhooks.secrets.is_empty() {
        let is_toml = |text: &String| text.contains(['[', ']', '"', '\'']);
        let hint = match webhooks.secrets.iter().any(is_toml) {
            true => {
                "; --set and the environment take a list without brackets and quotes, with commas between its items"
            }
            false => "",
        };
        WebhookSecrets::parse(&webhooks.secrets).map_err(|fault| Invalid {
            key: "webhooks.secrets",
            rule: format!("{fault}{hint}"),
        })?;
    }
    within(
        "webhooks.batch_max",
        webhooks.batch_max,
        1..=EVENTS_IN_BATCH_MAX,
    )?;
    lasts(
        "webhooks.timeout",
        webhooks.timeout,
        SECOND / 10..=60 * SECOND,
    )?;
    lasts(
        "webhooks.before_send.timeout",
        hook.timeout,
        SECOND / 100..=10 * SECOND,
    )
}

/// The rule that an address breaks. Prints of the configuration show the whole address, so it must hold no secret.
fn broken_rule(url: &str) -> Option<&'static str> {
    if url.contains(['?', '#']) {
        return Some(
            "holds a query or a fragment, which prints of the configuration would show: the receiver checks the signature instead",
        );
    }
    let Ok(uri) = url.parse::<Uri>() else {
        return Some("is no address: write https://host/path");
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Some("holds a user or a password: the receiver checks the signature instead")
        }
        Some(_) if ["http", "https"].contains(&scheme) => None,
        _ => Some("must begin with https:// or http://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LOG_FORMAT;

    fn good() -> Webhooks {
        Webhooks {
            url: "https://oa.example/hooks".into(),
            secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()],
            ..Webhooks::default()
        }
    }

    #[test]
    fn an_address_needs_a_secret_and_has_no_password() {
        assert_eq!(check(&Webhooks::default(), LOG_FORMAT), Ok(()));
        assert_eq!(check(&good(), LOG_FORMAT), Ok(()));
        for url in [
            "oa.example",
            "ftp://oa.example/",
            "https://me:pw@oa.example/",
            "https://oa.example/hooks?key=pw",
            "https://oa.example?key=pw",
            "https://oa.example/hooks#pw",
        ] {
            let mut webhooks = good();
            webhooks.url = url.into();
            let refused = check(&webhooks, LOG_FORMAT).expect_err(url);
            assert_eq!(refused.key, "webhooks.url");
            assert!(!refused.to_string().contains("pw"));
            webhooks = good();
            webhooks.before_send.url = url.into();
            let refused = check(&webhooks, LOG_FORMAT).expect_err(url);
            assert_eq!(refused.key, "webhooks.before_send.url");
        }
        let mut webhooks = good();
        webhooks.secrets.clear();
        assert_eq!(
            check(&webhooks, LOG_FORMAT).expect_err("").key,
            "webhooks.secrets"
        );
    }

    #[test]
    fn a_log_without_rows_has_no_webhooks() {
        assert_eq!(check(&good(), 2).expect_err("").key, "webhooks.url");
        assert_eq!(check(&Webhooks::default(), 1), Ok(()));
    }

    #[test]
    fn a_secret_has_its_prefix_and_a_key_and_there_are_at_most_two() {
        let secret = good().secrets[0].clone();
        for wrong in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            let mut webhooks = good();
            webhooks.secrets = vec![wrong.into()];
            let refused = check(&webhooks, LOG_FORMAT).expect_err(wrong);
            assert_eq!(refused.key, "webhooks.secrets");
        }
        let mut webhooks = good();
        webhooks.secrets = vec![secret; 3];
        assert_eq!(
            check(&webhooks, LOG_FORMAT).expect_err("").key,
            "webhooks.secrets"
        );
    }

    #[test]
    fn a_list_in_the_form_of_toml_is_told_the_form_of_set_and_the_environment() {
        let secret = good().secrets[0].clone();
        let mut webhooks = good();
        // The two ends of a list in TOML's form, as the comma between them cuts it.
        webhooks.secrets = vec![format!("[\"{secret}\""), format!("\"{secret}\"]")];
        let refused = check(&webhooks, LOG_FORMAT).expect_err("").to_string();
        assert!(refused.contains("without brackets and quotes"), "{refused}");
        assert!(!refused.contains("MfKQ"), "{refused}");
        webhooks.secrets = vec!["whsec_x".into()];
        let refused = check(&webhooks, LOG_FORMAT).expect_err("").to_string();
        assert!(!refused.contains("brackets"), "{refused}");
    }

    #[test]
    fn no_print_shows_a_secret() {
        let prints = [
            format!("{:?}", good()),
            toml::to_string(&good()).unwrap(),
            serde_json::to_string(&good()).unwrap(),
        ];
        for print in prints {
            assert!(!print.contains("MfKQ"), "{print}");
        }
    }

    #[test]
    fn losses_and_the_state_come_whatever_is_chosen() {
        let mut webhooks = good();
        assert!(webhooks.wants(EventKind::PushSent));
        webhooks.events = vec![EventKind::MessageAcked];
        assert!(!webhooks.wants(EventKind::PushSent));
        for kind in [
            EventKind::MessageAcked,
            EventKind::EventsLost,
            EventKind::UserState,
        ] {
            assert!(webhooks.wants(kind), "{}", kind.name());
        }
    }
}
