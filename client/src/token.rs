//! Tokens as a holder of the gateway's key signs them: the gateway itself, a company's login server, a load test.
//!
//! A token is a JSON Web Token (RFC 7519) signed with HMAC-SHA-256, with the claims of OpenIM v2 and of v3. Leaves to
//! others: the check of the claims and revocation, which are the gateway's. This file writes the envelope itself;
//! `docs/architecture.md#decisions` says why it uses no library.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

/// `{"alg":"HS256","typ":"JWT"}`, the header of every token that is signed here.
pub const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The claims of a new token, in the order in which they are written. Times are whole Unix seconds, as in OpenIM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TokenClaims<'a> {
    /// The user, at most 64 bytes.
    #[serde(rename = "UID")]
    pub user_id: &'a str,
    /// The platform's name: `IOS`, `Android`, `Web` and so on.
    #[serde(rename = "Platform")]
    pub platform: &'a str,
    /// The same platform by OpenIM's number, 1–11, as OpenIM v3 has it.
    #[serde(rename = "PlatformID")]
    pub platform_id: u32,
    /// The time at which the token ends.
    #[serde(rename = "exp")]
    pub expires_at_s: u64,
    /// The time at which the token begins. The gateway takes a token 60 s earlier, because clocks differ.
    #[serde(rename = "nbf")]
    pub not_before_s: u64,
    /// The time at which the token was issued.
    #[serde(rename = "iat")]
    pub issued_at_s: u64,
    /// The same in Unix ms. It is a claim of our own, because a login right after a logout falls into the same second. The
    /// gateway compares it with the user's last logout.
    #[serde(rename = "iat_ms")]
    pub issued_at_ms: u64,
}

/// The claims with the user under both names: `UID` as in OpenIM v2, `UserID` as in v3.
#[derive(Serialize)]
struct BothClaims<'a> {
    #[serde(flatten)]
    claims: &'a TokenClaims<'a>,
    #[serde(rename = "UserID")]
    user_id: &'a str,
}

/// The key that signs tokens: `auth.token_key` of the gateway. It is already absorbed, so that a signature costs no key
/// setup.
#[derive(Debug, Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl TokenKey {
    /// Takes a key of any length.
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &TokenClaims<'_>) -> String {
        let both = BothClaims {
            claims,
            user_id: claims.user_id,
        };
        let claims = serde_json::to_vec(&both).expect("strings and integers are always JSON");
        let mut token = format!("{HEADER}.{}", BASE64URL.encode(claims));
        let signature = self.0.clone().chain_update(&token).finalize();
        token.push('.');
        BASE64URL.encode_string(signature.into_bytes(), &mut token);
        token
    }

    /// True if this key made `signature` over `signed`, a token's text before its last dot. Compares in constant time.
    pub fn verifies(&self, signed: &str, signature: &[u8]) -> bool {
        let mac = self.0.clone().chain_update(signed);
        mac.verify_slice(signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: TokenClaims<'static> = TokenClaims {
        user_id: "u1",
        platform: "Web",
        platform_id: 5,
        expires_at_s: 4_102_444_800,
        not_before_s: 1_645_697_804,
        issued_at_s: 1_645_697_804,
        issued_at_ms: 1_645_697_804_432,
    };

    #[test]
    fn a_token_is_the_one_that_other_libraries_make() {
        // Made with Python's hmac.
        assert_eq!(
            TokenKey::new(b"key").sign(&CLAIMS),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJVSUQiOiJ1MSIsIlBsYXRmb3JtIjoiV2ViIiwiUGxhdGZvcm1JRCI6NSwiZXhwIjo0MTAyNDQ0ODAwLCJuYmYiOjE2NDU2OTc4MDQsImlhdCI6MTY0NTY5NzgwNCwiaWF0X21zIjoxNjQ1Njk3ODA0NDMyLCJVc2VySUQiOiJ1MSJ9.pYlqlqG4IMuBrYmXzIdHIDiIgxZudfkVQJnX_49pFW4"
        );
    }

    #[test]
    fn only_the_key_that_signed_verifies() {
        let key = TokenKey::new(b"key");
        let token = key.sign(&CLAIMS);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL.decode(signature).unwrap();
        assert!(key.verifies(signed, &signature));
        assert!(!TokenKey::new(b"another").verifies(signed, &signature));
        assert!(!key.verifies(signed, &signature[1..]));
        assert!(!key.verifies(&signed[1..], &signature));
    }
}
