//! Gzip of whole envelopes. Pure.
//!
//! A gzip file may consist of several members, whose plain texts belong one behind the other. So a push is a member that only its
//! receiver has, and a member that all receivers share.
//!
//! Source: RFC 1951 (deflate), RFC 1952 (gzip).

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

/// Deflate, and nothing else of what a header may say.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// The flags of a header: parts that it has beside the fixed ones.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;
/// The checksum and the length behind the content.
const TRAILER_BYTES: usize = 8;
/// Shorter texts are stored as they are: deflate saves nothing on them.
const DEFLATED_FROM: usize = 256;
/// The length of a stored block has two bytes.
const STORED_BYTES_MAX: usize = u16::MAX as usize;
/// The room for inflated text grows by this much.
const INFLATED_STEP_BYTES: usize = 4 * 1024;
/// A higher level takes more time, and saves nothing on messages of some hundred bytes.
const LEVEL: u32 = 1;

thread_local! {
    /// The compressor of a thread: some 300 KiB, which every envelope would have to clear.
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(LEVEL), false));
}

/// The text is not gzip, or has too many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotGzip;

/// A member with this text.
pub(super) fn member(text: &[u8]) -> Bytes {
    if text.len() < DEFLATED_FROM {
        return stored(text);
    }
    let mut member = Vec::with_capacity(HEADER.len() + text.len() / 2 + TRAILER_BYTES);
    member.extend_from_slice(&HEADER);
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        loop {
            let rest = &text[deflate.total_in() as usize..];
            member.reserve(text.len() / 2 + TRAILER_BYTES);
            let status = deflate
                .compress_vec(rest, &mut member, FlushCompress::Finish)
                .expect("the compressor takes any text");
            if status == Status::StreamEnd {
                break;
            }
        }
    });
    put_trailer(&mut member, text);
    member.into()
}

/// A member with this text, not compressed.
///
/// # Panics
/// If the text has more than 65,535 bytes.
pub(super) fn stored(text: &[u8]) -> Bytes {
    assert!(text.len() <= STORED_BYTES_MAX, "a stored block is full");
    let length = text.len() as u16;
    let mut member = BytesMut::with_capacity(HEADER.len() + 5 + text.len() + TRAILER_BYTES);
    member.put_slice(&HEADER);
    // The last block, stored; its length, and the complement of it.
    member.put_u8(1);
    member.put_u16_le(length);
    member.put_u16_le(!length);
    member.put_slice(text);
    put_trailer(&mut member, text);
    member.freeze()
}

fn put_trailer(member: &mut impl BufMut, text: &[u8]) {
    let mut crc = Crc::new();
    crc.update(text);
    member.put_u32_le(crc.sum());
    member.put_u32_le(text.len() as u32);
}

/// The most members of one file of a client. The SDKs send one. Each costs the clearing of a decompressor of some 40 KB.
const MEMBERS_MAX: usize = 8;

/// The number of bytes of the text in one of our members.
pub(super) fn text_bytes(member: &[u8]) -> usize {
    let (_, length) = member
        .split_last_chunk()
        .expect("a member ends with its length");
    u32::from_le_bytes(*length) as usize
}

/// The text of one or more members, at most [`MEMBERS_MAX`]. It has at most `bytes_max` bytes, and memory follows what was inflated.
pub(super) fn inflate(members: &[u8], bytes_max: usize) -> Result<Bytes, NotGzip> {
    let mut text = Vec::new();
    let mut rest = members;
    for _ in 0..MEMBERS_MAX {
        rest = inflate_one(rest, &mut text, bytes_max)?;
        if rest.is_empty() {
            return Ok(text.into());
        }
    }
    Err(NotGzip)
}

/// Adds the text of the first member, and returns what follows it.
fn inflate_one<'a>(
    members: &'a [u8],
    text: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<&'a [u8], NotGzip> {
    let content = skip_header(members).ok_or(NotGzip)?;
    let start = text.len();
    let mut inflate = Decompress::new(false);
    loop {
        text.reserve_exact(INFLATED_STEP_BYTES);
        let (read, written) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress_vec(&content[read as usize..], text, FlushDecompress::None)
            .map_err(|_| NotGzip)?;
        if text.len() > bytes_max {
            return Err(NotGzip);
        }
        if status == Status::StreamEnd {
            break;
        }
        if (read, written) == (inflate.total_in(), inflate.total_out()) {
            return Err(NotGzip);
        }
    }
    let trailer = &content[inflate.total_in() as usize..];
    let (trailer, rest) = trailer.split_at_checked(TRAILER_BYTES).ok_or(NotGzip)?;
    let mut expected = Vec::with_capacity(TRAILER_BYTES);
    put_trailer(&mut expected, &text[start..]);
    if trailer == expected {
        Ok(rest)
    } else {
        Err(NotGzip)
    }
}

/// The bytes behind the header of the first member; `None`, if it has no good one.
fn skip_header(member: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = member.split_first_chunk::<{ HEADER.len() }>()?;
    let flags = header[3];
    let is_good = header[..3] == HEADER[..3] && flags & RESERVED == 0;
    if is_good && flags & EXTRA != 0 {
        let (length, extra) = rest.split_first_chunk()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if is_good && flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if is_good && flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    is_good.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of every kind: short and long, that compress well and not at all.
    fn texts() -> Vec<Vec<u8>> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut texts: Vec<Vec<u8>> = [0, 1, 255, 256, 257, 5_000, 65_535]
            .map(|length| vec![b'x'; length])
            .into();
        for length in [300, 5_000, 65_535] {
            texts.push((0..length).map(|_| random.u8(..)).collect());
        }
        texts
    }

    #[test]
    fn every_text_comes_back() {
        for text in texts() {
            for member in [member(&text), stored(&text)] {
                assert_eq!(inflate(&member, text.len()), Ok(text.clone().into()));
                assert_eq!(text_bytes(&member), text.len());
                if let Some(too_few) = text.len().checked_sub(1) {
                    assert_eq!(inflate(&member, too_few), Err(NotGzip));
                }
            }
            let two = [member(&text), stored(&text)].concat();
            assert_eq!(inflate(&two, 2 * text.len()), Ok(text.repeat(2).into()));
        }
        let large = vec![b'x'; 1_000_000];
        assert!(member(&large).len() < 10_000);
        assert_eq!(inflate(&member(&large), 1_000_000), Ok(large.into()));
    }

    #[test]
    fn a_bomb_is_refused_before_it_takes_memory() {
        let bomb = member(&vec![0; 64 << 20]);
        assert!(bomb.len() < 512 * 1024);
        assert_eq!(inflate(&bomb, 1000), Err(NotGzip));
        let many = stored(&[0; 1000]).repeat(1000);
        assert_eq!(inflate(&many, 1000), Err(NotGzip));
    }

    #[test]
    fn a_member_that_is_cut_or_changed_is_no_gzip() {
        let text: Vec<u8> = (0..400_u32).flat_map(u32::to_le_bytes).collect();
        let whole = member(&text);
        for end in 0..whole.len() {
            assert_eq!(inflate(&whole[..end], text.len()), Err(NotGzip), "{end}");
            let mut changed = whole.to_vec();
            changed[end] ^= 0x80;
            // The time, the level and the system of the header do not count.
            let is_same = inflate(&changed, text.len()).is_ok_and(|got| got == text);
            assert_eq!(is_same, (4..10).contains(&end), "{end}");
        }
        assert!(inflate(&whole.repeat(MEMBERS_MAX), 100_000).is_ok());
        let many = inflate(&whole.repeat(MEMBERS_MAX + 1), 100_000);
        assert_eq!(many, Err(NotGzip));
        let more = [&whole[..], b"more"].concat();
        assert_eq!(inflate(&more, 100_000), Err(NotGzip));
    }

    #[test]
    fn a_header_may_have_more_than_ours() {
        let ours = stored(b"text");
        let all = [EXTRA | NAME | COMMENT | HEADER_CRC];
        let parts = [
            &ours[..3],
            &all,
            &ours[4..10],
            b"\x03\0abcname\0comment\0cc",
            &ours[10..],
        ];
        let whole = parts.concat();
        assert_eq!(inflate(&whole, 4), Ok(Bytes::from_static(b"text")));
        for end in 0..whole.len() {
            assert_eq!(inflate(&whole[..end], 4), Err(NotGzip), "{end}");
        }
    }

    /// The members are gzip for another decoder, too, and its members are for us.
    #[test]
    fn another_decoder_reads_both_members_as_one_text() {
        use std::io::{Read as _, Write as _};

        for text in texts() {
            let both = [stored(&text), member(&text)].concat();
            let mut read = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(&both[..]);
            decoder.read_to_end(&mut read).unwrap();
            assert_eq!(read, text.repeat(2));
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&text).unwrap();
            let theirs = encoder.finish().unwrap();
            assert_eq!(inflate(&theirs, text.len()), Ok(text.into()));
        }
    }
}
