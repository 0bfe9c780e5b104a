//! The public keys of a company's own login: a JSON Web Key Set (RFC 7517), and the check of a signature by one of its keys. Pure.
//!
//! A key checks the signatures of its own algorithm alone, whatever a token says: an RSA key those of RS256, a key of P-256 those
//! of ES256. Symmetric keys in a set are passed over, so no text of a set ever becomes a secret.

use std::fmt;

use base64::Engine as _;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Algorithm, BASE64URL, TokenError};

/// The largest set, in bytes: as many keys as below, each with its certificates.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// The most keys of a set. Companies have two or three.
const KEYS_MAX: usize = 64;
/// The size of an RSA key in bits. Shorter ones can be factored; ring takes no longer ones, whose checks take long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The largest public exponent, ring's bound.
const EXPONENT_MAX: u64 = (1 << 33) - 1;
/// The bytes of a coordinate of P-256.
const COORDINATE_BYTES: usize = 32;

/// The usable keys of a set.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<LoginKey>,
    passed_over: Vec<String>,
}

struct LoginKey {
    id: Option<String>,
    key: PublicKey,
}

enum PublicKey {
    /// Modulus and exponent, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point.
    P256(Vec<u8>),
}

/// Why a text is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetFault {
    /// The text is larger than [`KEY_SET_BYTES_MAX`].
    #[error("it has more than {KEY_SET_BYTES_MAX} bytes")]
    TooLarge,
    /// The text is not `{"keys":[…]}`.
    #[error("it is no JSON Web Key Set: {0}")]
    NotASet(String),
    /// The text has more keys than a set may have.
    #[error("it has {0} keys, more than {KEYS_MAX}")]
    TooMany(usize),
}

/// A set as it is written.
#[derive(Deserialize)]
struct SetText {
    keys: Vec<Value>,
}

/// A key as it is written. Other members are passed over.
#[derive(Deserialize)]
struct KeyText {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. A key that cannot be used is passed over, because a set may also hold keys for other purposes.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeySetFault> {
        if bytes.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetFault::TooLarge);
        }
        let text: SetText = serde_json::from_slice(bytes)
            .map_err(|error| KeySetFault::NotASet(error.to_string()))?;
        if text.keys.len() > KEYS_MAX {
            return Err(KeySetFault::TooMany(text.keys.len()));
        }
        let mut set = Self::default();
        for key in text.keys {
            match read_key(key) {
                Ok(key) => set.keys.push(key),
                Err(reason) => set.passed_over.push(reason.into()),
            }
        }
        Ok(set)
    }

    /// The number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if no key is usable: no token of the company's login is good.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Why keys of the set were passed over, one sentence each.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// Checks the signature of a token that names this algorithm and key. Of keys with one name each is tried.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`] if the set has no such key, [`TokenError::Algorithm`] if the key is for another algorithm,
    /// [`TokenError::Signature`] if another key signed.
    pub fn check(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let keys = self.find(algorithm, key_id)?;
        let is_good = keys.iter().any(|key| key.verifies(signed, signature));
        if is_good {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }

    /// The keys that a token names, at least one. A token that names none means the only key of its algorithm.
    fn find(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<Vec<&PublicKey>, TokenError> {
        let fits = |key: &&LoginKey| key.key.algorithm() == algorithm;
        let mut fitting = self.keys.iter().filter(fits);
        let Some(id) = key_id else {
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(vec![&only.key]),
                _ => Err(TokenError::UnknownKey),
            };
        };
        let is_named = |key: &&LoginKey| key.id.as_deref() == Some(id);
        // One, but for a login that gives two keys the same name.
        let named: Vec<_> = fitting.filter(is_named).map(|key| &key.key).collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let is_for_another = self.keys.iter().any(|key| is_named(&key));
        Err(if is_for_another {
            TokenError::Algorithm
        } else {
            TokenError::UnknownKey
        })
    }
}

impl PublicKey {
    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let checked = match self {
            Self::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            Self::P256(point) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, signature)
            }
        };
        checked.is_ok()
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
        }
    }
}

impl fmt::Debug for KeySet {
    /// Names the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| key.id.as_deref());
        f.debug_list().entries(ids).finish()
    }
}

/// Reads one key, or says why it is passed over.
fn read_key(value: Value) -> Result<LoginKey, &'static str> {
    let text: KeyText =
        serde_json::from_value(value).map_err(|_| "a key's members have other types")?;
    if text.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Err("a key is not for signatures");
    }
    let may_verify = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    if !text.key_ops.as_ref().is_none_or(may_verify) {
        return Err("a key is not for the check of signatures");
    }
    let key = match &*text.kty {
        "RSA" => rsa(text.n.as_deref(), text.e.as_deref())?,
        "EC" if text.crv.as_deref() == Some("P-256") => p256(text.x.as_deref(), text.y.as_deref())?,
        _ => return Err("a key is neither of RSA nor of P-256"),
    };
    let name = match key.algorithm() {
        Algorithm::Rs256 => "RS256",
        _ => "ES256",
    };
    if text.alg.as_deref().is_some_and(|alg| alg != name) {
        return Err("a key is for another algorithm than RS256 and ES256");
    }
    Ok(LoginKey { id: text.kid, key })
}

fn rsa(n: Option<&str>, e: Option<&str>) -> Result<PublicKey, &'static str> {
    let number = |text: Option<&str>| {
        let bytes = BASE64URL.decode(text?).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes[zeros..].to_vec()).filter(|bytes| !bytes.is_empty())
    };
    let (Some(n), Some(e)) = (number(n), number(e)) else {
        return Err("an RSA key lacks n or e");
    };
    let is_odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte % 2 == 1);
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    if !RSA_BITS.contains(&bits) || !is_odd(&n) {
        return Err("an RSA key does not have 2048 to 8192 bits");
    }
    let exponent = e.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    if e.len() > 5 || !(3..=EXPONENT_MAX).contains(&exponent) || !is_odd(&e) {
        return Err("an RSA key has an exponent that no key should have");
    }
    Ok(PublicKey::Rsa { n, e })
}

fn p256(x: Option<&str>, y: Option<&str>) -> Result<PublicKey, &'static str> {
    let coordinate = |text: Option<&str>| {
        let bytes = BASE64URL.decode(text?).ok();
        bytes.filter(|bytes| bytes.len() == COORDINATE_BYTES)
    };
    let (Some(x), Some(y)) = (coordinate(x), coordinate(y)) else {
        return Err("a key of P-256 lacks x or y");
    };
    Ok(PublicKey::P256([vec![4], x, y].concat()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// RFC 7515, appendix A.2: the key and the token.
    const RFC_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const RFC_RS256: (&str, &str) = (
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    /// RFC 7515, appendix A.3.
    const RFC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const RFC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    const RFC_ES256: (&str, &str) = (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    );

    fn rsa_key() -> Value {
        json!({ "kty": "RSA", "kid": "r", "n": RFC_N, "e": "AQAB" })
    }

    fn ec_key() -> Value {
        json!({ "kty": "EC", "kid": "e", "crv": "P-256", "x": RFC_X, "y": RFC_Y })
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::decode(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn check(
        set: &KeySet,
        algorithm: Algorithm,
        key_id: Option<&str>,
        (signed, signature): (&str, &str),
    ) -> Result<(), TokenError> {
        let signature = BASE64URL.decode(signature).unwrap();
        set.check(algorithm, key_id, signed.as_bytes(), &signature)
    }

    #[test]
    fn the_examples_of_the_standard_verify_with_their_own_keys_alone() {
        let set = set(&[rsa_key(), ec_key()]);
        for id in [None, Some("r")] {
            assert_eq!(check(&set, Algorithm::Rs256, id, RFC_RS256), Ok(()));
        }
        for id in [None, Some("e")] {
            assert_eq!(check(&set, Algorithm::Es256, id, RFC_ES256), Ok(()));
        }
        let refused = Err(TokenError::Signature);
        let changed = (RFC_RS256.0, RFC_ES256.1);
        assert_eq!(check(&set, Algorithm::Rs256, None, changed), refused);
        assert_eq!(check(&set, Algorithm::Es256, None, changed), refused);
        // The key of another type, by its name; and a name that no key has.
        let other = check(&set, Algorithm::Rs256, Some("e"), RFC_RS256);
        assert_eq!(other, Err(TokenError::Algorithm));
        let unknown = check(&set, Algorithm::Rs256, Some("x"), RFC_RS256);
        assert_eq!(unknown, Err(TokenError::UnknownKey));
    }

    #[test]
    fn a_token_without_a_key_id_means_the_only_key_of_its_algorithm() {
        let mut second = rsa_key();
        second["kid"] = "r2".into();
        let two = set(&[rsa_key(), second]);
        let refused = check(&two, Algorithm::Rs256, None, RFC_RS256);
        assert_eq!(refused, Err(TokenError::UnknownKey));
        assert_eq!(check(&two, Algorithm::Rs256, Some("r2"), RFC_RS256), Ok(()));
    }

    #[test]
    fn of_keys_with_one_name_each_is_tried() {
        let mut other = rsa_key();
        other["n"] = json!(BASE64URL.encode([0xff; 256]));
        for keys in [[other.clone(), rsa_key()], [rsa_key(), other.clone()]] {
            let both = set(&keys);
            assert_eq!(check(&both, Algorithm::Rs256, Some("r"), RFC_RS256), Ok(()));
        }
        let refused = check(
            &set(&[other.clone(), other]),
            Algorithm::Rs256,
            Some("r"),
            RFC_RS256,
        );
        assert_eq!(refused, Err(TokenError::Signature));
    }

    #[test]
    fn keys_of_other_kinds_and_small_ones_are_passed_over() {
        let with = |mut key: Value, member: &str, value: Value| {
            key[member] = value;
            key
        };
        let small = BASE64URL.encode([0xff; 128]);
        let even = BASE64URL.encode([0xfe; 256]);
        let huge = BASE64URL.encode([0xff; 1025]);
        for key in [
            json!({ "kty": "oct", "k": RFC_N }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": RFC_X }),
            with(ec_key(), "crv", json!("P-384")),
            with(ec_key(), "x", json!(RFC_N)),
            with(ec_key(), "alg", json!("ES384")),
            with(rsa_key(), "alg", json!("HS256")),
            with(rsa_key(), "alg", json!("RS512")),
            with(rsa_key(), "alg", json!("ES256")),
            with(rsa_key(), "use", json!("enc")),
            with(rsa_key(), "key_ops", json!(["encrypt"])),
            with(rsa_key(), "n", json!(small)),
            with(rsa_key(), "n", json!(even)),
            with(rsa_key(), "n", json!(huge)),
            with(rsa_key(), "n", json!("")),
            with(rsa_key(), "e", json!("AQ")),
            with(rsa_key(), "e", json!("BA")),
            with(rsa_key(), "e", json!("AQABAQABAQAB")),
            with(rsa_key(), "kid", json!(7)),
            json!("key"),
            json!({}),
        ] {
            let set = set(&[key.clone(), ec_key()]);
            assert_eq!((set.len(), set.passed_over().len()), (1, 1), "{key}");
        }
        let more = with(
            with(rsa_key(), "key_ops", json!(["verify"])),
            "alg",
            json!("RS256"),
        );
        assert_eq!(set(&[with(more, "use", json!("sig"))]).len(), 1);
    }

    #[test]
    fn what_is_no_set_is_refused_whole() {
        for text in ["", "{}", "[]", "null", r#"{"keys":{}}"#, "<html>"] {
            assert!(KeySet::decode(text.as_bytes()).is_err(), "{text}");
        }
        let many = json!({ "keys": vec![rsa_key(); KEYS_MAX + 1] }).to_string();
        let refused = KeySet::decode(many.as_bytes()).unwrap_err();
        assert_eq!(refused, KeySetFault::TooMany(KEYS_MAX + 1));
        let large = vec![b' '; KEY_SET_BYTES_MAX + 1];
        assert_eq!(KeySet::decode(&large).unwrap_err(), KeySetFault::TooLarge);
        assert!(KeySet::decode(br#"{"keys":[]}"#).unwrap().is_empty());
    }
}
