//! The place of a company's keys.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use hyper::{Request, StatusCode, Uri, header::ACCEPT};
use rustix::fs::OFlags;
use towncrier_client::Trust;

use super::{FILE_INTERVAL, LOOK_TIMEOUT};
use crate::{
    config,
    outbound::{CallError, Outbound, Reach, SHORT_IDLE_TIMEOUT},
    token::{KEY_SET_BYTES_MAX, KeySet, KeySetFault},
};

/// Why the keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceFault {
    /// The file cannot be read.
    #[error("auth.jwks_file: {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The address gave no answer.
    #[error("auth.jwks_url: {0}")]
    Call(CallError),
    /// The address gave another answer than 200.
    #[error("auth.jwks_url: the answer is {0}")]
    Status(StatusCode),
    /// The text is no set of keys.
    #[error("the keys of the company's login: {0}")]
    Set(#[from] KeySetFault),
}

/// The place of the keys, and what was read there last.
pub struct KeySource {
    place: KeysPlace,
    interval: Duration,
    /// The last good text. An empty one is no set.
    read: Bytes,
}

enum KeysPlace {
    File(PathBuf),
    Url { uri: Uri, outbound: Box<Outbound> },
}

impl KeySource {
    /// The place that the configuration names, if it names one. A file is read once, so that a start with a bad one fails.
    pub fn open(config: &config::Auth, trust: &Trust) -> Result<Option<Self>, KeySourceFault> {
        let (place, interval) = if !config.jwks_file.as_os_str().is_empty() {
            KeySet::decode(&read_file(&config.jwks_file)?)?;
            (KeysPlace::File(config.jwks_file.clone()), FILE_INTERVAL)
        } else if !config.jwks_url.is_empty() {
            let place = KeysPlace::Url {
                uri: config.jwks_url.parse().unwrap_or_default(),
                outbound: Box::new(Outbound::new(trust, Reach::Anywhere, SHORT_IDLE_TIMEOUT)),
            };
            (place, config.jwks_interval)
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            place,
            interval,
            read: Bytes::new(),
        }))
    }

    /// The time between two looks.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Reads the keys; `None` if they are the same as before.
    pub(super) async fn look(&mut self) -> Result<Option<KeySet>, KeySourceFault> {
        let text = match &self.place {
            // A small file, read on a thread with little other work.
            KeysPlace::File(path) => read_file(path)?,
            KeysPlace::Url { uri, outbound } => ask(outbound, uri.clone()).await?,
        };
        if text == self.read {
            return Ok(None);
        }
        let set = KeySet::decode(&text)?;
        self.read = text;
        Ok(Some(set))
    }
}

fn read_file(path: &PathBuf) -> Result<Bytes, KeySourceFault> {
    let read = || {
        // The open of a FIFO waits for no writer, and then the FIFO is refused.
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32);
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut text = Vec::new();
        // One byte more than a set may have tells a set that is too large.
        let bytes_max = KEY_SET_BYTES_MAX as u64 + 1;
        file.take(bytes_max).read_to_end(&mut text)?;
        io::Result::Ok(text.into())
    };
    read().map_err(|error| KeySourceFault::File {
        path: path.clone(),
        error,
    })
}

async fn ask(outbound: &Outbound, uri: Uri) -> Result<Bytes, KeySourceFault> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    let accepted = "application/jwk-set+json, application/json";
    let accepted = hyper::header::HeaderValue::from_static(accepted);
    request.headers_mut().insert(ACCEPT, accepted);
    let answer = outbound.call(request, LOOK_TIMEOUT).await;
    let answer = answer.map_err(KeySourceFault::Call)?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(KeySourceFault::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changed_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let config = config::Auth {
            jwks_file: path.clone(),
            ..config::Auth::default()
        };
        let open = || KeySource::open(&config, &Trust::default());
        assert!(matches!(open(), Err(KeySourceFault::File { .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(open(), Err(KeySourceFault::Set(_))));
        std::fs::write(&path, r#"{"keys":[]}"#).unwrap();
        let mut source = open().unwrap().unwrap();
        assert!(source.look().await.unwrap().is_some());
        assert!(source.look().await.unwrap().is_none());
        std::fs::write(&path, r#"{"keys":[{}]}"#).unwrap();
        let set = source.look().await.unwrap().unwrap();
        assert_eq!(set.passed_over().len(), 1);
        std::fs::write(&path, vec![b' '; KEY_SET_BYTES_MAX + 1]).unwrap();
        assert!(matches!(source.look().await, Err(KeySourceFault::Set(_))));
        std::fs::write(&path, r#"{"keys":[{}]}"#).unwrap();
        assert!(source.look().await.unwrap().is_none(), "as before");
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let refused = source.look().await.unwrap_err().to_string();
        assert!(refused.contains("no regular file"), "{refused}");
    }
}
