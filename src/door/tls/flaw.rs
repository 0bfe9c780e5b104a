//! The fault of a file that holds no usable certificate or private key, in words.
//!
//! The PEM reader skips everything that it was not asked for, and then says that nothing is there. In practice there are a
//! few faults, and each has its own remedy. This module tells them apart by the file's bytes. No text shows any part of a
//! key.

use rustls::pki_types::pem;

/// The beginning of a section in PEM.
const BEGIN: &str = "-----BEGIN ";

/// The content that a file should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Certificate,
    Key,
}

/// Why the file does not have it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// The binary forms.
    #[error("is not PEM but DER or PKCS#12: convert it with openssl x509, pkey or pkcs12")]
    Binary,
    /// Saved by an editor on Windows.
    #[error("is UTF-16 text: save it as UTF-8")]
    Utf16,
    /// A key with a passphrase, which nobody can type here.
    #[error("is a private key with a passphrase: take it off with openssl pkey -in OLD -out NEW")]
    Encrypted,
    /// The key's file was given as the certificate.
    #[error("holds a private key and no certificate: the two files may be swapped")]
    NoCertificate,
    /// The certificate's file was given as the key.
    #[error("holds a certificate and no private key: the two files may be swapped")]
    NoKey,
    /// Something else in PEM; the name of its first section.
    #[error("holds a {0}, which is neither a certificate nor a private key")]
    Other(String),
    /// No section at all.
    #[error("is no PEM: no line begins with {BEGIN}")]
    NoPem,
    /// Copied from an indented document. The reader passes over such a section.
    #[error("has white space before -----BEGIN or -----END: begin each line at the left edge")]
    Indented,
    /// A section has no end.
    #[error("is cut short: a section has no line -----END")]
    CutShort,
    /// A section is damaged.
    #[error("is damaged: what stands between -----BEGIN and -----END is no base64")]
    Damaged,
}

impl Flaw {
    /// The fault that the reader does not report, because it passes over an indented section.
    pub(super) fn of_layout(contents: &[u8]) -> Option<Self> {
        let is_indented = |line: &[u8]| {
            let text = line.trim_ascii_start();
            text.len() < line.len()
                && (text.starts_with(b"-----BEGIN ") || text.starts_with(b"-----END "))
        };
        let mut lines = contents.split(|byte| matches!(byte, b'\n' | b'\r'));
        lines.any(is_indented).then_some(Self::Indented)
    }

    /// The fault of a file with these contents, after the reader found nothing wanted, or failed.
    pub(super) fn of(contents: &[u8], wanted: Wanted, error: &pem::Error) -> Self {
        if contents.starts_with(&[0xff, 0xfe]) || contents.starts_with(&[0xfe, 0xff]) {
            return Self::Utf16;
        }
        // An ASN.1 sequence with a length of two bytes. No text begins with these bytes.
        if contents.starts_with(&[0x30, 0x82]) || contents.starts_with(&[0x30, 0x80]) {
            return Self::Binary;
        }
        let text = String::from_utf8_lossy(contents);
        let sections = text.split(BEGIN).skip(1);
        let mut names = sections.map(|section| section.split("-----").next().unwrap_or_default());
        let is_key = |name: &str| name.ends_with("PRIVATE KEY");
        // The older form names the cipher inside the section.
        let is_encrypted =
            text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
        if wanted == Wanted::Key && is_encrypted {
            return Self::Encrypted;
        }
        match error {
            pem::Error::MissingSectionEnd { .. } => return Self::CutShort,
            pem::Error::NoItemsFound => {}
            _ => return Self::Damaged,
        }
        match names.next() {
            None if text.trim().is_empty() => Self::Empty,
            None => Self::NoPem,
            Some(name) if wanted == Wanted::Certificate && is_key(name) => Self::NoCertificate,
            Some("CERTIFICATE") if wanted == Wanted::Key => Self::NoKey,
            Some(name) => Self::Other(name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    use super::*;

    fn flaw(contents: &[u8], wanted: Wanted) -> Flaw {
        let error = match wanted {
            Wanted::Certificate => CertificateDer::from_pem_slice(contents).map(drop),
            Wanted::Key => PrivateKeyDer::from_pem_slice(contents).map(drop),
        };
        Flaw::of(contents, wanted, &error.expect_err("it cannot be used"))
    }

    #[test]
    fn each_trouble_has_its_own_word() {
        use Wanted::{Certificate, Key};
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let section = |name: &str| format!("-----BEGIN {name}-----\nAAAA\n-----END {name}-----\n");
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
                     AAAA\n-----END RSA PRIVATE KEY-----\n";
        let utf16: Vec<u8> = "\u{feff}a"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (contents, wanted, expected) in [
            (&b" \n"[..], Certificate, Flaw::Empty),
            (b"no PEM", Key, Flaw::NoPem),
            (made.cert.der(), Certificate, Flaw::Binary),
            (&utf16, Certificate, Flaw::Utf16),
            (key.as_bytes(), Certificate, Flaw::NoCertificate),
            (certificate.as_bytes(), Key, Flaw::NoKey),
            (
                section("ENCRYPTED PRIVATE KEY").as_bytes(),
                Key,
                Flaw::Encrypted,
            ),
            (older.as_bytes(), Key, Flaw::Encrypted),
            (
                section("CERTIFICATE REQUEST").as_bytes(),
                Certificate,
                Flaw::Other("CERTIFICATE REQUEST".into()),
            ),
            (
                section("OPENSSH PRIVATE KEY").as_bytes(),
                Key,
                Flaw::Other("OPENSSH PRIVATE KEY".into()),
            ),
            (&certificate.as_bytes()[..100], Certificate, Flaw::CutShort),
            (
                section("CERTIFICATE").replace("AAAA", "?").as_bytes(),
                Certificate,
                Flaw::Damaged,
            ),
        ] {
            let shown = String::from_utf8_lossy(contents);
            assert_eq!(flaw(contents, wanted), expected, "{shown}");
        }
    }

    #[test]
    fn an_indented_section_is_found_wherever_it_stands() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let indented = certificate.replace("-----BEGIN", "  -----BEGIN");
        let tab = certificate.replace("-----END", "\t-----END");
        for text in [&indented, &tab, &(certificate.clone() + &indented)] {
            assert_eq!(
                Flaw::of_layout(text.as_bytes()),
                Some(Flaw::Indented),
                "{text}"
            );
        }
        // `openssl x509 -text` writes indented lines before the section.
        let explained = format!("Certificate:\n    Data:\r\n        Version: 3\n{certificate}");
        assert_eq!(Flaw::of_layout(explained.as_bytes()), None);
    }
}
