//! The key of Web Push: the gateway signs with it, and browsers make their subscriptions for its public half.
//!
//! The first start with `push.webpush` writes it to the data directory, whole and with mode 0600, as the secrets. Whoever loses
//! it loses every subscription: a browser's service takes only the key that a subscription was made for.

use std::path::PathBuf;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use super::{
    Config, SecretsError,
    secrets::{create, offered, read_private},
};

/// The file of the key in the data directory: a private key on P-256 in PEM (PKCS#8).
pub const WEBPUSH_KEY_FILE: &str = "webpush_key.pem";
/// The characters of a line in PEM.
const PEM_COLUMNS: usize = 64;

/// The key of Web Push. No print shows it.
#[derive(Clone)]
pub struct WebPushKey {
    /// PKCS#8.
    pub pkcs8: Vec<u8>,
    /// The public half for browsers, their `applicationServerKey`: the uncompressed point in base64url.
    pub public: String,
}

impl Config {
    /// The key of Web Push; `None` if Web Push is not in use. The first start writes a random one to the data directory.
    pub fn read_or_create_webpush_key(&self) -> Result<Option<WebPushKey>, SecretsError> {
        if self.push.webpush.subject.is_empty() {
            return Ok(None);
        }
        let path = self.webpush_key_path();
        create(&self.log.dir, &path, random_pem)?;
        let (pem, _) = read_private(&path)?;
        let key = WebPushKey::from_pem(&pem);
        key.map(Some).ok_or(SecretsError::NoKey(path))
    }

    /// The text that the store keeps if it has no key yet: that of the data directory's file, else a random one. `None` if Web
    /// Push is not in use.
    pub fn offered_webpush_key(&self) -> Result<Option<String>, SecretsError> {
        if self.push.webpush.subject.is_empty() {
            return Ok(None);
        }
        offered(&self.webpush_key_path(), random_pem).map(Some)
    }

    /// The path of the file with the key of Web Push.
    pub fn webpush_key_path(&self) -> PathBuf {
        self.log.dir.join(WEBPUSH_KEY_FILE)
    }
}

impl WebPushKey {
    /// The key in this PEM; `None` if it is none on P-256.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        Self::new(der.secret_pkcs8_der())
    }

    /// The key in this PKCS#8; `None` if it is none on P-256.
    pub fn new(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random);
        Some(Self {
            pkcs8: pkcs8.to_vec(),
            public: BASE64_URL_SAFE_NO_PAD.encode(pair.ok()?.public_key()),
        })
    }
}

fn random_pem() -> String {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        .expect("the system has random numbers");
    let text = BASE64_STANDARD.encode(pkcs8);
    let lines = text
        .as_bytes()
        .chunks(PEM_COLUMNS)
        .map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn config_in(dir: &Path) -> Config {
        let mut config = Config::default();
        config.log.dir = dir.join("data");
        config.push.webpush.subject = "mailto:office@oa.example".into();
        config
    }

    #[test]
    fn the_first_start_with_web_push_writes_a_key_and_the_second_finds_it() {
        let temp = tempfile::tempdir().unwrap();
        let config = config_in(temp.path());
        let first = config.read_or_create_webpush_key().unwrap().unwrap();
        let mode = fs::metadata(config.webpush_key_path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = config.read_or_create_webpush_key().unwrap().unwrap();
        assert_eq!((first.public.len(), &first.public), (87, &second.public));
        assert_eq!(
            fs::read_dir(&config.log.dir).unwrap().count(),
            1,
            "no draft stays"
        );
    }

    #[test]
    fn without_web_push_there_is_no_key() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config_in(temp.path());
        config.push.webpush.subject.clear();
        assert!(config.read_or_create_webpush_key().unwrap().is_none());
        assert!(!config.log.dir.exists());
    }

    #[test]
    fn a_file_without_a_key_or_for_everybody_is_refused_and_never_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let config = config_in(temp.path());
        config.read_or_create_webpush_key().unwrap();
        let path = config.webpush_key_path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = config.read_or_create_webpush_key();
        assert!(matches!(refused, Err(SecretsError::TooOpen { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key").unwrap();
        let refused = config.read_or_create_webpush_key();
        assert!(matches!(refused, Err(SecretsError::NoKey(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "no key");
    }
}
