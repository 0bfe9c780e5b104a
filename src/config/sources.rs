//! The sources of the configuration: defaults < file < environment < flags.
//!
//! Every source is merged into one table that has the shape of the defaults. So one rule refuses an unknown key from every
//! source, and values from environment and flags are parsed by the key's type.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{
    Config, check, check::Invalid, check_auth::check_auth, check_vendors::check_vendors, webhooks,
};

/// The prefix of our environment variables: `TOWNCRIER_LISTENER__LISTEN` is `listener.listen`.
pub const ENVIRONMENT_PREFIX: &str = "TOWNCRIER_";
/// The separator of section, section below it and key in their names. A name without it is not ours. Such names are the log filter,
/// `TOWNCRIER_LOG`, and those that Kubernetes gives every container when a Service is called towncrier:
/// `TOWNCRIER_SERVICE_HOST` and so on.
const ENVIRONMENT_JOINT: &str = "__";
/// Names less alike than this (Jaro-Winkler, 0–1) are not suggested.
const LIKENESS_MIN: f64 = 0.7;

/// Why there is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The file is not TOML, or a value in it has the wrong type; the text shows the line.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault and its position.
        error: Box<toml::de::Error>,
    },
    /// No key has this name.
    #[error("{origin}: unknown key {key}{}", Hint(nearest))]
    Unknown {
        /// The file, variable or flag.
        origin: String,
        /// The key as it was given.
        key: String,
        /// The most similar known name, if one is similar enough.
        nearest: Option<String>,
    },
    /// A flag is not `section.key=value`.
    #[error("--set {0}: expected section.key=value")]
    Flag(String),
    /// A value from environment or flags does not fit its key.
    #[error("{origin}: {key} {error}")]
    Value {
        /// The variable or flag.
        origin: String,
        /// Section and key.
        key: String,
        /// Why the value does not fit.
        error: ValueError,
    },
    /// The values break a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Why a text is not a value for a key.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The key holds a whole number.
    #[error("must be a whole number")]
    Number,
    /// The key holds a boolean.
    #[error("must be true or false")]
    Boolean,
    /// The key's own type refuses it.
    #[error("does not take this: {0}")]
    Type(String),
}

struct Hint<'a>(&'a Option<String>);

impl std::fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => f.write_str("; `towncrier config` lists all"),
        }
    }
}

/// All sources that may set a key, weakest first.
#[derive(Debug, Default)]
pub struct Sources {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// The process's environment. Only names with [`ENVIRONMENT_PREFIX`] and a double underscore are read.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`; a later flag overrides an earlier one.
    pub flags: Vec<String>,
}

impl Sources {
    /// The checked configuration. Its secrets are as configured, so they may be empty.
    pub fn load(self) -> Result<Config, LoadError> {
        let shape = shape();
        let mut table = shape.clone();
        if let Some(path) = &self.file {
            lay_over(&mut table, read_file(path, &shape)?);
        }
        for (name, value) in &self.environment {
            let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let key = key.to_lowercase();
            // A name of ours with a single underscore instead of two is an unknown key. The error says how it is spelt.
            if !key.contains(ENVIRONMENT_JOINT)
                && !keys(&shape).iter().any(|k| k.replace('.', "_") == key)
            {
                continue;
            }
            set(
                &mut table,
                &shape,
                name,
                &key.replace(ENVIRONMENT_JOINT, "."),
                value,
                &|key| {
                    let name = key.to_uppercase().replace('.', ENVIRONMENT_JOINT);
                    format!("{ENVIRONMENT_PREFIX}{name}")
                },
            )?;
        }
        for flag in &self.flags {
            let (key, value) = flag
                .split_once('=')
                .ok_or_else(|| LoadError::Flag(flag.clone()))?;
            set(
                &mut table,
                &shape,
                "--set",
                key.trim(),
                value,
                &str::to_owned,
            )?;
        }
        let config = table
            .try_into()
            .expect("each value was tried under its key");
        check::check(&config)?;
        check_auth(&config.auth)?;
        check_vendors(&config.push)?;
        webhooks::check(&config.webhooks, config.log.format)?;
        Ok(config)
    }
}

/// All keys with their default values. No secret has a default, so none is masked here.
fn shape() -> Table {
    Table::try_from(Config::default()).expect("the defaults are plain TOML values")
}

fn read_file(path: &Path, shape: &Table) -> Result<Table, LoadError> {
    let text = fs::read_to_string(path).map_err(|error| LoadError::Io {
        path: path.to_owned(),
        error,
    })?;
    let text = without_byte_order_mark(&text);
    let failed = |error| LoadError::File {
        path: path.to_owned(),
        error: Box::new(error),
    };
    let table: Table = toml::from_str(text).map_err(failed)?;
    let origin = path.display().to_string();
    if let Some(key) = unknown_in(&table, shape) {
        return Err(unknown_key(&origin, key, shape, &str::to_owned));
    }
    // The types are checked against the text, so that an error can show the line.
    toml::from_str::<Config>(text).map_err(failed)?;
    Ok(table)
}

/// The first key of a table that its shape does not have, with the sections around it.
fn unknown_in(table: &Table, shape: &Table) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let Some(known) = shape.get(key) else {
            return Some(key.clone());
        };
        if is_open(known) {
            return None;
        }
        // A section that is not a table, or a key that is one, is a type error. The parse of the whole reports it with its line.
        let below = unknown_in(value.as_table()?, known.as_table()?)?;
        Some(format!("{key}.{below}"))
    })
}

/// True for a section whose keys are names that the operator gives: it has none by default.
fn is_open(section: &Value) -> bool {
    section.as_table().is_some_and(Table::is_empty)
}

/// Editors on Windows put a byte order mark in front of a file, but TOML does not allow it.
pub(super) fn without_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Sets one `section.key` from text, or says why it cannot. `spell` writes a key as this source does. A section may have
/// sections below it.
fn set(
    table: &mut Table,
    shape: &Table,
    origin: &str,
    key: &str,
    text: &str,
    spell: &dyn Fn(&str) -> String,
) -> Result<(), LoadError> {
    let unknown = || unknown_key(origin, spell(key), shape, spell);
    let (sections, name) = key.rsplit_once('.').ok_or_else(unknown)?;
    let mut keys = &mut *table;
    for section in sections.split('.') {
        let below = keys.get_mut(section).and_then(Value::as_table_mut);
        keys = below.ok_or_else(unknown)?;
    }
    let known = sections.split('.').try_fold(shape, |known, section| {
        known.get(section).and_then(Value::as_table)
    });
    if known.is_some_and(Table::is_empty) && !keys.contains_key(name) {
        keys.insert(name.to_owned(), Value::Array(Vec::new()));
    }
    let slot = keys.get_mut(name).filter(|slot| !slot.is_table());
    let slot = slot.ok_or_else(unknown)?;
    let bad = |error| LoadError::Value {
        origin: origin.to_owned(),
        key: key.to_owned(),
        error,
    };
    let value = parse_like(slot, text).map_err(bad)?;
    *slot = value.clone();
    // The value is tried alone, so that an error can name its key and origin.
    let mut alone = Table::from_iter([(name.to_owned(), value)]);
    for section in sections.rsplit('.') {
        alone = Table::from_iter([(section.to_owned(), Value::Table(alone))]);
    }
    match alone.try_into::<Config>() {
        Ok(_) => Ok(()),
        Err(error) => Err(bad(ValueError::Type(error.message().to_owned()))),
    }
}

fn parse_like(slot: &Value, text: &str) -> Result<Value, ValueError> {
    match slot {
        Value::Integer(_) => text
            .trim()
            .parse()
            .map(Value::Integer)
            .map_err(|_| ValueError::Number),
        Value::Boolean(_) => text
            .trim()
            .parse()
            .map(Value::Boolean)
            .map_err(|_| ValueError::Boolean),
        Value::Array(_) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect::<Vec<_>>()
            .into()),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Every known `section.key`, also of sections below others.
fn keys(shape: &Table) -> Vec<String> {
    let keys = shape.iter().flat_map(|(name, value)| match value {
        Value::Table(below) => {
            let below = keys(below).into_iter();
            below.map(|key| format!("{name}.{key}")).collect()
        }
        _ => vec![name.clone()],
    });
    keys.collect()
}

fn unknown_key(
    origin: &str,
    key: String,
    shape: &Table,
    spell: &dyn Fn(&str) -> String,
) -> LoadError {
    let nearest = keys(shape)
        .into_iter()
        .chain(shape.keys().cloned())
        .map(|known| spell(&known))
        .map(|known| (strsim::jaro_winkler(&known, &key), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known);
    LoadError::Unknown {
        origin: origin.to_owned(),
        key,
        nearest,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ANNOTATED: &str = include_str!("../../config/towncrier.toml");

    fn load(
        file: Option<&str>,
        environment: &[(&str, &str)],
        flags: &[&str],
    ) -> Result<Config, LoadError> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("towncrier.toml");
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
        }
        Sources {
            file: file.map(|_| path),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        }
        .load()
    }

    #[test]
    fn a_section_within_a_section_is_set_from_every_source_and_its_keys_are_known() {
        let file = "[webhooks.before_send]\non_failure = \"allow\"\n";
        let environment = ("TOWNCRIER_WEBHOOKS__BEFORE_SEND__TIMEOUT", "2s");
        let config = load(
            Some(file),
            &[environment],
            &["webhooks.before_send.timeout=3s"],
        );
        let hook = config.unwrap().webhooks.before_send;
        assert_eq!(hook.on_failure, crate::config::OnFailure::Allow);
        assert_eq!(hook.timeout, Duration::from_secs(3));
        let misspelt = load(Some("[webhooks.before_send]\ntimout = 1\n"), &[], &[]);
        let refused = misspelt.unwrap_err().to_string();
        assert!(
            refused.contains("webhooks.before_send.timeout?"),
            "{refused}"
        );
        for flag in ["webhooks.before_send=x", "webhooks.url.x=y"] {
            let refused = load(None, &[], &[flag]).unwrap_err();
            assert!(matches!(refused, LoadError::Unknown { .. }), "{refused}");
        }
    }

    #[test]
    fn the_annotated_file_lists_every_key_with_its_default() {
        let listed: Table = toml::from_str(ANNOTATED).unwrap();
        assert_eq!(listed, shape());
        assert_eq!(load(Some(ANNOTATED), &[], &[]).unwrap(), Config::default());
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_defaults() {
        let file = "[delivery]\nwindow = 1\nresend_after = \"2s\"\nmessage_bytes_max = 2048\n";
        let environment = [
            ("TOWNCRIER_DELIVERY__WINDOW", "2"),
            ("TOWNCRIER_DELIVERY__RESEND_AFTER", "3s"),
            ("PATH", "/bin"),
            ("TOWNCRIER_LOG", "debug"),
        ];
        let config = load(Some(file), &environment, &["delivery.window=4"]).unwrap();
        assert_eq!(config.delivery.window, 4);
        assert_eq!(config.delivery.resend_after, Duration::from_secs(3));
        assert_eq!(config.delivery.message_bytes_max, 2048);
        assert_eq!(config.sessions, Config::default().sessions);
    }

    #[test]
    fn environment_reads_lists_addresses_and_names() {
        let config = load(
            None,
            &[
                ("TOWNCRIER_ADMIN__USER_IDS", "a, b"),
                ("TOWNCRIER_LISTENER__LISTEN", "127.0.0.1:0"),
                ("TOWNCRIER_DELIVERY__NEW_SESSION", "head"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(config.admin.user_ids, ["a", "b"]);
        assert_eq!(config.listener.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.delivery.new_session, crate::config::NewSession::Head);
    }

    #[test]
    fn a_key_of_a_section_below_another_is_set_by_every_source() {
        let file = "[push.jpush]\napp_key = \"file\"\nmaster_secret = \"s\"\n";
        let environment = [("TOWNCRIER_PUSH__JPUSH__MASTER_SECRET", "variable")];
        let config = load(
            Some(file),
            &environment,
            &["push.jpush.url=http://127.0.0.1:1"],
        );
        let jpush = config.unwrap().push.jpush;
        assert_eq!(
            (&*jpush.app_key, &*jpush.master_secret),
            ("file", "variable")
        );
        assert_eq!(jpush.url, "http://127.0.0.1:1");
        for unknown in [
            "push.jpush=a",
            "push.jpush.app=a",
            "push.apn.topic=a",
            "push.after.x=1s",
        ] {
            let refused = load(None, &[], &[unknown]);
            assert!(
                matches!(refused, Err(LoadError::Unknown { .. })),
                "{unknown}"
            );
        }
    }

    #[test]
    fn roles_are_given_by_name_and_only_to_administrators() {
        use crate::config::Role;
        let file =
            "[admin]\nuser_ids = [\"oa\", \"Desk\", \"x\"]\n[admin.roles]\nDesk = [\"read\"]\n";
        let variable = ("TOWNCRIER_ADMIN__ROLES__OA", "send,read");
        let config = load(Some(file), &[variable], &["admin.roles.x=operate"]).unwrap();
        let roles = &config.admin.roles;
        assert_eq!(roles["Desk"], [Role::Read]);
        assert_eq!(roles["oa"], [Role::Send, Role::Read]);
        assert_eq!(roles["x"], [Role::Operate]);
        for (flag, said) in [
            ("admin.roles.stranger=send", "not in admin.user_ids"),
            ("admin.roles.openIM123456=", "no role"),
            ("admin.roles.openIM123456=sender", "unknown variant"),
            ("admin.roles=send", "unknown key"),
        ] {
            let refused = load(None, &[], &[flag]).unwrap_err().to_string();
            assert!(refused.contains(said), "{flag}: {refused}");
        }
    }

    #[test]
    fn a_file_of_an_editor_on_windows_is_read() {
        let file = "\u{feff}[delivery]\r\nwindow = 7\r\n";
        assert_eq!(load(Some(file), &[], &[]).unwrap().delivery.window, 7);
    }

    #[test]
    fn a_flag_sets_every_key() {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items = items.iter().filter_map(Value::as_str);
                items.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        let value_of = |key: &str| {
            let whole = Value::Table(shape());
            key.split('.')
                .fold(whole, |value, name| value[name].clone())
        };
        let all = keys(&shape());
        assert!(all.contains(&"push.apns.key_file".to_owned()), "{all:?}");
        assert!(
            all.contains(&"webhooks.before_send.url".to_owned()),
            "{all:?}"
        );
        for key in all {
            let flag = format!("{key}={}", text(&value_of(&key)));
            assert_eq!(load(None, &[], &[&flag]).unwrap(), Config::default());
        }
        let off = load(None, &[], &["listener.inbox=false"]).unwrap();
        assert!(!off.listener.inbox);
        let refused = load(None, &[("TOWNCRIER_LISTENER__INBOX", "no")], &[]).unwrap_err();
        assert!(
            refused.to_string().contains("must be true or false"),
            "{refused}"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let nearest = |result: Result<Config, LoadError>| match result {
            Err(LoadError::Unknown { nearest, .. }) => nearest.unwrap_or_default(),
            other => panic!("expected an unknown key, got {other:?}"),
        };
        assert_eq!(
            nearest(load(Some("[delivery]\nwindwo = 1\n"), &[], &[])),
            "delivery.window"
        );
        assert_eq!(nearest(load(Some("[listner]\n"), &[], &[])), "listener");
        assert_eq!(
            nearest(load(None, &[], &["session.policy=1"])),
            "sessions.policy"
        );
        assert_eq!(
            nearest(load(None, &[("TOWNCRIER_LISTENER__LISTENS", "x")], &[])),
            "TOWNCRIER_LISTENER__LISTEN"
        );
        assert_eq!(
            nearest(load(None, &[("TOWNCRIER_LISTENER_LISTEN", "x")], &[])),
            "TOWNCRIER_LISTENER__LISTEN"
        );
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_place() {
        let text = |result: Result<Config, LoadError>| result.expect_err("refused").to_string();
        let from_file = text(load(Some("[delivery]\n\nwindow = \"many\"\n"), &[], &[]));
        assert!(from_file.contains("line 3"), "{from_file}");
        let from_flag = text(load(None, &[], &["delivery.window=many"]));
        assert!(
            from_flag.contains("delivery.window must be a whole number"),
            "{from_flag}"
        );
        let from_environment = text(load(None, &[("TOWNCRIER_DRAIN__PERIOD", "10")], &[]));
        assert!(
            from_environment.contains("TOWNCRIER_DRAIN__PERIOD")
                && from_environment.contains("not a duration"),
            "{from_environment}"
        );
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for flag in [
            "delivery.window=0",
            "sessions.policy=9",
            "auth.token_key=short",
        ] {
            let refused = load(None, &[], &[flag]);
            assert!(
                matches!(refused, Err(LoadError::Invalid(_))),
                "{flag}: {refused:?}"
            );
        }
        assert!(matches!(
            load(None, &[], &["delivery.window"]),
            Err(LoadError::Flag(_))
        ));
    }
}
