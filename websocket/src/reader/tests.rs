//! RFC 6455's rules, each in full: every first byte, every length in every encoding, every close code, every split.
//! `second_opinion.rs` compares the reader with tungstenite.

mod second_opinion;

use bytes::BufMut as _;

use super::*;
use crate::frame::{closed, masked, pong, put_header};

const CLIENT: Rules = Rules {
    from: Side::Client,
    takes_text: false,
    message_bytes_max: 64 * 1024,
};
const SERVER: Rules = Rules {
    from: Side::Server,
    ..CLIENT
};
const WITH_TEXT: Rules = Rules {
    takes_text: true,
    ..CLIENT
};
const MASK: [u8; 4] = [0xa5, 0x01, 0x00, 0xff];

/// A client's frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, payload, MASK)
}

/// The same with the length in 1, 3 or 9 bytes, even if fewer are enough.
fn frame_as(first: u8, encoding: usize, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    let mut bytes = vec![first];
    match encoding {
        1 => bytes.push(0x80 | length as u8),
        3 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A server's frame.
fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_header(&mut bytes, first, payload.len(), None);
    bytes.put_slice(payload);
    bytes
}

/// All messages up to the end, or up to the first error or close, and the code of a violation.
fn read_by<'a>(
    rules: &Rules,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Received>, Option<u16>) {
    let mut reader = Reader::default();
    let mut messages = Vec::new();
    for mut piece in pieces {
        loop {
            match reader.next(&mut piece, rules) {
                Ok(None) => break assert!(piece.is_empty(), "what is there is used up"),
                Ok(Some(message)) => {
                    let is_last = matches!(message, Received::Close(_));
                    messages.push(message);
                    if is_last {
                        return (messages, None);
                    }
                }
                Err(violation) => return (messages, Some(violation.code())),
            }
        }
    }
    (messages, None)
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Received>, Option<u16>) {
    read_by(&CLIENT, pieces)
}

fn read_whole(bytes: &[u8]) -> (Vec<Received>, Option<u16>) {
    read([bytes])
}

fn binary(payload: &[u8]) -> Received {
    Received::Binary(Bytes::copy_from_slice(payload))
}

fn text(payload: &str) -> Received {
    Received::Text(Bytes::copy_from_slice(payload.as_bytes()))
}

fn ping(payload: &[u8]) -> Received {
    Received::Ping(Bytes::copy_from_slice(payload))
}

fn pong_of(payload: &[u8]) -> Received {
    Received::Pong(Bytes::copy_from_slice(payload))
}

fn close_of(code: u16, text: &str) -> Received {
    Received::Close(Some(Close {
        code,
        text: text.to_owned(),
    }))
}

#[test]
fn each_first_byte_is_taken_or_refused_at_once_inside_a_message_and_outside() {
    for first in 0..=255_u8 {
        let outside = match first {
            0x02 | 0x82 | 0x88 | 0x89 | 0x8a => None,
            0x01 | 0x81 => Some(1003),
            _ => Some(1002),
        };
        let inside = match first {
            0x00 | 0x80 | 0x88 | 0x89 | 0x8a => None,
            _ => Some(1002),
        };
        assert_eq!(read_whole(&[first]).1, outside, "{first:#x}");
        let begun = [frame(0x02, b"a"), vec![first]].concat();
        assert_eq!(read_whole(&begun).1, inside, "{first:#x} within a message");
    }
}

#[test]
fn a_frame_without_a_mask_is_refused_by_its_second_byte() {
    for length in 0..0x80 {
        assert_eq!(read_whole(&[0x82, length]).1, Some(1002), "{length}");
    }
}

#[test]
fn a_length_is_taken_in_its_shortest_form_only() {
    for length in [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536] {
        let payload = vec![b'p'; length];
        let shortest = match length {
            0..126 => 1,
            126..65536 => 3,
            _ => 9,
        };
        for encoding in [1, 3, 9].into_iter().filter(|&e| e >= shortest) {
            let (messages, refused) = read_whole(&frame_as(0x82, encoding, &payload));
            if encoding == shortest {
                assert_eq!((messages, refused), (vec![binary(&payload)], None));
            } else {
                assert_eq!(refused, Some(1002), "{length} in {encoding} bytes");
                assert!(messages.is_empty());
            }
        }
    }
}

#[test]
fn more_than_64_kib_is_refused_when_it_is_announced() {
    for length in [65_537_u64, 1 << 32, 1 << 63, u64::MAX] {
        let header = [&[0x82, 0xff][..], &length.to_be_bytes()].concat();
        assert_eq!(read_whole(&header).1, Some(1009), "{length}");
    }
    // In fragments: exactly 64 KiB is a message. One more byte is refused at the header that announces it.
    let first = frame(0x02, &vec![0; 65_530]);
    let fits = [first.clone(), frame(0x80, &[0; 6])].concat();
    assert_eq!(read_whole(&fits).0, [binary(&vec![0; 65_536])]);
    let passes = [&first[..], &[0x80, 0x87]].concat();
    assert_eq!(read_whole(&passes).1, Some(1009));
    // A message that is full has no room for more, but control frames do not belong to it.
    let full = [frame(0x02, &vec![0; 65_536]), frame(0x89, &[1; 125])].concat();
    assert_eq!(read_whole(&full), (vec![ping(&[1; 125])], None));
    let goes_on = [full, frame(0x00, b""), frame(0x80, b"")].concat();
    assert_eq!(read_whole(&goes_on).0[1], binary(&vec![0; 65_536]));
}

#[test]
fn memory_follows_what_came_and_not_what_was_announced() {
    let mut reader = Reader::default();
    let announced = [&[0x82, 0xff][..], &65_536_u64.to_be_bytes(), &[0; 4], b"x"].concat();
    assert_eq!(reader.next(&mut &announced[..], &CLIENT), Ok(None));
    assert!(reader.payload.capacity() < 64);
    let whole = reader.next(&mut &vec![0; 65_535][..], &CLIENT);
    assert_eq!(whole.map(|message| message.is_some()), Ok(true));
    assert_eq!(reader.payload.capacity(), 0, "idle, it holds nothing");
    assert!(size_of::<Reader>() <= 64);
}

#[test]
fn control_frames_hold_at_most_125_bytes_in_one_piece() {
    for opcode in [CLOSE, PING, PONG] {
        for length in [126, 127] {
            assert_eq!(read_whole(&[0x80 | opcode, 0x80 | length]).1, Some(1002));
        }
        assert_eq!(read_whole(&[opcode]).1, Some(1002), "not the final one");
    }
    for length in [0, 1, 124, 125] {
        let payload = vec![7; length];
        assert_eq!(read_whole(&frame(0x89, &payload)).0, [ping(&payload)]);
        assert_eq!(read_whole(&frame(0x8a, &payload)).0, [pong_of(&payload)]);
        let answer = pong(&payload);
        assert_eq!(answer.head[..2], [0x8a, length as u8]);
        assert_eq!(answer.head[2..], payload);
    }
}

#[test]
fn each_close_code_that_may_be_sent_is_answered_and_each_other_refused() {
    for code in 0..=u16::MAX {
        let may_be_sent = matches!(
            code,
            1000..=1003 | 1007..=1011 | 1012..=1014 | 3000..=3999 | 4000..=4999
        );
        let (messages, refused) = read_whole(&frame(0x88, &code.to_be_bytes()));
        if may_be_sent {
            assert_eq!(messages, [close_of(code, "")]);
            let [high, low] = code.to_be_bytes();
            assert_eq!(closed(Some(code)).head[..], [0x88, 2, high, low]);
        } else {
            assert_eq!((messages, refused), (vec![], Some(1002)), "{code}");
        }
    }
}

#[test]
fn a_close_holds_nothing_or_a_code_and_a_reason_in_utf8() {
    assert_eq!(read_whole(&frame(0x88, b"")).0, [Received::Close(None)]);
    assert_eq!(closed(None).head[..], [0x88, 0]);
    assert_eq!(read_whole(&frame(0x88, &[3])).1, Some(1002));
    let with =
        |reason: &[u8]| read_whole(&frame(0x88, &[&1000_u16.to_be_bytes(), reason].concat()));
    let good: [&[u8]; 4] = [
        b"bye",
        "κόσμε".as_bytes(),
        "\u{10ffff}".as_bytes(),
        &[b'x'; 123],
    ];
    for reason in good {
        let text = str::from_utf8(reason).unwrap();
        assert_eq!(with(reason), (vec![close_of(1000, text)], None));
    }
    // An impossible byte, a sequence cut short, one too long, a surrogate, one above U+10FFFF.
    let bad: [&[u8]; 5] = [
        b"\xff",
        b"\xce",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ];
    for reason in bad {
        assert_eq!(with(reason), (vec![], Some(1007)), "{reason:x?}");
    }
    // Bytes after a close are not read.
    let more = [frame(0x88, b""), frame(0x89, b"late"), vec![0xff]].concat();
    assert_eq!(read_whole(&more), (vec![Received::Close(None)], None));
}

/// A name, frames, the messages read from them, and the code of a violation.
type Case = (&'static str, Vec<Vec<u8>>, Vec<Received>, Option<u16>);

fn fragmentation() -> Vec<Case> {
    vec![
        (
            "one frame after the other",
            vec![frame(0x82, b"ab"), frame(0x82, b""), frame(0x82, b"c")],
            vec![binary(b"ab"), binary(b""), binary(b"c")],
            None,
        ),
        (
            "fragments, empty ones among them",
            vec![
                frame(0x02, b""),
                frame(0x00, b"ab"),
                frame(0x00, b""),
                frame(0x00, b"c"),
                frame(0x80, b""),
            ],
            vec![binary(b"abc")],
            None,
        ),
        (
            "nothing in two fragments",
            vec![frame(0x02, b""), frame(0x80, b"")],
            vec![binary(b"")],
            None,
        ),
        (
            "control frames between fragments come first",
            vec![
                frame(0x02, b"a"),
                frame(0x89, b"p"),
                frame(0x00, b"b"),
                frame(0x8a, b"q"),
                frame(0x89, b""),
                frame(0x80, b"c"),
                frame(0x82, b"d"),
            ],
            vec![
                ping(b"p"),
                pong_of(b"q"),
                ping(b""),
                binary(b"abc"),
                binary(b"d"),
            ],
            None,
        ),
        (
            "a close between fragments",
            vec![frame(0x02, b"a"), frame(0x88, b""), frame(0x80, b"b")],
            vec![Received::Close(None)],
            None,
        ),
        (
            "a continuation of nothing",
            vec![frame(0x82, b"a"), frame(0x80, b"b")],
            vec![binary(b"a")],
            Some(1002),
        ),
        (
            "a second continuation of what has ended",
            vec![frame(0x02, b"a"), frame(0x80, b"b"), frame(0x00, b"c")],
            vec![binary(b"ab")],
            Some(1002),
        ),
        (
            "a message within a message",
            vec![frame(0x02, b"a"), frame(0x82, b"b")],
            vec![],
            Some(1002),
        ),
        (
            "a text behind good messages",
            vec![frame(0x82, b"a"), frame(0x01, b"\xff")],
            vec![binary(b"a")],
            Some(1003),
        ),
        (
            "all three lengths",
            vec![
                frame(0x02, &[1; 125]),
                frame(0x00, &[2; 126]),
                frame(0x00, &[3; 300]),
                frame(0x89, &[4; 125]),
                frame(0x80, &[5; 2]),
            ],
            vec![
                ping(&[4; 125]),
                binary(&[vec![1; 125], vec![2; 126], vec![3; 300], vec![5; 2]].concat()),
            ],
            None,
        ),
    ]
}

#[test]
fn messages_are_the_same_wherever_the_stream_is_cut() {
    for (name, frames, messages, refused) in fragmentation() {
        let bytes = frames.concat();
        let expected = (messages, refused);
        assert_eq!(read_whole(&bytes), expected, "{name}");
        assert_eq!(read(bytes.chunks(1)), expected, "{name}, byte by byte");
        for at in 0..bytes.len() {
            let (before, after) = bytes.split_at(at);
            assert_eq!(read([before, after]), expected, "{name}, cut at {at}");
        }
    }
}

#[test]
fn text_is_taken_where_the_rules_say_so_and_has_to_be_utf8() {
    let read = |frames: &[Vec<u8>]| read_by(&WITH_TEXT, [&frames.concat()[..]]);
    let whole = frame(0x81, "κόσμε".as_bytes());
    let in_fragments = [frame(0x01, b"\xce"), frame(0x89, b""), frame(0x80, b"\xba")];
    assert_eq!(
        read(std::slice::from_ref(&whole)),
        (vec![text("κόσμε")], None)
    );
    assert_eq!(read(&in_fragments), (vec![ping(b""), text("κ")], None));
    let other = [frame(0x82, b"\xff"), frame(0x81, b"")];
    assert_eq!(read(&other), (vec![binary(b"\xff"), text("")], None));
    for bad in [&b"\xff"[..], b"\xce", b"\xed\xa0\x80"] {
        assert_eq!(read(&[whole.clone(), frame(0x81, bad)]).1, Some(1007));
        assert_eq!(read(&[frame(0x01, bad), frame(0x80, b"")]).1, Some(1007));
    }
    // A binary message after a text message may hold any bytes.
    let after = [whole, frame(0x02, b"\xff"), frame(0x80, b"\xff")];
    assert_eq!(read(&after).0[1], binary(b"\xff\xff"));
}

#[test]
fn a_server_masks_nothing_and_is_held_to_the_same_rules() {
    let read = |bytes: &[u8]| {
        let at_once = read_by(&SERVER, [bytes]);
        assert_eq!(read_by(&SERVER, bytes.chunks(1)), at_once);
        at_once
    };
    for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
        let payload = vec![7; length];
        assert_eq!(read(&unmasked(0x82, &payload)).0, [binary(&payload)]);
    }
    assert_eq!(read(&frame(0x82, b"masked")).1, Some(1002));
    assert_eq!(read(&[0x82, 126, 0, 125]).1, Some(1002));
    assert_eq!(read(&unmasked(0xc2, b"")).1, Some(1002));
    assert_eq!(
        read(&[&[0x82, 127][..], &65_537_u64.to_be_bytes()].concat()).1,
        Some(1009)
    );
    let goodbye = crate::frame::close(4503, "1500");
    assert_eq!(read(&goodbye.head).0, [close_of(4503, "1500")]);
    assert_eq!(read(&pong(b"p").head).0, [pong_of(b"p")]);
}
