//! TLS to the servers, as libpq means `sslmode` and `sslrootcert` of the URL.
//!
//! `prefer`, the default, and `require` encrypt and check no certificate. `verify-ca` checks that the certificates in the file of
//! `sslrootcert` have signed it. `verify-full` checks the server's name as well; without `sslrootcert`, or with `system`, the
//! certificates that this machine trusts count. `require` with `sslrootcert` is `verify-ca`. A connection over a socket of the
//! file system has no TLS. Leaves to others: client certificates and channel binding, which are not used.

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, ring, verify_tls12_signature as verify_tls12,
        verify_tls13_signature as verify_tls13,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Config, Socket,
    config::SslMode,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::{TlsConnector, client};
use towncrier_client::Trust;

use super::super::engine::EngineError;

/// The parameters of the URL that are read here.
const MODE: &str = "sslmode";
const ROOTS: &str = "sslrootcert";
/// The word for the certificates that this machine trusts.
const SYSTEM: &str = "system";

/// Reads a URL of servers, and the way to encrypt connections to them.
pub(super) fn read(url: &str) -> Result<(Config, StoreTls), EngineError> {
    let refused = |text: String| EngineError::Refused(text.into());
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut roots, mut others) = ("prefer".to_owned(), None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some((MODE, value)) => mode = decoded(value),
            Some((ROOTS, value)) => roots = Some(decoded(value)),
            _ => others.push(pair),
        }
    }
    let rest = match others.is_empty() {
        true => place.to_owned(),
        false => format!("{place}?{}", others.join("&")),
    };
    let config: Result<Config, _> = rest.parse();
    // These texts have no value of the URL, which may hold a password. The source names the parameter.
    let mut config = config.map_err(|error| {
        let reason = std::error::Error::source(&error)
            .map_or_else(String::new, |source| format!(": {source}"));
        refused(format!("log.store: {error}{reason}"))
    })?;
    let roots = roots.as_deref();
    let ssl_mode = match &*mode {
        "disable" => SslMode::Disable,
        "prefer" => SslMode::Prefer,
        "require" | "verify-ca" | "verify-full" => SslMode::Require,
        unknown => {
            let known = "disable, prefer, require, verify-ca and verify-full";
            let text = format!("sslmode={unknown} in log.store is unknown: the modes are {known}");
            return Err(refused(text));
        }
    };
    config.ssl_mode(ssl_mode);
    let file = roots.filter(|roots| *roots != SYSTEM).map(Path::new);
    let client = match (&*mode, file) {
        ("verify-full", Some(file)) => Trust::only(file).map(|trust| trust.config()),
        ("verify-full", None) => Ok(Trust::default().config()),
        ("require" | "verify-ca", Some(file)) => {
            let chain = chain_of(file).map_err(|text| {
                refused(format!(
                    "sslrootcert in log.store: {}: {text}",
                    file.display()
                ))
            })?;
            Ok(lax(Some(chain)))
        }
        ("verify-ca", None) => {
            let text = "sslmode=verify-ca in log.store needs sslrootcert, the file of the certificates that are trusted";
            return Err(refused(text.into()));
        }
        _ => Ok(lax(None)),
    };
    let client = client.map_err(|error| refused(format!("sslrootcert in log.store: {error}")))?;
    Ok((config, StoreTls(client)))
}

/// A value of a URL without its percent signs.
fn decoded(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Checks that one of the certificates in a file has signed a server's.
fn chain_of(file: &Path) -> Result<Arc<WebPkiServerVerifier>, String> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
    verifier.build().map_err(|error| error.to_string())
}

/// Settings that check no name, and the chain only if there is one.
fn lax(chain: Option<Arc<WebPkiServerVerifier>>) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = LaxVerifier {
        chain,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Arc::new(config)
}

/// Checks less of a server's certificate than rustls does, because the URL says so.
#[derive(Debug)]
struct LaxVerifier {
    /// `None`: every certificate is taken.
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for LaxVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(certificate, between, name, stapled, now) {
            // The name is checked after everything else.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Encrypts connections with rustls.
#[derive(Clone)]
pub(super) struct StoreTls(Arc<ClientConfig>);

impl MakeTlsConnect<Socket> for StoreTls {
    type Stream = StoreStream;
    type TlsConnect = StoreHandshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<StoreHandshake, io::Error> {
        // The host of a connection without TLS is a path, and no name.
        let name = ServerName::try_from(host.to_owned()).ok();
        Ok(StoreHandshake {
            config: Arc::clone(&self.0),
            name,
        })
    }
}

/// The handshake with one server.
pub(super) struct StoreHandshake {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl TlsConnect<Socket> for StoreHandshake {
    type Stream = StoreStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<StoreStream, io::Error>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let nameless = || io::Error::other("the host is no name that a certificate may have");
            let name = self.name.ok_or_else(nameless)?;
            let stream = TlsConnector::from(self.config)
                .connect(name, socket)
                .await?;
            Ok(StoreStream(stream))
        })
    }
}

/// An encrypted connection.
pub(super) struct StoreStream(client::TlsStream<Socket>);

impl TlsStream for StoreStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for StoreStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for StoreStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(query: &str) -> Result<SslMode, String> {
        let read = read(&format!("postgres://me:word@host/db?{query}"));
        let read = read.map_err(|error| error.to_string());
        read.map(|(config, _)| config.get_ssl_mode())
    }

    #[test]
    fn each_mode_of_libpq_is_known_and_another_is_refused_by_its_name() {
        assert_eq!(mode_of(""), Ok(SslMode::Prefer));
        assert_eq!(mode_of("sslmode=disable"), Ok(SslMode::Disable));
        assert_eq!(mode_of("sslmode=require"), Ok(SslMode::Require));
        assert_eq!(mode_of("sslmode=verify-full"), Ok(SslMode::Require));
        let system = "connect_timeout=3&sslmode=verify-full&sslrootcert=system";
        assert_eq!(mode_of(system), Ok(SslMode::Require));
        for (query, named) in [
            ("sslmode=allow", "sslmode=allow"),
            ("sslmode=verify-ca", "sslrootcert"),
            ("sslmode=verify-ca&sslrootcert=%2Fno%2Ffile", "/no/file"),
            ("sslmode=verify-full&sslrootcert=/no/file", "/no/file"),
            ("sslcert=me.pem", "sslcert"),
        ] {
            let refused = mode_of(query).unwrap_err();
            assert!(refused.contains(named), "{query}: {refused}");
            assert!(!refused.contains("word"), "{refused}");
        }
    }
}
