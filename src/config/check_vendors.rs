//! The rules of the vendors' sections. Pure.

use std::path::Path;

use hyper::Uri;

use super::{Invalid, Push};
use crate::outbound::WebhookSecrets;

/// The most hosts of browsers' services.
const HOSTS_MAX: usize = 100;

/// The first rule that a vendor's section breaks.
pub(super) fn check_vendors(push: &Push) -> Result<(), Invalid> {
    let (getui, jpush, apns, fcm) = (&push.getui, &push.jpush, &push.apns, &push.fcm);
    let path = |path: &Path| path.as_os_str().is_empty();
    together(&[
        ("push.getui.app_id", getui.app_id.is_empty()),
        ("push.getui.app_key", getui.app_key.is_empty()),
        ("push.getui.master_secret", getui.master_secret.is_empty()),
    ])?;
    together(&[
        ("push.jpush.app_key", jpush.app_key.is_empty()),
        ("push.jpush.master_secret", jpush.master_secret.is_empty()),
    ])?;
    together(&[
        ("push.apns.key_file", path(&apns.key_file)),
        ("push.apns.key_id", apns.key_id.is_empty()),
        ("push.apns.team_id", apns.team_id.is_empty()),
        ("push.apns.topic", apns.topic.is_empty()),
    ])?;
    together(&[
        ("push.http.url", push.http.url.is_empty()),
        ("push.http.secret", push.http.secret.is_empty()),
    ])?;
    for (key, text) in [
        ("push.getui.app_id", &getui.app_id),
        ("push.apns.key_id", &apns.key_id),
        ("push.apns.team_id", &apns.team_id),
        ("push.apns.topic", &apns.topic),
    ] {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        require(
            key,
            text.chars().all(is_plain),
            "has other characters than letters, digits, -, _ and .",
        )?;
    }
    for (key, url) in [
        ("push.getui.url", &getui.url),
        ("push.jpush.url", &jpush.url),
        ("push.apns.url", &apns.url),
        ("push.fcm.url", &fcm.url),
        ("push.fcm.token_url", &fcm.token_url),
    ] {
        require(key, is_url(url), URL)?;
    }
    for (key, url) in [
        ("push.webpush.url", &push.webpush.url),
        ("push.http.url", &push.http.url),
    ] {
        require(key, url.is_empty() || is_url(url), URL)?;
    }
    webpush(push)?;
    if push.http.secret.is_empty() {
        return Ok(());
    }
    let secrets = WebhookSecrets::parse(&[&push.http.secret]);
    secrets.map(drop).map_err(|fault| Invalid {
        key: "push.http.secret",
        rule: fault.to_string(),
    })
}

fn webpush(push: &Push) -> Result<(), Invalid> {
    let (subject, hosts) = (&push.webpush.subject, &push.webpush.hosts);
    let is_subject = subject.is_empty()
        || subject.starts_with("mailto:") && subject.contains('@')
        || subject.starts_with("https://");
    let rule = "must be an address for the browsers' services, e.g. mailto:office@oa.example or https://oa.example";
    require("push.webpush.subject", is_subject, rule)?;
    let is_host = |host: &String| {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        !name.is_empty() && name.chars().all(is_plain)
    };
    let are_hosts = !hosts.is_empty() && hosts.len() <= HOSTS_MAX && hosts.iter().all(is_host);
    let rule = "must list host names, e.g. fcm.googleapis.com or *.push.apple.com";
    require("push.webpush.hosts", are_hosts, rule)
}

const URL: &str =
    "must be an address such as https://push.example, without user, query and fragment";

/// True for an http or https URL without user, query and fragment.
fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    is_http && has_host && !text.contains(['@', '?', '#'])
}

fn require(key: &'static str, is_so: bool, rule: &str) -> Result<(), Invalid> {
    match is_so {
        true => Ok(()),
        false => Err(Invalid {
            key,
            rule: rule.to_owned(),
        }),
    }
}

/// All or none: with a part of its keys a vendor would be left out without a word.
fn together(keys: &[(&'static str, bool)]) -> Result<(), Invalid> {
    let empty = keys.iter().find(|(_, is_empty)| *is_empty);
    let given = keys.iter().find(|(_, is_empty)| !*is_empty);
    match (empty, given) {
        (Some((key, _)), Some((other, _))) => Err(Invalid {
            key,
            rule: format!("is empty, and {other} is not"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_with_a_part_of_its_keys_is_refused() {
        type Spoil = fn(&mut Push);
        let spoiled: [(&str, Spoil); 14] = [
            ("push.getui.app_key", |p| p.getui.app_id = "a".into()),
            ("push.getui.app_id", |p| p.getui.master_secret = "a".into()),
            ("push.jpush.master_secret", |p| p.jpush.app_key = "a".into()),
            ("push.apns.key_id", |p| p.apns.key_file = "a.p8".into()),
            ("push.http.secret", |p| p.http.url = "https://a".into()),
            ("push.http.secret", |p| {
                p.http.url = "https://a".into();
                p.http.secret = "secret".into();
            }),
            ("push.apns.url", |p| {
                p.apns.url = "api.push.apple.com".into()
            }),
            ("push.jpush.url", |p| p.jpush.url = "https://u:p@a".into()),
            ("push.getui.url", |p| p.getui.url = "".into()),
            ("push.fcm.url", |p| p.fcm.url = "ftp://a".into()),
            ("push.fcm.token_url", |p| {
                p.fcm.token_url = "https://a/?b".into()
            }),
            ("push.webpush.subject", |p| {
                p.webpush.subject = "office@oa.example".into()
            }),
            ("push.webpush.hosts", |p| {
                p.webpush.hosts = vec!["https://a".into()]
            }),
            ("push.webpush.hosts", |p| {
                p.webpush.hosts = vec![String::new(); HOSTS_MAX + 1]
            }),
        ];
        assert_eq!(check_vendors(&Push::default()), Ok(()));
        for (key, spoil) in spoiled {
            let mut push = Push::default();
            spoil(&mut push);
            assert_eq!(check_vendors(&push).expect_err(key).key, key);
        }
    }

    #[test]
    fn no_print_of_the_vendors_shows_a_secret() {
        let mut push = Push::default();
        push.getui.master_secret = "s3cret".into();
        push.jpush.master_secret = "s3cret".into();
        push.http.secret = "s3cret".into();
        let refused = check_vendors(&push).expect_err("a part of the keys");
        let toml = toml::to_string(&push).unwrap();
        let printed = format!("{push:?} {toml} {refused}");
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(printed.contains("********"), "{printed}");
    }
}
