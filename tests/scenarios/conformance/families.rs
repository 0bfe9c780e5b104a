//! The cases of RFC 6455, by family.

use super::*;

pub(super) fn framing() -> Vec<Case> {
    let mut cases = Vec::new();
    for bytes in [4, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536] {
        let message = message(1, bytes);
        let whole = frame(FIN | BINARY, &message);
        cases.push(good(format!("{bytes} bytes"), &[whole], [Answer(1)]));
        for length_bytes in [3, 9] {
            let longer = frame_as(FIN | BINARY, length_bytes, &message);
            let is_shortest = longer.len() == frame(FIN | BINARY, &message).len();
            if bytes < 65_536 && !is_shortest {
                let name = format!("{bytes} bytes with a length of {length_bytes}");
                cases.push(case(name, &[longer], [Close(Some(1002))]));
            }
        }
    }
    for length in [65_537_u64, 1 << 31, 1 << 62, u64::MAX] {
        let header = [&[FIN | BINARY, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        cases.push(case(
            format!("{length} bytes"),
            &[header],
            [Close(Some(1009))],
        ));
    }
    let empty = frame(FIN | BINARY, b"");
    cases.push(case(
        "0 bytes: no frame of the protocol",
        &[empty],
        [Close(Some(4400))],
    ));
    let unmasked = [vec![FIN | BINARY, 4], message(1, 4)].concat();
    cases.push(case("without a mask", &[unmasked], [Close(Some(1002))]));
    let unmasked = vec![FIN | PING, 0];
    cases.push(case(
        "a ping without a mask",
        &[unmasked],
        [Close(Some(1002))],
    ));
    cases
}

pub(super) fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8_u8 {
        for opcode in [BINARY, TEXT, CLOSE, PING, PONG] {
            let name = format!("reserved bits {bits:03b} on opcode {opcode:#x}");
            let before = frame(FIN | BINARY, &message(1, 4));
            let bad = frame(FIN | bits << 4 | opcode, b"");
            cases.push(case(name, &[before, bad], [Answer(1), Close(Some(1002))]));
        }
    }
    for opcode in (0x3..0x8).chain(0xb..0x10) {
        for payload in [&b""[..], b"and a payload"] {
            let bad = frame(FIN | opcode, payload);
            let after = frame(FIN | PING, b"late");
            let name = format!("opcode {opcode:#x}");
            cases.push(case(name, &[bad, after], [Close(Some(1002))]));
        }
    }
    cases
}

pub(super) fn pings() -> Vec<Case> {
    let ping = |payload: &[u8]| frame(FIN | PING, payload);
    let mut cases = Vec::new();
    for payload in [&b""[..], b"hello", &[0, 0xff, 0xfe, 0xfd], &[b'x'; 125]] {
        let name = format!("a ping of {} bytes", payload.len());
        cases.push(good(name, &[ping(payload)], [Pong(payload.to_vec())]));
    }
    for opcode in [PING, PONG, CLOSE] {
        let bad = frame(FIN | opcode, &[b'x'; 126]);
        let name = format!("126 bytes in opcode {opcode:#x}");
        cases.push(case(name, &[bad], [Close(Some(1002))]));
        let bad = [frame(opcode, b""), frame(FIN | CONTINUATION, b"")].concat();
        let name = format!("opcode {opcode:#x} in fragments");
        cases.push(case(name, &[bad], [Close(Some(1002))]));
    }
    let burst: Vec<_> = (0..100).map(|n| ping(&[n])).collect();
    let pongs: Vec<_> = (0..100).map(|n| Pong(vec![n])).collect();
    cases.push(good("a hundred pings", &burst, pongs));
    let pong = |payload: &[u8]| frame(FIN | PONG, payload);
    cases.push(good(
        "pongs that nobody asked for, and a ping",
        &[pong(b""), pong(b"what"), ping(b"a"), pong(b"a")],
        [Pong(b"a".into())],
    ));
    cases
}

pub(super) fn fragmentation() -> Vec<Case> {
    let whole = message(5, 20);
    let part = |first: u8, range: std::ops::Range<usize>| frame(first, &whole[range]);
    let ping = || frame(FIN | PING, b"p");
    let pong = || Pong(b"p".into());
    let mut cases = vec![
        good(
            "two fragments",
            &[part(BINARY, 0..9), part(FIN | CONTINUATION, 9..20)],
            [Answer(5)],
        ),
        good(
            "two fragments with a ping between them",
            &[part(BINARY, 0..9), ping(), part(FIN | CONTINUATION, 9..20)],
            [pong(), Answer(5)],
        ),
        good(
            "empty fragments at both ends and in the middle",
            &[
                part(BINARY, 0..0),
                part(CONTINUATION, 0..9),
                part(CONTINUATION, 0..0),
                part(CONTINUATION, 9..20),
                part(FIN | CONTINUATION, 0..0),
            ],
            [Answer(5)],
        ),
        good(
            "a fragmented message, a whole one, a fragmented one",
            &[
                part(BINARY, 0..1),
                part(FIN | CONTINUATION, 1..20),
                frame(FIN | BINARY, &message(6, 4)),
                part(BINARY, 0..19),
                part(FIN | CONTINUATION, 19..20),
            ],
            [Answer(5), Answer(6), Answer(5)],
        ),
        good("a close between fragments", &[part(BINARY, 0..9)], []),
        case(
            "a message within a message",
            &[part(BINARY, 0..9), ping(), frame(FIN | BINARY, &whole)],
            [pong(), Close(Some(1002))],
        ),
        case(
            "a first fragment within a message",
            &[part(BINARY, 0..9), part(BINARY, 9..20)],
            [Close(Some(1002))],
        ),
        case(
            "a text within a message",
            &[part(BINARY, 0..9), frame(FIN | TEXT, b"text")],
            [Close(Some(1002))],
        ),
        case(
            "a continuation after the last one",
            &[
                part(BINARY, 0..9),
                part(FIN | CONTINUATION, 9..20),
                part(CONTINUATION, 0..9),
            ],
            [Answer(5), Close(Some(1002))],
        ),
    ];
    for first in [CONTINUATION, FIN | CONTINUATION] {
        let name = format!("a continuation of nothing, {first:#x}");
        let bad = [ping(), part(first, 0..9), frame(FIN | BINARY, &whole)];
        cases.push(case(name, &bad, [pong(), Close(Some(1002))]));
    }
    let every_byte: Vec<_> = (0..20)
        .map(|at| match at {
            0 => part(BINARY, 0..1),
            19 => part(FIN | CONTINUATION, 19..20),
            _ => part(CONTINUATION, at..at + 1),
        })
        .flat_map(|part| [part, ping()])
        .collect();
    let mut heard: Vec<_> = (0..19).map(|_| pong()).collect();
    heard.extend([Answer(5), pong()]);
    cases.push(good(
        "a fragment for each byte, a ping behind each",
        &every_byte,
        heard,
    ));
    cases
}

/// Every text message is refused, because the protocol's frames are binary.
pub(super) fn text() -> Vec<Case> {
    let mut cases = Vec::new();
    let valid = "κόσμε 🌍".as_bytes();
    for (what, payload) in [
        ("nothing", &b""[..]),
        ("UTF-8", valid),
        ("no UTF-8", b"\xce\xba\xed\xa0\x80"),
    ] {
        let whole = frame(FIN | TEXT, payload);
        cases.push(case(format!("text: {what}"), &[whole], [Close(Some(1003))]));
        let (begin, end) = payload.split_at(payload.len().min(1));
        let fragments = [frame(TEXT, begin), frame(FIN | CONTINUATION, end)];
        let name = format!("text in fragments: {what}");
        cases.push(case(name, &fragments, [Close(Some(1003))]));
    }
    cases
}

pub(super) fn closing() -> Vec<Case> {
    let with = |code: u16, reason: &[u8]| close(&[&code.to_be_bytes(), reason].concat());
    let mut cases = vec![
        case("a close of nothing", &[close(b"")], [Close(None)]),
        case("a close of one byte", &[close(&[3])], [Close(Some(1002))]),
        case("a reason", &[with(1000, b"bye")], [Close(Some(1000))]),
        case(
            "a reason of 123 bytes",
            &[with(1000, &[b'x'; 123])],
            [Close(Some(1000))],
        ),
        case(
            "a reason of 124 bytes",
            &[with(1000, &[b'x'; 124])],
            [Close(Some(1002))],
        ),
        case(
            "a reason in UTF-8",
            &[with(3000, "κόσμε".as_bytes())],
            [Close(Some(3000))],
        ),
        case(
            "a reason cut short",
            &[with(1000, b"\xce")],
            [Close(Some(1007))],
        ),
        case(
            "a surrogate for a reason",
            &[with(1000, b"\xed\xa0\x80")],
            [Close(Some(1007))],
        ),
        case(
            "a bad code with a bad reason",
            &[with(999, b"\xff")],
            [Close(Some(1002))],
        ),
        case(
            "two closes, the first counts",
            &[with(1001, b""), with(1000, b"")],
            [Close(Some(1001))],
        ),
        case(
            "a message, a ping and rubbish after the close",
            &[
                with(1000, b""),
                frame(FIN | BINARY, &message(1, 4)),
                frame(FIN | PING, b"late"),
                vec![0xff; 500],
            ],
            [Close(Some(1000))],
        ),
        case(
            "a large message after the close",
            &[with(4999, b""), frame(FIN | BINARY, &message(2, 60_000))],
            [Close(Some(4999))],
        ),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        let answered = [Close(Some(code))];
        cases.push(case(format!("code {code}"), &[with(code, b"")], answered));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 32_768, 65_535,
    ] {
        let refused = [Close(Some(1002))];
        cases.push(case(format!("code {code}"), &[with(code, b"")], refused));
    }
    cases
}

pub(super) fn limits() -> Vec<Case> {
    let whole = message(1, 65_536);
    let in_pieces = |bytes: &[u8], piece: usize| {
        let count = bytes.len().div_ceil(piece);
        let parts = bytes.chunks(piece).enumerate();
        parts
            .map(|(index, part)| {
                let opcode = if index == 0 { BINARY } else { CONTINUATION };
                let fin = if index + 1 == count { FIN } else { 0 };
                frame(fin | opcode, part)
            })
            .collect::<Vec<_>>()
    };
    let mut cases = Vec::new();
    for piece in [64, 125, 1000, 65_535] {
        let name = format!("64 KiB in fragments of {piece}");
        cases.push(good(name, &in_pieces(&whole, piece), [Answer(1)]));
        let name = format!("a byte more in fragments of {piece}");
        let passes = [&whole[..], b"."].concat();
        let passes = in_pieces(&passes, piece);
        cases.push(case(name, &passes, [Close(Some(1009))]));
    }
    let endless = vec![frame(CONTINUATION, &[b'.'; 1000]); 200];
    let begun = [vec![frame(BINARY, b"")], endless].concat();
    cases.push(case(
        "a message without an end",
        &begun,
        [Close(Some(1009))],
    ));
    cases
}
