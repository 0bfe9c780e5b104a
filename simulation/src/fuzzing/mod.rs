//! The entry points for fuzzing. `fuzz/` runs them with coverage guidance, for any length of time; every test run runs them
//! on the inputs in `fuzz/seeds/`.
//!
//! Each target takes any bytes and panics if a promise is broken:
//!
//! - `websocket`: a client's bytes against a reactor (`websocket.rs`)
//! - `frames`: a client's frames, and all other events of a session, against its machine (`frames.rs`)
//! - `proxy`: a proxy's bytes before those of its client (`proxy.rs`)
//! - `admin`: a body against a call of the admin API (`admin.rs`)
//! - `segments`, `recovery`: the content of a log's files (`log.rs`)
//! - `openim_gob`, `openim_json`, `openim_gzip`: the requests of an OpenIM client in each encoding (`openim.rs`)
//! - `rows`: the content of the state store (`rows.rs`)
//! - `calls`: texts of other systems (`calls.rs`)
//! - `login_keys`: the keys of a company's own login (`login_keys.rs`)
//! - `mesh`: the bytes of a link between gateways (`mesh.rs`)
//! - `config`: file, environment and flags, below

mod admin;
mod calls;
mod frames;
mod log;
mod login_keys;
mod mesh;
mod openim;
mod proxy;
mod rows;
mod websocket;

use tokio::runtime::{Builder, Runtime};
use towncrier::config::Sources;

pub use self::{
    admin::admin,
    calls::calls,
    frames::frames,
    log::{recovery, segments},
    login_keys::login_keys,
    mesh::mesh,
    openim::{openim_gob, openim_gzip, openim_json},
    proxy::proxy,
    rows::rows,
    websocket::websocket,
};

/// A fuzzing target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("websocket", websocket),
    ("frames", frames),
    ("openim_gob", openim_gob),
    ("openim_json", openim_json),
    ("openim_gzip", openim_gzip),
    ("proxy", proxy),
    ("admin", admin),
    ("segments", segments),
    ("recovery", recovery),
    ("rows", rows),
    ("calls", calls),
    ("login_keys", login_keys),
    ("mesh", mesh),
    ("config", config),
];

/// A runtime on a paused clock, so that nothing takes time.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    let builder = builder.enable_time().start_paused(true);
    builder
        .build()
        .expect("a runtime without I/O always starts")
}

/// Reads an input from its front. Missing bytes count as zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    /// Up to `count` bytes.
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        self.0
            .split_off(..count.min(self.0.len()))
            .expect("as many")
    }

    /// Bytes that follow their count, which is one byte.
    fn counted(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.bytes(count.into())
    }
}

/// `data` is a file, lines `NAME=value` of an environment, and lines of flags, separated by zero bytes. The result is a
/// configuration that keeps its rules, or one error with a text.
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
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        for (name, target) in TARGETS {
            let mut count = 0;
            for seed in std::fs::read_dir(seeds.join(name)).unwrap() {
                let seed = seed.unwrap().path();
                // The test shows this line when the target panics.
                println!("{}", seed.display());
                target(&std::fs::read(seed).unwrap());
                count += 1;
            }
            assert!(count > 0, "{name} has no seeds");
        }
    }
}
