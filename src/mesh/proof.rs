//! Both ends of a link prove that they are gateways of the same fleet.
//!
//! The connection is TLS 1.3. Its key is made by each process for itself and proves nothing: an attacker between the two ends could have
//! made it. So both ends then send an HMAC-SHA-256 of the connection's exported keying material (RFC 8446, 7.5) under the fleet's one
//! secret. An attacker between them has two connections with different keying material, so it has no proof to pass on. The two roles have
//! different labels, so a proof cannot be sent back to its maker. No frame is read or written before.
//!
//! The dialing gateway sends version, its own number, the number of the gateway that it wants, and its proof of all of that. The other
//! answers with one byte, and its own proof if the byte says that all is well.

use std::{fmt, io, sync::Arc};

use ring::{hmac, rand::SystemRandom, signature::Ed25519KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::AlwaysResolvesServerRawPublicKeys,
    sign::CertifiedKey,
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{LinkFault, MeshError};
use crate::ids::GatewayId;

/// The version of the mesh: of the proof and of the records. A frame with a new notice is no new version.
const VERSION: u8 = 1;
/// The name under which TLS exports keying material.
const EXPORTER: &[u8] = b"EXPORTER-towncrier-mesh";
const DIALER: &[u8] = b"towncrier mesh dialer";
const LISTENER: &[u8] = b"towncrier mesh listener";
const PROOF_BYTES: usize = 32;
/// Version, two numbers, proof.
const HELLO_BYTES: usize = 1 + 8 + 8 + PROOF_BYTES;

/// The listener's answers.
const WELCOME: u8 = 0;
const WRONG_SECRET: u8 = 1;
const WRONG_GATEWAY: u8 = 2;
const WRONG_VERSION: u8 = 3;

/// The one secret of a fleet. No print shows it.
#[derive(Clone)]
pub struct MeshSecret(hmac::Key);

impl MeshSecret {
    /// The secret of these bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn sign(&self, role: &[u8], exported: &[u8], hello: &[u8]) -> [u8; PROOF_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [role, exported, hello] {
            context.update(part);
        }
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(context.sign().as_ref());
        proof
    }

    fn verify(&self, role: &[u8], exported: &[u8], hello: &[u8], proof: &[u8]) -> bool {
        let signed = [role, exported, hello].concat();
        hmac::verify(&self.0, &signed, proof).is_ok()
    }
}

impl fmt::Debug for MeshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshSecret(********)")
    }
}

/// The two ends' part of a process in all its links: a key that lives as long as the process, and the secret.
pub(super) struct Prover {
    secret: MeshSecret,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Prover {
    /// Makes the process's key.
    pub(super) fn new(secret: MeshSecret) -> Result<Self, MeshError> {
        let provider = Arc::new(provider::default_provider());
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let pkcs8 = pkcs8.map_err(|_| MeshError::NoRandomness)?;
        let key = PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec());
        let key = provider::sign::any_eddsa_type(&key)?;
        let public = key
            .public_key()
            .expect("a key of Ed25519 has a public half");
        let public = CertificateDer::from(public.to_vec());
        let key = Arc::new(CertifiedKey::new(vec![public], key));
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
        // A link lives for days: nothing is resumed.
        server.send_tls13_tickets = 0;
        let verifier = AnyKey(provider.signature_verification_algorithms);
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Self {
            secret,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }

    /// Proves this gateway to another one, and the other one to this. It has no deadline of its own. Cancel safe: a drop closes the
    /// stream.
    pub(super) async fn dial<S>(
        &self,
        stream: S,
        from: GatewayId,
        to: GatewayId,
    ) -> Result<client::TlsStream<S>, LinkFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Names mean nothing to keys without certificates.
        let name = ServerName::try_from("gateway").expect("it is a name");
        let mut stream = self.connector.connect(name, stream).await?;
        let exported = exported(|output| {
            stream
                .get_ref()
                .1
                .export_keying_material(output, EXPORTER, None)
        })?;
        let mut hello = vec![VERSION];
        hello.extend(from.0.to_be_bytes());
        hello.extend(to.0.to_be_bytes());
        let proof = self.secret.sign(DIALER, &exported, &hello);
        stream.write_all(&[&hello[..], &proof].concat()).await?;
        stream.flush().await?;
        match stream.read_u8().await? {
            WELCOME => {}
            WRONG_SECRET => return Err(LinkFault::WrongSecret),
            WRONG_GATEWAY => return Err(LinkFault::WrongGateway),
            _ => return Err(LinkFault::WrongVersion),
        }
        let mut proof = [0; PROOF_BYTES];
        stream.read_exact(&mut proof).await?;
        if !self.secret.verify(LISTENER, &exported, &hello, &proof) {
            return Err(LinkFault::WrongSecret);
        }
        Ok(stream)
    }

    /// Takes the other gateway's proof and gives this one's. Returns the number of the other gateway. It has no deadline of its own. Cancel
    /// safe: a drop closes the stream.
    pub(super) async fn accept<S>(
        &self,
        stream: S,
        me: GatewayId,
    ) -> Result<(server::TlsStream<S>, GatewayId), LinkFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = self.acceptor.accept(stream).await?;
        let exported = exported(|output| {
            stream
                .get_ref()
                .1
                .export_keying_material(output, EXPORTER, None)
        })?;
        let mut hello = [0; HELLO_BYTES];
        stream.read_exact(&mut hello[..1]).await?;
        if hello[0] != VERSION {
            return refuse(stream, WRONG_VERSION, LinkFault::WrongVersion).await;
        }
        stream.read_exact(&mut hello[1..]).await?;
        let (hello, proof) = hello.split_at(HELLO_BYTES - PROOF_BYTES);
        if !self.secret.verify(DIALER, &exported, hello, proof) {
            return refuse(stream, WRONG_SECRET, LinkFault::WrongSecret).await;
        }
        let number = |at: usize| {
            let bytes = hello[at..].first_chunk().copied();
            GatewayId(
                bytes
                    .map(u64::from_be_bytes)
                    .expect("a hello has two numbers"),
            )
        };
        let (from, to) = (number(1), number(9));
        if to != me {
            return refuse(stream, WRONG_GATEWAY, LinkFault::WrongGateway).await;
        }
        stream.write_u8(WELCOME).await?;
        let proof = self.secret.sign(LISTENER, &exported, hello);
        stream.write_all(&proof).await?;
        stream.flush().await?;
        Ok((stream, from))
    }
}

/// Tells the other end why it is refused.
async fn refuse<S, T>(
    mut stream: server::TlsStream<S>,
    answer: u8,
    fault: LinkFault,
) -> Result<T, LinkFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_u8(answer).await?;
    stream.shutdown().await?;
    Err(fault)
}

/// Keying material that only the two ends of a connection have.
fn exported(
    export: impl FnOnce([u8; PROOF_BYTES]) -> Result<[u8; PROOF_BYTES], rustls::Error>,
) -> io::Result<[u8; PROOF_BYTES]> {
    export([0; PROOF_BYTES]).map_err(io::Error::other)
}

/// Takes any raw public key that signed this handshake. The proofs say whose it is.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
