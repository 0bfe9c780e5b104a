//! The certificates that a client trusts, if the URL says `wss://` or `https://`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};

/// The certificates that must have signed a gateway's certificate. The default is what this machine trusts, read when it is
/// first needed. Cheap to clone; clones share the certificates that were read.
#[derive(Debug, Clone, Default)]
pub struct Trust(Arc<OnceLock<Arc<ClientConfig>>>);

/// Why a file gives no trusted certificate.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read, or holds no certificate in PEM.
    #[error("{}: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The operating system's error, or the part that is missing or broken.
        error: pem::Error,
    },
    /// A certificate in it cannot be used.
    #[error("{}: {error}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: rustls::Error,
    },
}

impl Trust {
    /// Trusts only certificates that the certificates in this PEM file have signed.
    pub fn only(path: &Path) -> Result<Self, TrustError> {
        let broken = |error| TrustError::Pem {
            path: path.to_owned(),
            error,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(broken)? {
            let added = roots.add(certificate.map_err(broken)?);
            added.map_err(|error| TrustError::Certificate {
                path: path.to_owned(),
                error,
            })?;
        }
        if roots.is_empty() {
            return Err(broken(pem::Error::NoItemsFound));
        }
        Ok(Self(Arc::new(OnceLock::from(configure(roots)))))
    }

    /// Trusts nothing, for a connector that needs no TLS.
    pub(crate) fn nobody() -> Arc<ClientConfig> {
        configure(RootCertStore::empty())
    }

    /// The settings for rustls, with ring, without client certificates and without protocols for ALPN.
    pub fn config(&self) -> Arc<ClientConfig> {
        let of_machine = || {
            let mut roots = RootCertStore::empty();
            // Certificates that cannot be read or used are not trusted. A handshake that needs one fails, and the error
            // says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            configure(roots)
        };
        Arc::clone(self.0.get_or_init(of_machine))
    }
}

fn configure(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let missing = Trust::only(&path).unwrap_err();
        assert!(missing.to_string().contains("ca.pem"), "{missing}");
        fs::write(&path, "no PEM").unwrap();
        let error = Trust::only(&path).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
        fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        let error = Trust::only(&path).unwrap_err();
        assert!(matches!(error, TrustError::Certificate { .. }), "{error}");
    }
}
