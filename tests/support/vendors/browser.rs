//! A browser with a subscription: it decrypts as RFC 8291 says, with other code than the gateway encrypts with.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use p256::{PublicKey, SecretKey, elliptic_curve::sec1::ToSec1Point as _};
use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use serde_json::json;

/// The host of the browser's service.
pub(crate) const PUSH_HOST: &str = "updates.push.services.mozilla.com";

/// A browser with one subscription.
pub(crate) struct Browser {
    key: SecretKey,
    auth: Vec<u8>,
    /// The path of its endpoint.
    pub(crate) path: String,
}

impl Browser {
    pub(crate) fn new() -> Self {
        let random = || std::iter::repeat_with(|| fastrand::u8(..));
        let key: Vec<u8> = random().take(32).collect();
        Self::with(&key, random().take(16).collect())
    }

    /// A browser with this private key and this secret.
    fn with(key: &[u8], auth: Vec<u8>) -> Self {
        Self {
            key: SecretKey::from_slice(key).unwrap(),
            auth,
            path: format!("/wpush/v2/{:032x}", fastrand::u128(..)),
        }
    }

    fn public(&self) -> Vec<u8> {
        self.key
            .public_key()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec()
    }

    /// `PushSubscription.toJSON()`.
    pub(crate) fn subscription(&self) -> String {
        let (p256dh, auth) = (
            BASE64URL.encode(self.public()),
            BASE64URL.encode(&self.auth),
        );
        let subscription = json!({
            "endpoint": format!("https://{PUSH_HOST}{}", self.path),
            "expirationTime": null,
            "keys": {"p256dh": p256dh, "auth": auth},
        });
        subscription.to_string()
    }

    /// The message in this content of the coding `aes128gcm`.
    pub(crate) fn decrypt(&self, content: &[u8]) -> Result<Vec<u8>, String> {
        let (salt, rest) = content.split_at_checked(16).ok_or("salt")?;
        let (size, rest) = rest.split_at_checked(4).ok_or("record size")?;
        let size = u32::from_be_bytes(size.try_into().unwrap()) as usize;
        let (&length, rest) = rest.split_first().ok_or("length of the key")?;
        let (sender, record) = rest.split_at_checked(length.into()).ok_or("the key")?;
        if record.len() > size || content.len() > 4096 {
            return Err("more than one record".into());
        }
        let public = PublicKey::from_sec1_bytes(sender).map_err(|_| "no point of the curve")?;
        let secret = self.key.diffie_hellman(&public);
        let info = [b"WebPush: info\0", &self.public()[..], sender].concat();
        let inputs = hkdf(&self.auth, secret.raw_secret_bytes(), &info);
        let key = hkdf(salt, &inputs, b"Content-Encoding: aes128gcm\0");
        let nonce = hkdf(salt, &inputs, b"Content-Encoding: nonce\0");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).unwrap();
        let mut record = record.to_vec();
        let plain = key
            .open_in_place(nonce, Aad::empty(), &mut record)
            .map_err(|_| "the record does not decrypt")?;
        let last = plain.iter().rposition(|byte| *byte != 0).ok_or("no mark")?;
        if plain[last] != 2 {
            return Err("the record is not the last one".into());
        }
        Ok(plain[..last].to_vec())
    }
}

/// HKDF with SHA-256, one block.
fn hkdf(salt: &[u8], inputs: &[u8], info: &[u8]) -> Vec<u8> {
    let sign = |key: &[u8], text: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
            .as_ref()
            .to_vec()
    };
    sign(&sign(salt, inputs), &[info, &[1]].concat())
}

/// RFC 8291 section 5: this browser decrypts the message of the specification.
#[test]
fn the_browser_of_the_tests_decrypts_the_example_of_rfc_8291() {
    let bytes = |text: &str| BASE64URL.decode(text).unwrap();
    let key = bytes("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
    let browser = Browser::with(&key, bytes("BTBZMqHH6r4Tts7J_aSIgg"));
    let content = bytes(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
    );
    let plain = browser.decrypt(&content).unwrap();
    assert_eq!(plain, b"When I grow up, I want to be a watermelon");
}
