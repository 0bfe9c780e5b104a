//! Texts of a kept run name no path of this machine and no host of another one.

use std::fmt::Write as _;

use serde_json::Value;

/// Makes every text in a report neutral.
pub(super) fn neutralise(value: &mut Value) {
    match value {
        Value::String(text) => *text = neutral(text),
        Value::Array(values) => values.iter_mut().for_each(neutralise),
        Value::Object(fields) => {
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(name, mut value)| {
                    neutralise(&mut value);
                    (neutral(&name), value)
                })
                .collect();
        }
        _ => {}
    }
}

/// A text without paths of this machine and without names of hosts in URLs. That data was in memory is a circumstance, so
/// `/dev/shm` stays.
pub(super) fn neutral(text: &str) -> String {
    let mut neutral = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, from) = rest.split_at(at);
        neutral.push_str(before);
        let is_url = neutral.ends_with(':') && from.starts_with("//");
        let after_word = neutral.ends_with(|c: char| c.is_alphanumeric() || "._-~/)*".contains(c));
        let is_path = !after_word && from[1..].starts_with(|c: char| c.is_alphanumeric());
        let end = |text: &str| {
            text.find(|c: char| c.is_whitespace() || "\"'`(),;:|".contains(c))
                .unwrap_or(text.len())
        };
        if is_url {
            let url = &from[2..];
            let url = url.split([' ', '"', '\'', '\n']).next().unwrap_or_default();
            let host = url.split('/').next().unwrap_or_default();
            let is_here = host.starts_with("127.") || host.starts_with("localhost");
            let shown = if is_here { host } else { "HOST" };
            write!(neutral, "//{shown}{}", &url[host.len()..]).expect("a String takes all");
            rest = &from[2 + url.len()..];
        } else if is_path {
            let path = &from[..end(from)];
            let is_in_memory = path == "/dev/shm" || path.starts_with("/dev/shm/");
            neutral.push_str(if is_in_memory { "/dev/shm" } else { "PATH" });
            rest = &from[path.len()..];
        } else {
            neutral.push('/');
            rest = &from[1..];
        }
    }
    neutral + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_text_names_no_path_and_no_host() {
        for (text, kept) in [
            (
                "send --data /dev/shm/x --report /home/me/r",
                "send --data /dev/shm --report PATH",
            ),
            ("--data=/var/data x", "--data=PATH x"),
            ("--ws wss://gw.example:1/ws", "--ws wss://HOST/ws"),
            ("http://127.0.0.1:80/x", "http://127.0.0.1:80/x"),
            (
                "94 messages/s, 1 / 2, target/release/loadtest",
                "94 messages/s, 1 / 2, target/release/loadtest",
            ),
            (
                "no file (/root/a.b): \"/tmp/c\"",
                "no file (PATH): \"PATH\"",
            ),
        ] {
            assert_eq!(neutral(text), kept);
        }
    }
}
