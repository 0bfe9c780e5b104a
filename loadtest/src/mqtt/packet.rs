//! MQTT 3.1.1 between bytes and packets: the part that the rig needs.
//!
//! Nothing is copied out of received bytes, because the rig shares the machine with the measured server. Section numbers
//! are those of the OASIS standard of 29 October 2014.

use std::{fmt, str};

use serde::{Deserialize, Serialize};

/// No packet here is nearly as long. A greater length shows that the other end speaks another protocol.
pub(super) const PACKET_BYTES_MAX: usize = 1 << 20;
/// The remaining length has at most this many bytes (2.2.3).
const LENGTH_BYTES_MAX: usize = 4;

/// The quality of service (4.3). QoS 0 promises nothing and is not used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Qos {
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl Qos {
    fn from_bits(bits: u8) -> Result<Self, Garbled> {
        match bits & 3 {
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(Garbled("a message of another QoS than 1 or 2")),
        }
    }
}

/// A message, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub(super) topic: &'a str,
    /// The packet identifier, never 0.
    pub(super) id: u16,
    pub(super) qos: Qos,
    /// The packet may have been sent before (DUP).
    pub(super) is_again: bool,
    pub(super) payload: &'a [u8],
}

/// The packets that only name a message: PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    /// QoS 1: the receiver has it.
    Ack = 4,
    /// QoS 2: the receiver has it, and remembers its id.
    Rec = 5,
    /// QoS 2: the sender has forgotten the message.
    Rel = 6,
    /// QoS 2: the receiver has forgotten the id.
    Comp = 7,
}

/// A packet that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientPacket<'a> {
    Connect {
        client_id: &'a str,
        /// The broker keeps no state of this client beyond the connection.
        is_clean: bool,
        keep_alive_s: u16,
    },
    Publish(Publish<'a>),
    Step(Step, u16),
    Subscribe {
        id: u16,
        topic: &'a str,
        qos: Qos,
    },
    PingReq,
}

/// A packet that a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    ConnAck {
        /// The broker still has the subscription and messages from before.
        is_session_present: bool,
        /// 0: accepted (3.2.2.3).
        code: u8,
    },
    Publish(Publish<'a>),
    Step(Step, u16),
    SubAck {
        /// The QoS granted, or 0x80.
        code: u8,
    },
    PingResp,
}

/// A broker may not send these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) &'static str);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not MQTT 3.1.1: {}", self.0)
    }
}

impl std::error::Error for Garbled {}

impl ClientPacket<'_> {
    /// Appends the packet.
    ///
    /// # Panics
    /// If a text is longer than 65,535 bytes, or the packet than the protocol's 256 MiB.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        match *self {
            Self::Connect {
                client_id,
                is_clean,
                keep_alive_s,
            } => {
                put_head(to, 0x10, 10 + 2 + client_id.len());
                put_text(to, "MQTT");
                to.extend_from_slice(&[4, u8::from(is_clean) << 1]);
                to.extend_from_slice(&keep_alive_s.to_be_bytes());
                put_text(to, client_id);
            }
            Self::Publish(publish) => {
                let flags = u8::from(publish.is_again) << 3 | (publish.qos as u8) << 1;
                let bytes = 2 + publish.topic.len() + 2 + publish.payload.len();
                put_head(to, 0x30 | flags, bytes);
                put_text(to, publish.topic);
                to.extend_from_slice(&publish.id.to_be_bytes());
                to.extend_from_slice(publish.payload);
            }
            Self::Step(step, id) => {
                put_head(to, step.first_byte(), 2);
                to.extend_from_slice(&id.to_be_bytes());
            }
            Self::Subscribe { id, topic, qos } => {
                put_head(to, 0x82, 2 + 2 + topic.len() + 1);
                to.extend_from_slice(&id.to_be_bytes());
                put_text(to, topic);
                to.push(qos as u8);
            }
            Self::PingReq => put_head(to, 0xc0, 0),
        }
    }
}

impl Step {
    /// Kind and flags; those of PUBREL are fixed to 2 (3.6.1).
    fn first_byte(self) -> u8 {
        (self as u8) << 4 | u8::from(self == Self::Rel) << 1
    }
}

fn put_head(to: &mut Vec<u8>, first: u8, mut bytes: usize) {
    assert!(
        bytes < 1 << (7 * LENGTH_BYTES_MAX),
        "a packet of {bytes} bytes"
    );
    to.push(first);
    while bytes >= 0x80 {
        to.push((bytes & 0x7f) as u8 | 0x80);
        bytes >>= 7;
    }
    to.push(bytes as u8);
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    let bytes = u16::try_from(text.len()).expect("a text fits its length");
    to.extend_from_slice(&bytes.to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// Decodes the first packet, and returns its number of bytes. `None`: it is not complete yet.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Heard<'_>, usize)>, Garbled> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((length, rest)) = take_length(rest)? else {
        return Ok(None);
    };
    let Some(mut body) = rest.get(..length) else {
        return Ok(None);
    };
    let used = bytes.len() - rest.len() + length;
    let heard = match (first >> 4, first & 0xf) {
        (2, 0) => {
            let [flags, code] = take(&mut body)?;
            Heard::ConnAck {
                is_session_present: flags & 1 == 1,
                code,
            }
        }
        (3, flags) => {
            let publish = Publish {
                qos: Qos::from_bits(flags >> 1)?,
                is_again: flags & 8 != 0,
                topic: take_text(&mut body)?,
                id: take_id(&mut body)?,
                payload: std::mem::take(&mut body),
            };
            Heard::Publish(publish)
        }
        (4, 0) => Heard::Step(Step::Ack, take_id(&mut body)?),
        (5, 0) => Heard::Step(Step::Rec, take_id(&mut body)?),
        (6, 2) => Heard::Step(Step::Rel, take_id(&mut body)?),
        (7, 0) => Heard::Step(Step::Comp, take_id(&mut body)?),
        (9, 0) => {
            take_id(&mut body)?;
            let [code] = take(&mut body)?;
            Heard::SubAck { code }
        }
        (13, 0) => Heard::PingResp,
        _ => return Err(Garbled("a packet that no broker sends")),
    };
    match body {
        [] => Ok(Some((heard, used))),
        _ => Err(Garbled("a packet with bytes too many")),
    }
}

/// 2.2.3: seven bits a byte, the lowest first.
fn take_length(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, Garbled> {
    let mut length = 0;
    for (at, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return match length {
                ..=PACKET_BYTES_MAX => Ok(Some((length, &bytes[at + 1..]))),
                _ => Err(Garbled("a packet above the rig's limit")),
            };
        }
    }
    match bytes.len() {
        ..LENGTH_BYTES_MAX => Ok(None),
        _ => Err(Garbled("a length without an end")),
    }
}

fn take<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], Garbled> {
    let (taken, rest) = body.split_first_chunk().ok_or(TOO_SHORT)?;
    *body = rest;
    Ok(*taken)
}

fn take_id(body: &mut &[u8]) -> Result<u16, Garbled> {
    match u16::from_be_bytes(take(body)?) {
        0 => Err(Garbled("a packet identifier of 0")),
        id => Ok(id),
    }
}

fn take_text<'a>(body: &mut &'a [u8]) -> Result<&'a str, Garbled> {
    let length = u16::from_be_bytes(take(body)?);
    let (text, rest) = body.split_at_checked(length.into()).ok_or(TOO_SHORT)?;
    *body = rest;
    str::from_utf8(text).map_err(|_| Garbled("a topic that is not UTF-8"))
}

const TOO_SHORT: Garbled = Garbled("a packet too short for its kind");

#[cfg(test)]
mod tests {
    use super::*;

    /// A random packet that both ends may send: encoded by one, it decodes to the same at the other.
    fn random<'a>(
        random: &mut fastrand::Rng,
        topic: &'a str,
        payload: &'a [u8],
    ) -> (ClientPacket<'a>, Heard<'a>) {
        let id = random.u16(1..);
        let step = random.choice([Step::Ack, Step::Rec, Step::Rel, Step::Comp]);
        let qos = random.choice([Qos::AtLeastOnce, Qos::ExactlyOnce]);
        match random.bool() {
            true => {
                let publish = Publish {
                    topic: &topic[..random.usize(..=topic.len())],
                    id,
                    qos: qos.unwrap(),
                    is_again: random.bool(),
                    payload: &payload[..random.usize(..=payload.len())],
                };
                (ClientPacket::Publish(publish), Heard::Publish(publish))
            }
            false => {
                let step = step.unwrap();
                (ClientPacket::Step(step, id), Heard::Step(step, id))
            }
        }
    }

    fn seeded() -> fastrand::Rng {
        let seed = std::env::var("TOWNCRIER_SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        println!("TOWNCRIER_SEED={seed}");
        fastrand::Rng::with_seed(seed)
    }

    #[test]
    fn what_is_said_is_heard_and_only_once_it_is_whole() {
        let mut rng = seeded();
        let payload: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(20_000).collect();
        let topic = "x".repeat(300);
        for _ in 0..300 {
            let (said, heard) = random(&mut rng, &topic, &payload);
            let mut bytes = Vec::new();
            said.encode(&mut bytes);
            let whole = bytes.len();
            assert_eq!(decode(&bytes), Ok(Some((heard, whole))));
            assert_eq!(decode(&bytes[..rng.usize(..whole)]), Ok(None));
            // The bytes after the packet are not taken.
            bytes.extend_from_slice(&payload[..rng.usize(..9)]);
            assert_eq!(decode(&bytes), Ok(Some((heard, whole))));
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_heard_and_never_read_past() {
        let mut rng = seeded();
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            random(&mut rng, "topic", b"payload").0.encode(&mut bytes);
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
            bytes.truncate(rng.usize(..=bytes.len()));
            if let Ok(Some((_, used))) = decode(&bytes) {
                assert!(used <= bytes.len());
            }
        }
    }

    #[test]
    fn packets_are_as_the_standard_writes_them() {
        let said = |said: ClientPacket<'_>| {
            let mut bytes = Vec::new();
            said.encode(&mut bytes);
            bytes
        };
        // 3.1, 3.8 and 3.12, byte for byte.
        let connect = ClientPacket::Connect {
            client_id: "me",
            is_clean: false,
            keep_alive_s: 30,
        };
        assert_eq!(
            said(connect),
            b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x1e\x00\x02me"
        );
        let subscribe = ClientPacket::Subscribe {
            id: 1,
            topic: "t",
            qos: Qos::ExactlyOnce,
        };
        assert_eq!(said(subscribe), b"\x82\x06\x00\x01\x00\x01t\x02");
        assert_eq!(said(ClientPacket::PingReq), b"\xc0\x00");
        assert_eq!(
            said(ClientPacket::Step(Step::Rel, 258)),
            b"\x62\x02\x01\x02"
        );
        // Table 2.4: the first length of two, three bytes.
        let publish = |bytes: usize| {
            let payload = vec![0; bytes - 5];
            said(ClientPacket::Publish(Publish {
                topic: "t",
                id: 1,
                qos: Qos::AtLeastOnce,
                is_again: true,
                payload: &payload,
            }))
        };
        assert_eq!(publish(127)[..2], *b"\x3a\x7f");
        assert_eq!(publish(128)[..3], *b"\x3a\x80\x01");
        assert_eq!(publish(16_384)[..4], *b"\x3a\x80\x80\x01");

        // 3.2, 3.9 and 3.13.
        let welcome = Heard::ConnAck {
            is_session_present: true,
            code: 0,
        };
        assert_eq!(decode(b"\x20\x02\x01\x00"), Ok(Some((welcome, 4))));
        let granted = Heard::SubAck { code: 2 };
        assert_eq!(decode(b"\x90\x03\x00\x01\x02"), Ok(Some((granted, 5))));
        assert_eq!(decode(b"\xd0\x00"), Ok(Some((Heard::PingResp, 2))));
    }

    #[test]
    fn what_no_broker_sends_is_refused() {
        for (bytes, why) in [
            (&b"\x30\x03\x00\x01t"[..], "QoS 0"),
            (b"\x36\x05\x00\x01t\x00\x01", "QoS 3"),
            (b"\x32\x05\x00\x01t\x00\x00", "identifier 0"),
            (b"\x32\x05\x00\x09t\x00\x01", "a topic past the packet"),
            (b"\x32\x05\x00\x01\xff\x00\x01", "a topic that is not UTF-8"),
            (b"\x40\x03\x00\x01\x00", "a byte too many"),
            (b"\x60\x02\x00\x01", "PUBREL without its flags"),
            (b"\xe0\x00", "DISCONNECT"),
            (b"\x32\xff\xff\xff\x7f", "256 MiB"),
            (b"\x32\xff\xff\xff\xff", "a length of five bytes"),
            (&[b'H'; 90], "something else"),
        ] {
            assert!(decode(bytes).is_err(), "{why}: {:?}", decode(bytes));
        }
    }
}
