//! A company's own login: it publishes its public keys, and signs tokens with any of its keys.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// An RSA key of the tests, which nothing else accepts.
const RSA_KEY: &[u8] = include_bytes!("vendors/service_account_key.pem");

/// A key of the login.
pub(crate) struct LoginKey {
    id: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl LoginKey {
    /// The RSA key.
    pub(crate) fn rsa(id: &str) -> Self {
        let der = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY).unwrap();
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        Self {
            id: id.into(),
            pair: Pair::Rsa(pair),
        }
    }

    /// A new key of P-256.
    pub(crate) fn p256(id: &str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap();
        Self {
            id: id.into(),
            pair: Pair::P256(pair),
        }
    }

    /// A token of this user for so many seconds from now.
    pub(crate) fn token(&self, user: &str, platform: u32, lifetime_s: u64) -> String {
        self.token_ahead(user, platform, lifetime_s, 0)
    }

    /// The same by a clock that is so many seconds ahead.
    pub(crate) fn token_ahead(
        &self,
        user: &str,
        platform: u32,
        lifetime_s: u64,
        ahead_s: u64,
    ) -> String {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + ahead_s;
        let algorithm = match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        };
        let header = json!({ "alg": algorithm, "kid": self.id });
        let claims = json!({
            "iss": "https://login.example",
            "aud": ["mail", "towncrier"],
            "sub": user,
            "device": platform,
            "iat": now_s,
            "exp": now_s + lifetime_s,
        });
        let [header, claims] = [header, claims].map(|part| BASE64URL.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Pair::P256(pair) => {
                let signature = pair.sign(&random, signed.as_bytes()).unwrap();
                signature.as_ref().to_vec()
            }
        };
        format!("{signed}.{}", BASE64URL.encode(signature))
    }

    fn published(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let public: RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
                let [n, e] = [public.n, public.e].map(|number| BASE64URL.encode(number));
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": n, "e": e })
            }
            Pair::P256(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let [x, y] = [&point[..32], &point[32..]].map(|part| BASE64URL.encode(part));
                json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "x": x, "y": y })
            }
        }
    }
}

/// The set of these keys, as the login publishes it.
pub(crate) fn key_set(keys: &[&LoginKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
    json!({ "keys": keys }).to_string()
}

/// The address at which the login publishes its keys.
pub(crate) struct LoginServer {
    address: SocketAddr,
    published: Arc<Mutex<String>>,
    asked: Arc<AtomicU64>,
}

impl LoginServer {
    pub(crate) async fn start(keys: &[&LoginKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let published = Arc::new(Mutex::new(key_set(keys)));
        let asked = Arc::new(AtomicU64::new(0));
        let (given, counted) = (Arc::clone(&published), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (given, counted) = (Arc::clone(&given), Arc::clone(&counted));
                let service = service_fn(move |_| {
                    counted.fetch_add(1, Relaxed);
                    let text = Bytes::from(given.lock().unwrap().clone());
                    async move { Ok::<_, hyper::Error>(Response::new(Full::new(text))) }
                });
                let connection = http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            published,
            asked,
        }
    }

    /// The settings of a gateway that takes the tokens of this login.
    pub(crate) fn settings(&self, interval: &str) -> [String; 6] {
        [
            format!("auth.jwks_url=http://{}/keys", self.address),
            format!("auth.jwks_interval={interval}"),
            "auth.claims.user=sub".into(),
            "auth.claims.platform=device".into(),
            "auth.issuer=https://login.example".into(),
            "auth.audience=towncrier".into(),
        ]
    }

    /// Publishes these keys and no others.
    pub(crate) fn publish(&self, keys: &[&LoginKey]) {
        *self.published.lock().unwrap() = key_set(keys);
    }

    /// The number of times that the keys were asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}
