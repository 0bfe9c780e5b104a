//! The encryption of a message for a browser: RFC 8291, with the content coding `aes128gcm` of RFC 8188.
//!
//! Each message has a key pair and a salt of its own. The content is one record.

use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::{SecureRandom as _, SystemRandom},
};

/// The size of a record in the head of the content, and of the whole content at most: the services must take so much.
const RECORD_BYTES: usize = 4096;
/// Salt, record size, length of the key, key.
const HEAD_BYTES: usize = 16 + 4 + 1 + 65;
/// The mark of the last record, and the tag of the cipher.
const FOOT_BYTES: usize = 1 + 16;
/// The most bytes of a message.
pub(super) const PLAIN_BYTES_MAX: usize = RECORD_BYTES - HEAD_BYTES - FOOT_BYTES;

/// The content for a browser with this public key and this secret; `None` if the key is no point of the curve.
///
/// # Panics
///
/// If the message has more than [`PLAIN_BYTES_MAX`] bytes.
pub(super) fn encrypt(plain: &[u8], browser: &[u8], auth: &[u8; 16]) -> Option<Vec<u8>> {
    assert!(
        plain.len() <= PLAIN_BYTES_MAX,
        "one record holds the message"
    );
    let random = SystemRandom::new();
    let mut salt = [0; 16];
    random
        .fill(&mut salt)
        .expect("the system has random numbers");
    let private =
        EphemeralPrivateKey::generate(&ECDH_P256, &random).expect("the system has random numbers");
    let public = private
        .compute_public_key()
        .expect("the key was made just now");
    let peer = UnparsedPublicKey::new(&ECDH_P256, browser);
    let keys = agree_ephemeral(private, &peer, |secret| {
        derive(secret, &salt, browser, public.as_ref(), auth)
    });
    let (key, nonce) = keys.ok()?;

    let mut content = Vec::with_capacity(HEAD_BYTES + plain.len() + FOOT_BYTES);
    content.extend_from_slice(&salt);
    content.extend_from_slice(&(RECORD_BYTES as u32).to_be_bytes());
    content.push(public.as_ref().len() as u8);
    content.extend_from_slice(public.as_ref());
    let mut record = plain.to_vec();
    record.push(2);
    let key = UnboundKey::new(&AES_128_GCM, &key).expect("the key has 16 bytes");
    LessSafeKey::new(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut record,
        )
        .expect("the record is short");
    content.extend_from_slice(&record);
    Some(content)
}

/// Key and nonce of the one record: RFC 8291 section 3.4.
fn derive(
    secret: &[u8],
    salt: &[u8],
    browser: &[u8],
    sender: &[u8],
    auth: &[u8],
) -> ([u8; 16], [u8; 12]) {
    let inputs: [u8; 32] = expand(auth, secret, &[b"WebPush: info\0", browser, sender]);
    let key = expand(salt, &inputs, &[b"Content-Encoding: aes128gcm\0"]);
    let nonce = expand(salt, &inputs, &[b"Content-Encoding: nonce\0"]);
    (key, nonce)
}

/// HKDF with SHA-256 (RFC 5869).
fn expand<const N: usize>(salt: &[u8], inputs: &[u8], info: &[&[u8]]) -> [u8; N] {
    struct Bytes(usize);
    impl KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut output = [0; N];
    let key = Salt::new(HKDF_SHA256, salt).extract(inputs);
    let expanded = key
        .expand(info, Bytes(N))
        .and_then(|okm| okm.fill(&mut output));
    expanded.expect("at most 32 bytes are asked for");
    output
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};

    use super::*;

    /// RFC 8291 appendix A has each value between the secret and the record.
    #[test]
    fn the_example_of_rfc_8291_has_its_keys_and_its_record() {
        let bytes = |text: &str| BASE64URL.decode(text).unwrap();
        let secret = bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs");
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw");
        let browser = bytes(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let sender = bytes(
            "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
        );
        let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg");
        let (key, nonce) = derive(&secret, &salt, &browser, &sender, &auth);
        assert_eq!(BASE64URL.encode(key), "oIhVW04MRdy2XN9CiKLxTg");
        assert_eq!(BASE64URL.encode(nonce), "4h_95klXJ5E_qnoN");
    }

    #[test]
    fn a_message_of_the_largest_size_fills_one_record_and_no_two_are_alike() {
        let browser = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let browser = browser.compute_public_key().unwrap();
        let plain = [b'x'; PLAIN_BYTES_MAX];
        let one = encrypt(&plain, browser.as_ref(), &[1; 16]).unwrap();
        let two = encrypt(&plain, browser.as_ref(), &[1; 16]).unwrap();
        assert_eq!((one.len(), two.len()), (RECORD_BYTES, RECORD_BYTES));
        assert!(one[..16] != two[..16] && one[21..86] != two[21..86]);
    }

    #[test]
    fn a_key_that_is_no_point_of_the_curve_encrypts_nothing() {
        for key in [[0; 65], [4; 65], [255; 65]] {
            assert_eq!(encrypt(b"x", &key, &[1; 16]), None);
        }
    }
}
