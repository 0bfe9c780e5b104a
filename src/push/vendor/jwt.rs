//! Signed claims (RFC 7515, RFC 7519), and the key files they are signed with.
//!
//! Apple and Web Push take ES256, Google takes RS256. Keys are PKCS#8, as all three give them out.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::Value;

/// A key that signs claims. No print shows it.
pub(super) enum ClaimsKey {
    /// ECDSA on P-256 with SHA-256.
    Es256(Box<EcdsaKeyPair>),
    /// RSA of 2048 bits or more, PKCS#1 v1.5 with SHA-256.
    Rs256(Box<RsaKeyPair>),
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The text has no `BEGIN PRIVATE KEY`.
    #[error("holds no private key in PEM (BEGIN PRIVATE KEY)")]
    Pem,
    /// The key has another kind.
    #[error("holds no key on the curve P-256")]
    P256,
    /// The key has another kind.
    #[error("holds no RSA key of 2048 to 4096 bits")]
    Rsa,
}

impl ClaimsKey {
    /// The key on P-256 in a PEM file, as Apple gives it out.
    pub(super) fn es256_of_pem(pem: &str) -> Result<Self, KeyFault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyFault::Pem)?;
        Self::es256(der.secret_pkcs8_der())
    }

    /// The key on P-256 in PKCS#8.
    pub(super) fn es256(der: &[u8]) -> Result<Self, KeyFault> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
            .map(|pair| Self::Es256(Box::new(pair)))
            .map_err(|_| KeyFault::P256)
    }

    /// The RSA key in a PEM text, as Google gives it out.
    pub(super) fn rs256_of_pem(pem: &str) -> Result<Self, KeyFault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyFault::Pem)?;
        RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map(|pair| Self::Rs256(Box::new(pair)))
            .map_err(|_| KeyFault::Rsa)
    }

    /// The public half of a key on P-256: 65 bytes, the uncompressed point.
    pub(super) fn public(&self) -> &[u8] {
        match self {
            Self::Es256(pair) => pair.public_key().as_ref(),
            Self::Rs256(pair) => pair.public_key().as_ref(),
        }
    }

    /// The claims in their compact form, signed. `header` needs no `alg`.
    pub(super) fn sign(&self, mut header: Value, claims: &Value) -> String {
        header["alg"] = match self {
            Self::Es256(_) => "ES256".into(),
            Self::Rs256(_) => "RS256".into(),
        };
        let encode = |value: &Value| BASE64URL.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Es256(pair) => {
                let signature = pair.sign(&random, signed.as_bytes());
                let signature = signature.expect("the system has random numbers");
                signature.as_ref().to_vec()
            }
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .expect("the buffer has the length of the modulus");
                signature
            }
        };
        format!("{signed}.{}", BASE64URL.encode(signature))
    }
}
