//! Certificates of a test's own: an authority, and certificates that it signs for 127.0.0.1.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;
use towncrier_client::Trust;

/// An authority, and the files of one port that it signs for.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, with a valid certificate in the files.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { dir, issuer };
        authority.sign(&authority.certificate(), &authority.key(), 2999);
        authority
    }

    /// Writes a certificate that is valid to the end of `year`, and its key.
    pub(crate) fn sign(&self, certificate: &Path, key: &Path, year: i32) {
        let key_pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let signed = params.signed_by(&key_pair, &self.issuer).unwrap();
        fs::write(certificate, signed.pem()).unwrap();
        fs::write(key, key_pair.serialize_pem()).unwrap();
    }

    /// The file that a client needs to trust it.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("port.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// Trusts only this authority.
    pub(crate) fn trust(&self) -> Trust {
        Trust::only(&self.ca()).unwrap()
    }

    /// The settings that make the port of this section, `listener` or `admin`, speak TLS.
    pub(crate) fn settings(&self, section: &str) -> [String; 2] {
        let (certificate, key) = (self.certificate(), self.key());
        [
            format!("{section}.tls_certificate={}", certificate.display()),
            format!("{section}.tls_key={}", key.display()),
        ]
    }
}
