//! TLS on a port: its certificate and key, in PEM files that may be replaced at any time.
//!
//! Promises: only TLS 1.2 and 1.3. Changed files are served within two seconds, to connections that come after that. Files
//! that cannot be used are named in the stderr log, and the old certificate stays in use. So an operator may safely replace the
//! two files one after the other: a key that does not fit its certificate is a file that cannot be used. The files' bytes
//! are compared and not their times, because links and mounted secrets do not keep times. A fault of the files is logged
//! once while it stays the same.
//!
//! - `flaw.rs`: the fault of a file, in words

mod flaw;

use std::{
    fmt, fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use self::flaw::Flaw;
use self::flaw::Wanted;

/// The interval between two reads of the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The bytes that rustls may buffer for a client that reads slowly: one record instead of 64 KiB. Further frames wait in
/// the outbox.
const UNSENT_BYTES_MAX: usize = 16 * 1024;

/// Why a port has no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// A file holds no certificate, or no private key, in PEM.
    #[error("{} {flaw}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The part that is missing or broken.
        flaw: Flaw,
    },
    /// The key belongs to another certificate.
    #[error(
        "{} is not the private key of the first certificate in {}", key.display(), certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate or the key has a kind that cannot be used.
    #[error(
        "{} and {} cannot be used: {error}. Use an RSA key of 2048 to 4096 bits, an ECDSA key on P-256 or P-384, or an Ed25519 \
         key (openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256), and a certificate for it",
        certificate.display(), key.display()
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The library's error.
        error: rustls::Error,
    },
    /// The library cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A port's TLS. Cheap to clone; clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    certificate: Arc<Certificate>,
    acceptor: TlsAcceptor,
}

/// The certificate served now, and the files that it came from.
struct Certificate {
    files: TlsFiles,
    served: RwLock<Arc<CertifiedKey>>,
    /// The content of the files at the last read, usable or not, or why they could not be read. With it each fault is
    /// logged only once.
    seen: Mutex<Result<Pair, String>>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// The content of the two files.
#[derive(PartialEq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads the files of a port; `None` if the configuration names none: the port then speaks plain text.
    pub fn load(certificate: &Path, key: &Path) -> Result<Option<Self>, TlsError> {
        if certificate.as_os_str().is_empty() {
            return Ok(None);
        }
        let files = TlsFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let provider = Arc::new(ring::default_provider());
        let pair = files.read()?;
        let served = files.parse(&pair, &provider)?;
        let certificate = Arc::new(Certificate {
            files,
            served: RwLock::new(Arc::new(served)),
            seen: Mutex::new(Ok(pair)),
            provider: Arc::clone(&provider),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        // A client that returns resumes without the expensive half of a handshake. The gateway stores nothing for it.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Some(Self {
            certificate,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }))
    }

    /// Does the handshake. It has no deadline of its own. Cancel safe: a drop closes the stream.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let narrow = |session: &mut rustls::ServerConnection| {
            session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        };
        self.acceptor.accept_with(stream, narrow).await
    }
}

/// Watches the files of these ports and serves their content. Never returns. Cancel safe: it waits only between two looks.
pub async fn follow(ports: Vec<Tls>) {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        // These are two small files, read on a thread with no other work. A panic in the parser must not stop the later
        // reads.
        for port in &ports {
            let _ = catch_unwind(AssertUnwindSafe(|| port.certificate.look()));
        }
    }
}

impl Certificate {
    /// Serves the files' content, if it changed and can be used. Returns true if there was something to log.
    fn look(&self) -> bool {
        let in_words = |error: TlsError| error.to_string();
        let read = self.files.read().map_err(in_words);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if read == *seen {
            return false;
        }
        let parsed = read.as_ref().map_err(Clone::clone);
        let parsed =
            parsed.and_then(|pair| self.files.parse(pair, &self.provider).map_err(in_words));
        *seen = read;
        let path = self.files.certificate.display();
        match parsed {
            Ok(served) => {
                *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
                tracing::info!(%path, "a new certificate is served");
            }
            Err(error) => {
                tracing::error!(%path, %error, "the certificate changed and cannot be used: the one before is served");
            }
        }
        true
    }
}

impl fmt::Debug for Certificate {
    /// Shows the files' paths, and nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&served))
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Pair, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| TlsError::Read {
                path: path.to_owned(),
                error,
            })
        };
        Ok(Pair {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }

    fn parse(&self, pair: &Pair, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let [certificate, key] = [&pair.certificate, &pair.key].map(|bytes| {
            // Editors on Windows put a byte order mark in front. The reader would take it for a part of the first line.
            bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
        });
        let broken = |path: &Path, flaw| TlsError::Pem {
            path: path.to_owned(),
            flaw,
        };
        for (path, contents) in [(&self.certificate, certificate), (&self.key, key)] {
            if let Some(flaw) = Flaw::of_layout(contents) {
                return Err(broken(path, flaw));
            }
        }
        let no_certificate = |error| {
            let flaw = Flaw::of(certificate, Wanted::Certificate, &error);
            broken(&self.certificate, flaw)
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(no_certificate)?;
        if chain.is_empty() {
            return Err(no_certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| broken(&self.key, Flaw::of(key, Wanted::Key, &error)))?;
        let certificate = self.certificate.clone();
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                certificate,
                key: self.key.clone(),
            },
            error => TlsError::Pair {
                certificate,
                key: self.key.clone(),
                error,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use futures_util::FutureExt as _;
    use tempfile::TempDir;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    struct Port {
        dir: TempDir,
        tls: Tls,
    }

    impl Port {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (certificate, key) = made();
            fs::write(dir.path().join("certificate"), certificate).unwrap();
            fs::write(dir.path().join("key"), key).unwrap();
            let tls = Tls::load(&dir.path().join("certificate"), &dir.path().join("key"));
            let tls = tls.unwrap().expect("named");
            Self { dir, tls }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
            self.tls.certificate.look();
        }

        /// The first certificate of the chain that is served.
        fn served(&self) -> Vec<u8> {
            let served = self.tls.certificate.served.read().unwrap();
            served.cert[0].to_vec()
        }
    }

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// A private key of a kind that cannot be served: RFC 8410 section 7, for Ed448.
    fn ed448() -> String {
        let mut der = vec![0x30, 0x47, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x71];
        der.extend([4, 0x3b, 4, 0x39]);
        der.extend([7; 57]);
        let text = base64::prelude::BASE64_STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    fn der(pem: &str) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem.as_bytes())
            .unwrap()
            .to_vec()
    }

    #[test]
    fn a_new_pair_is_served_once_both_files_are_there() {
        let port = Port::new();
        let before = port.served();
        let (certificate, key) = made();
        port.write("certificate", &certificate);
        assert_eq!(port.served(), before, "the key is still the old one");
        port.write("key", &key);
        assert_eq!(port.served(), der(&certificate));
    }

    #[tokio::test(start_paused = true)]
    async fn replaced_files_are_served_after_the_next_look() {
        let port = Port::new();
        let before = port.served();
        let following = tokio::spawn(follow(vec![port.tls.clone()]));
        // The first look comes at once.
        tokio::time::sleep(LOOK_INTERVAL / 2).await;
        let (certificate, key) = made();
        for (name, text) in [("certificate", &certificate), ("key", &key)] {
            fs::write(port.dir.path().join(name), text).unwrap();
        }
        assert_eq!(port.served(), before);
        tokio::time::sleep(LOOK_INTERVAL).await;
        assert_eq!(port.served(), der(&certificate));
        following.abort();
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_leaves_a_bounded_number_of_bytes_with_tls() {
        const PIPE_BYTES: usize = 1024;
        let port = Port::new();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(port.served().into()).unwrap();
        let provider = Arc::clone(&port.tls.certificate.provider);
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = tokio_rustls::TlsConnector::from(Arc::new(client));
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let connecting = client.connect("localhost".try_into().unwrap(), theirs);
        let (ours, theirs) = tokio::join!(port.tls.accept(ours), connecting);
        let (mut ours, _theirs) = (ours.unwrap(), theirs.unwrap());
        let mut taken = 0;
        // The client takes nothing, so the first write that has no room waits for ever.
        while let Some(written) = ours.write(&[0; 512]).now_or_never() {
            taken += written.unwrap();
        }
        assert!(taken >= UNSENT_BYTES_MAX / 2, "{taken}");
        assert!(taken <= UNSENT_BYTES_MAX + PIPE_BYTES, "{taken}");
    }

    #[test]
    fn files_that_cannot_be_used_leave_the_old_certificate_served() {
        let port = Port::new();
        let before = port.served();
        let (certificate, key) = made();
        for broken in ["", "no PEM", &certificate[..100], &key] {
            port.write("certificate", broken);
            assert_eq!(port.served(), before, "{broken:?}");
        }
        fs::remove_file(port.dir.path().join("certificate")).unwrap();
        port.tls.certificate.look();
        assert_eq!(port.served(), before);
        assert!(
            !port.tls.certificate.look(),
            "the same trouble is told once"
        );
        port.write("key", &key);
        port.write("certificate", &certificate);
        assert_eq!(port.served(), der(&certificate));
    }

    #[test]
    fn a_port_with_unusable_files_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let (at, key_at) = (dir.path().join("certificate"), dir.path().join("key"));
        let load = || match Tls::load(&at, &key_at) {
            Ok(_) => panic!("loaded"),
            Err(error) => error,
        };
        assert!(matches!(load(), TlsError::Read { .. }));
        let (certificate, key) = made();
        let (_, other_key) = made();
        fs::write(&at, &key).unwrap();
        fs::write(&key_at, &key).unwrap();
        assert!(matches!(load(), TlsError::Pem { .. }));
        fs::write(&at, &certificate).unwrap();
        fs::write(&key_at, &certificate).unwrap();
        assert!(matches!(load(), TlsError::Pem { .. }));
        fs::write(&key_at, &other_key).unwrap();
        assert!(matches!(load(), TlsError::Mismatch { .. }));
        fs::write(&key_at, ed448()).unwrap();
        let error = load();
        assert!(matches!(error, TlsError::Pair { .. }));
        assert!(error.to_string().contains("P-256"), "{error}");
        fs::write(&key_at, key.replace("-----BEGIN", " -----BEGIN")).unwrap();
        let error = load().to_string();
        assert!(error.contains("key has white space before"), "{error}");
        let with_mark = |text: &str| format!("\u{feff}{text}");
        fs::write(&at, with_mark(&certificate)).unwrap();
        fs::write(&key_at, with_mark(&key)).unwrap();
        assert!(Tls::load(&at, &key_at).is_ok());
        assert!(Tls::load(Path::new(""), Path::new("")).unwrap().is_none());
    }
}
