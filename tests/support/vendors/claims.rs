//! Signed claims, verified as a vendor does.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

/// Header and claims of a token that this key on P-256 signed.
pub(super) fn es256(token: &str, key: &[u8]) -> Result<(Value, Value), String> {
    verify(token, "ES256", &ECDSA_P256_SHA256_FIXED, key)
}

/// Header and claims of a token that this RSA key (PKCS#1) signed.
pub(super) fn rs256(token: &str, key: &[u8]) -> Result<(Value, Value), String> {
    verify(token, "RS256", &RSA_PKCS1_2048_8192_SHA256, key)
}

fn verify(
    token: &str,
    algorithm_name: &str,
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> Result<(Value, Value), String> {
    let (signed, signature) = token.rsplit_once('.').ok_or("no JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("no JWT")?;
    let bytes = |text: &str| BASE64URL.decode(text).map_err(|error| error.to_string());
    let json =
        |text: &str| serde_json::from_slice::<Value>(&bytes(text)?).map_err(|e| e.to_string());
    let (header, claims) = (json(header)?, json(claims)?);
    if header["alg"] != algorithm_name {
        return Err(format!("alg is {}", header["alg"]));
    }
    UnparsedPublicKey::new(algorithm, key)
        .verify(signed.as_bytes(), &bytes(signature)?)
        .map_err(|_| "the signature does not verify".to_owned())?;
    Ok((header, claims))
}
