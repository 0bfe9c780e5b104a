//! The limits that types cannot express, each with the reason for its bounds. Pure.

use std::{fmt::Display, ops::RangeInclusive, path::Path, time::Duration};

use super::{
    Admin, Config, Delivery, Drain, LOG_FORMAT, Listener, Log, MeshSettings, OTHER_TITLE, OpenIm,
    Push, Sessions, duration::DurationText,
};
use crate::{
    ids,
    message::{CONTENT_BYTES_MAX, TOGETHER_BYTES_MAX},
};

/// A value that the program cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {rule}")]
pub struct Invalid {
    /// Section and key.
    pub key: &'static str,
    /// The value's fault, and the rule.
    pub rule: String,
}

/// The bytes of a send request besides its content.
const REQUEST_BYTES: usize = 16 * 1024;
/// A phone shows less than this of a title.
const TITLE_BYTES_MAX: usize = 256;
const MIB: u64 = 1024 * 1024;
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// The first rule that `config` breaks.
pub(super) fn check(config: &Config) -> Result<(), Invalid> {
    listener(&config.listener)?;
    admin(&config.admin, &config.delivery)?;
    log(&config.log)?;
    lasts(
        "store.answer_within",
        config.store.answer_within,
        SECOND..=60 * SECOND,
    )?;
    mesh(&config.mesh)?;
    within("store.copies", config.store.copies, 1..=2)?;
    sessions(&config.sessions)?;
    delivery(&config.delivery)?;
    openim(&config.openim)?;
    push(&config.push)?;
    drain(&config.drain)
}

fn listener(listener: &Listener) -> Result<(), Invalid> {
    pair(
        "listener.tls_certificate",
        &listener.tls_certificate,
        "listener.tls_key",
        &listener.tls_key,
    )?;
    if listener.proxy_protocol && listener.trusted_proxies.is_empty() {
        return Err(Invalid {
            key: "listener.proxy_protocol",
            rule: "needs listener.trusted_proxies: nobody else is believed".into(),
        });
    }
    // A connection id has 16 bits for its reactor. No machine has as many cores as this bound allows.
    within("listener.reactors", listener.reactors, 0..=1024)?;
    lasts(
        "listener.connect_timeout",
        listener.connect_timeout,
        SECOND / 10..=HOUR,
    )?;
    lasts(
        "listener.upgrade_timeout",
        listener.upgrade_timeout,
        SECOND / 10..=HOUR,
    )?;
    within(
        "listener.handshakes_max",
        listener.handshakes_max,
        1..=1_000_000,
    )?;
    within(
        "listener.handshakes_per_second_max",
        listener.handshakes_per_second_max,
        0..=1_000_000,
    )?;
    within(
        "listener.bad_tokens_per_minute_max",
        listener.bad_tokens_per_minute_max,
        0..=1_000_000,
    )?;
    // A smaller value is a typing error, because the gateway alone uses more.
    if listener.memory_bytes_max != 0 {
        within(
            "listener.memory_bytes_max",
            listener.memory_bytes_max,
            MIB..=1 << 50,
        )?;
    }
    within(
        "listener.connections_max",
        listener.connections_max,
        1..=100_000_000,
    )?;
    within(
        "listener.send_buffer_bytes",
        listener.send_buffer_bytes,
        4096..=16 << 20,
    )?;
    within(
        "listener.outbox_frames_max",
        listener.outbox_frames_max,
        8..=1_000_000,
    )?;
    // One coalesced frame, or one message of the largest size, must fit.
    within(
        "listener.outbox_bytes_max",
        listener.outbox_bytes_max,
        2 * TOGETHER_BYTES_MAX..=1 << 30,
    )?;
    lasts(
        "listener.stall_timeout",
        listener.stall_timeout,
        SECOND / 10..=HOUR,
    )?;
    let is_origin = |origin: &&String| {
        let is_pair = origin.split_once("://").is_some_and(|(scheme, host)| {
            // Only a page from the web always has a host. An app's page from a file has the origin `file://`.
            let has_host = !host.is_empty() || !["http", "https"].contains(&scheme);
            !scheme.is_empty() && has_host && !host.contains('/')
        });
        // The origin of a page in a sandbox, or of an app's page on iOS.
        is_pair || *origin == "null"
    };
    let refused = |origin: &str, rule: String| {
        Err(Invalid {
            key: "listener.origins",
            rule: format!("holds {origin:?}: {rule}"),
        })
    };
    if let Some(origin) = listener.origins.iter().find(|origin| !is_origin(origin)) {
        let rule = "an origin is scheme://host[:port], e.g. https://oa.example, or file:// or null for pages of an app";
        return refused(origin, rule.into());
    }
    for origin in &listener.origins {
        if let Some(rule) = never_sent(origin) {
            return refused(origin, rule);
        }
    }
    Ok(())
}

/// The reason for which no browser sends this origin, and the right form; `None` if a browser may send it. RFC 6454 section 6
/// fixes the form.
fn never_sent(origin: &str) -> Option<String> {
    if !origin.is_ascii() {
        let rule = "browsers send a host in ASCII (xn--…): copy the value of location.origin from the page's console";
        return Some(rule.into());
    }
    if origin.contains('*') {
        return Some("there are no wildcards: list each origin, e.g. https://oa.example".into());
    }
    if origin.contains(|c: char| matches!(c, '?' | '#' | '@' | '\\') || c.is_ascii_whitespace()) {
        return Some("an origin has no user, query or white space: scheme://host[:port]".into());
    }
    let (scheme, host) = origin.split_once("://")?;
    let port = match &*scheme.to_ascii_lowercase() {
        "http" => ":80",
        "https" => ":443",
        "ws" | "wss" => {
            let page = scheme.to_ascii_lowercase().replacen("ws", "http", 1);
            return Some(format!(
                "a page has the scheme http or https: write {page}://{host}"
            ));
        }
        _ => return None,
    };
    let host = host.strip_suffix(port)?;
    Some(format!(
        "browsers leave out the scheme's own port: write {scheme}://{host}"
    ))
}

fn admin(admin: &Admin, delivery: &Delivery) -> Result<(), Invalid> {
    pair(
        "admin.tls_certificate",
        &admin.tls_certificate,
        "admin.tls_key",
        &admin.tls_key,
    )?;
    if admin.user_ids.is_empty() {
        return Err(Invalid {
            key: "admin.user_ids",
            rule: "is empty: nobody could send".into(),
        });
    }
    for id in &admin.user_ids {
        ids::check_id(id).map_err(|error| Invalid {
            key: "admin.user_ids",
            rule: format!("holds {id:?}, which {error}"),
        })?;
    }
    for (id, roles) in &admin.roles {
        let rule = if !admin.user_ids.contains(id) {
            format!("names {id:?}, who is not in admin.user_ids")
        } else if roles.is_empty() {
            format!(
                "gives {id:?} no role: give send, read or operate, or remove the user from admin.user_ids"
            )
        } else {
            continue;
        };
        return Err(Invalid {
            key: "admin.roles",
            rule,
        });
    }
    within(
        "admin.body_bytes_max",
        admin.body_bytes_max,
        delivery.message_bytes_max.saturating_add(REQUEST_BYTES)..=64 << 20,
    )?;
    // One commit holds the whole batch: about 100 bytes a receiver.
    within("admin.batch_max", admin.batch_max, 1..=100_000)?;
    within(
        "admin.connections_max",
        admin.connections_max,
        1..=1_000_000,
    )?;
    lasts("admin.idle_timeout", admin.idle_timeout, SECOND / 10..=HOUR)?;
    lasts(
        "admin.request_timeout",
        admin.request_timeout,
        SECOND..=HOUR,
    )
}

fn mesh(mesh: &MeshSettings) -> Result<(), Invalid> {
    if mesh.is_valid() {
        return Ok(());
    }
    Err(Invalid {
        key: "mesh.advertise",
        rule: "is no host or host:port; an IPv6 address stands in brackets".into(),
    })
}

fn log(log: &Log) -> Result<(), Invalid> {
    if log.dir.as_os_str().is_empty() {
        return Err(Invalid {
            key: "log.dir",
            rule: "is empty: it names the data directory".into(),
        });
    }
    if !log.store.is_known() {
        return Err(Invalid {
            key: "log.store",
            rule: "is neither \"embedded\" nor a postgres:// URL".into(),
        });
    }
    lasts("log.retention", log.retention, SECOND..=100 * YEAR)?;
    // A smaller segment is mostly overhead. In a larger one the last commit could pass the 4 GiB that offsets reach.
    within(
        "log.segment_bytes",
        log.segment_bytes,
        MIB / 16..=2048 * MIB,
    )?;
    // Retention unlinks only whole segments, and never the open one.
    if log.retention_bytes != 0 {
        within(
            "log.retention_bytes",
            log.retention_bytes,
            2 * log.segment_bytes..=i64::MAX as u64,
        )?;
    }
    lasts(
        "log.idempotency_retention",
        log.idempotency_retention,
        SECOND..=10 * YEAR,
    )?;
    lasts(
        "log.checkpoint_interval",
        log.checkpoint_interval,
        SECOND / 100..=HOUR,
    )?;
    within("log.queue_max", log.queue_max, 1..=1_000_000)?;
    within("log.format", log.format, 1..=LOG_FORMAT)?;
    within("log.cache_bytes", log.cache_bytes, MIB..=1 << 40)
}

fn sessions(sessions: &Sessions) -> Result<(), Invalid> {
    within("sessions.policy", sessions.policy, 0..=5)?;
    within("sessions.per_user_max", sessions.per_user_max, 1..=10_000)?;
    lasts("sessions.heartbeat", sessions.heartbeat, SECOND / 10..=HOUR)
}

fn delivery(delivery: &Delivery) -> Result<(), Invalid> {
    within("delivery.window", delivery.window, 1..=4096)?;
    // The wait doubles up to a bound: `docs/protocol.md#acks`.
    lasts(
        "delivery.resend_after",
        delivery.resend_after,
        SECOND / 10..=60 * SECOND,
    )?;
    within(
        "delivery.message_bytes_max",
        delivery.message_bytes_max,
        1024..=CONTENT_BYTES_MAX,
    )
}

fn openim(openim: &OpenIm) -> Result<(), Invalid> {
    if openim.api_listen.is_some() && !openim.enabled {
        return Err(Invalid {
            key: "openim.api_listen",
            rule: "must be empty while openim.enabled is false".into(),
        });
    }
    Ok(())
}

fn push(push: &Push) -> Result<(), Invalid> {
    // Below a second an ack has no time to come.
    lasts("push.after", push.after, SECOND..=HOUR)?;
    within("push.tasks_max", push.tasks_max, 1000..=100_000_000)?;
    lasts("push.expire_after", push.expire_after, 60 * SECOND..=YEAR)?;
    // Each message to a user looks at all devices of the user.
    within(
        "push.devices_per_user_max",
        push.devices_per_user_max,
        1..=256,
    )?;
    let is_type = |key: &String| key == OTHER_TITLE || key.parse::<i32>().is_ok();
    for (language, titles) in &push.titles {
        let known = ["zh", "en"].contains(&language.as_str());
        if !known || !titles.keys().all(is_type) {
            return Err(Invalid {
                key: "push.titles",
                rule: "has the languages zh and en, each with content types and `other`".into(),
            });
        }
        if titles.values().any(|title| title.len() > TITLE_BYTES_MAX) {
            return Err(Invalid {
                key: "push.titles",
                rule: format!("has titles of at most {TITLE_BYTES_MAX} bytes"),
            });
        }
    }
    Ok(())
}

fn drain(drain: &Drain) -> Result<(), Invalid> {
    lasts("drain.period", drain.period, Duration::ZERO..=HOUR)
}

/// Both or neither: with only one of them, a port that should speak TLS would speak plain text.
fn pair(
    first_key: &'static str,
    first: &Path,
    second_key: &'static str,
    second: &Path,
) -> Result<(), Invalid> {
    let (key, other) = match (first.as_os_str().is_empty(), second.as_os_str().is_empty()) {
        (true, false) => (first_key, second_key),
        (false, true) => (second_key, first_key),
        _ => return Ok(()),
    };
    Err(Invalid {
        key,
        rule: format!("is empty, and {other} is not"),
    })
}

pub(super) fn within<T: PartialOrd + Display>(
    key: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(Invalid {
        key,
        rule: format!("is {value}: it must be between {least} and {most}"),
    })
}

pub(super) fn lasts(
    key: &'static str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Result<(), Invalid> {
    let (least, most) = range.into_inner();
    within(
        key,
        DurationText(value),
        DurationText(least)..=DurationText(most),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_auth::check_auth;

    #[test]
    fn the_defaults_pass() {
        assert_eq!(check(&Config::default()), Ok(()));
    }

    #[test]
    fn each_limit_is_refused_by_the_name_of_its_key() {
        type Spoil = fn(&mut Config);
        let spoiled: [(&str, Spoil); 24] = [
            ("listener.tls_key", |c| {
                c.listener.tls_certificate = "port.pem".into()
            }),
            ("admin.tls_certificate", |c| {
                c.admin.tls_key = "key.pem".into()
            }),
            ("listener.reactors", |c| c.listener.reactors = 70_000),
            ("listener.connect_timeout", |c| {
                c.listener.connect_timeout = Duration::ZERO
            }),
            ("listener.outbox_bytes_max", |c| {
                c.listener.outbox_bytes_max = 1000
            }),
            ("listener.origins", |c| {
                c.listener.origins = vec!["oa.example".into()]
            }),
            ("admin.user_ids", |c| c.admin.user_ids = vec!["a\nb".into()]),
            ("admin.user_ids", |c| c.admin.user_ids.clear()),
            ("admin.body_bytes_max", |c| {
                c.admin.body_bytes_max = 48 * 1024
            }),
            ("log.segment_bytes", |c| c.log.segment_bytes = 4 << 30),
            ("log.retention_bytes", |c| c.log.retention_bytes = 1),
            ("log.dir", |c| c.log.dir = "".into()),
            ("log.store", |c| {
                c.log.store = "mysql://h/d".to_owned().into()
            }),
            ("mesh.advertise", |c| c.mesh.advertise = "fd00::1".into()),
            ("store.answer_within", |c| {
                c.store.answer_within = Duration::ZERO
            }),
            ("store.copies", |c| c.store.copies = 3),
            ("auth.token_key", |c| c.auth.token_key = "short".into()),
            ("auth.secret", |c| c.auth.secret = "tuoyun".into()),
            ("sessions.policy", |c| c.sessions.policy = 6),
            ("sessions.heartbeat", |c| {
                c.sessions.heartbeat = Duration::ZERO
            }),
            ("delivery.window", |c| c.delivery.window = 0),
            ("delivery.message_bytes_max", |c| {
                c.delivery.message_bytes_max = 64 * 1024
            }),
            ("listener.proxy_protocol", |c| {
                c.listener.proxy_protocol = true;
            }),
            ("openim.api_listen", |c| {
                c.openim.enabled = false;
                c.openim.api_listen = Some(([127, 0, 0, 1], 10002).into());
            }),
        ];
        for (key, spoil) in spoiled {
            let mut config = Config::default();
            spoil(&mut config);
            let checked = check(&config).and_then(|()| check_auth(&config.auth));
            assert_eq!(checked.expect_err(key).key, key);
        }
    }

    #[test]
    fn what_browsers_and_apps_send_as_their_origin_can_be_listed() {
        let check_origin = |origin: &str| {
            let mut config = Config::default();
            config.listener.origins = vec![origin.into()];
            check(&config)
        };
        for origin in [
            "https://oa.example",
            "http://localhost:5173",
            "https://[::1]:8443",
            "capacitor://localhost",
            "chrome-extension://abc",
            "app://.",
            "file://",
            "null",
        ] {
            assert_eq!(check_origin(origin), Ok(()), "{origin}");
        }
        for other in [
            "oa.example",
            "https://",
            "https://oa.example/",
            "://a",
            "file:///",
            "nil",
        ] {
            assert!(check_origin(other).is_err(), "{other}");
        }
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_refused_with_the_right_form() {
        for (origin, right) in [
            ("https://oa.example:443", "write https://oa.example"),
            ("http://oa.example:80", "write http://oa.example"),
            ("HTTPS://[::1]:443", "write HTTPS://[::1]"),
            ("wss://oa.example", "write https://oa.example"),
            ("ws://oa.example:8080", "write http://oa.example:8080"),
            ("https://*.oa.example", "list each origin"),
            ("*", "e.g. https://oa.example"),
            ("https://büro.example", "xn--"),
            ("https://me@oa.example", "scheme://host[:port]"),
            ("https://oa.example ", "no user, query or white space"),
        ] {
            let mut config = Config::default();
            config.listener.origins = vec!["https://good.example".into(), origin.into()];
            let refused = check(&config).expect_err(origin).to_string();
            assert!(refused.contains(right), "{refused}");
        }
        let mut config = Config::default();
        config.listener.origins = vec!["https://oa.example:80".into(), "http://a:443".into()];
        assert_eq!(check(&config), Ok(()));
    }

    #[test]
    fn a_refusal_says_what_is_and_what_must_be() {
        let mut config = Config::default();
        config.sessions.heartbeat = Duration::from_secs(86_400);
        assert_eq!(
            check(&config).expect_err("too long").to_string(),
            "sessions.heartbeat is 1d: it must be between 100ms and 1h"
        );
    }

    #[test]
    fn no_refusal_shows_a_secret() {
        let mut config = Config::default();
        config.auth.secret = "tuoyun".into();
        let text = check_auth(&config.auth).expect_err("too short").to_string();
        assert!(!text.contains("tuoyun"), "{text}");
    }
}
