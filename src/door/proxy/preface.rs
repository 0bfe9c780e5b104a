//! The PROXY protocol, version 1 and 2: HAProxy's `doc/proxy-protocol.txt`. A proxy sends it before anything else, and says for whom
//! the connection is.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The first bytes of version 2. No line of version 1 and no HTTP request begins with them.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of version 1.
const PROXY: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
/// The longest part behind version 2's first 16 bytes: the addresses, and what else a proxy says, such as a TLS certificate's name. The
/// protocol allows 64 KiB, proxies send some hundred bytes.
const PREFACE_BYTES_MAX: u16 = 4096;

/// True if a preface may begin with these bytes. No HTTP request and no TLS handshake does.
pub(super) fn may_begin_with(bytes: [u8; 2]) -> bool {
    SIGNATURE.starts_with(&bytes) || PROXY.starts_with(&bytes)
}

/// Reads a preface and not one byte more. Returns the address of the client that it names; `None` if it names none: the proxy speaks for
/// itself, as its health checks do, or the client has no IP address.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let mut first = [0; SIGNATURE.len()];
    stream.read_exact(&mut first).await?;
    if first == SIGNATURE {
        read_binary(stream).await
    } else if first.starts_with(PROXY) {
        read_line(stream, &first).await
    } else {
        Err(no_preface())
    }
}

/// Version 2, behind its signature.
async fn read_binary<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let (version_and_command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = stream.read_u16().await?;
    if length > PREFACE_BYTES_MAX {
        return Err(no_preface());
    }
    let mut said = vec![0; length.into()];
    stream.read_exact(&mut said).await?;
    match version_and_command {
        // LOCAL: whatever else it says does not count.
        0x20 => return Ok(None),
        // PROXY.
        0x21 => {}
        _ => return Err(no_preface()),
    }
    // The source address comes first, whatever stands behind the addresses.
    Ok(match family >> 4 {
        0x1 => Some(Ipv4Addr::from(bytes(&said, 12)?).into()),
        0x2 => Some(Ipv6Addr::from(bytes(&said, 36)?).into()),
        // Unspecified, and Unix sockets.
        0x0 | 0x3 => None,
        _ => return Err(no_preface()),
    })
}

/// The first `N` of the bytes of both ends' addresses, which are `least` long.
fn bytes<const N: usize>(said: &[u8], least: usize) -> io::Result<[u8; N]> {
    let first = said.first_chunk().filter(|_| said.len() >= least);
    first.copied().ok_or_else(no_preface)
}

/// Version 1, of which these bytes were read. Nothing says how long the line is, and what follows belongs to others, so it is read byte by byte.
async fn read_line<S: AsyncRead + Unpin>(
    stream: &mut S,
    first: &[u8],
) -> io::Result<Option<IpAddr>> {
    let mut line = first.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(no_preface());
        }
        line.push(stream.read_u8().await?);
    }
    let line = str::from_utf8(&line).map_err(|_| no_preface())?;
    let mut words = line.trim_end_matches("\r\n").split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let mut next_ip = || words.next()?.parse::<IpAddr>().ok();
    let ends = next_ip().zip(next_ip());
    let mut next_port = || words.next()?.parse::<u16>().ok();
    let ports = next_port().zip(next_port());
    let is_whole = ports.is_some() && words.next().is_none();
    let ends = ends.filter(|(source, target)| match family {
        Some("TCP4") => source.is_ipv4() && target.is_ipv4(),
        Some("TCP6") => source.is_ipv6() && target.is_ipv6(),
        _ => false,
    });
    let (source, _) = ends.filter(|_| is_whole).ok_or_else(no_preface)?;
    Ok(Some(source))
}

fn no_preface() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the proxy sent no PROXY protocol header",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address that is named, and the bytes that are left; `None`: no preface.
    async fn read_from(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
        let mut rest = bytes;
        let named = read(&mut rest).await.ok()?;
        Some((named, rest.len()))
    }

    fn binary(version_and_command: u8, family: u8, said: &[u8]) -> Vec<u8> {
        let length = u16::try_from(said.len()).unwrap().to_be_bytes();
        let head = [version_and_command, family, length[0], length[1]];
        [&SIGNATURE[..], &head, said].concat()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xc0, 0, 0x27, 0x11];

    fn v6() -> Vec<u8> {
        let client: Ipv6Addr = "2001:db8::7".parse().unwrap();
        [&client.octets()[..], &[0; 20]].concat()
    }

    #[tokio::test]
    async fn both_versions_name_their_client_and_leave_the_bytes_behind() {
        for (preface, named) in [
            (
                &b"PROXY TCP4 192.0.2.7 10.0.0.1 49152 10001\r\n"[..],
                ip("192.0.2.7"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 49152 10001\r\n",
                ip("2001:db8::7"),
            ),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN 2001:db8::7 ::1 1 2\r\n", None),
            (&binary(0x21, 0x11, &V4), ip("192.0.2.7")),
            (&binary(0x21, 0x21, &v6()), ip("2001:db8::7")),
            // Further facts behind the addresses.
            (
                &binary(0x21, 0x11, &[&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat()),
                ip("192.0.2.7"),
            ),
            // LOCAL, with and without an address; a Unix socket; unspecified.
            (&binary(0x20, 0x00, &[]), None),
            (&binary(0x20, 0x11, &V4), None),
            (&binary(0x21, 0x31, &[0; 216]), None),
            (&binary(0x21, 0x00, &[]), None),
        ] {
            let bytes = [preface, b"GET /"].concat();
            assert_eq!(read_from(&bytes).await, Some((named, 5)), "{preface:?}");
        }
    }

    #[tokio::test]
    async fn half_a_preface_and_a_lying_one_are_none() {
        let whole = [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 49152 10001\r\n".to_vec(),
            binary(0x21, 0x21, &v6()),
        ];
        for whole in whole {
            for length in 0..whole.len() {
                assert_eq!(read_from(&whole[..length]).await, None, "{length}");
            }
        }
        let long = [b"PROXY UNKNOWN ", &[b'x'; 200][..], b"\r\n"].concat();
        let larger = binary(0x21, 0x11, &[0; PREFACE_BYTES_MAX as usize + 1]);
        for lying in [
            &b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n"[..],
            b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
            b"PROXY TCP4 192.0.2.777 10.0.0.1 1 2\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n",
            &long,
            &larger,
            // Shorter than its family's addresses; versions, commands and families that do not exist.
            &binary(0x21, 0x11, &V4[..11]),
            &binary(0x21, 0x21, &v6()[..35]),
            &binary(0x11, 0x11, &V4),
            &binary(0x22, 0x11, &V4),
            &binary(0x21, 0x41, &V4),
        ] {
            assert_eq!(read_from(lying).await, None, "{lying:?}");
        }
    }
}
