//! The door for fuzzing: what `fuzz/` runs with coverage guidance for as long as one likes, and every test run on the
//! inputs in `fuzz/seeds/`. Not part of the program: it is there in tests, and where cargo-fuzz sets `cfg(fuzzing)`.
//!
//! Each target takes any bytes and panics when a promise is broken. It stands beside what it attacks:
//!
//! - `websocket`: a client's bytes against a connection (`connection/fuzzing.rs`)
//! - `frames`: a client's frames, and all else that happens to a session, against its machine (`session/fuzzing.rs`)
//! - `admin`: a body against a call of the admin API (`admin/fuzzing.rs`)
//! - `segments`, `recovery`: what stands in a log's files (`log/embedded/fuzzing.rs`)
//! - `rows`: what stands in the state store (`log/embedded/state/fuzzing.rs`)
//! - `config`: file, environment and flags, below

pub use crate::{
    admin::fuzzing::admin,
    connection::fuzzing::websocket,
    log::embedded::fuzzing::{recovery, rows, segments},
    session::fuzzing::frames,
};

use crate::config::Sources;

/// What fuzzing runs.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("websocket", websocket),
    ("frames", frames),
    ("admin", admin),
    ("segments", segments),
    ("recovery", recovery),
    ("rows", rows),
    ("config", config),
];

/// Reads an input from its front; of what is missing it makes zeros.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    /// Up to `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        self.0
            .split_off(..count.min(self.0.len()))
            .expect("as many")
    }

    /// Bytes behind their number in one byte.
    pub(crate) fn counted(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.bytes(count.into())
    }
}

/// A file, lines `NAME=value` of an environment, and lines of flags, with a zero byte between them: a configuration that
/// keeps its rules, or one error that says something.
pub fn config(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut lines = || {
        let part = String::from_utf8_lossy(parts.next().unwrap_or_default());
        part.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (file, environment, flags) = (lines().join("\n"), lines(), lines());
    let path = std::env::temp_dir().join(format!("towncrier-fuzzing-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("writes");
    let pair = |line: String| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let loaded = Sources {
        file: Some(path.clone()),
        environment: environment.into_iter().filter_map(pair).collect(),
        flags,
    }
    .load();
    let _ = std::fs::remove_file(path);
    match loaded {
        Ok(config) => {
            assert!(config.delivery.window >= 1);
            assert!(config.delivery.message_bytes_max <= config.admin.body_bytes_max);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_holds_on_its_seeds() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        for (name, target) in TARGETS {
            let mut count = 0;
            for seed in std::fs::read_dir(seeds.join(name)).unwrap() {
                let seed = seed.unwrap().path();
                // Shown when the target panics.
                println!("{}", seed.display());
                target(&std::fs::read(seed).unwrap());
                count += 1;
            }
            assert!(count > 0, "{name} has no seeds");
        }
    }
}
